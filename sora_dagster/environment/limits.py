"""Spending limits as settings."""

from __future__ import annotations

_DEFAULT_RUN_LIMIT_USD = 25.0
_UNLIMITED = "unlimited"


def parse_limit(
    text: str | None, *, default_usd: float | None = _DEFAULT_RUN_LIMIT_USD
) -> float | None:
    """A spending limit from a setting: USD, ``unlimited``, or the default if it is unset.

    Raises:
        ValueError: if the text is neither.
    """
    if text is None or not text.strip():
        return default_usd
    if text.strip().lower() == _UNLIMITED:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise ValueError(
            f"{text!r} is not a spending limit; write USD such as 25 or 7.50, or '{_UNLIMITED}'"
        )
    return limit
