"""Storyboards: small trees of named shots in YAML, where each remix depends on its parent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yaml.nodes import MappingNode, Node

from sora_dagster.prompts.board_tree import (
    EXAMPLE_SHOT,
    FoundShot,
    find_parents,
    found_shots,
    refuse_cycles,
)
from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.files import Cell, Row, decode_text, known_columns_only
from sora_dagster.prompts.first_frames import FirstFrames
from sora_dagster.prompts.problems import (
    DatasetError,
    DatasetProblem,
    ProblemList,
    did_you_mean,
)
from sora_dagster.prompts.rows import RowReader
from sora_dagster.prompts.yaml_nodes import (
    cell_of,
    compose,
    entries,
    is_null,
    line_of,
    plain_value,
)
from sora_dagster.runware.models import DEFAULT_MODEL, Catalogue
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.rules import remix_problem

_EXTENSIONS = (".yaml", ".yml")
_TOP_LEVEL = ("board", "defaults", "shots")
_DEFAULT_COLUMNS = (
    "model",
    "size",
    "duration",
    "number_results",
    "output_format",
    "output_quality",
    "safety",
    "tags",
)
# What a remix takes from its parent's video; the API lets a request with a video id say none of it.
_OF_THE_PARENT = ("model", "size", "duration", "first_frame")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,99}")
_NAME_ALLOWED = "1 to 100 of A-Z, a-z, 0-9 and '_', starting with a letter or digit"


@dataclass(frozen=True)
class Shot:
    """A shot of a storyboard.

    Arguments:
        id: its name, unique in the board.
        spec: what it shall be. For a remix: no size, no length and no first frame.
        parent: id of the shot it is a remix of; None where it starts from its prompt.
        level: how many shots are above it.
    """

    id: str
    spec: ClipSpec
    parent: str | None
    level: int


@dataclass(frozen=True)
class Board:
    """A storyboard: shots, each a remix of another or a start of its own.

    Arguments:
        name: its name, the first part of its shots' asset keys.
        shots: its shots, parents before their remixes.
        path: the file.
    """

    name: str
    shots: tuple[Shot, ...]
    path: Path

    def shot(self, shot_id: str) -> Shot:
        """The shot of an id.

        Raises:
            LookupError: where the board has none.
        """
        for shot in self.shots:
            if shot.id == shot_id:
                return shot
        raise LookupError(
            f"{self.path} has no shot {shot_id!r}"
            + did_you_mean(shot_id, [shot.id for shot in self.shots])
        )


def load_board(path: str | Path, *, catalogue: Catalogue) -> Board:
    """Read a storyboard from a YAML file.

    At the top stand `shots`, a list, and where wanted `board`, its name (the file's name without
    its extension where not given), and `defaults`, for shots that do not say otherwise. A shot has
    the fields of a dataset's clip, but for `recipes`; its remixes stand under it in `remixes`, or
    name it in `parent`. A remix has neither model, size, duration nor first frame: it takes them
    from its parent's video.

    Arguments:
        path: the file.
        catalogue: the models that shots may name, with their limits.

    Raises:
        DatasetError: where anything is wrong; it lists all problems of the file.

    Example:
        >>> board = load_board("examples/boards/mangrove.yaml", catalogue=Catalogue.builtin())
        >>> [(shot.id, shot.parent) for shot in board.shots][:2]
        [('monsoon', None), ('dawn', 'monsoon')]
    """
    path = Path(path)
    problems = ProblemList(path.name)
    if path.suffix.lower() not in _EXTENSIONS:
        problems.add(
            f"the extension {path.suffix!r} is not known; allowed: {', '.join(_EXTENSIONS)}",
            value=path.suffix,
        )
        raise DatasetError(path, list(problems))
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        problems.add(f"the file cannot be read: {reason} ({path.absolute()})", value=str(path))
        raise DatasetError(path, list(problems)) from error
    root = compose(decode_text(data, problems), problems)
    parts = _parts(root, problems)
    name = _board_name(parts.get("board"), path, problems)
    found = found_shots(parts.get("shots"), problems)
    if not found and not problems:
        problems.add(
            f"the board has no shots; give it 'shots', a list such as [{EXAMPLE_SHOT}]", value=None
        )
    defaults = _defaults(parts.get("defaults"), problems)
    find_parents(found, problems)
    refuse_cycles(found, problems)
    shots = _read_shots(found, defaults, path, catalogue, problems)
    if problems:
        raise DatasetError(path, _each_once(problems))
    return Board(name, tuple(sorted(shots, key=lambda shot: shot.level)), path)


def _parts(root: Node | None, problems: ProblemList) -> dict[str, Node]:
    if root is None:
        return {}
    if not isinstance(root, MappingNode):
        problems.add(
            f"a mapping is expected, with 'shots', a list such as [{EXAMPLE_SHOT}]",
            line=line_of(root),
            value=plain_value(root),
        )
        return {}
    parts: dict[str, Node] = {}
    for name, key, value in entries(root, problems):
        if name in _TOP_LEVEL:
            parts[name] = value
        else:
            problems.add(
                f"{name!r} is not expected here{did_you_mean(name, _TOP_LEVEL)}; at the top stand "
                f"{', '.join(_TOP_LEVEL)}",
                line=line_of(key),
                value=name,
            )
    return parts


def _board_name(node: Node | None, path: Path, problems: ProblemList) -> str:
    name, origin = path.stem, ", which is the file's; name it by 'board: …' at the top"
    if node is not None and not is_null(node):
        name, origin = str(plain_value(node)), ""
    if not _NAME_PATTERN.fullmatch(name):
        problems.add(
            f"{shown(name)} cannot be a board's name, as asset keys start with it{origin}; "
            f"allowed are {_NAME_ALLOWED}",
            line=None if node is None else line_of(node),
            value=name,
        )
    return name


def _check_shot_id(value: str) -> None:
    if not _NAME_PATTERN.fullmatch(value):
        raise ValueError(
            f"{value!r} cannot be the id of a shot, as it names an asset; allowed are "
            f"{_NAME_ALLOWED}"
        )


def _defaults(node: Node | None, problems: ProblemList) -> Mapping[str, Cell]:
    if node is None or is_null(node):
        return {}
    if not isinstance(node, MappingNode):
        problems.add(
            "a mapping of defaults is expected, such as {size: 1792x1024, duration: 8}",
            line=line_of(node),
            value=plain_value(node),
        )
        return {}
    row = Row(line_of(node), {name: cell_of(value) for name, _, value in entries(node, problems)})
    [known] = known_columns_only([row], problems, columns=_DEFAULT_COLUMNS)
    return known.cells


def _read_shots(
    found: Sequence[FoundShot],
    defaults: Mapping[str, Cell],
    path: Path,
    catalogue: Catalogue,
    problems: ProblemList,
) -> list[Shot]:
    reader = RowReader(
        catalogue=catalogue,
        first_frames=FirstFrames(path.parent),
        recipes={},
        recipes_place="",
        missing_columns=frozenset(),
        problems=problems,
        check_id=_check_shot_id,
    )
    shots = []
    for shot in found:
        row, parent = _with_defaults(shot.row, defaults), shot.above
        if parent is not None:
            row = _remix_row(shot, row, defaults, catalogue, problems)
        spec = reader.read(row)
        if spec is None:
            continue
        if parent is not None:
            spec = spec.model_copy(update={"size": None, "duration_seconds": None})
        shots.append(
            Shot(
                id=spec.clip_id,
                spec=spec,
                parent=None if parent is None else parent.id,
                level=len(list(shot.chain())) - 1,
            )
        )
    return shots


def _with_defaults(row: Row, defaults: Mapping[str, Cell]) -> Row:
    """The row with what the board's defaults say of the fields that it says nothing of."""
    cells = RowCells(row, ProblemList(""))
    given = {name: cell for name, cell in row.cells.items() if not cells.is_absent(name)}
    if "first_frame" in given:
        # The video takes the size of its first frame.
        defaults = {name: cell for name, cell in defaults.items() if name != "size"}
    return replace(row, cells={**defaults, **given})


