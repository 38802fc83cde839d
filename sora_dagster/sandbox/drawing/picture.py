"""The moving picture of one video: its scene, or the image it starts from, and its remixes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sora_dagster.sandbox.drawing.colour import Palette
from sora_dagster.sandbox.drawing.layers import Layer, Planes, Stage
from sora_dagster.sandbox.drawing.overlays import balloons, birds
from sora_dagster.sandbox.drawing.still import MovedStill, graded, still_planes
from sora_dagster.sandbox.drawing.subjects import (
    Subject,
    overlay_of,
    palette_of,
    remix_palette_of,
    scene_of,
)

_REMIX_SHARE = 0.68


@dataclass(frozen=True)
class PictureSpec:
    """All that decides a picture.

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
    """The layers of a picture, the hindmost first; drawing them takes a few tenths of a second."""
    scene = scene_of(spec.subject)
    palette = palette_of(spec.subject, scene)
    gradings: list[Palette] = []
    for remix in spec.remixes:
        grading = remix_palette_of(remix)
        gradings.append(grading)
        palette = palette.mixed(grading, _REMIX_SHARE)
    layers: list[Layer]
    if spec.first_frame is None:
        layers = scene(stage, palette, spec.subject.random("layout"))
    else:
        planes = still_planes(spec.first_frame, stage)
        for grading in gradings:
            planes = graded(planes, grading, _REMIX_SHARE)
        layers = [MovedStill(planes, frames=frames)]
        random = spec.subject.random("layout")
        enter = birds if random.random() < 0.5 else balloons
        layers += enter(stage, palette, random, entering=True)
    for remix in spec.remixes:
        layers += overlay_of(remix)(stage, palette, remix.random("layout"))
    return layers


def paint(layers: list[Layer], planes: Planes, frame: int) -> None:
    """Paint one frame into the planes of a picture."""
    for layer in layers:
        layer.paint(planes, frame)
