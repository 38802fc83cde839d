"""The rows and recipes of a YAML dataset."""

from __future__ import annotations

from collections.abc import Sequence

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.prompts.cells import NUMBER_PATTERN
from sora_dagster.prompts.files import (
    MAX_DEPTH,
    MAX_VALUES,
    Cell,
    DatasetTable,
    RecipeEntry,
    Row,
    known_columns_only,
)
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList
from sora_dagster.user_files.yaml_nodes import (
    add_problem,
    compose,
    entries,
    is_null,
    line_of,
    plain_value,
    top_level,
)

_BOOL_TAG = "tag:yaml.org,2002:bool"
_INT_TAG = "tag:yaml.org,2002:int"
_NUMBER_TAGS = (_INT_TAG, "tag:yaml.org,2002:float")
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
            cells = {name: cell_of(value, problems) for name, _, value in entries(node, problems)}
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
            cells = {field: cell_of(item, problems) for field, _, item in entries(value, problems)}
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


def cell_of(node: Node, problems: ProblemList) -> Cell:
    """A value as a cell of a row. Values in mappings have their YAML type, as in JSON."""
    return _Cells(problems).cell(node)


class _Cells:
    """Makes the cell of one value."""

    def __init__(self, problems: ProblemList) -> None:
        self._problems = problems
        # Aliases can make a small file stand for billions of values, or for endless ones.
        self._left = MAX_VALUES
        self._is_reported = False

    def cell(self, node: Node, depth: int = 0, *, is_typed: bool = False) -> Cell:
        line = line_of(node)
        self._left -= 1
        if isinstance(node, ScalarNode):
            return self._scalar(node, is_typed=is_typed)
        if depth > MAX_DEPTH or self._left < 0:
            if not self._is_reported:
                add_problem(self._problems, node, "it is nested too deeply, or has too many values")
            self._is_reported = True
            return Cell(None, line)
        if isinstance(node, SequenceNode):
            items = (self.cell(item, depth + 1, is_typed=is_typed) for item in node.value)
            return Cell(tuple(items), line)
        assert isinstance(node, MappingNode)
        return Cell(
            {
                name: self.cell(value, depth + 1, is_typed=True)
                for name, _, value in entries(node, self._problems)
            },
            line,
        )

    def _scalar(self, node: ScalarNode, *, is_typed: bool) -> Cell:
        line = line_of(node)
        if node.tag == _BOOL_TAG:
            return Cell(node.value.casefold() in ("true", "yes", "on"), line, text=node.value)
        if is_typed and node.tag in _NUMBER_TAGS and NUMBER_PATTERN.fullmatch(node.value):
            number = float(node.value)
            is_whole = node.tag == _INT_TAG and number.is_integer()
            return Cell(int(node.value) if is_whole else number, line, text=node.value)
        return Cell(plain_value(node), line)
