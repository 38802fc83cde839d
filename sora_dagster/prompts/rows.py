"""From a row of a dataset file to its clip, checked against the rules of the row's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from pydantic import JsonValue

from sora_dagster.prompts.cells import IMAGE_PATTERN, RowCells
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.files import REQUIRED_COLUMNS, Cell, Row
from sora_dagster.prompts.ids import check_clip_id
from sora_dagster.prompts.images import DatasetImages
from sora_dagster.prompts.model_columns import (
    COLUMNS_OF_MODELS,
    at_default,
    column_of,
    in_columns,
    models_for_row,
    models_with,
    supports_column,
    unsupported_column_message,
)
from sora_dagster.prompts.recipe_reader import ReadRecipe
from sora_dagster.prompts.row_settings import read_settings
from sora_dagster.runware.catalogue import (
    Catalogue,
    InputName,
    OutputFormat,
    SafetyMode,
    VideoModel,
    parse_size,
)
from sora_dagster.runware.catalogue.parts import AudioSwitch
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.request_fields import request_fields
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import (
    allowed_values,
    audio_problem,
    broken_rules,
    may_send,
    must_send,
)
from sora_dagster.user_files.problems import ProblemList, did_you_mean

# Stands for an image that cannot be read, so that the other columns can be checked.
_UNREADABLE = "00000000-0000-0000-0000-000000000000"
# A default of one of these counts only where the model's rules allow it.
_SIZE_AND_LENGTH = ("size", "resolution", "duration")


class RowReader:
    """Reads rows into clips and reports everything that is wrong with them.

    Arguments:
        catalogue: the models that rows may name.
        images: reads the images that rows name.
        problems: where problems are reported.
        recipes: the recipes that rows may name, by name. Default: none.
        recipes_place: where the recipes are, or could be, for messages.
        missing_columns: required columns that the file lacks, reported already. Default: none.
        check_id: returns a valid id, in the form that is used; raises a ValueError for an
            invalid one. Default: `check_clip_id`.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        images: DatasetImages,
        problems: ProblemList,
        recipes: Mapping[str, ReadRecipe] = {},
        recipes_place: str = "",
        missing_columns: frozenset[str] = frozenset(),
        check_id: Callable[[str], str] = check_clip_id,
    ) -> None:
        self._catalogue = catalogue
        self._images = images
        self._recipes = recipes
        self._recipes_place = recipes_place
        self._missing_columns = missing_columns
        self._problems = problems
        self._check_id = check_id
        # The text and the line of the first row with each id.
        self._first_of_id: dict[str, tuple[str, int]] = {}
        # By recipe, model and length, which most rows share.
        self._remix_problems: dict[tuple[str, str, float | None], str | None] = {}
        self.parents_of_recipe: dict[str, dict[str, VideoModel]] = {}

    def read(self, row: Row, *, is_remix: bool = False) -> ClipSpec | None:
        """The clip of a row. None: the row has problems.

        Arguments:
            row: the row.
            is_remix: whether its video is made from an earlier one. Then neither the rules of its
                model are checked nor defaults are filled in. Default: false.
        """
        problems_before = len(self._problems)
        cells = RowCells(row, self._problems)
        cells.refuse_control_characters()
        for column in REQUIRED_COLUMNS:
            if column not in self._missing_columns and cells.is_absent(column):
                cells.report(column, f"the {column} is missing; each clip needs one")
        entry = self._entry(cells)
        values: dict[str, Any] = {
            "clip_id": self._clip_id(cells),
            "prompt": cells.text("prompt"),
            "model": None if entry is None else entry.air,
            "size": _size(cells, entry),
            "resolution": cells.word(
                "resolution",
                () if entry is None else entry.resolutions,
                allowed=allowed_values("resolution", entry),
            ),
            "duration_seconds": cells.seconds(
                "duration", allowed=allowed_values("duration", entry)
            ),
            "fps": cells.number("fps", allowed=allowed_values("fps", entry)),
            "seed": cells.whole_number("seed", allowed=allowed_values("seed", entry)),
            "negative_prompt": cells.text("negative_prompt"),
            "audio": cells.boolean("audio"),
            "number_results": cells.whole_number(
                "number_results", allowed=allowed_values("numberResults", entry)
            ),
            "output_format": cells.word("output_format", get_args(OutputFormat)),
            "output_quality": cells.whole_number(
                "output_quality", allowed=allowed_values("outputQuality", entry)
            ),
            "first_frame": self._image(cells, "first_frame", entry),
            "last_frame": self._image(cells, "last_frame", entry),
            "reference_images": self._reference_images(cells, entry),
            "safety": cells.word("safety", get_args(SafetyMode)),
            "take": _take(cells),
            "recipes": self._recipe_names(cells, entry),
            "tags": tuple(text for text, _ in cells.texts("tags")),
        }
        if entry is not None:
            values["settings"] = self._settings(cells, values, entry)
            self._check_columns(cells, values, entry, is_remix=is_remix)
            if not is_remix:
                self._fill_defaults(cells, values, entry)
            values["at_default"] = tuple(at_default(values, entry))
            self._check_remixes(cells, values["recipes"], entry, values["duration_seconds"])
        spec = ClipSpec.model_construct(**{"prompt": "", **_without_none(values)})
        if not is_remix:
            self._check_rules(cells, spec, entry)
        if self._missing_columns or len(self._problems) > problems_before:
            return None
        return ClipSpec(**_without_none(values))

    def with_defaults(self, row: Row, defaults: Mapping[str, Cell]) -> Row:
        """The row, with defaults for the columns that it leaves out.

        A default size, resolution or duration counts only where the rules of the row's model allow
        it beside the row's own values, such as its first frame.
        """
        cells = RowCells(row, ProblemList(""))
        given = {name: cell for name, cell in row.cells.items() if not cells.is_absent(name)}
        merged = {**defaults, **given}
        model = RowCells(replace(row, cells=merged), ProblemList("")).text("model")
        if (entry := self._find(model)) is not None:
            sent = _sent_fields(given)
            for name in _SIZE_AND_LENGTH:
                if name not in given and name in defaults and not may_send(name, entry, sent):
                    del merged[name]
                elif name in merged:
                    sent[name] = True
        return replace(row, cells=merged)

    def _entry(self, cells: RowCells) -> VideoModel | None:
        given = cells.text("model", allowed="a model's short name or its id")
        if given is None and not cells.is_absent("model"):
            return None
        entry = self._find(given)
        if entry is None:
            model = "the default model" if given is None else shown(given)
            cells.report(
                "model",
                f"{model} is not in the catalogue"
                f"{did_you_mean(given or '', self._catalogue.names)}; allowed: "
                f"{models_with(lambda _: True, self._catalogue)}, and the models of the file that "
                f"SORA_MODELS names",
            )
        return entry

    def _find(self, model: str | None) -> VideoModel | None:
        """The entry of a model, or of the default one."""
        if model is not None:
            return self._catalogue.find(model) or self._catalogue.find(model.casefold())
        return self._catalogue.find(self._catalogue.default_model)

    def _clip_id(self, cells: RowCells) -> str | None:
        text = cells.text("id", whole_numbers=True)
        if text is None:
            return None
        try:
            clip_id = self._check_id(text)
        except ValueError as error:
            cells.report("id", str(error))
            return None
        if clip_id in self._first_of_id:
            first, line = self._first_of_id[clip_id]
            form = "" if first == text else ", in another Unicode form (both are the same in NFC)"
            earlier = self._problems.place(line)
            cells.report(
                "id", f"{clip_id!r} is already the id of {earlier}{form}; ids must be unique"
            )
        self._first_of_id.setdefault(clip_id, (text, cells.line))
        return clip_id

    def _image(self, cells: RowCells, column: str, entry: VideoModel | None) -> str | None:
        value = cells.text(column)
        return None if value is None else self._resolved(cells, column, value, entry, "frameImages")

    def _reference_images(self, cells: RowCells, entry: VideoModel | None) -> tuple[str, ...]:
        column = "reference_images"
        return tuple(
            self._resolved(cells, column, value, entry, "referenceImages", cell)
            for value, cell in cells.texts(column, item_pattern=IMAGE_PATTERN)
        )

    def _resolved(
        self,
        cells: RowCells,
        column: str,
        value: str,
        entry: VideoModel | None,
        kind: InputName,
        cell: Cell | None = None,
    ) -> str:
        if entry is None or not supports_column(entry, column):
            return value
        try:
            return self._images.resolve(value, entry, kind)
        except ValueError as error:
            cells.report(column, str(error), cell=cell)
            return _UNREADABLE

    def _settings(
        self, cells: RowCells, values: dict[str, Any], entry: VideoModel
    ) -> dict[str, JsonValue]:
        """The settings of the row. That of the sound becomes the value of the column `audio`."""
        settings = read_settings(cells, entry, self._catalogue)
        if isinstance(entry.audio, AudioSwitch) and entry.audio.setting in settings:
            name, column = entry.audio.setting, values["audio"]
            audio = settings.pop(name)
            if column is not None and column != audio:
                cells.report(
                    "audio",
                    f"audio is {str(column).lower()}, but the setting {name} is "
                    f"{str(audio).lower()}; remove one of the two",
                )
            values["audio"] = audio
        return settings

    def _check_columns(
        self, cells: RowCells, values: dict[str, Any], entry: VideoModel, *, is_remix: bool
    ) -> None:
        """Report columns that the model does not know, and leave them out of `values`."""
        given = [column for column in COLUMNS_OF_MODELS if not cells.is_absent(column)]
        is_only_for_remixes = entry.needs_video and not is_remix
        if is_only_for_remixes:
            others = models_for_row(given, self._catalogue)
            cells.report(
                "model",
                f"{entry.name} ({entry.air}) makes a video only from an earlier one, so it can "
                f"be used only in recipes; models for this row: {others}",
            )
        for column in given:
            if supports_column(entry, column):
                continue
            # The model itself is the mistake of a row that it cannot make.
            if not is_only_for_remixes and not cells.is_reported(column):
                cells.report(column, unsupported_column_message(entry, column, self._catalogue))
            values["duration_seconds" if column == "duration" else column] = None
        if (problem := audio_problem(values["audio"], entry)) is not None:
            audio = values["audio"]
            others = models_with(
                lambda other: other.has_audio_switch or other.makes_sound() == audio,
                self._catalogue,
            )
            cells.report("audio", f"{problem.message}: {others}")
            values["audio"] = None

    def _fill_defaults(self, cells: RowCells, values: dict[str, Any], entry: VideoModel) -> None:
        """Fill in the model's size and duration where its rules allow it."""
        if cells.is_absent("size") and cells.is_absent("resolution") and entry.default_size:
            sent = _request_fields(values, entry)
            # A frame decides the size, unless the model wants both.
            decide = must_send if "inputs.frameImages" in sent else may_send
            if decide("size", entry, sent):
                values["size"] = entry.default_size
        if cells.is_absent("duration") and entry.durations is not None:
            default = entry.durations.default
            if may_send("duration", entry, _request_fields(values, entry), default):
                values["duration_seconds"] = default

    def _check_rules(self, cells: RowCells, spec: ClipSpec, entry: VideoModel | None) -> None:
        """Report the rules of a request that a row breaks, one for each column at most."""
        fields = spec.request_fields(entry or self._catalogue.entries[0])
        problems = broken_rules(VideoInference.model_construct(None, **fields), entry)
        # What is missing may be missing because of another mistake in the row.
        problems.sort(key=lambda problem: problem.is_missing)
        for problem in problems:
            column = column_of(problem.field, spec, entry)
            if problem.is_missing and cells.has_problems:
                continue
            if column in self._missing_columns or cells.is_reported(column):
                continue
            hint = _sizes_of_tier(spec, entry) if column == "resolution" else ""
            cells.report(column, in_columns(problem.message, spec) + hint)

    def _recipe_names(self, cells: RowCells, entry: VideoModel | None) -> tuple[str, ...]:
        names: list[str] = []
        for name, cell in cells.texts("recipes"):
            if name not in self._recipes:
                known = ", ".join(self._recipes)
                where = (
                    f"allowed: {known} ({self._recipes_place})"
                    if known
                    else f"write it, as name: prompt, in {self._recipes_place}"
                )
                suggestion = did_you_mean(name, list(self._recipes))
                cells.report(
                    "recipes", f"there is no recipe {name!r}{suggestion}; {where}", cell=cell
                )
            elif name in names:
                cells.report("recipes", f"recipe {name!r} is listed twice; remove one", cell=cell)
            elif entry is not None:
                self.parents_of_recipe.setdefault(name, {})[entry.air] = entry
            names.append(name)
        return tuple(names)

    def _check_remixes(
        self, cells: RowCells, names: tuple[str, ...], entry: VideoModel, seconds: object
    ) -> None:
        """Report the recipes that the clip cannot have."""
        length = float(seconds) if isinstance(seconds, (int, float)) else None
        for name in names:
            recipe = self._recipes.get(name)
            if recipe is None:
                continue
            key = (name, entry.air, length)
            if key not in self._remix_problems:
                problem = recipe.remix_problem(entry, length, self._catalogue)
                self._remix_problems[key] = problem
            if (message := self._remix_problems[key]) is not None:
                cells.report("recipes", f"recipe {name!r}: {message}")


