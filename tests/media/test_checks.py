from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.media.checks import (
    CHECKS,
    CheckResult,
    CheckThresholds,
    Expected,
    ExpectedCost,
    FoundVideo,
    evaluate,
    evaluate_all,
)
from sora_dagster.media.meter import VideoMeasures
from sora_dagster.runware.catalogue import FrameSize, OutputFormat
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.rendering import VideoSpec, render
from tests.media.damaged_clips import DAMAGED_KINDS, FINE_KINDS, Kind, found_in

SIZE = FrameSize(480, 272)
SECONDS = 3.0
SCENES = (
    "A valley between hills at dawn",
    "A calm lake under the moon at night",
    "Rain over a neon city at midnight",
    "Fog between the pines of a forest",
    "A whale glides past a reef",
    "Aurora over a cabin, deep winter night",
    "A dark planet turns before the stars",
    "Dust in the dark of a studio, macro",
)
REQUESTED = Expected(SIZE, SECONDS, "MP4", cost=ExpectedCost(1.2))

MEASURES = VideoMeasures(
    brightness=0.4,
    black_fraction=0.0,
    frozen_seconds=0.0,
    frozen_fraction=0.0,
    loudness_dbfs=-24.0,
    silent_fraction=0.0,
)
FINE = FoundVideo(
    container="mp4",
    width=480,
    height=272,
    duration_seconds=3.0,
    frame_count=90,
    audio_codec="aac",
    measures=MEASURES,
    nsfw=False,
    cost_usd=1.2,
)


def rendered(
    scene: str, path: Path, *, seed: int = 1, size: FrameSize = SIZE, quality: int = 95
) -> Path:
    output_format: OutputFormat = "WEBM" if path.suffix == ".webm" else "MP4"
    picture = PictureSpec(Subject(scene, seed))
    render(VideoSpec(picture, size, SECONDS, output_format, quality), path)
    return path


