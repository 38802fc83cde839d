"""Storyboards: small trees of named shots in YAML, where each remix depends on its parent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yaml.nodes import MappingNode, Node

from sora_dagster.prompts.board_nodes import EXAMPLE_SHOT, ShotNode, link_parents, read_shot_nodes
from sora_dagster.prompts.board_remixes import as_remix, remix_row
from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset_files import LocalFiles
from sora_dagster.prompts.files import COLUMNS, Cell, DatasetError, Row, known_columns_only
from sora_dagster.prompts.images import DatasetImages
from sora_dagster.prompts.recipes import planned_length
from sora_dagster.prompts.rows import RowReader
from sora_dagster.prompts.yaml_files import cell_of
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList, did_you_mean
from sora_dagster.user_files.text import decode_text, unreadable
from sora_dagster.user_files.yaml_nodes import (
    add_problem,
    compose,
    entries,
    is_null,
    line_of,
    plain_value,
    top_level,
)

_EXTENSIONS = (".yaml", ".yml")
_TOP_LEVEL = ("board", "defaults", "shots")
# What shots do not share.
_OWN_COLUMNS = ("id", "prompt", "first_frame", "last_frame", "take", "recipes")
_DEFAULT_COLUMNS = tuple(column for column in COLUMNS if column not in _OWN_COLUMNS)
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,99}")
_NAME_ALLOWED = "1 to 100 of A-Z, a-z, 0-9 and '_', starting with a letter or digit"


@dataclass(frozen=True)
class Shot:
    """A shot of a storyboard.

    Arguments:
        id: its id, unique in the board.
        spec: what to generate. For a remix: no size and no first frame.
        parent: id of the shot that it is a remix of. None: it starts from its prompt.
        level: number of shots above it.
    """

    id: str
    spec: ClipSpec
    parent: str | None
    level: int


@dataclass(frozen=True)
class Board:
    """A storyboard: shots that start from a prompt, and their remixes.

    Arguments:
        name: its name, the first part of its shots' asset keys.
        shots: its shots, parents before their remixes.
        path: its file.
    """

    name: str
    shots: tuple[Shot, ...]
    path: Path

    def shot(self, shot_id: str) -> Shot:
        """The shot with an id.

        Raises:
            LookupError: if the board has no such shot.
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

    The file has `shots`, a list, and optionally `board`, its name (default: the file's name
    without extension), and `defaults` for all shots. A shot has the fields of a dataset's clip
    except `recipes`. Its remixes are listed in its field `remixes`, or name it in `parent`. A
    remix has no size and no images: it takes them from its parent's video. It has its parent's
    model unless it names another one, and optionally a `mode` (see `Recipe`).

    Arguments:
        path: the file.
        catalogue: the models that shots may name.

    Raises:
        DatasetError: if anything is wrong; it lists all problems of the file.

    Example:
        >>> board = load_board("examples/boards/mangrove.yaml", catalogue=Catalogue.builtin())
        >>> [(shot.id, shot.parent) for shot in board.shots][:2]
        [('monsoon', None), ('dawn', 'monsoon')]
    """
    path = Path(path)
    problems = ProblemList(path.name)
    if path.suffix.lower() not in _EXTENSIONS:
        problems.add(
            f"the extension {path.suffix!r} is unknown; allowed: {', '.join(_EXTENSIONS)}",
            value=path.suffix,
        )
        raise DatasetError(path, list(problems))
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.add(unreadable(path.absolute(), error), value=str(path))
        raise DatasetError(path, list(problems)) from error
    root = compose(decode_text(data, problems), problems)
    parts: Mapping[str, Node] = {}
    if isinstance(root, MappingNode):
        parts = top_level(root, _TOP_LEVEL, ", ".join(_TOP_LEVEL), problems)
    elif root is not None:
        message = f"a mapping is expected, with 'shots', a list such as [{EXAMPLE_SHOT}]"
        add_problem(problems, root, message)
    name = _board_name(parts.get("board"), path, problems)
    nodes = read_shot_nodes(parts.get("shots"), problems)
    if not nodes and not problems:
        problems.add(
            f"the board has no shots; add 'shots', a list such as [{EXAMPLE_SHOT}]", value=None
        )
    defaults = _read_defaults(parts.get("defaults"), problems)
    link_parents(nodes, problems)
    shots = _read_shots(nodes, defaults, path, catalogue, problems)
    if problems:
        # A problem of a default is found with each shot that uses it.
        unique = {(item.line, item.column, item.message): item for item in problems}
        raise DatasetError(path, list(unique.values()))
    return Board(name, tuple(sorted(shots, key=lambda shot: shot.level)), path)


def _board_name(node: Node | None, path: Path, problems: ProblemList) -> str:
    name, hint = path.stem, "; or set 'board: …' at the top of the file"
    if node is not None and not is_null(node):
        name, hint = str(plain_value(node)), ""
    if not _NAME_PATTERN.fullmatch(name):
        problems.add(
            f"{shown(name)} cannot be a board's name, as asset keys start with it; allowed: "
            f"{_NAME_ALLOWED}{hint}",
            line=None if node is None else line_of(node),
            value=name,
        )
    return name


def _read_defaults(node: Node | None, problems: ProblemList) -> Mapping[str, Cell]:
    if node is None or is_null(node):
        return {}
    if not isinstance(node, MappingNode):
        message = "a mapping of defaults is expected, such as {size: 1792x1024, duration: 8}"
        add_problem(problems, node, message)
        return {}
    row = Row(
        line_of(node),
        {name: cell_of(value, problems) for name, _, value in entries(node, problems)},
    )
    [known] = known_columns_only([row], problems, columns=_DEFAULT_COLUMNS)
    return known.cells


def _read_shots(
    nodes: Sequence[ShotNode],
    defaults: Mapping[str, Cell],
    path: Path,
    catalogue: Catalogue,
    problems: ProblemList,
) -> list[Shot]:
    reader = RowReader(
        catalogue=catalogue,
        images=DatasetImages(LocalFiles(path.parent)),
        problems=problems,
        check_id=_check_shot_id,
    )
    specs: dict[int, ClipSpec] = {}
    for shot in nodes:
        row = reader.with_defaults(shot.row, defaults)
        if shot.above is not None:
            row = remix_row(shot.row, row, _model_of(shot, defaults), problems)
        else:
            _refuse_mode(shot, problems)
        if (spec := reader.read(row, is_remix=shot.above is not None)) is not None:
            specs[id(shot)] = spec
    return list(_with_remixes(nodes, specs, catalogue, problems))


def _with_remixes(
    nodes: Sequence[ShotNode],
    specs: Mapping[int, ClipSpec],
    catalogue: Catalogue,
    problems: ProblemList,
) -> Iterator[Shot]:
    """The shots, parents first; those with problems and their remixes are left out."""
    seconds: dict[int, float | None] = {}
    read: dict[int, ClipSpec] = {}
    levels = {id(shot): len(list(shot.chain())) - 1 for shot in nodes}
    for shot in sorted(nodes, key=lambda shot: levels[id(shot)]):
        spec, parent = specs.get(id(shot)), shot.above
        if spec is None or shot.in_cycle:
            continue
        length = spec.seconds
        if parent is not None:
            if id(parent) not in read:
                continue
            of_parent = seconds[id(parent)]
            spec = as_remix(
                spec, shot.row, read[id(parent)], catalogue, problems, seconds=of_parent
            )
            if spec is None:
                continue
            length = planned_length(spec, catalogue.get(spec.model), of_parent)
        read[id(shot)], seconds[id(shot)] = spec, length
        parent_id = None if parent is None else parent.id
        yield Shot(spec.clip_id, spec, parent_id, level=levels[id(shot)])


def _check_shot_id(value: str) -> str:
    if not _NAME_PATTERN.fullmatch(value):
        raise ValueError(
            f"{shown(value)} cannot be the id of a shot, as it names an asset; allowed: "
            f"{_NAME_ALLOWED}"
        )
    return value


def _model_of(shot: ShotNode, defaults: Mapping[str, Cell]) -> Cell | None:
    """The model of a remix: its own, or that of the nearest shot above it that names one."""
    if shot.in_cycle:
        return None
    for member in shot.chain():
        if not RowCells(member.row, ProblemList("")).is_absent("model"):
            return member.row.cells["model"]
    return defaults.get("model")


def _refuse_mode(shot: ShotNode, problems: ProblemList) -> None:
    cells = RowCells(shot.row, problems)
    if not cells.is_absent("mode"):
        cells.report("mode", "only a remix has a mode; remove it, or name the shot's parent")
