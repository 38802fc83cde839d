"""The values of a catalogue entry's YAML nodes, as JSON has them."""

from __future__ import annotations

import math
import re
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.runware.catalogue.contradictions import path_text
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList
from sora_dagster.user_files.yaml_nodes import entries, is_null, line_of

# The names and indexes that lead from an entry to a value.
ValuePath = tuple[str | int, ...]

_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9_]*)(\.[0-9_]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+")
_YAML = "tag:yaml.org,2002:"

# Aliases may repeat a part: without limits, a small file could become endless data.
_MAX_VALUES = 100_000
_MAX_DEPTH = 30


class EntryValues:
    """Plain values of an entry's nodes.

    Arguments:
        problems: where values are reported that no entry may have.
    """

    def __init__(self, problems: ProblemList) -> None:
        self._problems = problems
        self._count = 0
        self.wrong: list[ValuePath] = []

    def of(self, node: MappingNode, path: ValuePath) -> dict[str, Any] | None:
        """The values of a mapping. None: it is too large."""
        try:
            return self._mapping(node, path)
        except _TooLargeError:
            self._problems.add(
                f"the entry is too large; allowed: {_MAX_VALUES} values, {_MAX_DEPTH} levels deep",
                line=line_of(node),
                value="",
            )
            return None

    def _mapping(self, node: MappingNode, path: ValuePath) -> dict[str, Any]:
        return {
            name: self._value(value, (*path, name))
            for name, _, value in entries(node, self._problems)
        }

    def _value(self, node: Node, path: ValuePath) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise _TooLargeError
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: Node, path: ValuePath) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_YAML)
        is_plain = isinstance(node, ScalarNode) and not node.style
        if is_null(node):
            return None
        if kind == "bool":
            return text.casefold() in ("true", "yes", "on")
        if kind in ("int", "float") or (is_plain and kind == "str" and _NUMBER.fullmatch(text)):
            return self._number(text, node, path)
        unprintable = next((c for c in text if not c.isprintable() and c != "\n"), None)
        if unprintable is not None:
            self._wrong(
                f"the character U+{ord(unprintable):04X} is not allowed; remove it", node, path
            )
            return None
        return text

    def _number(self, text: str, node: Node, path: ValuePath) -> float | int | None:
        if _NUMBER.fullmatch(text):
            digits = text.replace("_", "")
            number: float | int = (
                int(digits) if re.fullmatch(r"[+-]?\d{1,30}", digits) else float(digits)
            )
            if math.isfinite(number):
                return number
        self._wrong(f"{shown(text)} is not allowed; allowed: a finite decimal number", node, path)
        return None

    def _wrong(self, message: str, node: Node, path: ValuePath) -> None:
        self.wrong.append(path)
        self._problems.add(message, line=line_of(node), column=path_text(path), value="")


class _TooLargeError(Exception):
    """An entry has too many values."""
