"""Storyboards: small trees of named shots in YAML, where each remix depends on its parent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yaml.nodes import MappingNode, Node, SequenceNode

from sora_dagster.input_files.problems import ProblemList, did_you_mean
from sora_dagster.input_files.text import decode_text, unreadable
from sora_dagster.input_files.yaml_nodes import (
    add_problem,
    compose,
    entries,
    is_null,
    line_of,
    plain_value,
    top_level,
)
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

_EXTENSIONS = (".yaml", ".yml")
_TOP_LEVEL = ("board", "defaults", "shots")
_SHOT_COLUMNS = (
    *(column for column in COLUMNS if column != "recipes"),
    *("mode", "parent", "remixes"),
)
_DEFAULT_COLUMNS = (
    "model",
    "size",
    "resolution",
    "duration",
    "fps",
    "seed",
    "negative_prompt",
    "audio",
    "number_results",
    "output_format",
    "output_quality",
    "reference_images",
    "settings",
    "safety",
    "tags",
)
_EXAMPLE_SHOT = "{id: dawn, prompt: Mist over a lake}"
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
        message = f"a mapping is expected, with 'shots', a list such as [{_EXAMPLE_SHOT}]"
        add_problem(problems, root, message)
    name = _board_name(parts.get("board"), path, problems)
    nodes = _read_nodes(parts.get("shots"), problems)
    if not nodes and not problems:
        problems.add(
            f"the board has no shots; add 'shots', a list such as [{_EXAMPLE_SHOT}]", value=None
        )
    defaults = _read_defaults(parts.get("defaults"), problems)
    _link_parents(nodes, problems)
    _report_cycles(nodes, problems)
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


@dataclass
class _ShotNode:
    """A shot in the file's tree.

    Arguments:
        node: its mapping.
        row: its fields.
        above: the shot above it: first by nesting, then also by its field `parent`.
        in_cycle: whether the shots above it form a cycle.
    """

    node: Node
    row: Row
    above: _ShotNode | None
    in_cycle: bool = False

    @property
    def id(self) -> str | None:
        """The raw id, not yet validated."""
        return RowCells(self.row, ProblemList("")).text("id", whole_numbers=True)

    @property
    def label(self) -> str:
        """The shot's name in messages."""
        return repr(self.id) if self.id else f"the shot on line {self.row.line}"

    def chain(self) -> Iterator[_ShotNode]:
        """The shot and those above it, up to its start; in a cycle, each of them once."""
        seen: set[int] = set()
        shot: _ShotNode | None = self
        while shot is not None and id(shot) not in seen:
            yield shot
            seen.add(id(shot))
            shot = shot.above


def _read_nodes(node: Node | None, problems: ProblemList) -> list[_ShotNode]:
    """All shots in the order of the file, including nested ones."""
    found: list[_ShotNode] = []
    seen: set[int] = set()
    left: list[tuple[Node, _ShotNode | None]] = [
        (item, None) for item in reversed(_items(node, "shots", problems))
    ]
    while left:
        item, above = left.pop()
        if not isinstance(item, MappingNode):
            add_problem(
                problems,
                item,
                f"{shown(plain_value(item))} is not a shot; each item is a mapping such as "
                f"{_EXAMPLE_SHOT}",
            )
        elif above is not None and any(shot.node is item for shot in above.chain()):
            add_problem(
                problems,
                item,
                f"the shots form a cycle: an alias in the remixes of {above.label} nests this "
                f"shot in itself",
            )
        elif id(item) in seen:
            where = f" in the remixes of {above.label}" if above is not None else ""
            add_problem(
                problems,
                item,
                f"an alias{where} repeats this shot; write each shot out, with its own id",
            )
        else:
            fields = {name: value for name, _, value in entries(item, problems)}
            remixes = fields.pop("remixes", None)
            row = Row(
                line_of(item), {name: cell_of(value, problems) for name, value in fields.items()}
            )
            shot = _ShotNode(item, row, above)
            found.append(shot)
            seen.add(id(item))
            left += [(remix, shot) for remix in reversed(_items(remixes, "remixes", problems))]
    known = known_columns_only([shot.row for shot in found], problems, columns=_SHOT_COLUMNS)
    for shot, row in zip(found, known, strict=True):
        shot.row = row
    return found


def _items(node: Node | None, name: str, problems: ProblemList) -> Sequence[Node]:
    if node is None or is_null(node):
        return ()
    if isinstance(node, SequenceNode):
        return list(node.value)
    add_problem(
        problems, node, f"a list of shots is expected under {name!r}, such as [{_EXAMPLE_SHOT}]"
    )
    return ()


def _link_parents(nodes: Sequence[_ShotNode], problems: ProblemList) -> None:
    by_id: dict[str, _ShotNode] = {}
    for shot in nodes:
        if shot.id is not None:
            by_id.setdefault(shot.id, shot)
    for shot in nodes:
        cells = RowCells(shot.row, problems)
        parent = cells.text("parent", whole_numbers=True)
        if parent is None:
            continue
        if shot.above is not None:
            cells.report(
                "parent",
                f"the shot is in the remixes of {shot.above.label} and names a parent too; remove "
                f"'parent', or move the shot to the list 'shots'",
            )
        elif parent not in by_id:
            cells.report(
                "parent",
                f"there is no shot {parent!r}{did_you_mean(parent, list(by_id))}; use the id of a "
                f"shot of this board",
            )
        else:
            shot.above = by_id[parent]


def _report_cycles(nodes: Sequence[_ShotNode], problems: ProblemList) -> None:
    for shot in nodes:
        chain = list(shot.chain())
        last = chain[-1].above
        if last is None:
            continue
        shot.in_cycle = True
        # Each cycle is reported once, at its first shot in the file.
        cycle = chain[next(index for index, member in enumerate(chain) if member is last) :]
        if shot is min(cycle, key=lambda member: member.row.line):
            names = " → ".join(member.label for member in [*cycle, cycle[0]])
            RowCells(shot.row, problems).report(
                "parent",
                f"the shots form a cycle: {names}; remove the parent of one of them, so that it "
                f"starts from its prompt alone",
            )


def _read_shots(
    nodes: Sequence[_ShotNode],
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
    nodes: Sequence[_ShotNode],
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


def _model_of(shot: _ShotNode, defaults: Mapping[str, Cell]) -> Cell | None:
    """The model of a remix: its own, or that of the nearest shot above it that names one."""
    if shot.in_cycle:
        return None
    for member in shot.chain():
        if not RowCells(member.row, ProblemList("")).is_absent("model"):
            return member.row.cells["model"]
    return defaults.get("model")


def _refuse_mode(shot: _ShotNode, problems: ProblemList) -> None:
    cells = RowCells(shot.row, problems)
    if not cells.is_absent("mode"):
        cells.report("mode", "only a remix has a mode; remove it, or name the shot's parent")