def _remix_row(
    shot: FoundShot,
    row: Row,
    defaults: Mapping[str, Cell],
    catalogue: Catalogue,
    problems: ProblemList,
) -> Row:
    """The row of a remix as it is checked: of its start's model, without what it may not say."""
    cells = RowCells(shot.row, problems)
    for column in _OF_THE_PARENT:
        if not cells.is_absent(column):
            cells.report(
                column,
                f"a remix has no {column.replace('_', ' ')} of its own, as it is made from its "
                f"parent's video; leave it out",
            )
    kept = {name: cell for name, cell in row.cells.items() if name not in _OF_THE_PARENT}
    *_, start = shot.chain()
    model = None if shot.in_cycle else _with_defaults(start.row, defaults).cells.get("model")
    if model is not None:
        kept["model"] = model
    air = DEFAULT_MODEL if model is None else model.value
    for entry in catalogue.entries:
        if entry.air == air and (problem := remix_problem(entry)) is not None:
            cells.report(
                None, f"{shot.called} is a remix, but {problem.message} for {start.called}"
            )
    return replace(row, cells=kept)


def _each_once(problems: ProblemList) -> list[DatasetProblem]:
    """The problems, of which one of a default would otherwise be told for each shot."""
    return list({(item.line, item.column, item.message): item for item in problems}.values())
