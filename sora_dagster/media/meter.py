"""Measures a video's pictures and sound while it is decoded.

Pictures are measured ten times a second, scaled down to about two thousand pixels: each is the mean
of a patch of the picture, in which the noise of a camera or codec almost disappears.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

_SAMPLE_SECONDS = 0.1
# Rounding of a time stamp, so that a frame that is due is not missed.
_ROUNDING_SECONDS = 0.002
_MOST_PATCHES = 64 * 36
# In pixels; the mean of a smaller patch still moves with grain.
_SHORTEST_PATCH_SIDE = 16

# A picture is black if no patch is brighter than this (0 to 1). At night, the smallest lamp, a moon
# or a strip of sky is brighter.
BLACK_BELOW = 0.08
# A picture is compared with the first one of the stretch, so that slow movement adds up. It has
# moved if a few patches changed by two of 255 steps (a bird crosses the sky), or all of them by a
# quarter of a step on average (dusk falls). An encoded still picture stays below half of both,
# except at keyframes, which only split a stretch.
PATCH_MOVED_ABOVE = 2 / 255
MOVED_PATCHES = 4 / _MOST_PATCHES
PICTURE_MOVED_ABOVE = 0.25 / 255
# Shorter stretches are a pause, not a frozen picture.
SHORTEST_FROZEN_SECONDS = 1.0
# RMS of a tenth of a second. Quiet rooms are 20 dB louder, dither and codec noise 10 dB softer.
SILENT_BELOW_DBFS = -70.0
LOUDNESS_FLOOR_DBFS = -120.0


@dataclass(frozen=True)
class VideoMeasures:
    """Measurements of a decoded video; its pictures are measured ten times a second.

    Arguments:
        brightness: mean luma of the pictures, 0 (black) to 1 (white).
        black_fraction: share of the pictures that are practically black, 0 to 1.
        frozen_seconds: longest stretch in which the picture does not change, in seconds; less
            than a second counts as none.
        frozen_fraction: share of the video that such stretches take, 0 to 1.
        loudness_dbfs: RMS level of the sound in dB below full scale (0 is the loudest; digital
            silence is -120); None without sound.
        silent_fraction: share of the sound that is practically silent, 0 to 1; None without sound.
    """

    brightness: float
    black_fraction: float
    frozen_seconds: float
    frozen_fraction: float
    loudness_dbfs: float | None
    silent_fraction: float | None


class Meter:
    """Measures a video whose frames are added in order."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._sound = _SoundMeter()
        self._reformatter = VideoReformatter()
        self._due_seconds: float | None = None
        self._first_seconds = 0.0
        self._still: npt.NDArray[np.float32] | None = None
        self._still_since = 0.0
        self._stretches: list[float] = []
        self._count = 0
        self._black_count = 0
        self._luma_sum = 0.0

    def add_frame(self, frame: VideoFrame, seconds: float) -> None:
        """Add a video frame that starts at a time in seconds."""
        if self._due_seconds is None:
            self._due_seconds = self._first_seconds = self._still_since = seconds
        if seconds < self._due_seconds - _ROUNDING_SECONDS:
            return
        # Counted from when it was due, not from when it came: otherwise other frame rates than
        # multiples of ten would be measured less often.
        self._due_seconds = max(self._due_seconds + _SAMPLE_SECONDS, seconds)
        luma = self._patches(frame)
        self._count += 1
        self._luma_sum += float(luma.mean())
        self._black_count += float(luma.max()) < BLACK_BELOW
        self._compare(luma, seconds)

    def add_samples(self, frame: AudioFrame) -> None:
        """Add a frame of audio samples."""
        self._sound.add(frame)

    def measures(self, duration_seconds: float) -> VideoMeasures:
        """Measurements of a video of this length, to the end of its last frame."""
        loudness, silent_fraction = self._sound.result()
        self._end_stretch(self._first_seconds + duration_seconds)
        frozen = sum(self._stretches) / duration_seconds if duration_seconds > 0 else 0.0
        return VideoMeasures(
            brightness=round(self._luma_sum / max(1, self._count), 4),
            black_fraction=round(self._black_count / max(1, self._count), 4),
            frozen_seconds=round(max(self._stretches, default=0.0), 3),
            frozen_fraction=round(min(1.0, frozen), 4),
            loudness_dbfs=loudness,
            silent_fraction=silent_fraction,
        )

    def _patches(self, frame: VideoFrame) -> npt.NDArray[np.float32]:
        import numpy as np

        side = max(_SHORTEST_PATCH_SIDE, (frame.width * frame.height / _MOST_PATCHES) ** 0.5)
        small = self._reformatter.reformat(
            frame,
            width=max(1, round(frame.width / side)),
            height=max(1, round(frame.height / side)),
            # Sixteen bits: means are finer than the 255 steps of the video.
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
    """Sums up the energy of the sound, a tenth of a second at a time."""

    _sum: float = 0.0
    _squares: float = 0.0
    _samples: int = 0
    _seconds: float = 0.0
    _whole_energy: float = 0.0
    _whole_seconds: float = 0.0
    _silent_seconds: float = 0.0

    def add(self, frame: AudioFrame) -> None:
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
        # Without the constant part, which is inaudible.
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
