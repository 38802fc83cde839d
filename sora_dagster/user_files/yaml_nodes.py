"""The values of a YAML file with the lines they are on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.user_files.problems import ProblemList, did_you_mean

# libyaml's loader, if PyYAML was built with it, is about ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_YAML = "tag:yaml.org,2002:"
_NULL_TAG = f"{_YAML}null"
_MERGE_TAG = f"{_YAML}merge"
_SCALAR_TAGS = {
    f"{_YAML}{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
}


def compose(text: str, problems: ProblemList) -> Node | None:
    """The tree of a YAML text. None: it is empty or not YAML."""
    # YAML would read U+0085 as a line end; the other formats refuse it as a control character.
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text) or re.search("\x85", text)
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
        problems.add("the file is nested too deeply", value=None)
        return None
    if not isinstance(root, Node):
        return None
    _report_tags(root, problems)
    return root


def _report_tags(root: Node, problems: ProblemList) -> None:
    """Report the tags that YAML does not define, such as ``!include``: they are never followed."""
    seen: set[int] = set()
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            allowed = {f"{_YAML}map"}
            nodes += [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            allowed = {f"{_YAML}seq"}
            nodes += node.value
        else:
            allowed = _SCALAR_TAGS
        if node.tag not in allowed:
            tag = node.tag.replace(_YAML, "!!")
            problems.add(
                f"the tag {tag!r} is not allowed here; write the value itself, in quotes if it "
                f"starts with '!'",
                line=line_of(node),
                value=tag,
            )


def add_problem(problems: ProblemList, node: Node, message: str) -> None:
    """Report a problem at the line of a node."""
    problems.add(message, line=line_of(node), value=plain_value(node))


def top_level(
    root: MappingNode, names: Sequence[str], expected: str, problems: ProblemList
) -> dict[str, Node]:
    """The values at the top of a file by name; a name that is not among `names` is a problem."""
    parts: dict[str, Node] = {}
    for name, key, value in entries(root, problems):
        if name in names:
            parts[name] = value
        else:
            suggestion = did_you_mean(name, names)
            message = f"{name!r} is not allowed here{suggestion}; allowed: {expected}"
            add_problem(problems, key, message)
    return parts


def entries(node: MappingNode, problems: ProblemList) -> Iterator[tuple[str, Node, Node]]:
    """Name, key and value of each entry, including those merged by ``<<``."""
    own: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            add_problem(problems, key, "a plain name is expected here")
        elif key.value in own:
            problems.add(
                "the name is given twice", line=line_of(key), column=key.value, value=key.value
            )
        else:
            own.add(key.value)
    for name, (key, value) in _merged(node, problems, within=()).items():
        yield name, key, value


def merged(node: MappingNode) -> dict[str, tuple[Node, Node]]:
    """Key and value of each entry by name, including those merged by ``<<``."""
    return _merged(node, ProblemList(""), within=())


def _merged(
    node: MappingNode, problems: ProblemList, *, within: tuple[Node, ...]
) -> dict[str, tuple[Node, Node]]:
    """The entries of a mapping: its own override merged ones, and earlier ones override later."""
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
                    "'<<' merges mappings only, such as *defaults",
                    line=line_of(key),
                    value=plain_value(source),
                )
    return merged | own


def plain_value(node: Node) -> object:
    """A value for messages and cells: numbers stay text, as in CSV."""
    if isinstance(node, ScalarNode):
        return None if is_null(node) else node.value
    return {} if isinstance(node, MappingNode) else []


def is_null(node: Node) -> bool:
    """Whether a node is empty or null."""
    return isinstance(node, ScalarNode) and node.tag == _NULL_TAG


def line_of(node: Node) -> int:
    """The line where a value starts, counted from 1."""
    return int(node.start_mark.line) + 1


def line_at(root: Node, path: Sequence[str | int]) -> int:
    """The line of a part of a value, or of the part above it that the file has."""
    node, line = root, line_of(root)
    for part in path:
        below = child(node, part)
        if below is None:
            break
        key, node = below
        line = line_of(key)
    return line


def child(node: Node | None, part: str | int) -> tuple[Node, Node] | None:
    """The key and the value of a part of a mapping, or an item of a list twice."""
    if isinstance(node, MappingNode):
        return merged(node).get(str(part))
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None
