from collections.abc import Callable
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from sora_dagster.media.meter import Meter, VideoMeasures

RATE = 48_000
WIDTH, HEIGHT = 640, 360

Paint = Callable[[float, npt.NDArray[Any]], None]


def measured(paint: Paint, *, seconds: float = 4.0, fps: float = 15.0) -> VideoMeasures:
    """What is measured of pictures that are painted into a grey one.

    Arguments:
        paint: is given the time in seconds and the luma, from 0 to 255.
    """
    meter = Meter()
    # Neither flat nor the same in any two places.
    texture = np.random.default_rng(2).uniform(60, 180, (HEIGHT, WIDTH))
    for index in range(round(seconds * fps)):
        luma = texture.copy()
        paint(index / fps, luma)
        pixels = np.clip(luma.round(), 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
        meter.add_frame(av.VideoFrame.from_ndarray(pixels, format="rgb24"), index / fps)
    return meter.measures(seconds)


def heard(samples: npt.NDArray[Any], sample_format: str, per_frame: int = 1_024) -> VideoMeasures:
    meter = Meter()
    for start in range(0, len(samples), per_frame):
        piece = np.ascontiguousarray(samples[None, start : start + per_frame])
        frame = av.AudioFrame.from_ndarray(piece, format=sample_format, layout="mono")
        frame.sample_rate = RATE
        meter.add_samples(frame)
    return meter.measures(0.0)


def sine(amplitude: float, seconds: float = 2.0, hertz: float = 65.0) -> npt.NDArray[np.float32]:
    times = np.arange(round(RATE * seconds)) / RATE
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def nothing(seconds: float, luma: npt.NDArray[Any]) -> None:
    """Leaves the picture as it is."""


# --- pictures


@pytest.mark.parametrize("fps", [5, 23.976, 24, 25, 30, 60])
def test_a_picture_that_stands_still_is_frozen_at_any_rate(fps: float) -> None:
    measures = measured(nothing, fps=fps, seconds=3.0)
    assert measures.frozen_seconds == pytest.approx(3.0, abs=0.01)
    assert measures.frozen_fraction == pytest.approx(1.0, abs=0.01)


def test_noise_does_not_hide_that_a_picture_stands_still() -> None:
    random = np.random.default_rng(3)

    def grain(_: float, luma: npt.NDArray[Any]) -> None:
        luma += random.normal(0, 3, luma.shape)

    assert measured(grain).frozen_fraction == 1.0


def test_a_picture_that_stops_is_frozen_from_then_on() -> None:
    def pan(seconds: float, luma: npt.NDArray[Any]) -> None:
        luma[:] = np.roll(luma, round(min(seconds, 2.5) * 100), axis=1)

    measures = measured(pan)
    assert measures.frozen_seconds == pytest.approx(1.5, abs=0.15)
    assert measures.frozen_fraction == pytest.approx(1.5 / 4, abs=0.04)


def test_two_stops_are_added_up_and_the_longer_one_is_reported() -> None:
    def pan(seconds: float, luma: npt.NDArray[Any]) -> None:
        moving = min(seconds, 1.0) + max(0.0, min(seconds, 4.0) - 2.5)
        luma[:] = np.roll(luma, round(moving * 100), axis=1)

    measures = measured(pan, seconds=6.0)
    assert measures.frozen_seconds == pytest.approx(2.0, abs=0.15)
    assert measures.frozen_fraction == pytest.approx(3.5 / 6, abs=0.05)


def test_a_stop_of_less_than_a_second_is_none() -> None:
    def pan_with_stops(seconds: float, luma: npt.NDArray[Any]) -> None:
        luma[:] = np.roll(luma, int(seconds / 0.8) * 20, axis=1)

    assert measured(pan_with_stops).frozen_seconds == 0


def test_a_small_bird_before_a_still_sky_is_movement() -> None:
    def bird(seconds: float, luma: npt.NDArray[Any]) -> None:
        place = 100 + round(seconds * 40)
        luma[50:74, place : place + 40] = 20

    assert measured(bird).frozen_seconds == 0


def test_dusk_that_falls_slowly_is_movement() -> None:
    def dusk(seconds: float, luma: npt.NDArray[Any]) -> None:
        luma *= 1 - seconds / 60

    assert measured(dusk).frozen_seconds == 0


def test_a_slow_zoom_is_movement() -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]

    def zoom(seconds: float, luma: npt.NDArray[Any]) -> None:
        scale = 1 + 0.01 * seconds
        across = (columns - WIDTH / 2) / scale
        down = (rows - HEIGHT / 2) / scale
        luma[:] = 120 + 50 * np.sin(across / 30) * np.cos(down / 25)

    assert measured(zoom).frozen_seconds == 0


def test_black_frames_are_counted_and_a_lamp_in_the_dark_is_not_black() -> None:
    def off_after_a_second(seconds: float, luma: npt.NDArray[Any]) -> None:
        if seconds >= 1:
            luma[:] = 4

    def lamp(seconds: float, luma: npt.NDArray[Any]) -> None:
        luma[:] = 4
        luma[100:120, 200:220] = 150

    assert measured(off_after_a_second).black_fraction == pytest.approx(0.75, abs=0.03)
    assert measured(lamp).black_fraction == 0


def test_pictures_of_another_size_in_between_are_movement() -> None:
    meter = Meter()
    for index in range(40):
        side = 320 if index < 20 else 480
        pixels = np.full((side, side, 3), 90, np.uint8)
        meter.add_frame(av.VideoFrame.from_ndarray(pixels, format="rgb24"), index / 10)
    assert meter.measures(4.0).frozen_seconds == pytest.approx(2.0, abs=0.01)


# --- sound


@pytest.mark.parametrize(
    ("sample_format", "steps", "offset", "kind"),
    [
        ("fltp", 1.0, 0.0, np.float32),
        ("dblp", 1.0, 0.0, np.float64),
        ("s16", 32_767, 0.0, np.int16),
        ("s32", 2_147_483_000, 0.0, np.int32),
        ("u8", 127, 128.0, np.uint8),
    ],
)
def test_loudness_is_the_same_in_each_format_of_samples(
    sample_format: str, steps: float, offset: float, kind: type
) -> None:
    samples = (sine(0.5).astype(np.float64) * steps + offset).round(0 if steps > 1 else 9)
    measures = heard(samples.astype(kind), sample_format)
    assert measures.loudness_dbfs == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=0.15)
    assert measures.silent_fraction == 0


def test_a_soft_low_note_is_not_silent() -> None:
    measures = heard(sine(10 ** (-50 / 20)), "fltp")
    assert measures.loudness_dbfs == pytest.approx(-53, abs=0.2)
    assert measures.silent_fraction == 0


def test_a_constant_level_is_silent() -> None:
    measures = heard(np.full(RATE, 0.3, np.float32), "fltp")
    assert (measures.loudness_dbfs, measures.silent_fraction) == (-120.0, 1.0)


@pytest.mark.parametrize("per_frame", [160, 1_024, 24_000])
def test_the_silent_share_is_that_of_the_time_without_sound(per_frame: int) -> None:
    samples = np.concatenate([sine(0.2, 2.0), np.zeros(RATE, np.float32)])
    measures = heard(samples, "fltp", per_frame)
    assert measures.silent_fraction == pytest.approx(1 / 3, abs=0.05)


def test_no_sound_has_neither_loudness_nor_silence() -> None:
    measures = Meter().measures(1.0)
    assert (measures.loudness_dbfs, measures.silent_fraction) == (None, None)
