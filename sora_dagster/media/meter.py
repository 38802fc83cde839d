"""Measures a video's pictures and sound while it is decoded.

Pictures are measured ten times a second, made small: each of about two thousand pixels is then the
mean of a patch of the picture, in which noise of the camera or of a codec all but vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from sora_dagster.media.measures import VideoMeasures

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

_SAMPLE_SECONDS = 0.1
# A frame that is due within this time is not missed by a rounding of its time stamp.
_ROUNDING_SECONDS = 0.002
_MOST_PATCHES = 64 * 36
# In pixels; the mean of a smaller patch still moves with grain.
_SHORTEST_PATCH_SIDE = 16

# Black is a picture without one patch brighter than this (0 to 1): at night, the smallest lamp, a
# moon or a strip of sky is brighter.
BLACK_BELOW = 0.08
# The picture is compared with the one at the beginning of the stretch, so that slow movement adds
# up. It has moved where a few patches changed by two of 255 steps (a bird crosses the sky), or all
# of them by a quarter of a step on average (dusk falls). A still picture that was encoded stays
# below half of both, but for moments when the encoder begins anew, which only split a stretch.
PATCH_MOVED_ABOVE = 2 / 255
MOVED_PATCHES = 4 / _MOST_PATCHES
PICTURE_MOVED_ABOVE = 0.25 / 255
# Shorter stretches are held breath, not a frozen picture.
SHORTEST_FROZEN_SECONDS = 1.0
# RMS in dB below full scale of a tenth of a second: quiet rooms are some 20 dB louder, dither and
# noise of a codec 10 dB softer.
SILENT_BELOW_DBFS = -70.0
LOUDNESS_FLOOR_DBFS = -120.0


class Meter:
    """Sees every frame and sound of a video in order, and says what was measured."""

    def __init__(self) -> None:
        self._pictures = _PictureMeter()
        self._sound = _SoundMeter()

    def see(self, frame: VideoFrame, seconds: float) -> None:
        """Take a frame into account.

        Arguments:
            seconds: its time.
        """
        self._pictures.see(frame, seconds)

    def hear(self, frame: AudioFrame) -> None:
        """Take a piece of sound into account."""
        self._sound.hear(frame)

    def measures(self, duration_seconds: float) -> VideoMeasures:
        """What was measured.

        Arguments:
            duration_seconds: length of the video, to the end of its last frame.
        """
        pictures = self._pictures
        loudness, silent_fraction = self._sound.result()
        frozen_seconds, frozen_fraction = pictures.frozen(duration_seconds)
        return VideoMeasures(
            brightness=round(pictures.luma_sum / max(1, pictures.count), 4),
            black_fraction=round(pictures.black_count / max(1, pictures.count), 4),
            frozen_seconds=round(frozen_seconds, 3),
            frozen_fraction=round(frozen_fraction, 4),
            loudness_dbfs=loudness,
            silent_fraction=silent_fraction,
        )


class _PictureMeter:
    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._due_seconds: float | None = None
        self._first_seconds = 0.0
        self._still: npt.NDArray[np.float32] | None = None
        self._still_since = 0.0
        self._stretches: list[float] = []
        self.count = 0
        self.black_count = 0
        self.luma_sum = 0.0

    def see(self, frame: VideoFrame, seconds: float) -> None:
        if self._due_seconds is None:
            self._due_seconds = self._first_seconds = self._still_since = seconds
        if seconds < self._due_seconds - _ROUNDING_SECONDS:
            return
        # Counted from when it was due, not from when it came: otherwise frames that come at
        # other times than each tenth of a second would be measured less often.
        self._due_seconds = max(self._due_seconds + _SAMPLE_SECONDS, seconds)
        luma = self._patches(frame)
        self.count += 1
        self.luma_sum += float(luma.mean())
        self.black_count += float(luma.max()) < BLACK_BELOW
        self._compare(luma, seconds)

    def _patches(self, frame: VideoFrame) -> npt.NDArray[np.float32]:
        import numpy as np

        side = max(_SHORTEST_PATCH_SIDE, (frame.width * frame.height / _MOST_PATCHES) ** 0.5)
        small = self._reformatter.reformat(
            frame,
            width=max(1, round(frame.width / side)),
            height=max(1, round(frame.height / side)),
            # Sixteen bits, since the means are finer than the steps of the video.
            format="gray16le",
            dst_color_range="JPEG",
            interpolation="AREA",
        )
        return np.asarray(small.to_ndarray(), np.float32) / np.float32(65_535)

    def _compare(self, luma: npt.NDArray[np.float32], seconds: float) -> None:
        if self._still is not None and not _has_moved(self._still, luma):
            return
        self._end_stretch(seconds)
        self._still, self._still_since = luma, seconds

    def _end_stretch(self, seconds: float) -> None:
        if seconds - self._still_since >= SHORTEST_FROZEN_SECONDS:
            self._stretches.append(seconds - self._still_since)

    def frozen(self, duration_seconds: float) -> tuple[float, float]:
        """Longest frozen stretch in seconds, and the frozen share of the video."""
        self._end_stretch(self._first_seconds + duration_seconds)
        fraction = sum(self._stretches) / duration_seconds if duration_seconds > 0 else 0.0
        return max(self._stretches, default=0.0), min(1.0, fraction)


def _has_moved(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> bool:
    if before.shape != after.shape:
        return True
    change = abs(after - before)
    moved_patches = int((change > PATCH_MOVED_ABOVE).sum())
    return (
        moved_patches >= max(2, MOVED_PATCHES * change.size)
        or float(change.mean()) > PICTURE_MOVED_ABOVE
    )


@dataclass
class _SoundMeter:
    """Adds up energy, by pieces of a tenth of a second."""

    _sum: float = 0.0
    _squares: float = 0.0
    _samples: int = 0
    _seconds: float = 0.0
    _whole_energy: float = 0.0
    _whole_seconds: float = 0.0
    _silent_seconds: float = 0.0

    def hear(self, frame: AudioFrame) -> None:
        import numpy as np

        samples = frame.to_ndarray()
        values = samples.astype(np.float64).ravel()
        if samples.dtype.kind in "iu":
            full = 2.0 ** (samples.dtype.itemsize * 8 - 1)
            values = values / full - (1.0 if samples.dtype.kind == "u" else 0.0)
        self._sum += float(values.sum())
        self._squares += float(values @ values)
        self._samples += values.size
        self._seconds += frame.samples / frame.sample_rate
        if self._seconds >= _SAMPLE_SECONDS:
            self._end_piece()

    def _end_piece(self) -> None:
        if self._samples == 0:
            return
        mean = self._sum / self._samples
        # Without the constant part, which nobody hears.
        energy = max(0.0, self._squares / self._samples - mean * mean)
        if _decibels(energy) < SILENT_BELOW_DBFS:
            self._silent_seconds += self._seconds
        self._whole_energy += energy * self._seconds
        self._whole_seconds += self._seconds
        self._sum = self._squares = self._seconds = 0.0
        self._samples = 0

    def result(self) -> tuple[float | None, float | None]:
        """Loudness in dBFS and the silent share; None for both without sound."""
        self._end_piece()
        if self._whole_seconds == 0:
            return None, None
        loudness = _decibels(self._whole_energy / self._whole_seconds)
        return round(loudness, 2), round(self._silent_seconds / self._whole_seconds, 4)


def _decibels(energy: float) -> float:
    return max(LOUDNESS_FLOOR_DBFS, 10 * log10(energy)) if energy > 0 else LOUDNESS_FLOOR_DBFS
