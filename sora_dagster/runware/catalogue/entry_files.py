"""Files of catalogue entries: YAML or JSON, with all problems in one error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sora_dagster.input_files.problems import (
    FileProblem,
    FileProblemsError,
    ProblemList,
    did_you_mean,
)
from sora_dagster.input_files.text import decode_text, unreadable
from sora_dagster.input_files.yaml_nodes import compose, entries, is_null, line_of, merged
from sora_dagster.runware.catalogue.contradictions import contradictions, path_text
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.redaction import shown

_EXTENSIONS = (".yaml", ".yml", ".json")
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9_]*)(\.[0-9_]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+")
_YAML = "tag:yaml.org,2002:"

# Aliases may repeat a part: without limits, a small file could become endless data.
_MAX_VALUES = 100_000
_MAX_DEPTH = 30

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

_Path = tuple[str | int, ...]


class ModelFileError(FileProblemsError):
    """A file of catalogue entries has problems, so none of its entries was used."""


class EntryFiles:
    """Reads files of entries, and collects their problems.

    Arguments:
        known: entries that those of the files add to, or replace if they have the same id.
    """

    def __init__(self, known: Iterable[VideoModel] = ()) -> None:
        self._known = tuple(known)
        self._found: list[_Found] = []
        self._problems: list[FileProblem] = []

    def read(self, path: Path) -> list[VideoModel]:
        """The entries of a file, or of all YAML and JSON files of a folder but hidden ones.

        Raises:
            ModelFileError: if anything is wrong; it lists all problems.
        """
        if not path.is_dir():
            self._read_file(path)
        elif files := [file for file in sorted(path.iterdir()) if _is_of_entries(file)]:
            for file in files:
                self._read_file(file)
        else:
            problems = ProblemList(path.name)
            problems.add(f"the folder has no file that ends in {', '.join(_EXTENSIONS)}", value="")
            self._problems += problems
        return self._entries(path)

    def read_text(self, text: str, path: Path) -> list[VideoModel]:
        """The entries of a text.

        Arguments:
            text: YAML, or JSON if the file's name ends in ``.json``.
            path: the file that it is from.

        Raises:
            ModelFileError: if anything is wrong; it lists all problems.
        """
        problems = ProblemList(path.name, names="field")
        self._read_text(text, path, problems)
        self._problems += problems
        return self._entries(path)

    def _read_file(self, path: Path) -> None:
        problems = ProblemList(path.name, names="field")
        try:
            text = decode_text(path.read_bytes(), problems)
        except OSError as error:
            problems.add(unreadable(path.absolute(), error), value=str(path))
        else:
            self._read_text(text, path, problems)
        self._problems += problems

    def _entries(self, path: Path) -> list[VideoModel]:
        self._report_names()
        if self._problems:
            raise ModelFileError(path, self._problems)
        return [found.entry for found in self._found]

    def _read_text(self, text: str, path: Path, problems: ProblemList) -> None:
        if path.suffix.lower() == ".json":
            if not _is_json(text, problems):
                return
            # Tabs, which YAML does not allow between values. Inside JSON's texts there are none.
            text = text.replace("\t", " ")
        root = compose(text, problems)
        if root is None:
            if not problems:
                problems.add(f"the file is empty; {_EXPECTED}", value="")
            return
        nodes = root.value if isinstance(root, SequenceNode) else [root]
        for node in nodes:
            if not isinstance(node, MappingNode):
                problems.add(
                    f"{shown(_Values(problems).plain(node))} is not an entry; {_EXPECTED}",
                    line=line_of(node),
                    value="",
                )
                continue
            entry = _read_entry(node, problems)
            if entry is not None:
                name = "name" if _child(node, "short_name") is None else "short_name"
                found = _Found(entry, path.name, line_of(node), _line_at(node, (name,)))
                self._add(found, problems)

    def _add(self, new: _Found, problems: ProblemList) -> None:
        other = next((found for found in self._found if found.entry.air == new.entry.air), None)
        if other is None:
            self._found.append(new)
            return
        problems.add(
            f"{new.entry.air} has an entry in {other.file}, line {other.line}, already; remove one "
            f"of the two",
            line=new.line,
            column="air",
            value=new.entry.air,
        )

    def _report_names(self) -> None:
        """Report short names that two models have."""
        airs = {found.entry.air for found in self._found}
        places = {known.short_name: known.air for known in self._known if known.air not in airs}
        for found in self._found:
            name = found.entry.short_name
            if (place := places.setdefault(name, found.place)) != found.place:
                message = f"{name!r} is also the short name of {place}; set another short_name"
                self._problems.append(
                    FileProblem(
                        found.name_line, "short_name", name, message, found.file, names="field"
                    )
                )


_EXPECTED = "expected: a list of model entries, each starting with '- air: …'"


@dataclass(frozen=True)
class _Found:
    """An entry, and the lines of its beginning and of its name."""

    entry: VideoModel
    file: str
    line: int
    name_line: int

    @property
    def place(self) -> str:
        return f"{self.entry.air} in {self.file}, line {self.line}"


def _is_of_entries(file: Path) -> bool:
    # Hidden files are the unfinished ones of editors.
    return file.suffix.lower() in _EXTENSIONS and not file.name.startswith(".") and file.is_file()


def _is_json(text: str, problems: ProblemList) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problems.add(f"this is not JSON: {error.msg}", line=error.lineno, value=None)
    except RecursionError:
        problems.add("the file is nested too deeply", value=None)
    except ValueError as error:
        problems.add(f"this is not JSON: {error}", value=None)
    else:
        return True
    return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value; allowed: finite numbers")


def _read_entry(node: MappingNode, problems: ProblemList) -> VideoModel | None:
    before = len(problems)
    values = _Values(problems)
    data = values.of(node, ())
    if data is None:
        return None
    try:
        # As JSON, where lists and dates have one form, and no value is read as another type.
        entry = VideoModel.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for path, message in _messages(error, node):
            # What is wrong with a value that was reported already follows from that.
            if not any(path[: len(bad)] == bad[: len(path)] for bad in values.wrong):
                problems.add(
                    message, line=_line_at(node, path), column=path_text(path) or None, value=""
                )
        return None
    for found in contradictions(entry):
        problems.add(
            found.message,
            line=_line_at(node, found.path),
            column=path_text(found.path),
            value="",
        )
    return entry if len(problems) == before else None


class _Values:
    """Plain values of nodes.

    Arguments:
        problems: where values are reported that no entry may have.
    """

    def __init__(self, problems: ProblemList) -> None:
        self._problems = problems
        self._count = 0
        self.wrong: list[_Path] = []

    def of(self, node: MappingNode, path: _Path) -> dict[str, Any] | None:
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

    def plain(self, node: Node) -> object:
        """A value for messages."""
        return node.value if isinstance(node, ScalarNode) else []

    def _mapping(self, node: MappingNode, path: _Path) -> dict[str, Any]:
        return {
            name: self._value(value, (*path, name))
            for name, _, value in entries(node, self._problems)
        }

    def _value(self, node: Node, path: _Path) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise _TooLargeError
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: Node, path: _Path) -> Any:
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

    def _number(self, text: str, node: Node, path: _Path) -> float | int | None:
        if _NUMBER.fullmatch(text):
            digits = text.replace("_", "")
            number: float | int = (
                int(digits) if re.fullmatch(r"[+-]?\d{1,30}", digits) else float(digits)
            )
            if math.isfinite(number):
                return number
        self._wrong(f"{shown(text)} is not allowed; allowed: a finite decimal number", node, path)
        return None

    def _wrong(self, message: str, node: Node, path: _Path) -> None:
        self.wrong.append(path)
        self._problems.add(message, line=line_of(node), column=path_text(path), value="")


class _TooLargeError(Exception):
    """An entry has too many values."""


def _messages(error: ValidationError, root: Node) -> Iterator[tuple[_Path, str]]:
    """The path of each wrong value, and what is wrong with it."""
    by_path: dict[_Path, list[ErrorDetails]] = {}
    of_unions: set[_Path] = set()
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


def _tree_path(details: ErrorDetails, root: Node) -> tuple[_Path, bool]:
    """The path of an error in the file, and whether it is about one form among several."""
    path: list[str | int] = []
    node: Node | None = root
    is_of_union = False
    *parents, last = details["loc"] or ("",)
    for part in (*parents, last):
        below = _child(node, part)
        if below is not None:
            path.append(part)
            node = below[1]
        elif details["type"] == "missing" and part == last:
            path.append(part)
        else:
            is_of_union = True
    return tuple(path), is_of_union


def _message(path: _Path, found: Sequence[ErrorDetails]) -> str:
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


def _expected(path: _Path, details: ErrorDetails) -> str:
    if details["type"] == "string_pattern_mismatch" and path[-1] in _PATTERN_HINTS:
        return _PATTERN_HINTS[str(path[-1])]
    if details["type"].startswith("date"):
        return "a date such as 2026-09-24"
    if details["type"] in _EXPECTED_FORMS:
        return _EXPECTED_FORMS[details["type"]]
    return details["msg"].removeprefix("Input should be ")


def _field_names(path: _Path) -> list[str]:
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


def _line_at(root: Node, path: _Path) -> int:
    """The line of a part of an entry, or of the part above it that the file has."""
    node, line = root, line_of(root)
    for part in path:
        below = _child(node, part)
        if below is None:
            break
        key, node = below
        line = line_of(key)
    return line


def _child(node: Node | None, part: str | int) -> tuple[Node, Node] | None:
    """The key and the value of a part of a mapping, or an item of a list twice."""
    if isinstance(node, MappingNode):
        return merged(node).get(str(part))
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None
