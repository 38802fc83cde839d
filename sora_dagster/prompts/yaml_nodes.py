"""The parts of a YAML text, each with the line it stands on, as datasets and boards read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.prompts.files import Cell
from sora_dagster.prompts.problems import ProblemList

# libyaml's, where PyYAML was built with it, is about ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL_TAG = "tag:yaml.org,2002:null"
_BOOL_TAG = "tag:yaml.org,2002:bool"
_MERGE_TAG = "tag:yaml.org,2002:merge"


def compose(text: str, problems: ProblemList) -> Node | None:
    """The tree of a text; None where it is empty, or no YAML."""
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unprintable is not None:
        problems.add(
            f"the character U+{ord(unprintable[0]):04X} is not allowed in YAML; remove it",
            line=text.count("\n", 0, unprintable.start()) + 1,
            value=unprintable[0],
        )
        return None
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(
            f"this is not YAML: {error.problem or error.context}",
            line=None if mark is None else mark.line + 1,
            value=None,
        )
        return None
    except RecursionError:
        problems.add("it is nested too deeply", value=None)
        return None
    return root if isinstance(root, Node) else None


def entries(node: MappingNode, problems: ProblemList) -> Iterator[tuple[str, Node, Node]]:
    """Name, key and value of each entry, those merged in by ``<<`` among them."""
    own: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            problems.add("a plain name is expected here", line=line_of(key), value=plain_value(key))
        elif key.value in own:
            problems.add("it is given twice", line=line_of(key), column=key.value, value=key.value)
        else:
            own.add(key.value)
    for name, (key, value) in _merged(node, problems, within=()).items():
        yield name, key, value


def _merged(
    node: MappingNode, problems: ProblemList, *, within: tuple[Node, ...]
) -> dict[str, tuple[Node, Node]]:
    """The entries of a mapping, where its own win over those merged in, and earlier over later."""
    merged: dict[str, tuple[Node, Node]] = {}
    own: dict[str, tuple[Node, Node]] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            continue
        if key.tag != _MERGE_TAG:
            own[key.value] = (key, value)
            continue
        for source in value.value if isinstance(value, SequenceNode) else [value]:
            if isinstance(source, MappingNode) and source not in (node, *within):
                merged = _merged(source, problems, within=(node, *within)) | merged
            else:
                problems.add(
                    "'<<' takes other mappings, such as *defaults",
                    line=line_of(key),
                    value=plain_value(source),
                )
    return merged | own


def cell_of(node: Node) -> Cell:
    """A value as a cell of a row."""
    line = line_of(node)
    if isinstance(node, SequenceNode):
        # No column takes lists in lists.
        return Cell(
            tuple(
                Cell(plain_value(item), line_of(item))
                if isinstance(item, SequenceNode)
                else cell_of(item)
                for item in node.value
            ),
            line,
        )
    if isinstance(node, ScalarNode) and node.tag == _BOOL_TAG:
        return Cell(node.value.casefold() in ("true", "yes", "on"), line, text=node.value)
    return Cell(plain_value(node), line)


def plain_value(node: Node) -> object:
    """A value for people to see: numbers stay as they are written, as in CSV."""
    if isinstance(node, ScalarNode):
        return None if is_null(node) else node.value
    return {} if isinstance(node, MappingNode) else []


def is_null(node: Node) -> bool:
    """Whether nothing is said."""
    return isinstance(node, ScalarNode) and node.tag == _NULL_TAG


def line_of(node: Node) -> int:
    """The line a value starts on, counted from 1."""
    return int(node.start_mark.line) + 1
