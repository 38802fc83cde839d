"""Rows and recipes of YAML files, each value with the line it stands on."""

from __future__ import annotations

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.prompts.files import (
    DatasetTable,
    RecipeEntry,
    Row,
    known_columns_only,
)
from sora_dagster.prompts.problems import ProblemList, did_you_mean
from sora_dagster.prompts.yaml_nodes import (
    cell_of,
    compose,
    entries,
    is_null,
    line_of,
    plain_value,
)
from sora_dagster.runware.redaction import shown

_TOP_LEVEL = ("clips", "recipes")


def read_yaml(text: str, problems: ProblemList) -> DatasetTable:
    """The rows and recipes of a YAML dataset: a list of rows, or a mapping of clips and recipes."""
    root = compose(text, problems)
    if root is None:
        return DatasetTable()
    if isinstance(root, SequenceNode):
        return DatasetTable(_rows(root, problems))
    if not isinstance(root, MappingNode):
        problems.add(
            "a list of clips is expected, or a mapping with 'clips' (a list) and 'recipes' "
            "(name: prompt)",
            line=line_of(root),
            value=plain_value(root),
        )
        return DatasetTable()
    parts: dict[str, Node] = {}
    for name, key, value in entries(root, problems):
        if name in _TOP_LEVEL:
            parts[name] = value
        else:
            problems.add(
                f"{name!r} is not expected here{did_you_mean(name, _TOP_LEVEL)}; at the top "
                f"stand 'clips' (a list) and 'recipes' (name: prompt)",
                line=line_of(key),
                value=name,
            )
    clips, recipes = parts.get("clips"), parts.get("recipes")
    if not isinstance(clips, SequenceNode) and not (clips is not None and is_null(clips)):
        problems.add(
            "a list of clips is expected under 'clips'",
            line=line_of(root if clips is None else clips),
            value=None if clips is None else plain_value(clips),
        )
    return DatasetTable(
        _rows(clips, problems) if isinstance(clips, SequenceNode) else (),
        recipes=None if recipes is None else _recipes(recipes, problems),
    )


def read_yaml_recipes(text: str, problems: ProblemList) -> list[RecipeEntry]:
    """The recipes of a recipes file: a mapping from name to prompt."""
    root = compose(text, problems)
    return [] if root is None else _recipes(root, problems)


def _rows(clips: SequenceNode, problems: ProblemList) -> list[Row]:
    rows = []
    for node in clips.value:
        if not isinstance(node, MappingNode):
            problems.add(
                f"{shown(plain_value(node))} is no clip; each item is a mapping such as "
                f"{{id: dawn, prompt: Mist over a lake}}",
                line=line_of(node),
                value=plain_value(node),
            )
            continue
        cells = {name: cell_of(value) for name, _, value in entries(node, problems)}
        rows.append(Row(line_of(node), cells))
    return known_columns_only(rows, problems)


def _recipes(node: Node, problems: ProblemList) -> list[RecipeEntry]:
    if is_null(node):
        return []
    if not isinstance(node, MappingNode):
        problems.add(
            "a mapping of recipes is expected, such as {night: The same place at night}",
            line=line_of(node),
            value=plain_value(node),
        )
        return []
    recipes = []
    for name, key, value in entries(node, problems):
        if isinstance(value, ScalarNode) and not is_null(value):
            recipes.append(RecipeEntry(name, value.value, line_of(key)))
        else:
            problems.add(
                f"recipe {name!r}: its prompt is expected as a text",
                line=line_of(value),
                value=plain_value(value),
            )
    return recipes
