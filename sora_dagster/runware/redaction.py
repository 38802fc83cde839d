"""What may be shown of a value to people, in errors, logs and stored records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# Also as it stands in JSON that was escaped (https:\/\/…) and where it was encoded once more.
_QUERY_PATTERN = re.compile(
    r"(https?(?:://|:\\/\\/|%3A%2F%2F)[^\s?\"'<>]+?)(?:\?|%3F)[^\s\"'<>]*", re.IGNORECASE
)
# The parts of presigned URLs that are secret, for servers that repeat only the query.
_SIGNATURE_PATTERN = re.compile(
    r"\b((?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig)"
    r"(?:=|%3D))[^\s&\"'<>]+",
    re.IGNORECASE,
)
_SHOWN_CHARACTERS = 120


def without_url_queries(text: str) -> str:
    """The text, with the query of each URL in it left out, and signatures that stand alone.

    A presigned URL and a webhook URL carry their secret in the query, and servers like to repeat
    the URL that failed in what they say about it.
    """
    return _SIGNATURE_PATTERN.sub(r"\1…", _QUERY_PATTERN.sub(r"\1?…", text))


def without_secrets(value: Any, secrets: Iterable[str]) -> Any:
    """The value (a text, or lists and dicts with texts), with each secret in it left out."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "[secret]")
        return value
    if isinstance(value, list):
        return [without_secrets(item, secrets) for item in value]
    if isinstance(value, dict):
        return {name: without_secrets(item, secrets) for name, item in value.items()}
    return value


def shown(value: object) -> str:
    """A value as it is shown to people: shortened, and without the queries of URLs."""
    text = without_url_queries(value if isinstance(value, str) else repr(value))
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"
    return repr(text) if isinstance(value, str) else text
