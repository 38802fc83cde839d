"""Catalogue entries in words, for people who choose a model."""

from __future__ import annotations

from collections.abc import Iterator

from sora_dagster.runware.catalogue.conditions import condition_text
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import AudioSwitch, InputLimits, Rule, shown_value
from sora_dagster.runware.catalogue.prices import Prices, Rate

_CERTAINTIES = {
    "published": "published by Runware",
    "approximate": "approximate",
    "unknown": "unknown",
}


def status_text(entry: VideoModel) -> str:
    """Whether a model is available."""
    return "available" if entry.retired is None else f"retired {entry.retired}"


def tiers_text(entry: VideoModel) -> str:
    """The resolution tiers of a model; its rule of sizes, if there is one."""
    if entry.size_rule is not None:
        return str(entry.size_rule)
    return ", ".join(entry.tiers) or "its input's"


def seconds_text(entry: VideoModel) -> str:
    """The allowed lengths of a video, in seconds."""
    if entry.durations is None:
        return "its input's"
    return str(entry.durations).replace(" seconds", "").replace(" to ", "-")


def sound_text(entry: VideoModel) -> str:
    """Whether videos have sound."""
    if isinstance(entry.audio, AudioSwitch):
        return f"{'on' if entry.audio.default else 'off'} by default"
    return entry.audio


def remixes_text(entry: VideoModel) -> str:
    """The modes in which a model can make a remix."""
    return ", ".join(entry.remix_modes) or "none"


def usd_per_second(entry: VideoModel) -> tuple[float, float] | None:
    """The lowest and highest price of a second in USD. None: unknown, or not by the second."""
    prices = [rate.usd_per_second for rate in entry.prices.rates if rate.usd_per_second is not None]
    return (min(prices), max(prices)) if prices else None


def price_text(entry: VideoModel) -> str:
    """The price of a second in USD, and how sure it is."""
    span = usd_per_second(entry)
    certainty = entry.prices.certainty
    if span is None:
        return "unknown" if certainty == "unknown" else f"per video ({certainty})"
    low, high = (f"{usd:.3f}".removesuffix("0") for usd in span)
    return f"{low if low == high else f'{low}-{high}'} ({certainty})"


def described(entry: VideoModel) -> Iterator[tuple[str, list[str]]]:
    """Everything that an entry says: topics, each with its lines."""
    yield "model", [entry.name]
    yield "short name", [entry.short_name]
    yield "AIR", [entry.air]
    yield "status", [status_text(entry)]
    yield "prompt", [f"{entry.prompt.min} to {entry.prompt.max} characters"]
    if entry.negative_prompt is not None:
        limits = entry.negative_prompt
        yield "negative prompt", [f"{limits.min} to {limits.max} characters"]
    yield "sizes", list(_sizes(entry))
    if entry.resolutions:
        default = entry.default_resolution
        yield (
            "resolution",
            [", ".join(entry.resolutions) + (f"; default: {default}" if default else "")],
        )
    yield "duration", list(_duration(entry))
    for topic, rule in (("frame rate", entry.fps), ("seed", entry.seed)):
        if rule is not None:
            yield topic, [str(rule)]
    yield "audio", list(_sound(entry))
    yield "inputs", [_input(name, limits) for name, limits in entry.inputs.items()] or ["none"]
    if entry.settings:
        yield "settings", list(_settings(entry))
    yield "formats", [", ".join(entry.output_formats)]
    yield "videos per task", [f"1 to {entry.max_results}"]
    yield "remixes", list(_remixes(entry))
    if entry.rules:
        yield "rules", [rule_text(rule) for rule in entry.rules]
    yield "prices", list(_prices(entry))
    yield "source", [f"{entry.source or 'none'}{_on(entry.checked, ', compared on ')}"]
    if entry.guesses:
        yield "not confirmed", list(entry.guesses)


def _on(value: object, before: str) -> str:
    return "" if value is None else f"{before}{value}"


def _sizes(entry: VideoModel) -> Iterator[str]:
    for tier, sizes in entry.sizes.items():
        yield f"{tier}: {', '.join(map(str, sizes))}"
    if entry.size_rule is not None:
        yield str(entry.size_rule)
    if not entry.takes_size:
        yield "none; the video has the size of its input"
    if entry.default_size is not None:
        yield f"default: {entry.default_size}"


