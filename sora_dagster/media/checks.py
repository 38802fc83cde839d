"""Built-in checks of a stored video: does it match the request, and is it fit to be shown?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sora_dagster.media.meter import VideoMeasures

Severity = Literal["error", "warn"]
Figure = float | int | str | bool

# In the order of the results. "error": the clip should not be used. "warn": a person should look
# at it, since silence can be intended and a cost above the estimate is already paid.
CHECKS: Mapping[str, Severity] = {
    "decodes": "error",
    "format_matches": "error",
    "size_matches": "error",
    "duration_matches": "error",
    "not_black": "error",
    "not_frozen": "error",
    "has_sound": "warn",
    "not_silent": "warn",
    "not_flagged": "error",
    "cost_within_estimate": "warn",
}


@dataclass(frozen=True)
class CheckResult:
    """Result of one check of a video.

    Arguments:
        name: name of the check, one of `CHECKS` or of a custom check.
        passed: whether the check was evaluated and found nothing wrong.
        description: what was found and what was expected, in a sentence.
        figures: the numbers behind the result.
        evaluated: False if the check could not be evaluated; it then neither passed nor failed,
            and the description says why.
        custom_severity: severity of a failure of a custom check; None for a built-in one.
    """

    name: str
    passed: bool
    description: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    evaluated: bool = True
    custom_severity: Severity | None = None

    @property
    def failed(self) -> bool:
        """Whether the check was evaluated and found something wrong."""
        return self.evaluated and not self.passed

    @property
    def severity(self) -> Severity:
        """``error`` for a clip that should not be used, ``warn`` for one to look at."""
        return self.custom_severity or CHECKS[self.name]


# A cost below this share of the estimate is worth a note.
_FAR_BELOW = 0.5


@dataclass(frozen=True)
class CheckThresholds:
    """Limits of the checks; the defaults let fades, held shots and quiet scenes pass.

    Arguments:
        max_black_fraction: largest share of the video that may be black, 0 to 1.
        max_frozen_fraction: largest share of the video in which the picture may be frozen, 0 to 1.
        max_frozen_seconds: longest time that the picture may be frozen without a break, in seconds.
        min_loudness_dbfs: lowest loudness, as RMS in dB below full scale.
        max_silent_fraction: largest share of the sound that may be silent, 0 to 1.
        duration_tolerance_seconds: allowed difference from the requested duration, in seconds;
            encoders deliver whole frames.
        cost_tolerance: allowed excess of the cost over the estimate, as a share of the estimate.

    Raises:
        ValueError: if a share is not between 0 and 1, or another limit is out of its range.
    """

    max_black_fraction: float = 0.4
    max_frozen_fraction: float = 0.4
    max_frozen_seconds: float = 5.0
    min_loudness_dbfs: float = -60.0
    max_silent_fraction: float = 0.95
    duration_tolerance_seconds: float = 0.25
    cost_tolerance: float = 0.01

    def __post_init__(self) -> None:
        for name in ("max_black_fraction", "max_frozen_fraction", "max_silent_fraction"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be a share from 0 to 1")
        for name in ("max_frozen_seconds", "duration_tolerance_seconds", "cost_tolerance"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{name} is {value}; it must be 0 or more")
        if not self.min_loudness_dbfs <= 0:
            raise ValueError(
                f"min_loudness_dbfs is {self.min_loudness_dbfs}; full scale is 0 dBFS, so it must "
                f"be 0 or less, such as -60"
            )


@dataclass(frozen=True)
class ExpectedCost:
    """What one video was expected to cost.

    Arguments:
        usd: the estimate in USD. None: its price was unknown.
        margin_usd: the part of it that was added since prices are approximate, in USD. Default: 0.
        is_approximate: whether a cost up to the estimate with its margin is expected. Default: no;
            then a cost above the estimate without it fails the check.
        model: the model, for messages. Default: empty.
        basis: what the estimate is from, in words, for messages. Default: empty.
        advice: what to do about a price that has drifted, in a sentence. Default: empty.
    """

    usd: float | None
    margin_usd: float = 0.0
    is_approximate: bool = False
    model: str = ""
    basis: str = ""
    advice: str = ""

    @property
    def limit_usd(self) -> float | None:
        """The highest cost that the estimate allows, in USD. None: any."""
        if self.usd is None or self.is_approximate:
            return self.usd
        return self.usd - self.margin_usd

    @property
    def text(self) -> str:
        """The estimate in words."""
        if self.usd is None:
            return "unknown"
        margin = f", {self.margin_usd:.4f} USD of it a margin" if self.margin_usd else ""
        return f"{self.usd:.4f} USD{margin}"


@dataclass(frozen=True)
class Expected:
    """What a video should be; None if nothing was requested, so that nothing is checked.

    Arguments:
        size: width and height in pixels.
        duration_seconds: duration in seconds.
        container: ``mp4``, ``mov`` or ``webm``, in any case.
        has_sound: whether the model generates sound and the request did not switch it off.
        cost: expected cost of this one video.
    """

    size: tuple[int, int] | None = None
    duration_seconds: float | None = None
    container: str | None = None
    has_sound: bool = True
    cost: ExpectedCost | None = None


@dataclass(frozen=True)
class FoundVideo:
    """A stored video, as decoding it and the API describe it.

    Arguments:
        container, width, height, duration_seconds, frame_count: as found by decoding.
        audio_codec: codec of the sound; None if there is no sound.
        measures: measurements of pictures and sound; None for a video stored without them.
        decode_error: why it cannot be decoded to its end, in a sentence; None if it can.
        nsfw: whether the content was flagged; None if it was not checked.
        cost_usd: cost; None if the API did not report it.
    """

    container: str
    width: int
    height: int
    duration_seconds: float
    frame_count: int
    audio_codec: str | None
    measures: VideoMeasures | None = None
    decode_error: str | None = None
    nsfw: bool | None = None
    cost_usd: float | None = None


def evaluate(
    expected: Expected, found: FoundVideo, thresholds: CheckThresholds | None = None
) -> list[CheckResult]:
    """Evaluate every check on one video; the results are in the order of `CHECKS`."""
    thresholds = thresholds or CheckThresholds()
    if found.decode_error is not None:
        results = [*_undecodable(found.decode_error)]
    else:
        results = [
            *_file(expected, found, thresholds),
            *_pictures(found.measures, thresholds),
            *_sound(expected, found, thresholds),
        ]
    # The API reports these two, so they are known for an undecodable video too.
    return [*results, _content_flag(found), _cost(expected, found, thresholds)]


def evaluate_all(
    expected: Expected,
    found: Sequence[FoundVideo],
    thresholds: CheckThresholds | None = None,
) -> list[CheckResult]:
    """Evaluate every check on all videos of a clip; a check fails if it fails for one of them.

    Raises:
        ValueError: if there is no video.
    """
    if not found:
        raise ValueError("there is no video to check; a stored clip has at least one")
    by_video = [evaluate(expected, video, thresholds) for video in found]
    return [_combine(results) for results in zip(*by_video, strict=True)]


def _not_evaluated(name: str, reason: str) -> CheckResult:
    """Result of a check that could not be evaluated."""
    return CheckResult(name, False, f"Not evaluated: {reason}.", evaluated=False)


def _combine(results: Sequence[CheckResult]) -> CheckResult:
    """Combine the results of one check on several videos into one.

    It fails if one of them failed, and passes if at least one passed and none failed. The
    description names the videos for which the check was not evaluated.
    """
    if len(results) == 1:
        return results[0]
    count = len(results)
    failed = [number for number, result in enumerate(results, 1) if result.failed]
    skipped = [number for number, result in enumerate(results, 1) if not result.evaluated]
    passed = [number for number, result in enumerate(results, 1) if result.passed]
    shown = [*failed, *passed, *skipped][0]
    result = results[shown - 1]
    description = f"Video {shown} of {count}: {result.description}"
    if result.evaluated and skipped:
        numbers = ", ".join(map(str, skipped))
        description += f" Not evaluated for video {numbers} of {count}."
    figures = {
        **result.figures,
        "videos": count,
        "failed_videos": len(failed),
        "unevaluated_videos": len(skipped),
    }
    return replace(result, description=description, figures=figures)


def _undecodable(error: str) -> Iterator[CheckResult]:
    yield CheckResult(
        "decodes", False, f"The video cannot be decoded to its end: {error.rstrip('.')}."
    )
    for name in CHECKS:
        if name not in ("decodes", "not_flagged", "cost_within_estimate"):
            yield _not_evaluated(name, "the video cannot be decoded")


def _file(
    expected: Expected, found: FoundVideo, thresholds: CheckThresholds
) -> Iterator[CheckResult]:
    count = found.frame_count
    yield CheckResult(
        "decodes",
        count > 0,
        f"All {count} frames were decoded." if count > 0 else "The file contains no frames.",
        {"frames": count},
    )
    if expected.container is None:
        yield _not_evaluated("format_matches", "no format was requested")
    else:
        requested = expected.container.lower()
        yield CheckResult(
            "format_matches",
            found.container == requested,
            f"The format is {found.container}; {requested} was requested.",
            {"format": found.container, "requested": requested},
        )
    size = f"{found.width}x{found.height}"
    if expected.size is None:
        yield _not_evaluated("size_matches", f"no size was requested; the size is {size}")
    else:
        requested = f"{expected.size[0]}x{expected.size[1]}"
        yield CheckResult(
            "size_matches",
            (found.width, found.height) == tuple(expected.size),
            f"The size is {size}; {requested} was requested.",
            {"size": size, "requested": requested},
        )
    seconds, tolerance = found.duration_seconds, thresholds.duration_tolerance_seconds
    if expected.duration_seconds is None:
        yield _not_evaluated(
            "duration_matches", f"no duration was requested; the duration is {seconds:g} s"
        )
    else:
        difference = abs(seconds - expected.duration_seconds)
        yield CheckResult(
            "duration_matches",
            # Rounded, so that a difference of exactly the tolerance passes.
            round(difference, 6) <= tolerance,
            f"The duration is {seconds:g} s; {expected.duration_seconds:g} s was requested, with a "
            f"tolerance of {tolerance:g} s.",
            {"seconds": seconds, "requested_seconds": expected.duration_seconds},
        )


def _pictures(measures: VideoMeasures | None, thresholds: CheckThresholds) -> Iterator[CheckResult]:
    if measures is None:
        yield _not_evaluated("not_black", "the video was stored without measurements")
        yield _not_evaluated("not_frozen", "the video was stored without measurements")
        return
    is_black = measures.black_fraction > thresholds.max_black_fraction
    yield CheckResult(
        "not_black",
        not is_black,
        f"{measures.black_fraction:.0%} of the video is black; at most "
        f"{thresholds.max_black_fraction:.0%} is allowed.",
        {"black_fraction": measures.black_fraction, "brightness": measures.brightness},
    )
    if is_black:
        yield _not_evaluated("not_frozen", "the video is black, so it is frozen as well")
        return
    yield CheckResult(
        "not_frozen",
        measures.frozen_fraction <= thresholds.max_frozen_fraction
        and measures.frozen_seconds <= thresholds.max_frozen_seconds,
        f"The picture is frozen for {measures.frozen_fraction:.0%} of the video, and for "
        f"{measures.frozen_seconds:g} s without a break; at most "
        f"{thresholds.max_frozen_fraction:.0%} and {thresholds.max_frozen_seconds:g} s are "
        f"allowed.",
        {"frozen_fraction": measures.frozen_fraction, "frozen_seconds": measures.frozen_seconds},
    )


def _sound(
    expected: Expected, found: FoundVideo, thresholds: CheckThresholds
) -> Iterator[CheckResult]:
    has_sound = found.audio_codec is not None
    if not expected.has_sound:
        yield _not_evaluated("has_sound", "no sound was requested, or the model generates none")
    else:
        yield CheckResult(
            "has_sound",
            has_sound,
            f"The video has sound ({found.audio_codec})."
            if has_sound
            else "The video has no sound, although its model generates sound.",
            {"has_sound": has_sound},
        )
    measures = found.measures
    if measures is None:
        yield _not_evaluated("not_silent", "the video was stored without measurements")
        return
    loudness, silent_fraction = measures.loudness_dbfs, measures.silent_fraction
    if loudness is None or silent_fraction is None:
        yield _not_evaluated("not_silent", "the video has no sound")
        return
    yield CheckResult(
        "not_silent",
        loudness >= thresholds.min_loudness_dbfs
        and silent_fraction <= thresholds.max_silent_fraction,
        f"The loudness is {loudness:.1f} dBFS, and {silent_fraction:.0%} of the sound is silent; "
        f"at least {thresholds.min_loudness_dbfs:g} dBFS and at most "
        f"{thresholds.max_silent_fraction:.0%} silence are allowed.",
        {"loudness_dbfs": loudness, "silent_fraction": silent_fraction},
    )


def _content_flag(found: FoundVideo) -> CheckResult:
    if found.nsfw is None:
        return _not_evaluated("not_flagged", "the content was not checked")
    return CheckResult(
        "not_flagged",
        not found.nsfw,
        "Runware flagged the content; review the video before you publish it."
        if found.nsfw
        else "Runware checked the content and did not flag it.",
        {"is_flagged": found.nsfw},
    )


def _cost(expected: Expected, found: FoundVideo, thresholds: CheckThresholds) -> CheckResult:
    cost, estimate = found.cost_usd, expected.cost
    if cost is None:
        return _not_evaluated("cost_within_estimate", "the API did not report the cost")
    if estimate is None:
        return _not_evaluated("cost_within_estimate", "there is no estimate")
    seconds = found.duration_seconds or expected.duration_seconds
    billed = f", {cost / seconds:.4g} USD per second" if seconds else ""
    figures: dict[str, Figure] = {"cost_usd": cost}
    if seconds:
        figures["billed_usd_per_second"] = round(cost / seconds, 6)
    if estimate.usd is None or estimate.limit_usd is None:
        description = (
            f"The video cost {cost:.4f} USD{billed}. The price of {estimate.model or 'its model'} "
            f"was unknown before. {estimate.advice}"
        )
        return CheckResult("cost_within_estimate", True, description.strip(), figures)
    figures["estimate_usd"] = estimate.usd
    passed = cost <= estimate.limit_usd * (1 + thresholds.cost_tolerance) + 1e-9
    description = f"The video cost {cost:.4f} USD; the estimate was {estimate.text}."
    if not passed:
        description += (
            f" The price of {estimate.model or 'its model'} has changed: {cost:.4f} USD was "
            f"billed{billed}, and the estimate is from {estimate.basis or 'another price'}. "
            f"{estimate.advice}"
        )
    elif cost < (estimate.usd - estimate.margin_usd) * _FAR_BELOW:
        description += (
            f" That is less than half: the estimate counted something unknown at its most "
            f"expensive value, or the price of {estimate.model or 'its model'} has fallen. "
            f"{cost:.4f} USD was billed{billed}, and the estimate is from "
            f"{estimate.basis or 'another price'}."
        )
    return CheckResult("cost_within_estimate", passed, description.strip(), figures)
