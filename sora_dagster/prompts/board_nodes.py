"""The shots of a storyboard's file as a tree, before their values are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yaml.nodes import MappingNode, Node, SequenceNode

from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.files import COLUMNS, Row, known_columns_only
from sora_dagster.prompts.yaml_files import cell_of
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList, did_you_mean
from sora_dagster.user_files.yaml_nodes import (
    add_problem,
    entries,
    is_null,
    line_of,
    plain_value,
)

EXAMPLE_SHOT = "{id: dawn, prompt: Mist over a lake}"
_SHOT_COLUMNS = (
    *(column for column in COLUMNS if column != "recipes"),
    *("mode", "parent", "remixes"),
)


@dataclass
class ShotNode:
    """A shot in the file's tree.

    Arguments:
        node: its mapping.
        row: its fields.
        above: the shot above it: first by nesting, then also by its field `parent`.
        in_cycle: whether the shots above it form a cycle.
    """

    node: Node
    row: Row
    above: ShotNode | None
    in_cycle: bool = False

    @property
    def id(self) -> str | None:
        """The raw id, not yet validated."""
        return RowCells(self.row, ProblemList("")).text("id", whole_numbers=True)

    @property
    def label(self) -> str:
        """The shot's name in messages."""
        return repr(self.id) if self.id else f"the shot on line {self.row.line}"

    def chain(self) -> Iterator[ShotNode]:
        """The shot and those above it, up to its start; in a cycle, each of them once."""
        seen: set[int] = set()
        shot: ShotNode | None = self
        while shot is not None and id(shot) not in seen:
            yield shot
            seen.add(id(shot))
            shot = shot.above


def read_shot_nodes(node: Node | None, problems: ProblemList) -> list[ShotNode]:
    """All shots in the order of the file, including nested ones."""
    found: list[ShotNode] = []
    seen: set[int] = set()
    left: list[tuple[Node, ShotNode | None]] = [
        (item, None) for item in reversed(_items(node, "shots", problems))
    ]
    while left:
        item, above = left.pop()
        if not isinstance(item, MappingNode):
            add_problem(
                problems,
                item,
                f"{shown(plain_value(item))} is not a shot; each item is a mapping such as "
                f"{EXAMPLE_SHOT}",
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
            shot = ShotNode(item, row, above)
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
        problems, node, f"a list of shots is expected under {name!r}, such as [{EXAMPLE_SHOT}]"
    )
    return ()


def link_parents(nodes: Sequence[ShotNode], problems: ProblemList) -> None:
    """Link shots to the parents that they name, and report cycles."""
    by_id: dict[str, ShotNode] = {}
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
    _report_cycles(nodes, problems)


def _report_cycles(nodes: Sequence[ShotNode], problems: ProblemList) -> None:
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