def _size(cells: RowCells, entry: VideoModel | None) -> object:
    allowed = allowed_values("width", entry)
    if (text := cells.text("size", allowed=allowed)) is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        cells.report("size", f"{error}; allowed: {allowed}")
        return None


def _sizes_of_tier(spec: ClipSpec, entry: VideoModel | None) -> str:
    """The sizes that stand for a resolution which cannot be sent, for messages."""
    tier = spec.resolution or ""
    sizes = () if entry is None else entry.sizes.get(tier, ())
    return f"; sizes of {tier}: {', '.join(map(str, sizes))}" if sizes else ""


def _take(cells: RowCells) -> int | None:
    allowed = "a whole number, 1 or higher"
    take = cells.whole_number("take", allowed=allowed)
    if take is not None and take < 1:
        cells.report("take", f"the take is {take}; allowed: {allowed}")
    return take


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _request_fields(values: Mapping[str, Any], entry: VideoModel) -> dict[str, object]:
    """The fields of the request, by their names in rules."""
    spec = ClipSpec.model_construct(**{"prompt": "", **_without_none(values)})
    request = VideoInference.model_construct(None, **spec.request_fields(entry))
    return request_fields(request, entry)


def _sent_fields(cells: Mapping[str, Cell]) -> dict[str, object]:
    """The fields that the columns of a row set, by their names in rules, without their values."""
    sent: dict[str, object] = {}
    if "first_frame" in cells or "last_frame" in cells:
        sent["inputs.frameImages"] = True
    if "reference_images" in cells:
        sent["inputs.referenceImages"] = True
    if sent:
        sent["inputs"] = True
    return sent | {name: True for name in _SIZE_AND_LENGTH if name in cells}
