"""What a store keeps beside an object's bytes: its content type and a few words about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

LONGEST_VALUE = 256
LARGEST_METADATA_BYTES = 2000  # S3 takes 2 KB of names and values
_CUT = "..."
_PLAIN = " !#$&'()*+,/:;=?@[]-._~|{}<>^`\"\\"


@dataclass(frozen=True)
class ObjectAttributes:
    """Content type and user metadata of an object, in a form that every store accepts.

    Names become lower case with hyphens; what a header cannot carry is percent-encoded; a value
    that is too long is cut and ends with ``...``; entries beyond the room there is are left out.

    Arguments:
        content_type: media type, such as ``video/mp4``.
        metadata: names and values, the most telling first.

    Example:
        >>> ObjectAttributes("video/mp4", {"Clip_ID": "über"}).encoded()
        {'Content-Type': 'video/mp4', 'clip-id': '%C3%BCber'}
    """

    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> dict[str, str]:
        """The content type and the metadata, as obstore takes them."""
        return {"Content-Type": self.content_type, **self.encoded_metadata()}

    def encoded_metadata(self) -> dict[str, str]:
        """The metadata alone, names and values as the store keeps them."""
        kept: dict[str, str] = {}
        room = LARGEST_METADATA_BYTES
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
    # Percent itself is encoded too, so that a value can be read back without doubt.
    encoded = [quote(character, safe=_PLAIN) for character in " ".join(text.split())]
    if sum(map(len, encoded)) <= LONGEST_VALUE:
        return "".join(encoded)
    kept, room = [], LONGEST_VALUE - len(_CUT)
    for character in encoded:
        room -= len(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + _CUT
