"""Rows and recipes of YAML files, each value with the line it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.generation.dataset.files import (
    Cell,
    DatasetTable,
    RecipeEntry,
    Row,
    known_columns_only,
)
from sora_dagster.generation.dataset.problems import ProblemList, did_you_mean
from sora_dagster.runware.redaction import shown

# libyaml's, where PyYAML was built with it, is about ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TOP_LEVEL = ("clips", "recipes")
_NULL_TAG = "tag:yaml.org,2002:null"
_BOOL_TAG = "tag:yaml.org,2002:bool"
_MERGE_TAG = "tag:yaml.org,2002:merge"


def read_yaml(text: str, problems: ProblemList) -> DatasetTable:
    """The rows and recipes of a YAML dataset: a list of rows, or a mapping of clips and recipes."""
    root = _compose(text, problems)
    if root is None:
        return DatasetTable()
    if isinstance(root, SequenceNode):
        return DatasetTable(_rows(root, problems))
    if not isinstance(root, MappingNode):
        problems.add(
            "a list of clips is expected, or a mapping with 'clips' (a list) and 'recipes' "
            "(name: prompt)",
            line=_line(root),
            value=_plain(root),
        )
        return DatasetTable()
    parts: dict[str, Node] = {}
    for name, key, value in _entries(root, problems):
        if name in _TOP_LEVEL:
            parts[name] = value
        else:
            problems.add(
                f"{name!r} is not expected here{did_you_mean(name, _TOP_LEVEL)}; at the top "
                f"stand 'clips' (a list) and 'recipes' (name: prompt)",
                line=_line(key),
                value=name,
            )
    clips, recipes = parts.get("clips"), parts.get("recipes")
    if not isinstance(clips, SequenceNode) and not (clips is not None and _is_null(clips)):
        problems.add(
            "a list of clips is expected under 'clips'",
            line=_line(root if clips is None else clips),
            value=None if clips is None else _plain(clips),
        )
    return DatasetTable(
        _rows(clips, problems) if isinstance(clips, SequenceNode) else (),
        recipes=None if recipes is None else _recipes(recipes, problems),
    )


def read_yaml_recipes(text: str, problems: ProblemList) -> list[RecipeEntry]:
    """The recipes of a recipes file: a mapping from name to prompt."""
    root = _compose(text, problems)
    return [] if root is None else _recipes(root, problems)


def _compose(text: str, problems: ProblemList) -> Node | None:
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


def _rows(clips: SequenceNode, problems: ProblemList) -> list[Row]:
    rows = []
    for node in clips.value:
        if not isinstance(node, MappingNode):
            problems.add(
                f"{shown(_plain(node))} is no clip; each item is a mapping such as "
                f"{{id: dawn, prompt: Mist over a lake}}",
                line=_line(node),
                value=_plain(node),
            )
            continue
        cells = {name: _cell(value) for name, _, value in _entries(node, problems)}
        rows.append(Row(_line(node), cells))
    return known_columns_only(rows, problems)


def _recipes(node: Node, problems: ProblemList) -> list[RecipeEntry]:
    if _is_null(node):
        return []
    if not isinstance(node, MappingNode):
        problems.add(
            "a mapping of recipes is expected, such as {night: The same place at night}",
            line=_line(node),
            value=_plain(node),
        )
        return []
    entries = []
    for name, key, value in _entries(node, problems):
        if isinstance(value, ScalarNode) and not _is_null(value):
            entries.append(RecipeEntry(name, value.value, _line(key)))
        else:
            problems.add(
                f"recipe {name!r}: its prompt is expected as a text",
                line=_line(value),
                value=_plain(value),
            )
    return entries


def _entries(node: MappingNode, problems: ProblemList) -> Iterator[tuple[str, Node, Node]]:
    """Name, key and value of each entry, those merged in by ``<<`` among them."""
    own: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            problems.add("a plain name is expected here", line=_line(key), value=_plain(key))
        elif key.value in own:
            problems.add("it is given twice", line=_line(key), column=key.value, value=key.value)
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
                    line=_line(key),
                    value=_plain(source),
                )
    return merged | own


def _cell(node: Node) -> Cell:
    line = _line(node)
    if isinstance(node, SequenceNode):
        # No column takes lists in lists.
        return Cell(
            tuple(
                Cell(_plain(item), _line(item)) if isinstance(item, SequenceNode) else _cell(item)
                for item in node.value
            ),
            line,
        )
    if isinstance(node, ScalarNode) and node.tag == _BOOL_TAG:
        return Cell(node.value.casefold() in ("true", "yes", "on"), line, text=node.value)
    return Cell(_plain(node), line)


def _plain(node: Node) -> object:
    """A value for people to see: numbers stay as they are written, as in CSV."""
    if isinstance(node, ScalarNode):
        return None if _is_null(node) else node.value
    return {} if isinstance(node, MappingNode) else []


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _NULL_TAG


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
