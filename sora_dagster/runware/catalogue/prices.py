"""What a model costs, as data of its entry."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sora_dagster.runware.catalogue.conditions import Condition

Certainty = Literal["published", "approximate", "unknown"]

DEFAULT_MARGIN = 0.25

_Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Rate(BaseModel):
    """A price of one video.

    Arguments:
        if_: the condition on the request under which it counts (see
            `sora_dagster.runware.catalogue.conditions`). Default: always.
        usd_per_second: price of one second of video in USD. Default: none.
        usd: fixed price of one video in USD, besides that of its seconds. Default: 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    if_: Condition = Field(default={}, alias="if")
    usd_per_second: _Usd | None = None
    usd: _Usd | None = None

    @model_validator(mode="after")
    def _has_a_price(self) -> Rate:
        if self.usd_per_second is None and self.usd is None:
            raise ValueError("set usd_per_second or usd")
        return self


class Prices(BaseModel):
    """What a model costs.

    Arguments:
        certainty: ``published`` by Runware, ``approximate`` (such as prices per token, or of one
            source that is not Runware's), or ``unknown``.
        source: address of the page with the prices. Default: none.
        as_of: date of the prices. Default: unknown.
        margin: added to an estimate as a fraction of it. Default: 0.25 for approximate prices,
            else 0.
        rates: prices of one video; the first whose condition holds counts.
        input_image_usd: price of each input image in USD. Default: 0.
        free_input_images: number of input images without a price. Default: 0.
        input_video_second_usd: price of one second of an input video in USD. Default: 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    certainty: Certainty
    source: str = ""
    as_of: date | None = None
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    rates: tuple[Rate, ...] = ()
    input_image_usd: _Usd = 0.0
    free_input_images: int = Field(default=0, ge=0)
    input_video_second_usd: _Usd = 0.0

    @model_validator(mode="after")
    def _has_rates(self) -> Prices:
        if self.certainty == "unknown" and self.rates:
            raise ValueError("there are rates, so the certainty must be published or approximate")
        if self.certainty != "unknown" and not self.rates:
            raise ValueError("rates are missing; add them, or set the certainty to unknown")
        if not self.input_video_second_usd:
            for number, rate in enumerate(self.rates, start=1):
                if not rate.usd_per_second and not rate.usd:
                    raise ValueError(
                        f"rate {number} is 0 USD, which no spending limit would count; set its "
                        f"price, or remove the rates and set the certainty to unknown"
                    )
        return self

    @property
    def estimate_margin(self) -> float:
        """What is added to an estimate, as a fraction of it."""
        if self.margin is not None:
            return self.margin
        return DEFAULT_MARGIN if self.certainty == "approximate" else 0.0
