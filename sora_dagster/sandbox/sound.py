"""The sound of a clip: a soft chord with wind around it, decided by the clip's subject."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sora_dagster.sandbox.drawing.picture import PictureSpec

SAMPLE_RATE = 48_000

Samples = npt.NDArray[np.float32]

# Intervals in semitones above the root.
_CHORDS = ((0, 7, 12, 16), (0, 7, 15, 19), (0, 5, 12, 17), (0, 7, 14, 16), (0, 9, 12, 16))
_LOUDNESS = 0.16
_FADE_SAMPLES = SAMPLE_RATE // 4


def sound_of(spec: PictureSpec, *, samples: int) -> Samples:
    """The sound of a video: two channels of samples between -1 and 1.

    A remix keeps its parent's chord and adds its own notes.
    """
    random = spec.subject.random("sound")
    root = 110.0 * 2 ** (int(random.integers(0, 12)) / 12)
    notes = [root * 2 ** (interval / 12) for interval in random.choice(_CHORDS)]
    seconds = np.arange(samples) / SAMPLE_RATE
    # The sides are a little out of tune with each other, which makes the chord wide.
    sides = [
        sum(_sine(seconds, note * detune) for note in notes) / len(notes) for detune in (1.0, 1.003)
    ]
    sound = np.stack(sides) * (0.8 + 0.2 * _sine(seconds, random.uniform(0.08, 0.25)))
    # Soft noise that comes and goes.
    noise = np.convolve(random.standard_normal(samples // 4 + 24), np.full(24, 1 / 24), "valid")
    tide = 0.55 - 0.45 * np.cos(seconds * (2 * math.pi / random.uniform(3.5, 7)))
    sound += 0.5 * tide * np.interp(np.arange(samples) / 4, np.arange(len(noise)), noise)
    for remix in spec.remixes:
        random = remix.random("sound")
        step = int(SAMPLE_RATE * random.uniform(0.28, 0.6))
        for start in range(0, samples, step):
            ringing = seconds[: min(SAMPLE_RATE, samples - start)]
            pluck = _sine(ringing, 4 * random.choice(notes)) * np.exp(-6 * ringing)
            side = random.uniform(0.3, 0.7)
            sound[:, start : start + len(ringing)] += 0.4 * np.outer([side, 1 - side], pluck)
    edge = min(samples // 2, _FADE_SAMPLES)
    place = np.arange(samples)
    fade = np.clip(np.minimum(place, samples - 1 - place) / max(edge, 1), 0, 1)
    faded: Samples = (sound * fade * _LOUDNESS).astype(np.float32)
    return faded


def _sine(seconds: npt.NDArray[np.float64], frequency: float) -> npt.NDArray[np.float64]:
    wave: npt.NDArray[np.float64] = np.sin(seconds * (2 * math.pi * frequency))
    return wave
