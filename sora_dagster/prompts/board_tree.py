"""The tree of a storyboard file: which shot stands where, and which is made from which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yaml.nodes import MappingNode, Node, SequenceNode

from sora_dagster.prompts.cells import RowCells
from sora_dagster.prompts.files import COLUMNS, Row, known_columns_only
from sora_dagster.prompts.problems import ProblemList, did_you_mean
from sora_dagster.prompts.yaml_nodes import (
    cell_of,
    entries,
    is_null,
    line_of,
    plain_value,
)
from sora_dagster.runware.redaction import shown

EXAMPLE_SHOT = "{id: dawn, prompt: Mist over a lake}"
_COLUMNS = (*(column for column in COLUMNS if column != "recipes"), "parent", "remixes")


@dataclass
class FoundShot:
    """A shot as it stands in the file.

    Arguments:
        node: its mapping.
        row: its fields.
        above: the shot it stands under, and once parents are found, the one it names.
        in_cycle: whether there is no start above it.
    """

    node: Node
    row: Row
    above: FoundShot | None
    in_cycle: bool = False

    @property
    def id(self) -> str | None:
        """Its id as it is written, whether or not it can be one."""
        return RowCells(self.row, ProblemList("")).text("id", whole_numbers=True)

    @property
    def called(self) -> str:
        """How messages call it."""
        return repr(self.id) if self.id else f"the shot on line {self.row.line}"

    def chain(self) -> Iterator[FoundShot]:
        """The shot, and those above it, up to its start; all of them once in a cycle."""
        seen: set[int] = set()
        shot: FoundShot | None = self
        while shot is not None and id(shot) not in seen:
            yield shot
            seen.add(id(shot))
            shot = shot.above


def found_shots(node: Node | None, problems: ProblemList) -> list[FoundShot]:
    """All shots in the order of the file, those that stand under others among them."""
    found: list[FoundShot] = []
    nodes: set[int] = set()
    left: list[tuple[Node, FoundShot | None]] = [
        (item, None) for item in reversed(_items(node, "shots", problems))
    ]
    while left:
        item, above = left.pop()
        if not isinstance(item, MappingNode):
            problems.add(
                f"{shown(plain_value(item))} is no shot; each item is a mapping such as "
                f"{EXAMPLE_SHOT}",
                line=line_of(item),
                value=plain_value(item),
            )
            continue
        if above is not None and any(shot.node is item for shot in above.chain()):
            problems.add(
                f"the shots go in a circle: this one stands under itself, by an alias in the "
                f"remixes of {above.called}",
                line=line_of(item),
                value=None,
            )
            continue
        if id(item) in nodes:
            where = f" in the remixes of {above.called}" if above is not None else ""
            problems.add(
                f"this shot is there twice, by an alias{where}; write each shot out, with an id "
                f"of its own",
                line=line_of(item),
                value=None,
            )
            continue
        fields = {name: value for name, _, value in entries(item, problems)}
        remixes = fields.pop("remixes", None)
        row = Row(line_of(item), {name: cell_of(value) for name, value in fields.items()})
        shot = FoundShot(item, row, above)
        found.append(shot)
        nodes.add(id(item))
        left += [(remix, shot) for remix in reversed(_items(remixes, "remixes", problems))]
    known = known_columns_only([shot.row for shot in found], problems, columns=_COLUMNS)
    for shot, row in zip(found, known, strict=True):
        shot.row = row
    return found


def _items(node: Node | None, name: str, problems: ProblemList) -> Sequence[Node]:
    if node is None or is_null(node):
        return ()
    if isinstance(node, SequenceNode):
        return list(node.value)
    problems.add(
        f"a list of shots is expected under {name!r}, such as [{EXAMPLE_SHOT}]",
        line=line_of(node),
        value=plain_value(node),
    )
    return ()


def find_parents(found: Sequence[FoundShot], problems: ProblemList) -> None:
    """Put the shots that name a parent under it; note those whose parent cannot be."""
    by_id: dict[str, FoundShot] = {}
    for shot in found:
        if shot.id is not None:
            by_id.setdefault(shot.id, shot)
    for shot in found:
        cells = RowCells(shot.row, problems)
        parent = cells.text("parent", whole_numbers=True)
        if parent is None:
            continue
        if shot.above is not None:
            cells.report(
                "parent",
                f"the shot stands in the remixes of {shot.above.called} and names a parent too; "
                f"leave 'parent' out, or move the shot to the list 'shots'",
            )
        elif parent not in by_id:
            cells.report(
                "parent",
                f"there is no shot {parent!r}{did_you_mean(parent, list(by_id))}; name a shot of "
                f"this board",
            )
        else:
            shot.above = by_id[parent]


def refuse_cycles(found: Sequence[FoundShot], problems: ProblemList) -> None:
    """Note each circle of parents, and mark the shots that lead into one."""
    for shot in found:
        chain = list(shot.chain())
        last = chain[-1].above
        if last is None:
            continue
        shot.in_cycle = True
        # Each circle is told once, at the shot of it that comes first in the file.
        circle = chain[next(index for index, member in enumerate(chain) if member is last) :]
        if shot is min(circle, key=lambda member: member.row.line):
            names = " → ".join(member.called for member in [*circle, circle[0]])
            RowCells(shot.row, problems).report(
                "parent",
                f"the shots go in a circle: {names}; one of them has to start from its prompt "
                f"alone, without a parent",
            )
