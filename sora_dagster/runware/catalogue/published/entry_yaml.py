"""Catalogue entries as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.entry_files import EntryFiles

_MAX_FLOW_CHARACTERS = 80
_LINE_BREAKS = frozenset("\x85\u2028\u2029")


def entry_yaml(data: Mapping[str, Any]) -> str:
    """An entry as YAML, for a file that `SORA_MODELS` names.

    Arguments:
        data: the entry as data (see `VideoModel`).
    """
    return yaml.dump(
        [dict(data)], Dumper=_EntryDumper, sort_keys=False, allow_unicode=True, width=100
    )


def add_to_file(path: Path, entry: VideoModel, text: str) -> None:
    """Add an entry to a file of entries, which is created if it does not exist.

    Arguments:
        path: the file.
        entry: the entry.
        text: the same as YAML.

    Raises:
        OSError: if the file cannot be read or written.
        ValueError: if the file has an entry of this model, or its entries are not a list whose
            items begin at the start of a line.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before.strip():
        if entry.air in (known.air for known in EntryFiles().read_text(before, path)):
            raise ValueError(
                f"{path} has an entry of {entry.air} already; remove it first, or write to another "
                f"file"
            )
        before = before.rstrip("\n") + "\n\n"
    whole = before + text
    try:
        EntryFiles().read_text(whole, path)
    except ValueError as error:
        raise ValueError(
            f"the entry cannot be added to {path}, whose entries must be a YAML list of items that "
            f"begin with '- ' at the start of a line; write it to another file"
        ) from error
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        unfinished.write_text(whole, encoding="utf-8")
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {error.strerror}; choose another file, in a folder that "
            f"exists and can be written to"
        ) from error
    unfinished.replace(path)


class _EntryDumper(yaml.SafeDumper):
    """Writes short lists and mappings on one line, as the entries of the package do."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_data(self, data: Any) -> yaml.Node:
        node = super().represent_data(data)
        if isinstance(node, yaml.ScalarNode) and not _LINE_BREAKS.isdisjoint(node.value):
            # PyYAML writes these as they are in other styles, and reads them as line breaks.
            node.style = '"'
        if isinstance(node, yaml.CollectionNode):
            is_list = isinstance(data, list)
            parts = data if is_list else data.values()
            kinds: tuple[type, ...] = (dict, list) if is_list else (dict,)
            is_flat = not any(isinstance(part, kinds) for part in parts)
            node.flow_style = is_flat and len(str(data)) < _MAX_FLOW_CHARACTERS
        return node
