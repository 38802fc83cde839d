"""What can be measured in a video's pictures and sound, to tell one that is no good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoMeasures:
    """Figures of a decoded video; its pictures are measured ten times a second.

    Arguments:
        brightness: mean luma of its pictures, 0 (black) to 1 (white).
        black_fraction: share of the pictures that are as good as black, 0 to 1.
        frozen_seconds: longest stretch in which the picture does not change, in seconds; less
            than a second counts as none.
        frozen_fraction: share of the video that such stretches take, 0 to 1.
        loudness_dbfs: RMS level of the sound in dB below full scale (0 is the loudest; digital
            silence is floored at -120); None where there is no sound.
        silent_fraction: share of the sound that is as good as silent, 0 to 1; None without sound.
    """

    brightness: float
    black_fraction: float
    frozen_seconds: float
    frozen_fraction: float
    loudness_dbfs: float | None
    silent_fraction: float | None
