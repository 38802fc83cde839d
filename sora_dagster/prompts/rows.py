"""From a row of a dataset file to the clip it asks for, held against the model's entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.clips import ClipSpec, check_clip_id
from sora_dagster.prompts.files import REQUIRED_COLUMNS, RecipeEntry, Row
from sora_dagster.prompts.first_frames import FirstFrames
from sora_dagster.prompts.problems import ProblemList, did_you_mean
from sora_dagster.runware.errors import UnknownModelError
from sora_dagster.runware.models import (
    DEFAULT_MODEL,
    Catalogue,
    OutputFormat,
    SafetyMode,
    VideoModel,
    parse_size,
)
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.request_rules import (
    MAX_OUTPUT_QUALITY,
    MIN_OUTPUT_QUALITY,
    prompt_length_problem,
)

_SIZES = "WIDTHxHEIGHT in pixels, such as 1792x1024"


class RowReader:
    """Makes clips of rows, and notes all that is wrong with them.

    Arguments:
        catalogue: the models that may be used.
        first_frames: reads the images that rows name.
        recipes: the recipes that rows may ask for, by name.
        recipes_place: where the recipes are, or could be, for messages.
        missing_columns: required columns whose absence is known, and not noted for each row.
        problems: where problems are noted.
        check_id: raises a ValueError for what cannot be an id.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        first_frames: FirstFrames,
        recipes: Mapping[str, RecipeEntry],
        recipes_place: str,
        missing_columns: frozenset[str],
        problems: ProblemList,
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
        self.models_of_recipe: dict[str, dict[str, VideoModel]] = {}

    def read(self, row: Row) -> ClipSpec | None:
        """The clip of a row; None where something is wrong with the row."""
        problems_before = len(self._problems)
        cells = RowCells(row, self._problems)
        for column in REQUIRED_COLUMNS:
            if column not in self._missing_columns and cells.is_absent(column):
                cells.complain(column, f"the {column} is missing; each clip needs one")
        entry = self._entry(cells)
        fields: dict[str, Any] = {
            "clip_id": self._clip_id(cells),
            "prompt": _prompt(cells, entry),
            "model": None if entry is None else entry.air,
            **self._picture(cells, entry),
            **_delivery(cells, entry),
            "take": cells.whole_number("take", least=1),
            "recipes": self._recipe_names(cells, entry),
            "tags": tuple(text for text, _ in cells.texts("tags")),
        }
        if self._missing_columns or len(self._problems) > problems_before:
            return None
        try:
            return ClipSpec(**{name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            for problem in error.errors():
                where = ".".join(map(str, problem["loc"]))
                cells.complain(None, f"{where} is {shown(problem['input'])}: {problem['msg']}")
            return None

    def _entry(self, cells: RowCells) -> VideoModel | None:
        known = [entry.air for entry in self._catalogue.entries]
        given = cells.text("model", allowed=", ".join(known))
        if given is None and not cells.is_absent("model"):
            return None
        model = DEFAULT_MODEL if given is None else given
        try:
            return self._catalogue.get(model)
        except UnknownModelError:
            cells.complain(
                "model",
                f"{shown(model)} is no model of the catalogue{did_you_mean(model, known)}; "
                f"allowed: {', '.join(known)}, and those of the file that SORA_MODELS names",
            )
            return None

    def _clip_id(self, cells: RowCells) -> str | None:
        clip_id = cells.text("id", whole_numbers=True)
        if clip_id is None:
            return None
        try:
            self._check_id(clip_id)
        except ValueError as error:
            cells.complain("id", str(error))
            return None
        if clip_id in self._line_of_id:
            earlier = self._problems.place(self._line_of_id[clip_id])
            cells.complain("id", f"{clip_id!r} is already the id of {earlier}; ids are unique")
        self._line_of_id.setdefault(clip_id, cells.line)
        return clip_id

    def _picture(self, cells: RowCells, entry: VideoModel | None) -> dict[str, Any]:
        """Size, length and first frame, with the model's defaults where the row says nothing."""
        size = None
        if (text := cells.text("size", allowed=_SIZES)) is not None:
            try:
                size = parse_size(text)
            except ValueError as error:
                cells.complain("size", str(error) + _allowed_sizes(entry))
            else:
                if entry is not None and size not in entry.sizes:
                    cells.complain(
                        "size",
                        f"{cells.shown('size')} is not a size of {entry.name}"
                        + _allowed_sizes(entry),
                    )
        first_frame = cells.text("first_frame")
        if first_frame is not None and not cells.is_absent("size"):
            cells.complain(
                "size",
                "a clip has a size or a first frame, not both, as the video takes the size of its "
                "first frame; leave one out",
            )
        if first_frame is not None and entry is not None:
            try:
                first_frame = self._first_frames.resolve(first_frame, entry)
            except ValueError as error:
                cells.complain("first_frame", str(error))
        if entry is not None and size is None and cells.is_absent("first_frame"):
            size = entry.default_size
        return {
            "size": size,
            "first_frame": first_frame,
            "duration_seconds": _duration_seconds(cells, entry),
        }

    def _recipe_names(self, cells: RowCells, entry: VideoModel | None) -> tuple[str, ...]:
        names: list[str] = []
        for name, cell in cells.texts("recipes"):
            if name not in self._recipes:
                known = ", ".join(self._recipes)
                cells.complain(
                    "recipes",
                    f"there is no recipe {name!r}{did_you_mean(name, list(self._recipes))}; "
                    + (f"allowed: {known} ({self._recipes_place})" if known else self._no_recipes),
                    cell=cell,
                )
            elif name in names:
                cells.complain("recipes", f"recipe {name!r} is asked for twice", cell=cell)
            elif entry is not None:
                self.models_of_recipe.setdefault(name, {})[entry.air] = entry
            names.append(name)
        if names and entry is not None and not entry.accepts_video_id:
            cells.complain(
                "recipes",
                f"{entry.name} ({entry.air}) makes no remixes, as it takes no video ids; leave the "
                f"recipes out or choose another model",
            )
        return tuple(names)

    @property
    def _no_recipes(self) -> str:
        return f"write it, as name: prompt, in {self._recipes_place}"


def prompt_problem(prompt: str, entry: VideoModel) -> str | None:
    """What is wrong with a prompt's length for a model, if anything."""
    problem = prompt_length_problem(prompt, entry)
    if problem is None:
        return None
    return f"{problem.value} cannot be a prompt: {problem.message}; allowed: {problem.allowed}"


def _prompt(cells: RowCells, entry: VideoModel | None) -> str | None:
    prompt = cells.text("prompt")
    if prompt is not None and entry is not None and (wrong := prompt_problem(prompt, entry)):
        cells.complain("prompt", wrong)
    return prompt


def _duration_seconds(cells: RowCells, entry: VideoModel | None) -> float | None:
    allowed = "a number of seconds"
    if entry is not None:
        listed = ", ".join(f"{seconds:g}" for seconds in entry.durations_seconds)
        allowed = f"{listed} seconds for {entry.name}"
    duration = cells.number("duration", allowed=allowed)
    if entry is None:
        return duration
    if duration is None:
        return entry.default_duration_seconds
    if duration not in entry.durations_seconds:
        cells.complain(
            "duration",
            f"{cells.shown('duration')} is not a length of {entry.name}; allowed: {allowed}",
        )
    return duration


def _delivery(cells: RowCells, entry: VideoModel | None) -> dict[str, Any]:
    formats, most_results, suffix = get_args(OutputFormat), 4, ""
    if entry is not None:
        formats, most_results = entry.output_formats, entry.max_results
        suffix = f" for {entry.name}"
    return {
        "number_results": cells.whole_number(
            "number_results", least=1, most=most_results, suffix=suffix
        ),
        "output_format": cells.choice("output_format", formats, suffix=suffix),
        "output_quality": cells.whole_number(
            "output_quality", least=MIN_OUTPUT_QUALITY, most=MAX_OUTPUT_QUALITY
        ),
        "safety": cells.choice("safety", get_args(SafetyMode)),
    }


def _allowed_sizes(entry: VideoModel | None) -> str:
    return "" if entry is None else f"; allowed: {', '.join(map(str, entry.sizes))}"