def _duration(entry: VideoModel) -> Iterator[str]:
    if entry.durations is None:
        yield "none; the video is as long as its input"
        return
    default = entry.durations.default
    yield f"{entry.durations}; default: {default if isinstance(default, str) else f'{default:g}'}"


def _sound(entry: VideoModel) -> Iterator[str]:
    if isinstance(entry.audio, AudioSwitch):
        yield f"{sound_text(entry)}; {entry.setting_field(entry.audio.setting)} switches it"
    else:
        yield entry.audio


def _input(name: str, limits: InputLimits) -> str:
    parts = [f"inputs.{name}: at most {limits.max}"]
    if name == "frameImages":
        places = [*limits.positions, *["a frame's number"] * limits.by_index]
        parts.append(f"at {' or '.join([*places, *['a time'] * limits.by_time])}")
    if limits.max_pixels is not None:
        parts.append(f"{limits.min_pixels} to {limits.max_pixels} pixels per side")
    if limits.min_seconds is not None or limits.max_seconds is not None:
        low = "" if limits.min_seconds is None else f"from {limits.min_seconds:g} "
        high = "" if limits.max_seconds is None else f"to {limits.max_seconds:g} "
        parts.append(f"{low}{high}seconds long")
    return ", ".join(parts)


def _settings(entry: VideoModel) -> Iterator[str]:
    for name, setting in entry.settings.items():
        default = "" if setting.default is None else f"; default: {shown_value(setting.default)}"
        yield f"{entry.setting_field(name)}: {setting.allowed}{default}"


def _remixes(entry: VideoModel) -> Iterator[str]:
    for mode in entry.remix_modes:
        way = None if mode == "continue" else entry.remix[mode]
        if way is None:
            yield "continue: the last frame of the parent becomes the first frame"
            continue
        settings = [f"{name}: {shown_value(value)}" for name, value in way.settings.items()]
        beside = f", with {', '.join(settings)}" if settings else ""
        yield f"{mode}: the parent is sent in inputs.{way.input}{beside}"
    if not entry.remix_modes:
        yield "none"


def rule_text(rule: Rule) -> str:
    """A rule of an entry in words."""
    parts = []
    if rule.forbid:
        parts.append(f"not allowed: {', '.join(rule.forbid)}")
    if rule.require:
        parts.append(f"required: {', '.join(rule.require)}")
    if rule.at_most_one_of:
        parts.append(f"at most one of {', '.join(rule.at_most_one_of)}")
    if rule.exactly_one_of:
        parts.append(f"exactly one of {', '.join(rule.exactly_one_of)}")
    for name, allowed in rule.allow.items():
        values = (
            str(allowed)
            if isinstance(allowed, NumberRule)
            else ", ".join(map(shown_value, allowed))
        )
        parts.append(f"{name} only {values}")
    parts += [f"at most {most} items of {name}" for name, most in rule.max_items.items()]
    return f"{condition_text(rule.if_) or 'always'}: {'; '.join(parts)}"


def _prices(entry: VideoModel) -> Iterator[str]:
    prices = entry.prices
    for rate in prices.rates:
        yield rate_text(rate)
    yield from input_prices(prices)
    margin = prices.estimate_margin
    added = f"; estimates add a margin of {margin:.0%}" if margin else ""
    source = f", from {prices.source}" if prices.source else ""
    yield f"{_CERTAINTIES[prices.certainty]}{source}{_on(prices.as_of, ', as of ')}{added}"


def input_prices(prices: Prices) -> Iterator[str]:
    """The prices of inputs in words."""
    if prices.input_image_usd:
        free = f" after {prices.free_input_images}" * bool(prices.free_input_images)
        yield f"{prices.input_image_usd:g} USD per input image{free}"
    if prices.input_video_second_usd:
        yield f"{prices.input_video_second_usd:g} USD per second of input video"


def rate_text(rate: Rate) -> str:
    """A price in words."""
    parts = []
    if rate.usd_per_second is not None:
        parts.append(f"{rate.usd_per_second:g} USD per second")
    if rate.usd is not None:
        parts.append(f"{rate.usd:g} USD per video")
    condition = condition_text(rate.if_)
    return f"{' plus '.join(parts)}{f' {condition}' if condition else ''}"
