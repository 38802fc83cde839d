"""Who sent a POST, and the reply to one of its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sora_dagster.sandbox.tasks import MAIN_ACCOUNT

Row = dict[str, Any]


@dataclass(frozen=True)
class Caller:
    """Who sent a POST, and how.

    Arguments:
        base_url: address under which the client reached the sandbox.
        account: UUID of the organization that the key belongs to.
        is_dry_run: whether generations are only checked and priced.
    """

    base_url: str
    account: str = MAIN_ACCOUNT
    is_dry_run: bool = False


@dataclass(frozen=True)
class Reply:
    """What one successful task adds to the answer.

    Arguments:
        data: rows of the answer's `data`.
        errors: entries of its `errors`: a successful poll can report a failed generation.
    """

    data: list[Row]
    errors: list[Row]
