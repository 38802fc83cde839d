"""What may be shown of a value to people, in errors, logs and stored records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_QUERY_PATTERN = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*")
_SHOWN_CHARACTERS = 120


def without_url_queries(text: str) -> str:
    """The text, with the query of each URL in it left out.

    A presigned URL and a webhook URL carry their secret in the query, and servers like to repeat
    the URL that failed in what they say about it.
    """
    return _QUERY_PATTERN.sub(r"\1?…", text)


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
