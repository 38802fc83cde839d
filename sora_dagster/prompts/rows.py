"""From a row of a dataset file to its clip, checked against the rules of the row's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from sora_dagster.input_files.problems import ProblemList, did_you_mean
from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.clips import ClipSpec, check_clip_id
from sora_dagster.prompts.files import REQUIRED_COLUMNS, Row
from sora_dagster.prompts.first_frames import FirstFrames
from sora_dagster.prompts.recipe_reader import ReadRecipe
from sora_dagster.runware.catalogue import (
    Catalogue,
    OutputFormat,
    SafetyMode,
    VideoModel,
    parse_size,
)
from sora_dagster.runware.errors import UnknownModelError
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import allowed_values, broken_rules

# The column that a field of a request comes from.
_COLUMNS = {
    "positivePrompt": "prompt",
    "width": "size",
    "height": "size",
    "duration": "duration",
    "numberResults": "number_results",
    "outputFormat": "output_format",
    "outputQuality": "output_quality",
    "inputs": "first_frame",
    "safety": "safety",
}


class RowReader:
    """Reads rows into clips and reports everything that is wrong with them.

    Arguments:
        catalogue: the models that rows may name.
        first_frames: reads the images that rows name.
        problems: where problems are reported.
        recipes: the recipes that rows may name, by name. Default: none.
        recipes_place: where the recipes are, or could be, for messages.
        missing_columns: required columns that the file lacks, reported already. Default: none.
        check_id: raises a ValueError for an invalid id. Default: `check_clip_id`.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        first_frames: FirstFrames,
        problems: ProblemList,
        recipes: Mapping[str, ReadRecipe] = {},
        recipes_place: str = "",
        missing_columns: frozenset[str] = frozenset(),
        check_id: Callable[[str], object] = check_clip_id,
    ) -> None:
        self._catalogue = catalogue
        self._first_frames = first_frames
        self._recipes = recipes
        self._recipes_place = recipes_place
        self._missing_columns = missing_columns
        self._problems = problems
        self._check_id = check_id
        self._line_of_id: dict[str, int] = {}
        self.parents_of_recipe: dict[str, dict[str, VideoModel]] = {}

    def read(self, row: Row) -> ClipSpec | None:
        """The clip of a row. None: the row has problems."""
        problems_before = len(self._problems)
        cells = RowCells(row, self._problems)
        for column in REQUIRED_COLUMNS:
            if column not in self._missing_columns and cells.is_absent(column):
                cells.report(column, f"the {column} is missing; each clip needs one")
        entry = self._entry(cells)
        values: dict[str, Any] = {
            "clip_id": self._clip_id(cells),
            "prompt": cells.text("prompt"),
            "model": None if entry is None else entry.air,
            "size": _size(cells, entry),
            "duration_seconds": cells.number("duration", allowed=allowed_values("duration", entry)),
            "number_results": cells.whole_number(
                "number_results", allowed=allowed_values("numberResults", entry)
            ),
            "output_format": cells.word("output_format", get_args(OutputFormat)),
            "output_quality": cells.whole_number(
                "output_quality", allowed=allowed_values("outputQuality", entry)
            ),
            "first_frame": self._first_frame(cells, entry),
            "safety": cells.word("safety", get_args(SafetyMode)),
            "take": _take(cells),
            "recipes": self._recipe_names(cells, entry),
            "tags": tuple(text for text, _ in cells.texts("tags")),
        }
        if entry is not None and entry.durations is not None and cells.is_absent("duration"):
            values["duration_seconds"] = entry.durations.default
        if entry is not None:
            self._check_remixes(cells, values["recipes"], entry, values["duration_seconds"])
        fields = {name: value for name, value in values.items() if value is not None}
        _check_rules(cells, fields, entry, self._catalogue)
        if self._missing_columns or len(self._problems) > problems_before:
            return None
        return ClipSpec(**fields)

    def _entry(self, cells: RowCells) -> VideoModel | None:
        known = [entry.air for entry in self._catalogue.entries]
        given = cells.text("model", allowed=", ".join(known))
        if given is None and not cells.is_absent("model"):
            return None
        model = self._catalogue.default.air if given is None else given
        try:
            return self._catalogue.get(model)
        except UnknownModelError:
            cells.report(
                "model",
                f"{shown(model)} is not in the catalogue{did_you_mean(model, known)}; allowed: "
                f"{', '.join(known)}, and the models of the file that SORA_MODELS names",
            )
            return None

    def _clip_id(self, cells: RowCells) -> str | None:
        clip_id = cells.text("id", whole_numbers=True)
        if clip_id is None:
            return None
        try:
            self._check_id(clip_id)
        except ValueError as error:
            cells.report("id", str(error))
            return None
        if clip_id in self._line_of_id:
            earlier = self._problems.place(self._line_of_id[clip_id])
            cells.report("id", f"{clip_id!r} is already the id of {earlier}; ids must be unique")
        self._line_of_id.setdefault(clip_id, cells.line)
        return clip_id

    def _first_frame(self, cells: RowCells, entry: VideoModel | None) -> str | None:
        value = cells.text("first_frame")
        if value is None or entry is None:
            return value
        try:
            return self._first_frames.resolve(value, entry)
        except ValueError as error:
            cells.report("first_frame", str(error))
            return None

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
            message = recipe and recipe.remix_problem(entry, length, self._catalogue)
            if message:
                cells.report("recipes", message)


def _size(cells: RowCells, entry: VideoModel | None) -> object:
    allowed = allowed_values("width", entry)
    if (text := cells.text("size", allowed=allowed)) is None:
        use_default = entry is not None and cells.is_absent("first_frame")
        return entry.default_size if entry is not None and use_default else None
    try:
        return parse_size(text)
    except ValueError as error:
        cells.report("size", f"{error}; allowed: {allowed}")
        return None


def _take(cells: RowCells) -> int | None:
    allowed = "a whole number from 1 on"
    take = cells.whole_number("take", allowed=allowed)
    if take is not None and take < 1:
        cells.report("take", f"the take is {take}; allowed: {allowed}")
    return take


def _check_rules(
    cells: RowCells, fields: Mapping[str, Any], entry: VideoModel | None, catalogue: Catalogue
) -> None:
    """Report the rules of a request that a row breaks, one for each column at most."""
    spec = ClipSpec.model_construct(**{"prompt": "", **fields})
    request = VideoInference.model_construct(
        None, **spec.request_fields(entry or catalogue.default)
    )
    for problem in broken_rules(request, entry):
        column = _COLUMNS[problem.field.partition(".")[0]]
        # A column without a value has a default, or is reported as missing.
        if not cells.is_absent(column) and not cells.is_reported(column):
            cells.report(column, problem.message)
