"""How Runware delivers videos: it uploads them, or they are downloaded from it."""

from __future__ import annotations

from typing import Literal, cast, get_args

DeliverySetting = Literal["auto", "direct", "download"]


def parse_delivery(text: str | None) -> DeliverySetting:
    """A delivery setting from text; default: `auto`.

    Raises:
        ValueError: if the text is not a delivery setting.
    """
    if text is None or not text.strip():
        return "auto"
    setting = text.strip().lower()
    if setting not in get_args(DeliverySetting):
        raise ValueError(
            f"delivery {text!r} is not known; allowed are 'direct' (Runware puts each video into "
            f"the bucket), 'download' (videos are downloaded from Runware) and 'auto' (direct if "
            f"possible). Set SORA_DELIVERY, or the resource's `delivery`, to one of them."
        )
    return cast(DeliverySetting, setting)
