"""How values are shown in errors, logs and stored records, without their secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# Also in escaped JSON (https:\/\/…) and with percent-encoding.
_QUERY_PATTERN = re.compile(
    r"(https?(?:://|:\\/\\/|%3A%2F%2F)[^\s?\"'<>]+?)(?:\?|%3F)[^\s\"'<>]*", re.IGNORECASE
)
# The user and password of a URL, in the same forms.
_USER_PATTERN = re.compile(
    r"(https?(?:://|:\\/\\/|%3A%2F%2F))(?:(?!%2F)[^\s/\\?#\"'<>@])+?(?:@|%40)", re.IGNORECASE
)
# The secret parts of presigned URLs, for servers that repeat only the query.
_SIGNATURE_PATTERN = re.compile(
    r"\b((?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig)"
    r"(?:=|%3D))[^\s&\"'<>]+",
    re.IGNORECASE,
)
_SHOWN_CHARACTERS = 120


def without_url_queries(text: str) -> str:
    """Remove query, user and password of each URL in a text, and signatures outside of URLs.

    Presigned URLs and webhook URLs have their secret in the query, and servers often repeat a
    failed URL in their error messages.
    """
    without_users = _USER_PATTERN.sub(r"\1", text)
    return _SIGNATURE_PATTERN.sub(r"\1…", _QUERY_PATTERN.sub(r"\1?…", without_users))


def without_secrets(value: Any, secrets: Iterable[str]) -> Any:
    """Replace each secret in a text, or in the texts of lists and dicts."""
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
    """A value for messages: shortened, and without the queries of URLs."""
    text = without_url_queries(value if isinstance(value, str) else repr(value))
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"
    return repr(text) if isinstance(value, str) else text
