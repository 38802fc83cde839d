"""How a catalogue entry differs from what Runware publishes about its model now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sora_dagster.runware.catalogue.conditions import holds
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.parts import Setting
from sora_dagster.runware.catalogue.published.documents import PublishedModel
from sora_dagster.runware.catalogue.published.draft import DraftEntry
from sora_dagster.runware.catalogue.published.rates import priced_cases
from sora_dagster.runware.catalogue.published.rule_changes import rule_changes

# Prices of examples are rounded to cents.
_PRICE_TOLERANCE = 0.03


def differences(entry: VideoModel, draft: DraftEntry, model: PublishedModel) -> list[str]:
    """What is different, in words. Only what is published is compared.

    Arguments:
        entry: the entry.
        draft: an entry made from what is published.
        model: what is published.
    """
    return [
        *_availability(entry, model),
        *_limits(entry, draft),
        *_inputs(entry, draft.entry),
        *_settings(entry, draft.entry),
        *rule_changes(entry, draft.entry, is_complete=draft.has_all_rules),
        *_prices(entry, model),
    ]


def _availability(entry: VideoModel, model: PublishedModel) -> Iterator[str]:
    if model.is_available is False and entry.retired is None:
        yield f"retired: its status is {model.status!r} now; the entry says that it is available"
    if model.is_available and entry.retired is not None:
        yield (
            f"retired: its status is {model.status!r} now; the entry says that it was retired on "
            f"{entry.retired}"
        )


def _limits(entry: VideoModel, draft: DraftEntry) -> Iterator[str]:
    published = draft.entry
    pairs: Mapping[str, tuple[object, object]] = {
        "prompt": (
            f"at most {entry.prompt.max} characters",
            f"at most {published.prompt.max} characters",
        ),
        "negative_prompt": (
            entry.negative_prompt and entry.negative_prompt.max,
            published.negative_prompt and published.negative_prompt.max,
        ),
        "sizes": (_sizes(entry), _sizes(published)),
        "size_rule": (entry.size_rule, published.size_rule),
        "resolutions": (_set(entry.resolutions), _set(published.resolutions)),
        "default_resolution": (entry.default_resolution, published.default_resolution),
        "durations": (_durations(entry), _durations(published)),
        "seed": (entry.seed, published.seed),
        "fps": (entry.fps, published.fps),
        "output_formats": (_set(entry.output_formats), _set(published.output_formats)),
        "max_results": (entry.max_results, published.max_results),
    }
    for name, (mine, theirs) in pairs.items():
        if str(mine) == str(theirs):
            continue
        # A field that the schema does not have is a difference, one that it leaves open is not.
        is_absent = not theirs and mine and name in _ABSENT_MEANS_NONE
        if name in draft.stated or is_absent:
            yield f"{name}: {_shown(theirs)} now; the entry says {_shown(mine)}"


_ABSENT_MEANS_NONE = ("resolutions", "seed", "fps", "negative_prompt", "durations")


def _sizes(entry: VideoModel) -> str:
    return ", ".join(sorted(map(str, entry.allowed_sizes)))


def _set(values: tuple[str, ...]) -> str:
    return ", ".join(sorted(values))


def _durations(entry: VideoModel) -> str:
    if entry.durations is None:
        return ""
    default = entry.durations.default
    shown = default if isinstance(default, str) else f"{default:g}"
    return f"{_numbers(entry)}, default {shown}"


def _numbers(entry: VideoModel) -> str:
    rule = entry.durations
    if rule is None:
        return ""
    if not rule.values:
        return str(rule)
    return f"{', '.join(f'{value:g}' for value in sorted(rule.values))}{' or auto' * rule.auto}"


def _shown(value: object) -> str:
    return "none" if value in (None, "", ()) else str(value)


def _inputs(entry: VideoModel, published: VideoModel) -> Iterator[str]:
    for name in sorted({*entry.inputs, *published.inputs}):
        mine, theirs = entry.inputs.get(name), published.inputs.get(name)
        if mine is None or theirs is None:
            yield (
                f"inputs.{name}: {'accepted' if theirs else 'not accepted'} now; the entry says "
                f"{'accepted' if mine else 'not accepted'}"
            )
        elif mine.max != theirs.max:
            yield f"inputs.{name}: at most {theirs.max} now; the entry says at most {mine.max}"


def _settings(entry: VideoModel, published: VideoModel) -> Iterator[str]:
    for name in sorted({*entry.settings, *published.settings}):
        mine, theirs = entry.settings.get(name), published.settings.get(name)
        if theirs is None:
            yield f"settings.{name}: there is no such setting any more"
        elif mine is None:
            yield f"settings.{name}: it is new ({theirs.allowed})"
        elif problem := _setting_difference(mine, theirs):
            yield f"settings.{name}: {problem}"


def _setting_difference(mine: Setting, theirs: Setting) -> str | None:
    if "any" in (mine.type, theirs.type):
        return None
    if mine.allowed != theirs.allowed:
        return f"{theirs.allowed} now; the entry says {mine.allowed}"
    if mine.at != theirs.at:
        return f"it is sent in {theirs.at} now; the entry says {mine.at}"
    if None not in (mine.default, theirs.default) and mine.default != theirs.default:
        return f"its default is {theirs.default} now; the entry says {mine.default}"
    return None


def _prices(entry: VideoModel, model: PublishedModel) -> Iterator[str]:
    for case in priced_cases(model, entry.tiers):
        usd = case.usd_per_second
        if usd is None:
            continue
        where = " ".join(
            filter(
                None,
                (
                    case.tier,
                    {True: "with sound", False: "without sound", None: ""}[case.audio],
                    "with an input video" if case.video_input else "",
                ),
            )
        )
        mine = _usd_per_second(entry, case.tier, case.audio, case.video_input)
        if mine is None:
            if entry.prices.certainty == "unknown":
                yield f"prices: {usd:g} USD per second {where}; the entry says unknown".rstrip()
        elif abs(mine - usd) > _PRICE_TOLERANCE * max(mine, usd):
            yield (
                f"prices: {f'{where}: ' if where else ''}{usd:g} USD per second now; the entry "
                f"says {mine:g}"
            )


def _usd_per_second(
    entry: VideoModel, tier: str | None, audio: bool | None, video_input: bool
) -> float | None:
    """The entry's price of a second. None: it depends on something else, or is unknown."""
    fields: dict[str, Any] = {"audio": entry.makes_sound() if audio is None else audio}
    if video_input:
        for name in ("video", "referenceVideos", "videoId"):
            if name in entry.inputs:
                fields |= {f"inputs.{name}": "given", "inputs": "given"}
                break
    tiers = entry.tiers if tier is None else (tier,)
    prices = {_rate_of(entry, {**fields, "tier": one}) for one in tiers or (None,)}
    return prices.pop() if len(prices) == 1 else None


def _rate_of(entry: VideoModel, fields: Mapping[str, Any]) -> float | None:
    rate = next((rate for rate in entry.prices.rates if holds(rate.if_, fields)), None)
    return None if rate is None or rate.usd is not None else rate.usd_per_second
