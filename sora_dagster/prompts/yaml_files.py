"""The rows and recipes of a YAML dataset."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.input_files.problems import ProblemList
from sora_dagster.input_files.yaml_nodes import (
    add_problem,
    compose,
    entries,
    is_null,
    line_of,
    plain_value,
    top_level,
    typed_value,
)
from sora_dagster.prompts.files import Cell, DatasetTable, RecipeEntry, Row, known_columns_only
from sora_dagster.runware.redaction import shown

_BOOL_TAG = "tag:yaml.org,2002:bool"
_EXPECTED = "'clips' (a list) and 'recipes' (name: prompt)"


def read_yaml(text: str, problems: ProblemList) -> DatasetTable:
    """The rows and recipes of a YAML dataset: a list of rows, or a mapping of clips and recipes."""
    root = compose(text, problems)
    if root is None:
        return DatasetTable()
    if isinstance(root, SequenceNode):
        return DatasetTable(_rows(root, problems))
    if not isinstance(root, MappingNode):
        add_problem(problems, root, f"expected: a list of clips, or a mapping with {_EXPECTED}")
        return DatasetTable()
    parts = top_level(root, ("clips", "recipes"), _EXPECTED, problems)
    clips, recipes = parts.get("clips"), parts.get("recipes")
    rows: Sequence[Row] = ()
    if isinstance(clips, SequenceNode):
        rows = _rows(clips, problems)
    elif clips is None or not is_null(clips):
        add_problem(problems, clips or root, "a list of clips is expected under 'clips'")
    return DatasetTable(rows, recipes=None if recipes is None else _recipes(recipes, problems))


def read_yaml_recipes(text: str, problems: ProblemList) -> list[RecipeEntry]:
    """The recipes of a recipes file: a mapping from name to prompt."""
    root = compose(text, problems)
    return [] if root is None else _recipes(root, problems)


def _rows(clips: SequenceNode, problems: ProblemList) -> list[Row]:
    rows = []
    for node in clips.value:
        if isinstance(node, MappingNode):
            cells = {name: cell_of(value) for name, _, value in entries(node, problems)}
            rows.append(Row(line_of(node), cells))
        else:
            add_problem(
                problems,
                node,
                f"{shown(plain_value(node))} is not a clip; each item is a mapping such as "
                f"{{id: dawn, prompt: Mist over a lake}}",
            )
    return known_columns_only(rows, problems)


def _recipes(node: Node, problems: ProblemList) -> list[RecipeEntry]:
    if is_null(node):
        return []
    if not isinstance(node, MappingNode):
        message = "a mapping of recipes is expected, such as {night: The same place at night}"
        add_problem(problems, node, message)
        return []
    recipes = []
    for name, key, value in entries(node, problems):
        if isinstance(value, MappingNode):
            cells = {
                field: cell_of(item) if field != "settings" else _typed_cell(item)
                for field, _, item in entries(value, problems)
            }
            recipes.append(RecipeEntry(name, line_of(key), cells))
        elif isinstance(value, ScalarNode) and not is_null(value):
            cells = {"prompt": Cell(value.value, line_of(value))}
            recipes.append(RecipeEntry(name, line_of(key), cells))
        else:
            add_problem(
                problems,
                value,
                f"recipe {name!r}: a prompt is expected, or a mapping such as "
                f"{{prompt: At night, model: aleph-2.0}}",
            )
    return recipes


def _typed_cell(node: Node) -> Cell:
    """A value of the type that YAML reads from it; its text if it cannot be read."""
    try:
        value = typed_value(node)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = str(plain_value(node))
    return Cell(value, line_of(node))


def cell_of(node: Node) -> Cell:
    """A value as a cell of a row."""
    line = line_of(node)
    if isinstance(node, SequenceNode):
        # No column allows lists in lists.
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
