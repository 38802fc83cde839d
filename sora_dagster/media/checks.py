"""Whether a stored video is what was asked for, and fit to be shown.

Each check looks at one thing and gives a verdict on it. A check that cannot be evaluated says so,
and counts neither as passed nor as failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sora_dagster.media.measures import VideoMeasures
from sora_dagster.media.verdicts import CHECKS, CheckResult, together, unevaluated


@dataclass(frozen=True)
class CheckThresholds:
    """What is still accepted; the defaults let fades, held shots and quiet scenes pass.

    Arguments:
        max_black_fraction: most of the video that may be black, 0 to 1.
        max_frozen_fraction: most of the video in which the picture may stand still, 0 to 1.
        max_frozen_seconds: longest time that it may stand still without a break, in seconds.
        min_loudness_dbfs: softest sound, as RMS in dB below full scale.
        max_silent_fraction: most of the sound that may be silent, 0 to 1.
        duration_tolerance_seconds: how much shorter or longer than asked a video may be, in
            seconds; encoders deliver whole frames.
        cost_tolerance: how far above the estimate a price may be, as a share of it.

    Raises:
        ValueError: where a share is not between 0 and 1, or another limit cannot be.
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
                raise ValueError(f"{name} is {value}; a share from 0 to 1 is expected")
        for name in ("max_frozen_seconds", "duration_tolerance_seconds", "cost_tolerance"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{name} is {value}; a number from 0 on is expected")
        if not self.min_loudness_dbfs <= 0:
            raise ValueError(
                f"min_loudness_dbfs is {self.min_loudness_dbfs}; full scale is 0 dBFS, so a "
                f"number below 0 is expected, such as -60"
            )


@dataclass(frozen=True)
class Expected:
    """What a video should be; None where nothing was asked for, so that nothing is judged.

    Arguments:
        size: width and height in pixels.
        duration_seconds: its length.
        container: ``mp4``, ``mov`` or ``webm``, in any case.
        has_sound: whether its model makes sound.
        estimate_usd: what this one video was expected to cost.
    """

    size: tuple[int, int] | None = None
    duration_seconds: float | None = None
    container: str | None = None
    has_sound: bool = True
    estimate_usd: float | None = None


@dataclass(frozen=True)
class FoundVideo:
    """What a video is.

    Arguments:
        container, width, height, duration_seconds, frame_count: as decoding it told.
        audio_codec: codec of its sound, None where it has none.
        measures: of its pictures and sound; None where it was stored before there were any.
        is_flagged: whether its content was flagged; None where it was not looked at.
        cost_usd: what it cost; None where the API did not say.
    """

    container: str
    width: int
    height: int
    duration_seconds: float
    frame_count: int
    audio_codec: str | None
    measures: VideoMeasures | None = None
    is_flagged: bool | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class UndecodableVideo:
    """A video that cannot be decoded to its end.

    Arguments:
        error: why, in a sentence.
        is_flagged: whether its content was flagged; None where it was not looked at.
        cost_usd: what it cost; None where the API did not say.
    """

    error: str
    is_flagged: bool | None = None
    cost_usd: float | None = None


def judge(
    expected: Expected,
    found: FoundVideo | UndecodableVideo,
    thresholds: CheckThresholds | None = None,
) -> list[CheckResult]:
    """A verdict of each check on one video, in the order of `CHECKS`."""
    thresholds = thresholds or CheckThresholds()
    if isinstance(found, UndecodableVideo):
        verdicts = [*_of_no_pictures(found)]
    else:
        verdicts = [*_of_the_file(expected, found, thresholds)]
        verdicts += _of_the_pictures(found, thresholds)
        verdicts += _of_the_sound(expected, found, thresholds)
    # These two are reported by the API, so they hold for what cannot be decoded too.
    verdicts += [_content_flag(found), _cost(expected, found, thresholds)]
    return verdicts


def judge_all(
    expected: Expected,
    found: Sequence[FoundVideo | UndecodableVideo],
    thresholds: CheckThresholds | None = None,
) -> list[CheckResult]:
    """One verdict of each check on all videos of a clip: it fails where one of them does.

    Arguments:
        found: at least one.

    Raises:
        ValueError: where there is no video.
    """
    if not found:
        raise ValueError("there is no video to judge; a stored clip has at least one")
    by_video = [judge(expected, video, thresholds) for video in found]
    return [together(verdicts) for verdicts in zip(*by_video, strict=True)]


def _of_no_pictures(found: UndecodableVideo) -> Iterator[CheckResult]:
    error = found.error.rstrip(".")
    yield CheckResult("decodes", False, f"It cannot be decoded to its end: {error}.")
    for name in CHECKS:
        if name not in ("decodes", "not_flagged", "cost_within_estimate"):
            yield unevaluated(name, "the video cannot be decoded")


def _of_the_file(
    expected: Expected, found: FoundVideo, thresholds: CheckThresholds
) -> Iterator[CheckResult]:
    yield CheckResult(
        "decodes",
        found.frame_count > 0,
        f"All of its {found.frame_count} frames were decoded."
        if found.frame_count > 0
        else "There is no frame in it.",
        {"frames": found.frame_count},
    )
    if expected.container is None:
        yield unevaluated("format_matches", "no format was asked for")
    else:
        wanted = expected.container.lower()
        yield CheckResult(
            "format_matches",
            found.container == wanted,
            f"Its format is {found.container}; {wanted} was asked for.",
            {"format": found.container, "asked": wanted},
        )
    size = f"{found.width}x{found.height}"
    if expected.size is None:
        yield unevaluated("size_matches", f"no size was asked for; it is {size}")
    else:
        wanted = f"{expected.size[0]}x{expected.size[1]}"
        yield CheckResult(
            "size_matches",
            (found.width, found.height) == tuple(expected.size),
            f"It is {size}; {wanted} was asked for.",
            {"size": size, "asked": wanted},
        )
    seconds = found.duration_seconds
    if expected.duration_seconds is None:
        yield unevaluated("duration_matches", f"no length was asked for; it is {seconds:g} s long")
    else:
        difference = abs(seconds - expected.duration_seconds)
        yield CheckResult(
            "duration_matches",
            # Rounded, so that exactly the tolerance is still within it.
            round(difference, 6) <= thresholds.duration_tolerance_seconds,
            f"It is {seconds:g} s long; {expected.duration_seconds:g} s were asked for, "
            f"{thresholds.duration_tolerance_seconds:g} s more or less are accepted.",
            {"seconds": seconds, "asked_seconds": expected.duration_seconds},
        )


def _of_the_pictures(found: FoundVideo, thresholds: CheckThresholds) -> Iterator[CheckResult]:
    measures = found.measures
    if measures is None:
        for name in ("not_black", "not_frozen"):
            yield unevaluated(name, "it was stored before pictures were measured")
        return
    is_black = measures.black_fraction > thresholds.max_black_fraction
    yield CheckResult(
        "not_black",
        not is_black,
        f"{measures.black_fraction:.0%} of it is black; up to "
        f"{thresholds.max_black_fraction:.0%} is accepted.",
        {"black_fraction": measures.black_fraction, "brightness": measures.brightness},
    )
    if is_black:
        yield unevaluated("not_frozen", "it is black, and so stands still too")
        return
    yield CheckResult(
        "not_frozen",
        measures.frozen_fraction <= thresholds.max_frozen_fraction
        and measures.frozen_seconds <= thresholds.max_frozen_seconds,
        f"The picture stands still for {measures.frozen_fraction:.0%} of it, "
        f"{measures.frozen_seconds:g} s at a time; up to {thresholds.max_frozen_fraction:.0%} and "
        f"{thresholds.max_frozen_seconds:g} s are accepted.",
        {
            "frozen_fraction": measures.frozen_fraction,
            "frozen_seconds": measures.frozen_seconds,
        },
    )


def _of_the_sound(
    expected: Expected, found: FoundVideo, thresholds: CheckThresholds
) -> Iterator[CheckResult]:
    if not expected.has_sound:
        yield unevaluated("has_sound", "its model makes no sound")
    else:
        yield CheckResult(
            "has_sound",
            found.audio_codec is not None,
            f"It has sound ({found.audio_codec})."
            if found.audio_codec is not None
            else "It has no sound, though its model makes some.",
            {"has_sound": found.audio_codec is not None},
        )
    measures = found.measures
    if measures is None:
        yield unevaluated("not_silent", "it was stored before sound was measured")
        return
    loudness, silent_fraction = measures.loudness_dbfs, measures.silent_fraction
    if loudness is None or silent_fraction is None:
        yield unevaluated("not_silent", "it has no sound")
        return
    yield CheckResult(
        "not_silent",
        loudness >= thresholds.min_loudness_dbfs
        and silent_fraction <= thresholds.max_silent_fraction,
        f"Its loudness is {loudness:.1f} dBFS and {silent_fraction:.0%} of its sound is silent; "
        f"{thresholds.min_loudness_dbfs:g} dBFS and up to {thresholds.max_silent_fraction:.0%} "
        f"are accepted.",
        {"loudness_dbfs": loudness, "silent_fraction": silent_fraction},
    )


def _content_flag(found: FoundVideo | UndecodableVideo) -> CheckResult:
    if found.is_flagged is None:
        return unevaluated("not_flagged", "its content was not checked")
    return CheckResult(
        "not_flagged",
        not found.is_flagged,
        "Runware flagged its content; look at it before anyone else does."
        if found.is_flagged
        else "Its content was looked at and not flagged.",
        {"is_flagged": found.is_flagged},
    )


def _cost(
    expected: Expected, found: FoundVideo | UndecodableVideo, thresholds: CheckThresholds
) -> CheckResult:
    if found.cost_usd is None:
        return unevaluated("cost_within_estimate", "the API did not report its cost")
    if expected.estimate_usd is None:
        return unevaluated("cost_within_estimate", "there is no estimate")
    limit = expected.estimate_usd * (1 + thresholds.cost_tolerance)
    return CheckResult(
        "cost_within_estimate",
        found.cost_usd <= limit + 1e-9,
        f"It cost {found.cost_usd:.4f} USD; {expected.estimate_usd:.4f} USD were expected.",
        {"cost_usd": found.cost_usd, "estimate_usd": expected.estimate_usd},
    )
