"""The shots of a storyboard that are made from their parent's video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.files import Cell, Row
from sora_dagster.prompts.model_columns import column_of
from sora_dagster.prompts.recipes import (
    Recipe,
    RemixModeError,
    planned_remix_problems,
    remix_mode,
    remix_spec,
    source_problem,
)
from sora_dagster.runware.catalogue import Catalogue, RemixMode
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList

# A remix takes these from its parent's video.
_COLUMNS_OF_PARENT = ("size", "resolution", "first_frame", "last_frame", "reference_images")
# Their defaults are for shots that start from a prompt.
_COLUMNS_OF_STARTS = ("duration", "fps", "seed", "negative_prompt", "audio", "settings")


def remix_row(row: Row, merged: Row, model: Cell | None, problems: ProblemList) -> Row:
    """The row of a remix, without what it takes from its parent's video.

    Arguments:
        row: the shot's own fields; a field that a remix cannot have is reported.
        merged: the same with the board's defaults.
        model: its model: its own, or its parent's. None: the default model.
        problems: where problems are reported.
    """
    cells = RowCells(row, problems)
    for column in _COLUMNS_OF_PARENT:
        if not cells.is_absent(column):
            cells.report(
                column,
                f"a remix has no {column.replace('_', ' ')}, as it takes it from its parent's "
                f"video; remove it",
            )
    kept = {
        name: cell
        for name, cell in merged.cells.items()
        if name not in ("model", "mode", *_COLUMNS_OF_PARENT, *_COLUMNS_OF_STARTS)
    }
    own: Mapping[str, Cell] = {
        name: row.cells[name] for name in _COLUMNS_OF_STARTS if not cells.is_absent(name)
    }
    return replace(row, cells={**kept, **own, **({} if model is None else {"model": model})})


def as_remix(
    spec: ClipSpec,
    row: Row,
    parent: ClipSpec,
    catalogue: Catalogue,
    problems: ProblemList,
    *,
    seconds: float | None,
) -> ClipSpec | None:
    """The spec of a remix. None: it has problems, which are reported.

    Arguments:
        spec: the shot by itself, with its own model.
        row: its own fields.
        parent: the shot that it is made from.
        catalogue: the models that may be used.
        problems: where problems are reported.
        seconds: length of the parent's video in seconds. None: unknown.
    """
    cells = RowCells(row, problems)
    given = cells.word("mode", get_args(RemixMode))
    named: RemixMode | None = next((mode for mode in get_args(RemixMode) if mode == given), None)
    if given is not None and named is None:
        allowed = ", ".join(get_args(RemixMode))
        cells.report("mode", f"{shown(given)} is not a mode; allowed: {allowed}")
    if cells.has_problems:
        return None
    entry = catalogue.get(spec.model)
    try:
        mode = remix_mode(named, entry, catalogue.find(parent.model), catalogue)
    except RemixModeError as error:
        column = None if named is None else "mode"
        message = f"{spec.clip_id!r} is a remix of {parent.clip_id!r}, but {error}"
        cells.report(column, message)
        return None
    if (problem := source_problem(mode, entry, seconds)) is not None:
        cells.report(None, f"{spec.clip_id!r} is a remix of {parent.clip_id!r}: {problem.message}")
    recipe = Recipe(
        spec.clip_id,
        spec.prompt,
        model=spec.model,
        mode=mode,
        settings=spec.settings,
        duration_seconds=spec.duration_seconds,
        audio=spec.audio,
    )
    length = remix_spec(parent, recipe, catalogue).duration_seconds
    remix = spec.model_copy(update={"mode": mode, "duration_seconds": length})
    for broken in planned_remix_problems(remix, entry, size=parent.size, seconds=seconds):
        column = column_of(broken.field, remix, entry)
        if not cells.is_reported(column):
            cells.report(column, broken.message)
    return None if cells.has_problems else remix
