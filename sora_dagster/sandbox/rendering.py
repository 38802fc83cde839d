"""Turns the description of a video into a real file of exact length: H.264 or VP9, with sound."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from sora_dagster.runware.catalogue import FrameSize, OutputFormat
from sora_dagster.sandbox.drawing.layers import Frame, Layer, Stage
from sora_dagster.sandbox.drawing.picture import PictureSpec, layers_of, paint
from sora_dagster.sandbox.input_layers import Still, still_layer, tile_layers
from sora_dagster.sandbox.sound import SAMPLE_RATE, Samples, sound_of

FRAMES_PER_SECOND = 30

_BT709 = 1
_VIDEO_RANGE = 1

# Larger pictures are composed at an integer fraction of their size, with at most this many pixels
# on the shorter side, and then scaled up: composing 1080p would take longer than encoding it.
_COMPOSED_SIDE = 540


class RenderingStoppedError(Exception):
    """The sandbox is stopping: the rendering was stopped."""


@dataclass(frozen=True)
class Container:
    """How one output format is written.

    Arguments:
        name: FFmpeg's name of the container, and the extension of the file.
        media_type: content type of the file.
        video_codec, audio_codec: FFmpeg's names of the encoders.
        options: of the container.
    """

    name: str
    media_type: str
    video_codec: str
    audio_codec: str
    options: dict[str, str]


CONTAINERS: dict[OutputFormat, Container] = {
    "MP4": Container("mp4", "video/mp4", "libx264", "aac", {"movflags": "+faststart"}),
    "MOV": Container("mov", "video/quicktime", "libx264", "aac", {"movflags": "+faststart"}),
    "WEBM": Container("webm", "video/webm", "libvpx-vp9", "libopus", {}),
}


@dataclass(frozen=True)
class VideoSpec:
    """A video to render.

    Arguments:
        picture: what it shows and how it sounds.
        size: width and height in pixels, both even.
        duration_seconds: its length.
        output_format: its container.
        output_quality: 20 to 99; higher keeps more detail in a larger file.
        frames_per_second: frames in a second.
        has_sound: whether it has an audio track.
        opening: what it shows and how it sounds first, for a video that extends another.
        opening_seconds: length of the opening.
        stills: images that it shows at their moments.
        tiles: images that it shows all the time, small, at its lower edge.
    """

    picture: PictureSpec
    size: FrameSize
    duration_seconds: float
    output_format: OutputFormat
    output_quality: int
    frames_per_second: float = FRAMES_PER_SECOND
    has_sound: bool = True
    opening: PictureSpec | None = None
    opening_seconds: float = 0.0
    stills: tuple[Still, ...] = ()
    tiles: tuple[bytes, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(round(self.duration_seconds * self.frames_per_second), 1)

    @property
    def opening_frames(self) -> int:
        """Number of frames of the opening."""
        if self.opening is None:
            return 0
        return min(round(self.opening_seconds * self.frames_per_second), self.frames)


def render(spec: VideoSpec, path: Path, *, stop: threading.Event | None = None) -> None:
    """Write a video to a file.

    Arguments:
        stop: checked before every frame; once set, the rendering ends.

    Raises:
        RenderingStoppedError: `stop` was set. The file is left unfinished.
    """
    container = CONTAINERS[spec.output_format]
    scale = math.ceil(min(spec.size) / _COMPOSED_SIDE)
    stage = Stage(
        round(spec.size.width / scale),
        round(spec.size.height / scale),
        max(round(spec.frames_per_second), 1),
    )
    layers, opening = _layers(spec, stage)
    composed = VideoFrame(stage.width, stage.height, "rgb24")
    pixels = _pixels_of(composed)
    reformatter = VideoReformatter()
    rate = Fraction(spec.frames_per_second).limit_denominator(1001)
    with av.open(str(path), "w", format=container.name, options=container.options) as output:
        video = _video_stream(output, container, spec, rate)
        audio = _audio_stream(output, container) if spec.has_sound else None
        chunks = _chunks(spec) if spec.has_sound else iter(())
        for index in range(spec.frames):
            if stop is not None and stop.is_set():
                raise RenderingStoppedError(str(path))
            if index < spec.opening_frames:
                paint(opening, pixels, index)
            else:
                paint(layers, pixels, index - spec.opening_frames)
            picture = reformatter.reformat(
                composed,
                *spec.size,
                format="yuv420p",
                dst_colorspace=_BT709,
                dst_color_range=_VIDEO_RANGE,
                interpolation="BILINEAR",
            )
            picture.pts = index
            picture.time_base = 1 / rate
            output.mux(video.encode(picture))
            if audio is not None:
                output.mux(audio.encode(next(chunks)))
        output.mux(video.encode())
        if audio is not None:
            output.mux(audio.encode())


def _layers(spec: VideoSpec, stage: Stage) -> tuple[list[Layer], list[Layer]]:
    """The layers of a video, and those of its opening."""
    frames = spec.frames - spec.opening_frames
    layers = layers_of(spec.picture, stage, frames=frames)
    layers += [
        still_layer(still, stage, frames=frames, frames_per_second=spec.frames_per_second)
        for still in spec.stills
    ]
    layers += tile_layers(spec.tiles, stage)
    if spec.opening is None:
        return layers, []
    return layers, layers_of(spec.opening, stage, frames=spec.opening_frames)


def _video_stream(
    output: av.container.OutputContainer, container: Container, spec: VideoSpec, rate: Fraction
) -> VideoStream:
    # 99 is nearly lossless to the eye, 20 is plainly coarse.
    share = (99 - spec.output_quality) / 79
    if container.video_codec == "libx264":
        options = {
            "preset": "ultrafast",
            # A fixed quantizer takes half of the time that a constant rate factor takes here.
            "qp": str(round(18 + 24 * share)),
            "x264-params": "keyint=60",
        }
    else:
        options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "crf": str(round(18 + 38 * share)),
            "b": "0",
            "g": "60",
        }
    # One thread: the sandbox shares a small machine with what is tested against it.
    options["threads"] = "1"
    stream = cast(
        VideoStream,
        output.add_stream(container.video_codec, rate=rate, options=options),
    )
    stream.width, stream.height = spec.size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    for name in ("colorspace", "color_primaries", "color_trc"):
        setattr(stream.codec_context, name, _BT709)
    stream.codec_context.color_range = _VIDEO_RANGE
    return stream


def _audio_stream(output: av.container.OutputContainer, container: Container) -> AudioStream:
    options = {"aac_coder": "fast"} if container.audio_codec == "aac" else {}
    stream = cast(
        AudioStream,
        output.add_stream(
            container.audio_codec, rate=SAMPLE_RATE, layout="stereo", options=options
        ),
    )
    stream.bit_rate = 96_000
    return stream


def _chunks(spec: VideoSpec) -> Iterator[AudioFrame]:
    """The sound of each frame."""
    sound = _sound(spec)
    edges = [
        min(round(index * SAMPLE_RATE / spec.frames_per_second), sound.shape[1])
        for index in range(spec.frames + 1)
    ]
    for start, end in pairwise(edges):
        samples = np.ascontiguousarray(sound[:, start:end])
        frame = AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = start
        frame.time_base = Fraction(1, SAMPLE_RATE)
        yield frame


def _sound(spec: VideoSpec) -> Samples:
    all_samples, opening_samples = (
        round(frames * SAMPLE_RATE / spec.frames_per_second)
        for frames in (spec.frames, spec.opening_frames)
    )
    sound = sound_of(spec.picture, samples=all_samples - opening_samples)
    if spec.opening is None:
        return sound
    return np.concatenate([sound_of(spec.opening, samples=opening_samples), sound], axis=1)


def _pixels_of(frame: VideoFrame) -> Frame:
    """The memory of an RGB frame as an array."""
    (plane,) = frame.planes
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : 3 * plane.width].reshape(plane.height, plane.width, 3)
