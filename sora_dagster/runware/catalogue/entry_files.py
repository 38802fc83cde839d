"""Files of catalogue entries: YAML or JSON, with all problems in one error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from sora_dagster.runware.catalogue.contradictions import contradictions, path_text
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.entry_messages import messages
from sora_dagster.runware.catalogue.entry_values import EntryValues
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import (
    FileProblem,
    FileProblemsError,
    ProblemList,
)
from sora_dagster.user_files.text import decode_text, unreadable
from sora_dagster.user_files.yaml_nodes import child, compose, line_at, line_of

_EXTENSIONS = (".yaml", ".yml", ".json")


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
                value = node.value if isinstance(node, ScalarNode) else []
                problems.add(
                    f"{shown(value)} is not an entry; {_EXPECTED}",
                    line=line_of(node),
                    value="",
                )
                continue
            entry = _read_entry(node, problems)
            if entry is not None:
                name = "name" if child(node, "short_name") is None else "short_name"
                found = _Found(entry, path.name, line_of(node), line_at(node, (name,)))
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
    values = EntryValues(problems)
    data = values.of(node, ())
    if data is None:
        return None
    try:
        # As JSON, where lists and dates have one form, and no value is read as another type.
        entry = VideoModel.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for path, message in messages(error, node):
            # What is wrong with a value that was reported already follows from that.
            if not any(path[: len(bad)] == bad[: len(path)] for bad in values.wrong):
                problems.add(
                    message, line=line_at(node, path), column=path_text(path) or None, value=""
                )
        return None
    for found in contradictions(entry):
        problems.add(
            found.message,
            line=line_at(node, found.path),
            column=path_text(found.path),
            value="",
        )
    return entry if len(problems) == before else None
