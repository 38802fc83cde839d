"""The account that an API key belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from sora_dagster.runware.responses import text_or_none

# The key of the amount in a balance is not documented; assumed to be one of these.
_AMOUNT_KEYS = ("amount", "balance", "available", "current", "total", "credits", "value")


class AccountStatus(BaseModel):
    """Balance and id of the account.

    Arguments:
        balance_usd: balance in USD. None: not in the answer.
        organization_uuid: id of the account; it stays when a key is changed. None: not in the
            answer.
    """

    model_config = ConfigDict(frozen=True)

    balance_usd: float | None = None
    organization_uuid: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> AccountStatus:
        """Read the row of an answer to `accountManagement`."""
        return cls(
            balance_usd=_amount(row.get("balance")),
            organization_uuid=text_or_none(row.get("organizationUUID")),
        )


def _amount(balance: object) -> float | None:
    if isinstance(balance, Mapping):
        amounts = (_amount(balance[key]) for key in _AMOUNT_KEYS if key in balance)
        return next((amount for amount in amounts if amount is not None), None)
    if isinstance(balance, bool) or not isinstance(balance, (int, float, str)):
        return None
    try:
        amount = float(balance.strip().removeprefix("$") if isinstance(balance, str) else balance)
    except (ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) else None
