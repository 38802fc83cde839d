"""A catalogue entry made from what Runware publishes about a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pydantic import ValidationError

from sora_dagster.runware.catalogue.conditions import GIVEN
from sora_dagster.runware.catalogue.contradictions import contradictions
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.parts import FIELD_NAMES
from sora_dagster.runware.catalogue.published import limits
from sora_dagster.runware.catalogue.published.documents import (
    PublishedDocumentError,
    PublishedModel,
)
from sora_dagster.runware.catalogue.published.predicates import FieldNames
from sora_dagster.runware.catalogue.published.rates import read_prices
from sora_dagster.runware.catalogue.published.rules import read_rules
from sora_dagster.runware.catalogue.sizes import FrameSize

_ALWAYS_SENT = frozenset({"taskType", "taskUUID", "model", "positivePrompt", "deliveryMethod"})
_AUDIO_SWITCHES = ("audio", "generateAudio", "sound", "enableAudio")


@dataclass(frozen=True)
class DraftEntry:
    """An entry made from published documents.

    Arguments:
        entry: the entry.
        data: the same as data of a YAML file.
        stated: the fields of the entry that the documents state; the others have defaults.
        notes: what could not be determined, in words; also in the entry, as `guesses`.
        has_all_rules: whether all rules between fields could be translated.
    """

    entry: VideoModel
    data: Mapping[str, Any]
    stated: frozenset[str]
    notes: tuple[str, ...]
    has_all_rules: bool


def draft_entry(model: PublishedModel, *, today: date) -> DraftEntry:
    """Make an entry from what is published about a model.

    Arguments:
        model: what is published.
        today: the date on which it was read.

    Raises:
        PublishedDocumentError: if its schema or its id is missing, or the entry would contradict
            itself.
    """
    if model.schema is None:
        raise PublishedDocumentError(
            f"{model.source}: it has prices only; an entry needs the schema of the request, from "
            f"schemas.runware.ai/resolve or the model's schema.json"
        )
    if not model.air:
        raise PublishedDocumentError(
            f"{model.source}: it does not name the model's AIR id (info.x-air-id, or the const of "
            f"properties.model)"
        )
    draft = _Draft(model, model.schema)
    draft.read(today)
    return draft.result()


@dataclass
class _Draft:
    model: PublishedModel
    schema: Mapping[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    stated: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    has_all_rules: bool = True

    def read(self, today: date) -> None:
        self._identity(today)
        self._prompts()
        self._sizes()
        self._numbers()
        self._inputs()
        self._settings()
        self._audio()
        self._outputs()
        self._rules()
        self._remix()
        self._prices()

    def result(self) -> DraftEntry:
        while True:
            self.data["guesses"] = list(dict.fromkeys(self.notes))
            try:
                entry = VideoModel.model_validate(self.data)
            except ValidationError as error:
                self._drop_rule(
                    f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}"
                    for problem in error.errors()
                )
                continue
            if found := contradictions(entry):
                self._drop_rule(map(str, found))
                continue
            guesses = self.data.pop("guesses")
            data = {name: value for name, value in self.data.items() if value not in ({}, [], "")}
            data["guesses"] = guesses
            return DraftEntry(
                entry, data, frozenset(self.stated), tuple(guesses), self.has_all_rules
            )

    def _drop_rule(self, problems: Iterable[str]) -> None:
        """Leave out the translated rules, if the entry contradicts itself because of one."""
        if not self.data.get("rules"):
            raise PublishedDocumentError(
                f"{self.model.source}: the entry for {self.model.air} would be wrong: "
                f"{'; '.join(problems)}"
            )
        rule = self.data["rules"].pop()
        self.has_all_rules = False
        self.notes.append(f"a rule was left out, since the entry would contradict itself: {rule}")

    def _state(self, name: str, value: Any) -> None:
        self.data[name] = value
        self.stated.add(name)

    def _identity(self, today: date) -> None:
        name = self.model.name
        if not name:
            name = self.model.air.partition(":")[2].replace("@", " ")
            self.notes.append("name: not published there; made from the AIR id")
        self.data |= {"air": self.model.air, "name": name}
        if self.model.is_available is False:
            self._state("retired", today)
            self.notes.append(
                f"retired: the status is {self.model.status!r}; the date is that of today"
            )
        self.data |= {"source": self.model.source, "checked": today, "guesses": []}

    def _prompts(self) -> None:
        prompt = limits.part(self.schema, "positivePrompt")
        if "maxLength" in prompt:
            self._state("prompt", {"min": prompt.get("minLength", 1), "max": prompt["maxLength"]})
        else:
            self.notes.append("prompt: its maximum length is not published; 6000 is assumed")
        negative = limits.part(self.schema, "negativePrompt")
        if negative:
            longest = negative.get("maxLength")
            if longest is None:
                self.notes.append("negative_prompt: its maximum length is not published")
            self._state(
                "negative_prompt", {"min": negative.get("minLength", 0), "max": longest or 6000}
            )

    def _sizes(self) -> None:
        resolution = limits.part(self.schema, "resolution")
        tiers = [str(value) for value in limits.values_of(resolution)]
        sizes: dict[str, list[str]] = {}
        for size, titled in limits.sizes_of(self.schema):
            tier = titled or limits.tier_by_height(size)
            if titled is None:
                self.notes.append(f"sizes: no tier is published for {size}; {tier} is assumed")
            tier = next((name for name in tiers if name.lower() == tier.lower()), tier)
            if str(size) not in sizes.setdefault(tier, []):
                sizes[tier].append(str(size))
        if sizes:
            self._state("sizes", sizes)
        elif limits.part(self.schema, "width"):
            self._size_rule()
        if tiers:
            self._state("resolutions", tiers)
            if "default" in resolution:
                self._state("default_resolution", resolution["default"])
        self._default_size(sizes, str(resolution.get("default", "")))

    def _size_rule(self) -> None:
        width, height = (limits.part(self.schema, side) for side in ("width", "height"))
        rule = limits.number_rule(width)
        if rule is None or "min" not in rule or rule != limits.number_rule(height):
            self.notes.append("sizes: the allowed pairs of width and height are not published")
            return
        most = int(rule["max"])
        self._state(
            "size_rule",
            {
                "min": max(2, int(rule["min"])),
                "max": most,
                "step": int(rule.get("step", 1)),
                "tiers": {limits.tier_by_height(FrameSize(most, most)): most * most},
            },
        )
        self.notes.append("sizes: they follow a rule, whose tiers are not published")

    def _default_size(self, sizes: Mapping[str, list[str]], tier: str) -> None:
        defaults = [limits.part(self.schema, side).get("default") for side in ("width", "height")]
        if all(isinstance(side, int) for side in defaults):
            self._state("default_size", f"{defaults[0]}x{defaults[1]}")
            return
        candidates = sizes.get(tier) or next(iter(sizes.values()), [])
        if candidates:
            wide = [size for size in candidates if int(size.split("x")[0]) > _height(size)]
            self.data["default_size"] = (wide or candidates)[0]
            self.notes.append(
                f"default_size: not published; {self.data['default_size']} is assumed"
            )

    def _numbers(self) -> None:
        schema = limits.part(self.schema, "duration")
        if schema:
            rule = limits.durations(schema)
            if rule is None:
                self.notes.append("durations: the allowed lengths are not published")
            else:
                default = schema.get("default")
                if default is None:
                    default = rule["values"][0] if "values" in rule else rule["min"]
                    self.notes.append(f"durations: the default is not published; {default} s")
                self._state("durations", {**rule, "default": default})
        for name in ("seed", "fps"):
            schema = limits.part(self.schema, name)
            rule = limits.number_rule(schema)
            if schema and rule is None and name == "seed":
                rule = {"min": 0, "max": limits.MAX_SEED}
                self.notes.append(f"seed: its range is not published; 0 to {limits.MAX_SEED}")
            if rule is not None:
                self._state(name, rule)

    def _inputs(self) -> None:
        inputs: dict[str, Any] = {}
        for name, schema in limits.part(self.schema, "inputs").get("properties", {}).items():
            if name not in limits.INPUT_NAMES:
                self.notes.append(f"inputs.{name}: sora-dagster cannot send it")
                continue
            if not isinstance(schema, Mapping):
                continue
            inputs[name] = limits.frame_images(schema) if name == "frameImages" else {}
            is_list = schema.get("type") == "array"
            if "maxItems" in schema:
                inputs[name]["max"] = schema["maxItems"]
            elif is_list:
                self.notes.append(f"inputs.{name}: the maximum number is not published; 1")
        if inputs:
            self._state("inputs", inputs)

    def _settings(self) -> None:
        settings: dict[str, Any] = {}
        parts = [("settings", limits.part(self.schema, "settings"))]
        makers = limits.part(self.schema, "providerSettings").get("properties", {})
        parts += [(f"providerSettings.{maker}", makers[maker]) for maker in makers]
        own = {
            name: schema
            for name, schema in self.schema.get("properties", {}).items()
            if name not in limits.COMMON_FIELDS
        }
        parts.append(("request", {"properties": own}))
        for at, schema in parts:
            properties = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
            for name, sub in properties.items():
                if name in settings:
                    self.notes.append(f"settings: {at}.{name} has the name of another; left out")
                elif isinstance(sub, Mapping):
                    settings[name] = limits.setting(sub, at)
            if isinstance(schema, Mapping) and schema.get("required"):
                self.notes.append(
                    f"settings: the schema requires {', '.join(schema['required'])} in {at}"
                )
        if settings:
            self._state("settings", settings)

    def _audio(self) -> None:
        settings = self.data.get("settings", {})
        for name in _AUDIO_SWITCHES:
            if settings.get(name, {}).get("type") == "boolean":
                default = settings[name].get("default")
                if default is None:
                    self.notes.append("audio: whether it is on by default is not published; on")
                self._state("audio", {"setting": name, "default": default is None or bool(default)})
                return
        text = " ".join((*self.model.capabilities, self.model.overview)).lower()
        self.data["audio"] = "always" if "audio" in text or "sound" in text else "never"
        self.notes.append(f"audio: there is no switch; {self.data['audio']} is assumed")

    def _outputs(self) -> None:
        if formats := limits.output_formats(limits.part(self.schema, "outputFormat")):
            self._state("output_formats", formats)
        most = limits.part(self.schema, "numberResults").get("maximum")
        if isinstance(most, int):
            self._state("max_results", most)

    def _rules(self) -> None:
        has_sizes = "sizes" in self.data or "size_rule" in self.data
        absent = {
            name
            for name, is_known in (
                ("size", has_sizes),
                ("resolution", "resolutions" in self.data),
                ("duration", "durations" in self.data),
                ("seed", "seed" in self.data),
                ("fps", "fps" in self.data),
                ("negativePrompt", "negative_prompt" in self.data),
            )
            if not is_known
        }
        inputs = {f"inputs.{name}" for name in self.data.get("inputs", {})}
        settings = {
            name if at == "request" else f"{at}.{name}"
            for name, one in self.data.get("settings", {}).items()
            for at in [one.get("at", "settings")]
        }
        plain = {name for name in FIELD_NAMES if not name.startswith("inputs.")} - absent
        plain -= {"tier", "audio"}
        if not inputs:
            plain.discard("inputs")
        names = FieldNames(
            frozenset(plain | inputs | settings),
            _ALWAYS_SENT,
            {tier: frozenset(sizes) for tier, sizes in self.data.get("sizes", {}).items()},
        )
        found = read_rules(self.schema, names)
        self.data["rules"] = found.rules
        self.notes += found.notes
        self.has_all_rules = not found.notes

    def _remix(self) -> None:
        inputs = self.data.get("inputs", {})
        remix: dict[str, Any] = {}
        if "videoId" in inputs:
            remix["remix"] = {"input": "videoId", "result_length": "parent"}
        carrier = next((name for name in ("video", "referenceVideos") if name in inputs), None)
        if carrier is not None:
            remix |= self._ways(carrier)
        if remix:
            self.data["remix"] = remix

    def _ways(self, carrier: str) -> dict[str, Any]:
        operations = self.data.get("settings", {}).get("operation", {}).get("values", [])
        text = " ".join(self.model.capabilities).lower()
        modes = [mode for mode in ("edit", "extend") if mode in text or mode in operations]
        if not modes:
            modes = ["edit"]
            self.notes.append(
                f"remix: what the model does with inputs.{carrier} is not published; edit"
            )
        ways = {}
        for mode in modes:
            settings = {"operation": mode} if mode in operations else {}
            duration = self._duration_beside({f"inputs.{carrier}": "given"}, settings)
            way: dict[str, Any] = {"input": carrier, "duration": duration}
            if settings:
                way["settings"] = settings
            if mode == "edit" and carrier == "video" and duration in ("none", "auto"):
                way["result_length"] = "parent"
                self.notes.append(
                    f"remix.{mode}: the length of the result is not published; the parent's"
                )
            ways[mode] = way
        return ways

    def _duration_beside(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        """The duration to send together with an input video."""
        if "durations" not in self.data:
            return "none"
        sent = {**given, **{f"settings.{name}": value for name, value in settings.items()}}
        for rule in self.data["rules"]:
            condition = rule.get("if", {})
            if not condition or any(
                name not in sent or not ({GIVEN, sent[name]} & set(_as_list(values)))
                for name, values in condition.items()
            ):
                continue
            if "duration" in rule.get("forbid", ()):
                return "none"
            allowed = rule.get("allow", {}).get("duration")
            if isinstance(allowed, list) and len(allowed) == 1:
                return allowed[0]
        return "auto" if self.data["durations"].get("auto") else "default"

    def _prices(self) -> None:
        tiers = list(
            dict.fromkeys((*self.data.get("sizes", {}), *self.data.get("resolutions", ())))
        )
        if "size_rule" in self.data:
            tiers += self.data["size_rule"]["tiers"]
        found = read_prices(
            self.model,
            tiers=tiers,
            has_audio_switch=isinstance(self.data["audio"], Mapping),
            video_inputs=[
                f"inputs.{name}"
                for name in ("video", "videoId", "referenceVideos")
                if name in self.data.get("inputs", {})
            ],
        )
        self.data["prices"] = {
            **found.prices,
            "source": self.model.source,
            "as_of": self.data["checked"],
        }
        self.notes += found.notes


def _height(size: str) -> int:
    return int(size.split("x")[1])


def _as_list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]
