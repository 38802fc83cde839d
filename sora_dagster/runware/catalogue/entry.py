"""A catalogue entry: what one video model accepts, what it costs, and whether it is available."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import Field, model_validator

from sora_dagster.runware.catalogue.field_rules import FieldRules
from sora_dagster.runware.catalogue.numbers import Durations, NumberRule
from sora_dagster.runware.catalogue.parts import (
    AudioSwitch,
    EntryPart,
    InputLimits,
    InputName,
    OutputFormat,
    RemixMode,
    RemixWay,
    Rule,
    Setting,
    SizeRule,
    TextLimits,
)
from sora_dagster.runware.catalogue.prices import Prices
from sora_dagster.runware.catalogue.sizes import FrameSize, Size


class VideoModel(EntryPart):
    """A catalogue entry: what one `videoInference` model accepts, and its price.

    Entries are YAML or JSON: the built-in ones in the package, one file a model, and your own in
    the file or folder that `SORA_MODELS` names (see `Catalogue.from_yaml`). Facts that could not be
    confirmed are listed under `guesses`.

    Arguments:
        air: Runware's id of the model, such as ``openai:3@2``.
        name: display name.
        short_name: name that datasets may use instead of the id, such as ``veo-3.1``. Default: the
            name in lower case with ``-`` for blanks.
        retired: date since when the model is not available. Default: it is available.
        source: address of the page that the entry follows. Default: none.
        checked: date on which it was compared with that page. Default: unknown.
        guesses: facts of the entry that no official source confirms. Default: none.
        prompt: length of the prompt. Default: 2 to 6000 characters (Sora's reference page).
        negative_prompt: length of a negative prompt. Default: the model takes none.
        sizes: allowed sizes in pixels by resolution tier (``{"720p": ["1280x720"]}``). Default:
            none; with no `size_rule` either, the model takes no size.
        size_rule: sizes by rule. Default: none.
        default_size: size of a clip that sets none and has no input that decides it. Default: none.
        resolutions: tiers that ``resolution`` may name. Default: the model has no such field.
        default_resolution: the tier of a video if neither a size nor a resolution is sent. Default:
            unknown, so the highest price counts.
        durations: allowed lengths of a video in seconds. Default: the model takes no length.
        seed: range of the seed. Default: the model takes none.
        fps: allowed frames per second. Default: the model takes none.
        audio: ``always``, ``never``, or the setting that switches it. Default: ``never``.
        inputs: the accepted inputs, such as ``{"frameImages": {"max": 2}}``. Default: none.
        settings: parameters of this model by name. Default: none.
        output_formats: containers that the model delivers. Default: ``("MP4",)``.
        max_results: maximum number of videos of one task. Default: 4 (Runware's schemas).
        rules: rules between fields. Default: none.
        remix: how it makes a video from an earlier one, by mode: ``remix``, ``edit``, ``extend``.
            Default: none. ``continue`` follows from `inputs`.
        prices: what it costs.

    Raises:
        pydantic.ValidationError: if a value has the wrong type. An entry that contradicts itself is
            refused by `Catalogue`.

    Example:
        >>> model = VideoModel.model_validate({
        ...     "air": "google:3@2",
        ...     "name": "Veo 3.1",
        ...     "sizes": {"720p": ["1280x720"], "1080p": ["1920x1080"]},
        ...     "default_size": "1280x720",
        ...     "durations": {"values": [4, 6, 8], "default": 8},
        ...     "prices": {"certainty": "published", "rates": [{"usd_per_second": 0.40}]},
        ... })
        >>> model.short_name, str(model.allowed_sizes[0])
        ('veo-3.1', '1280x720')
    """

    air: str = Field(pattern=r"^[^\s:@]+:[^\s@]+@[^\s]+$")
    name: str = Field(min_length=1)
    short_name: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.\-]*)?$")
    retired: date | None = None
    source: str = ""
    checked: date | None = None
    guesses: tuple[str, ...] = ()
    prompt: TextLimits = TextLimits(max=6000)
    negative_prompt: TextLimits | None = None
    sizes: Mapping[str, tuple[Size, ...]] = {}
    size_rule: SizeRule | None = None
    default_size: Size | None = None
    resolutions: tuple[str, ...] = ()
    default_resolution: str | None = None
    durations: Durations | None = None
    seed: NumberRule | None = None
    fps: NumberRule | None = None
    audio: Literal["always", "never"] | AudioSwitch = "never"
    inputs: Mapping[InputName, InputLimits] = {}
    settings: Mapping[str, Setting] = {}
    output_formats: tuple[OutputFormat, ...] = Field(default=("MP4",), min_length=1)
    max_results: int = Field(default=4, ge=1)
    rules: tuple[Rule, ...] = ()
    remix: Mapping[Literal["remix", "edit", "extend"], RemixWay] = {}
    prices: Prices

    @model_validator(mode="after")
    def _has_short_name(self) -> VideoModel:
        if not self.short_name:
            short = re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.")
            if not short:
                raise ValueError(f"no short name can be made from {self.name!r}; set short_name")
            object.__setattr__(self, "short_name", short)
        return self

    @property
    def allowed_sizes(self) -> tuple[FrameSize, ...]:
        """The sizes of the list, in its order; empty if sizes follow a rule or there are none."""
        return tuple(size for sizes in self.sizes.values() for size in sizes)

    @property
    def takes_size(self) -> bool:
        """Whether requests may have width and height."""
        return bool(self.sizes) or self.size_rule is not None

    @property
    def sizes_text(self) -> str:
        """The allowed sizes in words."""
        return str(self.size_rule or ", ".join(map(str, self.allowed_sizes)) or "none")

    @property
    def field_rules(self) -> FieldRules:
        """The rules between its fields."""
        return FieldRules(self.name, self.rules, self.sizes_text)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The resolution tiers, of sizes and of ``resolution``."""
        of_rule = () if self.size_rule is None else tuple(self.size_rule.tiers)
        return tuple(dict.fromkeys((*self.sizes, *of_rule, *self.resolutions)))

    def allows_size(self, size: FrameSize) -> bool:
        """Whether requests may have a size."""
        by_rule = self.size_rule is not None and self.size_rule.allows(size)
        return by_rule or size in self.allowed_sizes

    def tier_of(self, size: FrameSize) -> str | None:
        """The resolution tier of a size. None: the size is not allowed."""
        for tier, sizes in self.sizes.items():
            if size in sizes:
                return tier
        if self.size_rule is not None and self.size_rule.allows(size):
            return self.size_rule.tier_of(size)
        return None

    def nearest_size(self, size: FrameSize) -> FrameSize | None:
        """The allowed size that is nearest in shape, then in area. None: there are no sizes."""
        if self.size_rule is not None:
            return self.size_rule.nearest(size)
        return min(self.allowed_sizes, key=size.distance, default=None)

    def setting_field(self, name: str) -> str:
        """The field of a setting in requests, such as ``providerSettings.google.generateAudio``."""
        at = self.settings[name].at
        return name if at == "request" else f"{at}.{name}"

    @property
    def has_audio_switch(self) -> bool:
        """Whether requests can switch sound on and off."""
        return isinstance(self.audio, AudioSwitch)

    def makes_sound(self, audio: bool | None = None) -> bool:
        """Whether its videos have sound.

        Arguments:
            audio: what the request says. Default: nothing, so the model's default.
        """
        if isinstance(self.audio, AudioSwitch):
            return self.audio.default if audio is None else audio
        return self.audio == "always"

    @property
    def needs_video(self) -> bool:
        """Whether each of its videos is made from an earlier one, so that it makes only remixes."""
        videos = {"inputs.video", "inputs.videoId", "inputs.referenceVideos"}
        required = (
            names
            for rule in self.rules
            if not rule.if_
            for names in (*((name,) for name in rule.require), rule.exactly_one_of)
        )
        return any(names and videos.issuperset(names) for names in required)

    @property
    def remix_modes(self) -> tuple[RemixMode, ...]:
        """The ways in which it makes a video from an earlier one; the first is the default.

        Those that need a setting from the recipe come last.
        """
        modes: list[RemixMode] = [mode for mode in ("remix", "edit") if mode in self.remix]
        if self._starts_from_frame:
            modes.append("continue")
        if "extend" in self.remix:
            modes.append("extend")
        return tuple(sorted(modes, key=self._needs_setting))

    def _needs_setting(self, mode: RemixMode) -> bool:
        """Whether a way to remix is refused without a setting that it does not set itself."""
        way = None if mode == "continue" else self.remix[mode]
        if way is None:
            return False
        sent = {self.setting_field(name): value for name, value in way.settings.items()}
        fields = {**sent, "inputs": True, f"inputs.{way.input}": True}
        settings = set(map(self.setting_field, self.settings)) - sent.keys()
        broken = self.field_rules.broken(fields, only_presence=True)
        return any(problem.field in settings for problem in broken)

    @property
    def _starts_from_frame(self) -> bool:
        frames = self.inputs.get("frameImages")
        if frames is None or "first" not in frames.positions:
            return False
        # An editor may take frames beside its video only.
        fields = {"inputs": True, "inputs.frameImages": True}
        broken = self.field_rules.broken(fields, only_presence=True)
        return not any(problem.field.startswith("inputs.") for problem in broken)
