"""The prices that Runware publishes, as prices of a catalogue entry.

Runware publishes prices in words, as examples, and (in one third-party copy) as rates with a label.
None of them is a documented form, so an entry that is made from them has approximate prices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sora_dagster.runware.catalogue.published.documents import PublishedModel
from sora_dagster.runware.catalogue.published.limits import tier_in

_SECONDS = re.compile(r"\b(\d+(?:\.\d+)?) ?(?:s|sec|secs|seconds)\b")
_SILENT = re.compile(r"\b(?:no|without) (?:audio|sound)\b|\bsilent\b|\b(?:audio|sound) off\b")
_SOUND = re.compile(r"\b(?:audio|sound)\b")
_VIDEO_INPUT = re.compile(
    r"\bvideo[- ](?:edit|extend|input|to[- ]video)|\bv2v\b|\b(?:input|with) video\b|\bedit\b|"
    r"\bextend\b|\breference[- ]video"
)
_TIER = re.compile(r"([1-9]\d{0,4})([pk])", re.IGNORECASE)
# 4K is 3840x2160.
_LINES_PER_K = 540
_MAX_UNUSED = 10
_PER_SECOND = {"durationsecond", "second", "videosecond", "outputsecond"}
_PER_VIDEO = {"video", "clip", "generation", "request", "result"}


@dataclass(frozen=True)
class PricedCase:
    """A published price and when it counts.

    Arguments:
        tier: the resolution tier. None: any.
        audio: whether there is sound. None: either way.
        video_input: whether there is an input video.
        usd_per_second: price of a second in USD. None: the price is per video.
        usd: price of a video in USD. Default: none.
    """

    tier: str | None
    audio: bool | None
    video_input: bool
    usd_per_second: float | None
    usd: float | None = None

    def condition(self, video_inputs: Sequence[str]) -> dict[str, Any]:
        """The condition of its rate in an entry."""
        found: dict[str, Any] = {}
        if self.tier is not None:
            found["tier"] = self.tier
        if self.audio is not None:
            found["audio"] = self.audio
        if self.video_input and video_inputs:
            found[video_inputs[0]] = "given"
        return found


@dataclass
class PublishedPrices:
    """The prices of a model.

    Arguments:
        prices: as data of an entry.
        notes: what could not be determined, in words.
    """

    prices: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class _UnknownPriceError(Exception):
    """A tier whose price cannot be concluded from those of others."""


def priced_cases(model: PublishedModel, tiers: Sequence[str]) -> list[PricedCase]:
    """The published prices that can be read: of rates, or else of examples."""
    found: dict[tuple[str | None, bool | None, bool], PricedCase] = {}
    for case in _of_rates(model) if model.rates else _of_examples(model, tiers):
        if case.tier is not None and tiers and case.tier not in tiers:
            continue
        key = (case.tier, case.audio, case.video_input)
        known = found.get(key)
        if known is None or (case.usd_per_second or 0) > (known.usd_per_second or 0):
            found[key] = case
    return list(found.values())


def read_prices(
    model: PublishedModel,
    *,
    tiers: Sequence[str],
    has_audio_switch: bool,
    video_inputs: Sequence[str],
) -> PublishedPrices:
    """The prices of a model, as data of an entry.

    Arguments:
        model: what is published.
        tiers: the tiers of the entry, smallest first.
        has_audio_switch: whether requests switch sound on and off.
        video_inputs: the fields for input videos.
    """
    cases = priced_cases(model, tiers)
    overview = f' In words: "{model.overview}"' if model.overview else ""
    if not cases:
        return PublishedPrices(
            {"certainty": "unknown"},
            [f"prices: no price by the second is published, so they are unknown.{overview}"],
        )
    unused = [] if model.rates else _unused_examples(model, tiers)
    notes = [
        f"prices: read from {'pricingRates' if model.rates else 'examples of prices'}, whose form "
        f"is not documented, so they are approximate.{overview}",
        *(f"prices: an example could not be used: {example}" for example in unused),
    ]
    if not has_audio_switch:
        cases = [_without_audio(case) for case in _dearest_sound(cases)]
    with_video = [case for case in cases if case.video_input]
    if video_inputs and not with_video:
        notes.append(
            "prices: with an input video no price is published; the price without one is assumed"
        )
    plain = [case for case in cases if not case.video_input]
    if not plain:
        plain = [_plain(case) for case in with_video]
        notes.append(
            "prices: without an input video no price is published; the price with one is assumed"
        )
    if not video_inputs:
        with_video = []
    rates = []
    for group, needed in ((with_video, ()), (plain, tiers)):
        try:
            complete, added = _for_all_tiers(group, needed)
        except _UnknownPriceError as error:
            return PublishedPrices(
                {"certainty": "unknown"},
                [
                    f"prices: for {error} none is published, and its name does not say how large "
                    f"it is, so all are unknown. Write them, or remove this tier.{overview}"
                ],
            )
        notes += added
        rates += [_rate(case, video_inputs) for case in sorted(complete, key=_is_general)]
    return PublishedPrices({"certainty": "approximate", "rates": rates}, notes)


def _of_rates(model: PublishedModel) -> Iterator[PricedCase]:
    for rate in model.rates:
        text = rate.label.lower()
        unit = rate.unit.lower()
        if unit in _PER_SECOND or unit in _PER_VIDEO:
            per_second = unit in _PER_SECOND
            yield PricedCase(
                tier_in(rate.label),
                _sound(text),
                bool(_VIDEO_INPUT.search(text)),
                rate.usd if per_second else None,
                None if per_second else rate.usd,
            )


def _of_examples(model: PublishedModel, tiers: Sequence[str]) -> Iterator[PricedCase]:
    for example in model.examples:
        text = example.configuration.lower()
        seconds = _SECONDS.search(text)
        tier = tier_in(example.configuration)
        if seconds is None or float(seconds[1]) <= 0 or (tier is None and len(tiers) > 1):
            continue
        yield PricedCase(
            tier,
            _sound(text),
            bool(_VIDEO_INPUT.search(text)),
            round(example.usd / float(seconds[1]), 6),
        )


def _unused_examples(model: PublishedModel, tiers: Sequence[str]) -> list[str]:
    """The examples of prices that do not say a price by the second."""
    return [
        f"{example.configuration}: {example.usd:g} USD"
        for example in model.examples
        if not list(_of_examples(replace(model, examples=(example,)), tiers))
    ][:_MAX_UNUSED]


def _sound(text: str) -> bool | None:
    if _SILENT.search(text):
        return False
    return True if _SOUND.search(text) else None


def _without_audio(case: PricedCase) -> PricedCase:
    return PricedCase(case.tier, None, case.video_input, case.usd_per_second, case.usd)


def _plain(case: PricedCase) -> PricedCase:
    return PricedCase(case.tier, case.audio, False, case.usd_per_second, case.usd)


def _dearest_sound(cases: list[PricedCase]) -> list[PricedCase]:
    """Of prices that differ by sound only, the highest."""
    found: dict[tuple[str | None, bool], PricedCase] = {}
    for case in cases:
        key = (case.tier, case.video_input)
        if key not in found or _usd(case) > _usd(found[key]):
            found[key] = case
    return list(found.values())


def _usd(case: PricedCase) -> float:
    return case.usd_per_second if case.usd_per_second is not None else case.usd or 0.0


def _for_all_tiers(
    cases: list[PricedCase], tiers: Sequence[str]
) -> tuple[list[PricedCase], list[str]]:
    """Prices for all tiers and for both with and without sound."""
    if not cases:
        return [], []
    complete, notes = list(cases), []
    by_tier = {case.tier for case in cases}
    known = [name for name in tiers if name in by_tier]
    if None not in by_tier:
        for index, tier in enumerate(tiers):
            if tier in by_tier:
                continue
            # The next larger tier costs more, so the estimate is not below the bill.
            larger = next((name for name in known if name in tiers[index:]), None)
            if larger is None:
                base = known[-1]
                lines, base_lines = _lines(tier), _lines(base)
                if lines is None or base_lines is None:
                    raise _UnknownPriceError(tier)
                factor = (lines / base_lines) ** 2
                notes.append(
                    f"prices: for {tier} none is published; that of {base} times "
                    f"{factor:.4g}, by the number of pixels, is assumed"
                )
            else:
                base, factor = larger, 1.0
                notes.append(f"prices: for {tier} none is published; that of {larger} is assumed")
            complete += [
                PricedCase(
                    tier,
                    case.audio,
                    case.video_input,
                    None if case.usd_per_second is None else case.usd_per_second * factor,
                    None if case.usd is None else case.usd * factor,
                )
                for case in cases
                if case.tier == base
            ]
    return [_for_both_sounds(case, complete) for case in complete], notes


def _for_both_sounds(case: PricedCase, cases: list[PricedCase]) -> PricedCase:
    """A price that is the only one of its tier counts with and without sound."""
    sounds = {other.audio for other in cases if other.tier == case.tier}
    return _without_audio(case) if len(sounds) == 1 else case


def _lines(tier: str) -> float | None:
    """The shorter side of a tier's usual size in pixels; None if its name does not say it."""
    found = _TIER.fullmatch(tier)
    if found is None:
        return None
    return float(found[1]) * (1 if found[2].lower() == "p" else _LINES_PER_K)


def _is_general(case: PricedCase) -> int:
    """Prices with more conditions come first, since the first that holds counts."""
    return (case.tier is None) + (case.audio is None)


def _rate(case: PricedCase, video_inputs: Sequence[str]) -> dict[str, Any]:
    condition = case.condition(video_inputs)
    rate: dict[str, Any] = {"if": condition} if condition else {}
    if case.usd_per_second is not None:
        return {**rate, "usd_per_second": round(case.usd_per_second, 6)}
    return {**rate, "usd": case.usd}