@pytest.fixture(scope="module")
def fine_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Renders a clip that is fine: each scene once."""
    folder = tmp_path_factory.mktemp("fine")
    clips: dict[str, Path] = {}

    def clip(scene: str) -> Path:
        if scene not in clips:
            clips[scene] = rendered(scene, folder / f"{len(clips)}.mp4")
        return clips[scene]

    return clip


def undecodable(
    error: str, *, nsfw: bool | None = None, cost_usd: float | None = None
) -> FoundVideo:
    return replace(FINE, decode_error=error, nsfw=nsfw, cost_usd=cost_usd)


def failures(found: FoundVideo, expected: Expected = REQUESTED) -> dict[str, str]:
    return {
        result.name: result.description for result in evaluate(expected, found) if result.failed
    }


def result_of(
    name: str, found: FoundVideo, expected: Expected = REQUESTED, **limits: Any
) -> CheckResult:
    results = evaluate(expected, found, CheckThresholds(**limits))
    return next(result for result in results if result.name == name)


def named(kind: Kind) -> str:
    return kind.name


# --- real clips


@pytest.mark.parametrize("kind", DAMAGED_KINDS, ids=named)
def test_a_damaged_clip_fails_the_check_it_should_and_no_other(
    fine_clip: Callable[[str], Path], tmp_path: Path, kind: Kind
) -> None:
    damaged = kind.make(fine_clip(SCENES[0]), tmp_path)
    assert list(failures(found_in(damaged))) == [kind.fails]


@pytest.mark.parametrize("scene", SCENES)
def test_none_of_eight_clips_of_a_scene_fails_a_check(tmp_path: Path, scene: str) -> None:
    failed: list[dict[str, str]] = []
    for seed in range(8):
        size = FrameSize(320, 180) if seed % 2 else FrameSize(180, 320)
        quality = (95, 70, 45, 20)[seed // 2]
        path = rendered(scene, tmp_path / "clip.mp4", seed=seed, size=size, quality=quality)
        failed.append(failures(found_in(path), Expected(size, SECONDS, "MP4")))
    assert failed == [{}] * 8


@pytest.mark.parametrize("kind", FINE_KINDS, ids=named)
@pytest.mark.parametrize("scene", [SCENES[1], SCENES[7]])
def test_a_dark_a_quiet_and_a_slow_clip_fail_no_check(
    fine_clip: Callable[[str], Path], tmp_path: Path, kind: Kind, scene: str
) -> None:
    assert failures(found_in(kind.make(fine_clip(scene), tmp_path))) == {}


def test_a_coarse_webm_that_stands_upright_fails_no_check(tmp_path: Path) -> None:
    size = FrameSize(272, 480)
    path = rendered(SCENES[5], tmp_path / "clip.webm", size=size, quality=20)
    assert failures(found_in(path), Expected(size, SECONDS, "WEBM")) == {}


# --- what is evaluated


def test_each_check_has_a_result_in_order() -> None:
    results = evaluate(REQUESTED, FINE)
    assert [result.name for result in results] == list(CHECKS)
    assert all(result.passed and result.evaluated for result in results)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("size_matches", {"width": 478}, "The size is 478x272; 480x272 was requested."),
        ("format_matches", {"container": "mov"}, "The format is mov; mp4 was requested."),
        ("duration_matches", {"duration_seconds": 2.6}, "The duration is 2.6 s; 3 s was requested"),
        ("has_sound", {"audio_codec": None}, "no sound"),
        ("not_flagged", {"nsfw": True}, "flagged"),
        (
            "cost_within_estimate",
            {"cost_usd": 1.3},
            "The video cost 1.3000 USD; the estimate was 1.2000 USD.",
        ),
        ("decodes", {"frame_count": 0}, "no frame"),
    ],
)
def test_a_fact_that_differs_from_the_request_fails_its_check_and_shows_both(
    name: str, change: dict[str, Any], says: str
) -> None:
    failed = failures(replace(FINE, **change))
    assert list(failed) == [name]
    assert says in failed[name]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("not_black", {"black_fraction": 0.41}),
        ("not_frozen", {"frozen_fraction": 0.41, "frozen_seconds": 1.2}),
        ("not_frozen", {"frozen_fraction": 0.3, "frozen_seconds": 5.1}),
        ("not_silent", {"loudness_dbfs": -61.0}),
        ("not_silent", {"silent_fraction": 0.96}),
    ],
)
def test_a_measure_beyond_its_limit_fails_its_check_and_shows_its_figures(
    name: str, change: dict[str, float]
) -> None:
    measures = replace(MEASURES, **change)
    assert list(failures(replace(FINE, measures=measures))) == [name]
    result = result_of(name, replace(FINE, measures=measures))
    assert change.items() <= result.figures.items()


def test_a_limit_can_be_set() -> None:
    frozen = replace(FINE, measures=replace(MEASURES, frozen_fraction=0.6, frozen_seconds=2.0))
    assert not result_of("not_frozen", frozen).passed
    assert result_of("not_frozen", frozen, max_frozen_fraction=0.6).passed
    longer = replace(FINE, duration_seconds=3.5)
    assert not result_of("duration_matches", longer, duration_tolerance_seconds=0.49).passed
    assert result_of("duration_matches", longer, duration_tolerance_seconds=0.5).passed


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("max_black_fraction", 40.0),
        ("max_frozen_fraction", -0.1),
        ("max_silent_fraction", float("nan")),
        ("max_frozen_seconds", -1.0),
        ("duration_tolerance_seconds", -0.5),
        ("min_loudness_dbfs", 60.0),
    ],
)
def test_an_invalid_limit_is_refused_by_its_name(limit: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{limit} is {value}"):
        CheckThresholds(**{limit: value})


def test_what_was_not_requested_is_reported_as_not_evaluated() -> None:
    results = {result.name: result for result in evaluate(Expected(has_sound=False), FINE)}
    unevaluated = {name for name, result in results.items() if not result.evaluated}
    assert unevaluated == {
        "format_matches",
        "size_matches",
        "duration_matches",
        "has_sound",
        "cost_within_estimate",
    }
    assert not any(results[name].passed or results[name].failed for name in unevaluated)
    assert all(results[name].passed for name in results.keys() - unevaluated)
    assert results["size_matches"].description == (
        "Not evaluated: no size was requested; the size is 480x272."
    )


def test_a_video_that_was_never_measured_is_not_evaluated_by_measures() -> None:
    old = replace(FINE, measures=None, nsfw=None, cost_usd=None)
    results = evaluate(REQUESTED, old)
    assert not any(result.failed for result in results)
    assert {result.name for result in results if not result.evaluated} == {
        "not_black",
        "not_frozen",
        "not_silent",
        "not_flagged",
        "cost_within_estimate",
    }


BASIS = "the catalogue entry: 0.4 USD per second (published by https://example.com)"


def cost_of(cost_usd: float, estimate: ExpectedCost) -> CheckResult:
    expected = replace(REQUESTED, cost=estimate)
    results = evaluate(expected, replace(FINE, cost_usd=cost_usd))
    return next(result for result in results if result.name == "cost_within_estimate")


def test_a_price_that_has_drifted_is_named_with_its_source_and_what_to_do() -> None:
    estimate = ExpectedCost(1.2, model="Model (maker:model@1)", basis=BASIS, advice="Correct it.")
    result = cost_of(1.5, estimate)
    assert result.failed
    assert result.description == (
        "The video cost 1.5000 USD; the estimate was 1.2000 USD. The price of Model "
        "(maker:model@1) has changed: 1.5000 USD was billed, 0.5 USD per second, and the estimate "
        f"is from {BASIS}. Correct it."
    )
    assert result.figures["billed_usd_per_second"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("is_approximate", "cost_usd", "passes"),
    [(True, 1.4, True), (True, 1.6, False), (False, 1.21, True), (False, 1.4, False)],
)
def test_a_margin_allows_more_for_approximate_prices_only(
    is_approximate: bool, cost_usd: float, passes: bool
) -> None:
    estimate = ExpectedCost(1.5, margin_usd=0.3, is_approximate=is_approximate)
    assert cost_of(cost_usd, estimate).passed == passes


@pytest.mark.parametrize(("cost_usd", "is_noted"), [(0.7, False), (0.5, True)])
def test_a_cost_far_below_the_estimate_is_noted_and_passes(cost_usd: float, is_noted: bool) -> None:
    estimate = ExpectedCost(1.5, margin_usd=0.3, is_approximate=True, basis=BASIS)
    result = cost_of(cost_usd, estimate)
    assert result.passed
    assert ("less than half" in result.description) == is_noted
    assert (BASIS in result.description) == is_noted


def test_a_cost_without_an_estimate_passes_and_is_shown() -> None:
    result = cost_of(1.5, ExpectedCost(None, model="Model", advice="Set it."))
    assert result.passed
    assert result.description == (
        "The video cost 1.5000 USD, 0.5 USD per second. The price of Model was unknown before. "
        "Set it."
    )


def test_a_black_video_is_not_called_frozen_too() -> None:
    black = replace(MEASURES, black_fraction=1.0, frozen_fraction=1.0, frozen_seconds=3.0)
    assert list(failures(replace(FINE, measures=black))) == ["not_black"]
    assert not result_of("not_frozen", replace(FINE, measures=black)).evaluated


def test_a_video_without_sound_is_not_called_silent_too() -> None:
    mute = replace(MEASURES, loudness_dbfs=None, silent_fraction=None)
    found = replace(FINE, audio_codec=None, measures=mute)
    assert list(failures(found)) == ["has_sound"]
    assert failures(found, replace(REQUESTED, has_sound=False)) == {}


def test_a_video_that_cannot_be_decoded_fails_that_check_alone() -> None:
    results = evaluate(REQUESTED, undecodable("the file ends early"))
    assert [result.name for result in results] == list(CHECKS)
    assert [result.name for result in results if result.failed] == ["decodes"]
    assert [result.name for result in results if result.passed] == []
    assert results[0].description == "The video cannot be decoded to its end: the file ends early."
    assert results[0].severity == "error"
    assert results[1].description == "Not evaluated: the video cannot be decoded."


def test_what_the_api_reports_of_a_video_that_cannot_be_decoded_is_evaluated() -> None:
    found = undecodable("The file ends early.", nsfw=True, cost_usd=9.0)
    results = evaluate(REQUESTED, found)
    assert [result.name for result in results if result.failed] == [
        "decodes",
        "not_flagged",
        "cost_within_estimate",
    ]


def test_silence_and_a_higher_price_are_warnings_and_the_rest_are_errors() -> None:
    warnings = {result.name for result in evaluate(REQUESTED, FINE) if result.severity == "warn"}
    assert warnings == {"has_sound", "not_silent", "cost_within_estimate"}


# --- clips of several videos


def test_a_clip_of_several_videos_fails_where_one_of_them_does() -> None:
    small = replace(FINE, width=240)
    results = {result.name: result for result in evaluate_all(REQUESTED, [FINE, small, FINE])}
    assert [name for name, result in results.items() if result.failed] == ["size_matches"]
    size = results["size_matches"]
    assert size.description == "Video 2 of 3: The size is 240x272; 480x272 was requested."
    assert (size.figures["videos"], size.figures["failed_videos"]) == (3, 1)


def test_a_video_that_was_not_evaluated_is_named_beside_one_that_passed() -> None:
    unseen = replace(FINE, nsfw=None)
    flag = evaluate_all(REQUESTED, [unseen, FINE])[list(CHECKS).index("not_flagged")]
    assert (flag.passed, flag.evaluated) == (True, True)
    assert flag.description == (
        "Video 2 of 2: Runware checked the content and did not flag it. "
        "Not evaluated for video 1 of 2."
    )
    assert flag.figures["unevaluated_videos"] == 1


def test_a_failed_video_is_described_before_passed_or_unevaluated_ones() -> None:
    videos = [FINE, replace(FINE, nsfw=None), replace(FINE, nsfw=True)]
    flag = evaluate_all(REQUESTED, videos)[list(CHECKS).index("not_flagged")]
    assert flag.failed
    assert flag.description.startswith("Video 3 of 3: Runware flagged")


def test_a_check_that_was_evaluated_for_no_video_is_not_evaluated() -> None:
    unseen = replace(FINE, nsfw=None)
    flag = evaluate_all(REQUESTED, [unseen, unseen])[list(CHECKS).index("not_flagged")]
    assert (flag.passed, flag.failed, flag.evaluated) == (False, False, False)


def test_one_of_two_videos_that_cannot_be_decoded_fails_that_check_for_the_clip() -> None:
    results = {v.name: v for v in evaluate_all(REQUESTED, [FINE, undecodable("it is truncated")])}
    assert [name for name, result in results.items() if result.failed] == ["decodes"]
    assert results["decodes"].description.startswith("Video 2 of 2: The video cannot be decoded")
    assert results["not_black"].description.endswith("Not evaluated for video 2 of 2.")


def test_one_video_is_evaluated_as_it_is() -> None:
    assert evaluate_all(REQUESTED, [FINE]) == evaluate(REQUESTED, FINE)


def test_a_clip_without_videos_cannot_be_evaluated() -> None:
    with pytest.raises(ValueError, match="no video"):
        evaluate_all(REQUESTED, [])
