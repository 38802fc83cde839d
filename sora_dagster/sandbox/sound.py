"""The sound of a clip: a soft chord with breath around it, decided by the clip's subject."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject

SAMPLE_RATE = 48_000

Samples = npt.NDArray[np.float32]

# Intervals in semitones above the root.
_CHORDS = ((0, 7, 12, 16), (0, 7, 15, 19), (0, 5, 12, 17), (0, 7, 14, 16), (0, 9, 12, 16))
_LOUDNESS = 0.16


def sound_of(spec: PictureSpec, *, samples: int) -> Samples:
    """The sound of a video: two channels of samples between -1 and 1.

    A remix keeps its parent's chord and adds notes of its own.
    """
    random = spec.subject.random("sound")
    root = 55.0 * 2 ** (int(random.integers(0, 12)) / 12)
    chord = _CHORDS[int(random.integers(len(_CHORDS)))]
    seconds = np.arange(samples, dtype=np.float32) / np.float32(SAMPLE_RATE)
    sound = np.zeros((2, samples), np.float32)
    for interval in chord:
        frequency = 2 * root * 2 ** (interval / 12)
        swell = 0.7 + 0.3 * np.sin(
            seconds * np.float32(2 * math.pi * random.uniform(0.08, 0.25))
            + np.float32(random.uniform(0, 6))
        )
        tone = _sine(seconds, frequency) * swell / len(chord)
        # A little out of tune against the other side, which makes the chord wide.
        wide = _sine(seconds, frequency * 1.003) * swell / len(chord)
        sound += np.stack([tone, wide])
    sound += 0.5 * _breath(random, samples)
    for remix in spec.remixes:
        sound += _plucks(remix, root=root, chord=chord, samples=samples)
    return sound * _faded(samples) * np.float32(_LOUDNESS)


def _sine(seconds: Samples, frequency: float) -> Samples:
    # Whole turns are taken off in double precision: single would rasp after a few seconds.
    turns = seconds.astype(np.float64) * frequency
    wave: Samples = np.sin((turns - np.floor(turns)).astype(np.float32) * np.float32(2 * math.pi))
    return wave


def _breath(random: np.random.Generator, samples: int) -> Samples:
    """Soft noise that comes and goes like wind or surf."""
    noise = random.standard_normal(samples // 4 + 64).astype(np.float32)
    total = np.cumsum(noise, dtype=np.float64)
    smooth = ((total[24:] - total[:-24]) / 24).astype(np.float32)
    places = np.arange(samples, dtype=np.float32) / 4
    wave = np.interp(places, np.arange(len(smooth)), smooth).astype(np.float32)
    period = SAMPLE_RATE * random.uniform(3.5, 7)
    tide = 0.55 - 0.45 * np.cos(np.arange(samples) * (2 * math.pi / period))
    left = wave * tide.astype(np.float32)
    return np.stack([left, np.roll(left, SAMPLE_RATE // 40)])


def _plucks(subject: Subject, *, root: float, chord: tuple[int, ...], samples: int) -> Samples:
    random = subject.random("sound")
    sound = np.zeros((2, samples), np.float32)
    step = int(SAMPLE_RATE * random.uniform(0.28, 0.6))
    length = SAMPLE_RATE
    seconds = np.arange(length, dtype=np.float32) / np.float32(SAMPLE_RATE)
    octave = int(random.choice([8, 16]))
    notes = [
        _sine(seconds, octave * root * 2 ** (interval / 12)) * np.exp(-6 * seconds)
        for interval in chord
    ]
    for start in range(0, samples, step):
        if random.random() < 0.35:
            continue
        note = notes[int(random.integers(len(notes)))][: samples - start]
        side = random.uniform(0.3, 0.7)
        sound[0, start : start + length] += note * np.float32(0.5 * side)
        sound[1, start : start + length] += note * np.float32(0.5 * (1 - side))
    return sound


def _faded(samples: int) -> Samples:
    """Silence at both ends, rising and falling within a quarter of a second."""
    edge = min(samples // 2, SAMPLE_RATE // 4)
    volume = np.ones(samples, np.float32)
    rise = np.linspace(0, 1, edge, dtype=np.float32)
    volume[:edge] = rise
    volume[samples - edge :] = rise[::-1]
    return volume
