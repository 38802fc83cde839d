"""One task of a POST: how it came, and what it adds to the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sora_dagster.sandbox.tasks import MAIN_ACCOUNT

Row = dict[str, Any]


@dataclass(frozen=True)
class Caller:
    """Who asks, and how.

    Arguments:
        base_url: address under which the client reached the sandbox.
        account: UUID of the organization whose key it has.
        is_dry_run: whether generations are only checked and priced.
    """

    base_url: str
    account: str = MAIN_ACCOUNT
    is_dry_run: bool = False


@dataclass(frozen=True)
class Reply:
    """What one task adds to the answer.

    Arguments:
        data: rows of the answer's `data`.
        errors: entries of its `errors`. The task itself succeeded all the same: a poll that tells
            of a failed generation is a good poll.
    """

    data: list[Row]
    errors: list[Row]
