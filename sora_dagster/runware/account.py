"""What the API tells about the account of a key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

# The names under which a balance has its number are not documented; assumed.
_AMOUNT_KEYS = ("amount", "balance", "available", "current", "total", "credits", "value")


class AccountStatus(BaseModel):
    """Balance and name of the account.

    Arguments:
        balance_usd: what is left on the account, in USD; none where the answer does not tell.
        organization_uuid: the account's own id; it stays when a key is changed.
        organization_name: what its owners call it.
        raw: the answer as it came, less its list of API keys.
    """

    model_config = ConfigDict(frozen=True)

    balance_usd: float | None = None
    organization_uuid: str | None = None
    organization_name: str | None = None
    raw: Mapping[str, Any] = Field(default={}, repr=False)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> AccountStatus:
        """The account by the row that answers `accountManagement`."""
        return cls(
            balance_usd=_amount(row.get("balance")),
            organization_uuid=_text(row.get("organizationUUID")),
            organization_name=_text(row.get("organizationName")),
            raw=MappingProxyType({name: value for name, value in row.items() if name != "apiKeys"}),
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


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
