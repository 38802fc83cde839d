"""The moving picture of one video: its scene, or the image that it starts from, and its remixes."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sora_dagster.sandbox.drawing.layers import Floats, Frame, Layer, Stage, as_bytes, mix
from sora_dagster.sandbox.drawing.overlays import balloons, birds
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
    random = spec.subject.random("layout")
    if spec.first_frame is None:
        layers = scene(stage, palette, random)
    else:
        still = _decoded(spec.first_frame, stage)
        for grading in gradings:
            still = _graded(still, grading)
        enter = birds if random.random() < 0.5 else balloons
        layers = [_ZoomedStill(still, frames), *enter(stage, palette, random, entering=True)]
    for remix in spec.remixes:
        layers += overlay_of(remix)(stage, palette, remix.random("layout"))
    return layers


def paint(layers: list[Layer], frame: Frame, index: int) -> None:
    """Paint the frame with this index."""
    for layer in layers:
        layer.paint(frame, index)


def _decoded(encoded: bytes, stage: Stage) -> Floats:
    with Image.open(io.BytesIO(encoded)) as image:
        scaled = image.convert("RGB").resize((stage.width, stage.height), Image.Resampling.LANCZOS)
    return np.asarray(scaled, np.float32)


def _graded(picture: Floats, palette: Palette) -> Floats:
    """The picture with its colours moved towards a palette's of the same brightness."""
    stops = sorted(palette, key=lambda colour: float(colour.mean()))
    brightness = picture.mean(axis=2)
    places = [float(stop.mean()) for stop in stops]
    colours = [np.interp(brightness, places, values) for values in np.transpose(stops)]
    return mix(picture, np.stack(colours, axis=-1).astype(np.float32), _REMIX_SHARE)


class _ZoomedStill:
    """An image that fills the frame at first; the camera moves slowly towards it."""

    def __init__(self, picture: Floats, frames: int) -> None:
        self._still = self._shown = Image.fromarray(as_bytes(picture))
        self._frames = max(frames, 240)
        self._step = 0

    def paint(self, frame: Frame, index: int) -> None:
        step = index // _FRAMES_PER_ZOOM_STEP
        if step != self._step:
            share = _ZOOM / 2 * step * _FRAMES_PER_ZOOM_STEP / self._frames
            width, height = self._still.size
            # The middle moves a little too, or the zoom would look like a lens, not a camera.
            box = (width * share * 1.3, height * share, width * (1 - share * 0.7))
            self._shown = self._still.resize(
                self._still.size, Image.Resampling.BILINEAR, (*box, height * (1 - share))
            )
            self._step = step
        np.copyto(frame, np.asarray(self._shown))
