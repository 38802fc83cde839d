"""Colours as the encoder wants them, and the palettes that clips are painted in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple


class Colour(NamedTuple):
    """A colour in BT.709 video range: luma 16 to 235, chroma 16 to 240 around 128."""

    luma: float
    blue: float
    red: float

    @classmethod
    def from_hex(cls, code: str) -> Colour:
        """The colour of an sRGB code such as ``#ffb347``."""
        r, g, b = (int(code[index : index + 2], 16) / 255 for index in (1, 3, 5))
        brightness = 0.2126 * r + 0.7152 * g + 0.0722 * b
        return cls(
            luma=16 + 219 * brightness,
            blue=128 + 224 * (b - brightness) / 1.8556,
            red=128 + 224 * (r - brightness) / 1.5748,
        )

    def mixed(self, other: Colour, share: float) -> Colour:
        """This colour with a share (0 to 1) of another."""
        return Colour(*(a + (b - a) * share for a, b in zip(self, other, strict=True)))

    def turned(self, degrees: float, *, saturation: float = 1.0) -> Colour:
        """This colour at another place of the colour wheel."""
        cosine = math.cos(math.radians(degrees)) * saturation
        sine = math.sin(math.radians(degrees)) * saturation
        blue, red = self.blue - 128, self.red - 128
        return Colour(self.luma, 128 + cosine * blue - sine * red, 128 + sine * blue + cosine * red)

    def lighter(self, amount: float) -> Colour:
        """This colour with its luma moved by an amount, kept in range."""
        return self._replace(luma=min(235.0, max(16.0, self.luma + amount)))


@dataclass(frozen=True)
class Palette:
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
        return replace(
            self,
            **{name: getattr(self, name).turned(degrees) for name in self.__dataclass_fields__},
        )

    def mixed(self, other: Palette, share: float) -> Palette:
        """This palette with a share (0 to 1) of another."""
        return replace(
            self,
            **{
                name: getattr(self, name).mixed(getattr(other, name), share)
                for name in self.__dataclass_fields__
            },
        )

    def depth(self, share: float) -> Colour:
        """The colour of a shape at a depth: 0 is far, 1 is near."""
        return self.far.mixed(self.near, share)


def _palette(*codes: str) -> Palette:
    return Palette(*(Colour.from_hex(code) for code in codes))


PALETTES = {
    "dawn": _palette("#2f3468", "#b9637f", "#ffd8a8", "#fff3d6", "#9a5f7d", "#1f1838"),
    "sunset": _palette("#43204f", "#d4504f", "#ffb64d", "#fff0c2", "#a8434a", "#1f0f26"),
    "noon": _palette("#2f74cf", "#86c5f0", "#e3f4fb", "#fffbe6", "#7fa9b8", "#17443f"),
    "night": _palette("#060b26", "#16305f", "#4a70ad", "#f4f1d8", "#2b4677", "#03060f"),
    "emerald": _palette("#0c4540", "#34a58d", "#dff5c8", "#fdffe2", "#4c9a83", "#06251f"),
    "autumn": _palette("#6a3320", "#d98131", "#ffe3a8", "#fff6dc", "#b06a35", "#2b130c"),
    "lilac": _palette("#43307a", "#9d80d4", "#f3dcf0", "#fff5fb", "#8d74b8", "#1d1338"),
    "arctic": _palette("#1f4f7d", "#79b3d8", "#eef9fd", "#ffffff", "#86b3cc", "#12324f"),
    "rose": _palette("#84264a", "#f27a93", "#ffe4d9", "#fff6ee", "#c4617c", "#3a0d22"),
    "neon": _palette("#0b0f36", "#4a1ba6", "#ff5aa8", "#8ff6ff", "#5a2391", "#070418"),
    "desert": _palette("#4f97bf", "#e9d3a6", "#ffc98a", "#fff4d8", "#d08a5a", "#6b3018"),
    "storm": _palette("#1e2a37", "#4d687b", "#b6cbd1", "#eaf6fb", "#5d7787", "#0e161d"),
    "lagoon": _palette("#04384f", "#0f8aa0", "#9fe8d8", "#f2fff4", "#1f8a97", "#032530"),
}
