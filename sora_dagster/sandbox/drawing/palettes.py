"""The palettes that clips are painted in."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import ImageColor

from sora_dagster.sandbox.drawing.layers import Colour, mix


def rgb(code: str) -> Colour:
    """The colour of a code such as ``#ffb347``."""
    return np.array(ImageColor.getrgb(code), np.float32)


def turned(colour: Colour, degrees: float, *, saturation: float = 1.0) -> Colour:
    """The colour at another place of the colour wheel, about as bright as before."""
    angle = math.radians(degrees)
    # A rotation around the axis of greys.
    grey = colour.mean()
    across = np.cross(np.full(3, 3**-0.5), colour - grey)
    rotated = (colour - grey) * math.cos(angle) + across * math.sin(angle)
    moved: Colour = np.clip(grey + saturation * rotated, 0, 255).astype(np.float32)
    return moved


class Palette(NamedTuple):
    """The colours of one clip.

    Arguments:
        zenith: the top of the sky.
        middle: half-way down.
        horizon: where sky and ground meet; the brightest of the three.
        light: sun, moon, windows, sparks.
        far: shapes in the distance.
        near: shapes close to the camera; the darkest.
    """

    zenith: Colour
    middle: Colour
    horizon: Colour
    light: Colour
    far: Colour
    near: Colour

    def turned(self, degrees: float) -> Palette:
        """The palette with every colour moved on the colour wheel."""
        return Palette(*(turned(colour, degrees) for colour in self))

    def mixed(self, other: Palette, share: float) -> Palette:
        """The palette with a share (0 to 1) of another."""
        return Palette(*(mix(a, b, share) for a, b in zip(self, other, strict=True)))

    def depth(self, share: float) -> Colour:
        """The colour of a shape at a depth: 0 is far, 1 is near."""
        return mix(self.far, self.near, share)


PALETTES = {
    name: Palette(*map(rgb, codes.split()))
    for name, codes in {
        "dawn": "#2f3468 #b9637f #ffd8a8 #fff3d6 #9a5f7d #1f1838",
        "sunset": "#43204f #d4504f #ffb64d #fff0c2 #a8434a #1f0f26",
        "noon": "#2f74cf #86c5f0 #e3f4fb #fffbe6 #7fa9b8 #17443f",
        "night": "#060b26 #16305f #4a70ad #f4f1d8 #2b4677 #03060f",
        "emerald": "#0c4540 #34a58d #dff5c8 #fdffe2 #4c9a83 #06251f",
        "autumn": "#6a3320 #d98131 #ffe3a8 #fff6dc #b06a35 #2b130c",
        "lilac": "#43307a #9d80d4 #f3dcf0 #fff5fb #8d74b8 #1d1338",
        "arctic": "#1f4f7d #79b3d8 #eef9fd #ffffff #86b3cc #12324f",
        "rose": "#84264a #f27a93 #ffe4d9 #fff6ee #c4617c #3a0d22",
        "neon": "#0b0f36 #4a1ba6 #ff5aa8 #8ff6ff #5a2391 #070418",
        "desert": "#4f97bf #e9d3a6 #ffc98a #fff4d8 #d08a5a #6b3018",
        "storm": "#1e2a37 #4d687b #b6cbd1 #eaf6fb #5d7787 #0e161d",
        "lagoon": "#04384f #0f8aa0 #9fe8d8 #f2fff4 #1f8a97 #032530",
    }.items()
}
