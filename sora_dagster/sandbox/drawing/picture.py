"""The moving picture of one video: its scene, or the image that it starts from, and its remixes."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sora_dagster.sandbox.drawing.elements import coloured
from sora_dagster.sandbox.drawing.layers import Floats, Frame, Layer, Stage, as_bytes, mix
from sora_dagster.sandbox.drawing.palettes import Palette
from sora_dagster.sandbox.drawing.subjects import (
    Subject,
    overlay_of,
    palette_of,
    remix_palette_of,
    scene_of,
)

_REMIX_SHARE = 0.68
_ZOOM = 0.14
# The zoom moves the edge of the picture by a third of a pixel per frame.
_FRAMES_PER_ZOOM_STEP = 3


@dataclass(frozen=True)
class PictureSpec:
    """Everything that decides a picture.

    Arguments:
        subject: prompt and seed of the first video in the chain of remixes.
        first_frame: the encoded image (PNG, JPEG, WEBP) that the video starts from.
        remixes: prompts and seeds of the remixes, the oldest first.
    """

    subject: Subject
    first_frame: bytes | None = None
    remixes: tuple[Subject, ...] = ()

    def remixed(self, subject: Subject) -> PictureSpec:
        """The picture of a remix of this one."""
        return replace(self, remixes=(*self.remixes, subject))


def layers_of(spec: PictureSpec, stage: Stage, *, frames: int) -> list[Layer]:
    """The layers of a picture, the hindmost first. Drawing them takes about 0.1 seconds."""
    scene = scene_of(spec.subject)
    palette = palette_of(spec.subject, scene)
    gradings = [remix_palette_of(remix) for remix in spec.remixes]
    for grading in gradings:
        palette = palette.mixed(grading, _REMIX_SHARE)
    if spec.first_frame is None:
        layers = scene(stage, palette, spec.subject.random("layout"))
    else:
        still = _decoded(spec.first_frame, stage)
        for grading in gradings:
            still = _graded(still, grading)
        layers = [_zoomed(still, frames)]
    for remix in spec.remixes:
        layers += overlay_of(remix)(stage, palette, remix.random("layout"))
    return layers


def paint(layers: list[Layer], frame: Frame, index: int) -> None:
    """Paint the frame with this index."""
    for layer in layers:
        layer(frame, index)


def _decoded(encoded: bytes, stage: Stage) -> Floats:
    with Image.open(io.BytesIO(encoded)) as image:
        scaled = image.convert("RGB").resize((stage.width, stage.height), Image.Resampling.LANCZOS)
    return np.asarray(scaled, np.float32)


def _graded(picture: Floats, palette: Palette) -> Floats:
    """The picture with its colours moved towards a palette's of the same brightness."""
    stops = sorted(((float(colour.mean()), colour) for colour in palette), key=lambda stop: stop[0])
    return mix(picture, coloured(picture.mean(axis=2), stops), _REMIX_SHARE)


def _zoomed(picture: Floats, frames: int) -> Layer:
    """An image that fills the frame at first; the camera moves slowly towards it."""
    still = Image.fromarray(as_bytes(picture))
    width, height = still.size

    @functools.lru_cache(maxsize=1)
    def shown(step: int) -> Frame:
        share = _ZOOM / 2 * step * _FRAMES_PER_ZOOM_STEP / max(frames, 240)
        # The middle moves a little too, or the zoom would look like a lens, not a camera.
        box = (width * share * 1.3, height * share, width * (1 - share * 0.7), height * (1 - share))
        return np.asarray(still.resize(still.size, Image.Resampling.BILINEAR, box))

    return lambda frame, index: np.copyto(frame, shown(index // _FRAMES_PER_ZOOM_STEP))
