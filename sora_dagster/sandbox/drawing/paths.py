"""Paths of the small pictures that move over a scene: where their middle is at a frame."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cruise:
    """A straight path that comes in again on the other side, with a slow heave.

    Arguments:
        x, y: where it begins, in pixels.
        x_per_frame: pixels a frame.
        span: width in pixels after which the path begins anew.
        heave: amplitude of the heave in pixels.
        heave_frames: frames of one heave.
    """

    x: float
    y: float
    x_per_frame: float
    span: float
    heave: float = 0.0
    heave_frames: float = 90.0

    def __call__(self, frame: int) -> tuple[float, float]:
        """The middle at a frame."""
        margin = self.span * 0.15
        x = (self.x + margin + self.x_per_frame * frame) % (self.span + 2 * margin) - margin
        return x, self.y + self.heave * math.sin(2 * math.pi * frame / self.heave_frames)


@dataclass(frozen=True)
class Orbit:
    """A path around a middle, in pixels; `frames` of one turn, `phase` in turns."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    frames: float
    phase: float = 0.0

    def __call__(self, frame: int) -> tuple[float, float]:
        """The place at a frame."""
        angle = 2 * math.pi * (frame / self.frames + self.phase)
        return (
            self.x + self.radius_x * math.cos(angle),
            self.y + self.radius_y * math.sin(angle),
        )


@dataclass(frozen=True)
class Crossing:
    """A straight path that begins outside of the frame and does not come back.

    Arguments:
        x, y: where it begins, in pixels.
        x_per_frame, y_per_frame: pixels a frame.
    """

    x: float
    y: float
    x_per_frame: float
    y_per_frame: float = 0.0

    def __call__(self, frame: int) -> tuple[float, float]:
        """The place at a frame."""
        return self.x + self.x_per_frame * frame, self.y + self.y_per_frame * frame


@dataclass(frozen=True)
class Tumble:
    """A path downwards and sideways that staggers, and comes in again above and on the left.

    Arguments:
        x, y: where it begins, in pixels.
        x_per_frame, y_per_frame: pixels a frame.
        width, height: size of the frame.
    """

    x: float
    y: float
    x_per_frame: float
    y_per_frame: float
    width: int
    height: int

    def __call__(self, frame: int) -> tuple[float, float]:
        """The place at a frame."""
        margin = 0.05 * self.height
        x = self.x + self.x_per_frame * frame + margin * math.sin(frame / 17 + self.x)
        return (
            (x + margin) % (self.width + 2 * margin) - margin,
            (self.y + self.y_per_frame * frame + margin) % (self.height + 2 * margin) - margin,
        )
