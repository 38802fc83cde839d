"""Content type and user metadata that a store keeps with an object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

MAX_VALUE_LENGTH = 256
MAX_METADATA_BYTES = 2000  # S3 accepts 2 KB of names and values
_CUT = "..."
_PLAIN = " !#$&'()*+,/:;=?@[]-._~|{}<>^`\"\\"


@dataclass(frozen=True)
class ObjectAttributes:
    """Content type and user metadata of an object, in a form that every store accepts.

    Names become lower case with hyphens; characters that a header cannot contain are
    percent-encoded; a value that is too long is cut and ends with ``...``; entries beyond the size
    limit are left out.

    Arguments:
        content_type: media type, such as ``video/mp4``.
        metadata: names and values, the most important first.

    Example:
        >>> ObjectAttributes("video/mp4", {"Clip_ID": "über"}).encoded()
        {'Content-Type': 'video/mp4', 'clip-id': '%C3%BCber'}
    """

    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> dict[str, str]:
        """Content type and metadata in obstore's form."""
        return {"Content-Type": self.content_type, **self.encoded_metadata()}

    def encoded_metadata(self) -> dict[str, str]:
        """Metadata only, with names and values in their stored form."""
        kept: dict[str, str] = {}
        room = MAX_METADATA_BYTES
        for given_name, given_value in self.metadata.items():
            name = _name(given_name)
            value = _value(str(given_value))
            size = len(name) + len(value)
            if not name or not value or name in kept or size > room:
                continue
            kept[name] = value
            room -= size
        return kept


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _value(text: str) -> str:
    # Percent itself is encoded too, so that a value can be decoded unambiguously.
    encoded = [quote(character, safe=_PLAIN) for character in " ".join(text.split())]
    if sum(map(len, encoded)) <= MAX_VALUE_LENGTH:
        return "".join(encoded)
    kept, room = [], MAX_VALUE_LENGTH - len(_CUT)
    for character in encoded:
        room -= len(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + _CUT
