"""What is wrong with the values of a catalogue entry, in words, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.nodes import Node

from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.entry_values import ValuePath
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import did_you_mean
from sora_dagster.user_files.yaml_nodes import child

_PATTERN_HINTS = {
    "air": "an AIR id (Runware's id of a model), such as google:3@2",
    "short_name": "a-z, 0-9, '.' and '-', starting with a letter or digit",
    "at": "settings, request, or providerSettings and a maker, such as providerSettings.google",
}

_EXPECTED_FORMS = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_too_short": "a non-empty string",
    "string_type": "a string",
    "tuple_type": "a list",
}


def messages(error: ValidationError, root: Node) -> Iterator[tuple[ValuePath, str]]:
    """The path of each wrong value, and what is wrong with it."""
    by_path: dict[ValuePath, list[ErrorDetails]] = {}
    of_unions: set[ValuePath] = set()
    for details in error.errors(include_url=False):
        path, is_of_union = _tree_path(details, root)
        by_path.setdefault(path, []).append(details)
        if is_of_union:
            of_unions.add(path)
    for path, found in by_path.items():
        # Of the forms that a value may have, the one it has was compared in detail.
        is_deeper = any(len(path) < len(other) and other[: len(path)] == path for other in by_path)
        if not (is_deeper and path in of_unions):
            yield path, _message(path, found)


def _tree_path(details: ErrorDetails, root: Node) -> tuple[ValuePath, bool]:
    """The path of an error in the file, and whether it is about one form among several."""
    path: list[str | int] = []
    node: Node | None = root
    is_of_union = False
    *parents, last = details["loc"] or ("",)
    for part in (*parents, last):
        below = child(node, part)
        if below is not None:
            path.append(part)
            node = below[1]
        elif details["type"] == "missing" and part == last:
            path.append(part)
        else:
            is_of_union = True
    return tuple(path), is_of_union


def _message(path: ValuePath, found: Sequence[ErrorDetails]) -> str:
    kinds = {details["type"] for details in found}
    if "extra_forbidden" in kinds:
        names = _field_names(path[:-1])
        suggestion = did_you_mean(str(path[-1]), names)
        return f"there is no such field{suggestion}; allowed: {', '.join(names)}"
    if "missing" in kinds:
        return "the field is missing"
    if "value_error" in kinds:
        messages = [details["msg"] for details in found if details["type"] == "value_error"]
        return "; ".join(message.removeprefix("Value error, ") for message in messages)
    expected = dict.fromkeys(_expected(path, details) for details in found)
    value = found[0]["input"]
    value_text = str(value).lower() if isinstance(value, bool) else shown(value)
    names = [name for details in found for name in re.findall(r"'([^']+)'", details["msg"])]
    suggestion = did_you_mean(value, names) if isinstance(value, str) and names else ""
    return f"{value_text} is not allowed{suggestion}; allowed: {', or '.join(expected)}"


def _expected(path: ValuePath, details: ErrorDetails) -> str:
    if details["type"] == "string_pattern_mismatch" and path[-1] in _PATTERN_HINTS:
        return _PATTERN_HINTS[str(path[-1])]
    if details["type"].startswith("date"):
        return "a date such as 2026-09-24"
    if details["type"] in _EXPECTED_FORMS:
        return _EXPECTED_FORMS[details["type"]]
    return details["msg"].removeprefix("Input should be ")


def _field_names(path: ValuePath) -> list[str]:
    """The names that a part of an entry may have."""
    models: set[type[BaseModel]] = {VideoModel}
    for part in path:
        fields = [field for model in models for field in _fields(model).items()]
        below = [_models_in(annotation) for name, annotation in fields if name == part]
        # Other parts are indexes, or names that the user chose.
        models = set().union(*below) if below else models
    return [name for model in models for name in _fields(model)]


def _fields(model: type[BaseModel]) -> Mapping[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*map(_models_in, get_args(annotation)))
