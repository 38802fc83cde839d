"""Makes damaged clips from good ones, as a poor model or a broken encoder would deliver them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sora_dagster.media import MediaError, analyze, analyze_damaged
from sora_dagster.media.checks import FoundVideo

# The planes of a yuv420p picture below each other, as PyAV gives them.
Picture = npt.NDArray[np.uint8]
# Channels by samples, between -1 and 1.
Sound = npt.NDArray[np.float32]

CODECS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
}
_SAMPLE_RATE = 48_000


@dataclass(frozen=True)
class Moment:
    """Where a frame is.

    Arguments:
        index: its number, from 0 on.
        count: how many frames the fine clip has.
        first: the clip's first frame.
        previous: what the frame before it was made into.
        slowed: what a quarter of the speed would show then.
    """

    index: int
    count: int
    first: Picture
    previous: Picture
    slowed: Picture


ChangePicture = Callable[[Picture, Moment], Picture]
ChangeSound = Callable[[Sound], Sound]


def as_it_was(picture: Picture, _: Moment) -> Picture:
    return picture


def black(picture: Picture, _: Moment) -> Picture:
    lumas = picture.shape[0] * 2 // 3
    dark: Picture = np.full_like(picture, 128)
    dark[:lumas] = 16
    return dark


def black_with_noise(picture: Picture, moment: Moment) -> Picture:
    """As black as a camera with its cap on."""
    dark = black(picture, moment)
    lumas = picture.shape[0] * 2 // 3
    noise = _noise(dark[:lumas].shape, moment) * 3 + 3
    dark[:lumas] = np.clip(16 + noise, 16, 255).astype(np.uint8)
    return dark


def frozen(_: Picture, moment: Moment) -> Picture:
    return moment.first


def frozen_with_grain(_: Picture, moment: Moment) -> Picture:
    noise = _noise(moment.first.shape, moment) * 2
    grainy: Picture = np.clip(moment.first + noise, 16, 235).astype(np.uint8)
    return grainy


def _noise(shape: tuple[int, ...], moment: Moment) -> npt.NDArray[np.float32]:
    """Another one for each frame, of a deviation of 1."""
    random = np.random.default_rng(moment.index)
    # One row repeated: drawing all of it would take most of the time.
    row = random.standard_normal(50_021, np.float32)
    return np.resize(row, shape)


def frozen_from_its_middle_on(picture: Picture, moment: Moment) -> Picture:
    return picture if moment.index < moment.count // 2 else moment.previous


def at_night(picture: Picture, _: Moment) -> Picture:
    """A quarter as bright."""
    return _darkened(picture, 0.25)


def at_a_quarter_of_the_speed(_: Picture, moment: Moment) -> Picture:
    return moment.slowed


def moving_in_one_place_only(picture: Picture, moment: Moment) -> Picture:
    """As a camera on a tripod sees it: all but a tenth of the picture's width stands still."""
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    # Where most goes on.
    change = np.abs(picture[:height:4, ::4].astype(np.int16) - moment.first[:height:4, ::4])
    side = width // 10
    cell = side // 4
    rows, columns = change.shape[0] // cell, change.shape[1] // cell
    cells = change[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
    sums = cells.sum(axis=(1, 3), dtype=int)
    row, column = (int(place) * 4 * cell for place in np.unravel_index(sums.argmax(), sums.shape))
    mixed = moment.first.copy()
    mixed[row : row + side, column : column + side] = picture[
        row : row + side, column : column + side
    ]
    return mixed


def fading_in_and_out(picture: Picture, moment: Moment) -> Picture:
    """From black and to black, in an eighth of its length each."""
    share = 8 * min(moment.index, moment.count - 1 - moment.index) / moment.count
    return _darkened(picture, min(1.0, share))


def _darkened(picture: Picture, share: float) -> Picture:
    lumas = picture.shape[0] * 2 // 3
    dark = picture.astype(np.float32)
    dark[:lumas] = 16 + (dark[:lumas] - 16) * share
    dark[lumas:] = 128 + (dark[lumas:] - 128) * share
    return np.clip(dark.round(), 0, 255).astype(np.uint8)


def quiet(sound: Sound) -> Sound:
    """20 dB softer: a low line in a dry room."""
    return sound * np.float32(10 ** (-20 / 20))


def silence(sound: Sound) -> Sound:
    return np.zeros_like(sound)


def noise_at_80_db(sound: Sound) -> Sound:
    noise = np.random.default_rng(5).normal(0, 10 ** (-80 / 20), sound.shape)
    return noise.astype(np.float32)


def made_from(
    source: Path,
    target: Path,
    *,
    picture: ChangePicture = as_it_was,
    sound: ChangeSound | None = lambda sound: sound,
    size: tuple[int, int] | None = None,
    kept: float = 1.0,
    coarseness: int = 28,
) -> Path:
    """Encode a clip again, with one change.

    Arguments:
        source: a whole clip.
        target: where it is written; its suffix names the container.
        picture: what each frame becomes.
        sound: what the sound becomes; None for a clip without any.
        size: width and height, as they were by default.
        kept: which share of it is kept, from its beginning.
        coarseness: constant rate factor of the encoder; 28 shows a little.
    """
    pictures, sounds, fps = _decoded(source, size)
    video_codec, audio_codec = CODECS[target.suffix.removeprefix(".")]
    options = {"crf": str(coarseness), "threads": "2"}
    if video_codec == "libx264":
        options["preset"] = "veryfast"
    else:
        options |= {"deadline": "realtime", "cpu-used": "8", "b": "0"}
    with av.open(str(target), "w") as output:
        video = cast(VideoStream, output.add_stream(video_codec, rate=fps, options=options))
        video.height, video.width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
        video.pix_fmt = "yuv420p"
        audio = None
        if sound is not None:
            audio = cast(AudioStream, output.add_stream(audio_codec, _SAMPLE_RATE, layout="stereo"))
        previous = pictures[0]
        for index in range(max(1, round(len(pictures) * kept))):
            moment = Moment(index, len(pictures), pictures[0], previous, pictures[index // 4])
            previous = picture(pictures[index], moment)
            frame = VideoFrame.from_ndarray(previous, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None and sound is not None:
            samples = sound(sounds)
            samples = samples[:, : round(samples.shape[1] * kept)]
            piece = AudioFrame.from_ndarray(
                np.ascontiguousarray(samples), format="fltp", layout="stereo"
            )
            piece.sample_rate, piece.pts = _SAMPLE_RATE, 0
            piece.time_base = Fraction(1, _SAMPLE_RATE)
            output.mux(audio.encode(piece))
            output.mux(audio.encode(None))
    return target


def cut_short(source: Path, target: Path, kept: float = 0.7) -> Path:
    """Keep only a file's first bytes."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * kept)])
    return target


@dataclass(frozen=True)
class Kind:
    """A way to make one clip of another.

    Arguments:
        name: what it makes.
        fails: the check that it must fail; None where the clip is still fine.
        make: makes it of a clip, in a folder.
    """

    name: str
    fails: str | None
    make: Callable[[Path, Path], Path]


def _kind(name: str, fails: str | None, **changes: Any) -> Kind:
    def make(source: Path, folder: Path) -> Path:
        return made_from(source, folder / f"made{source.suffix}", **changes)

    return Kind(name, fails, make)


def _half_as_large(source: Path, folder: Path) -> Path:
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        size = video.width // 4 * 2, video.height // 4 * 2
    return made_from(source, folder / f"made{source.suffix}", size=size)


def _in_another_container(source: Path, folder: Path) -> Path:
    suffix = {".mp4": ".mov", ".mov": ".webm", ".webm": ".mp4"}[source.suffix]
    return made_from(source, folder / f"made{suffix}")


FINE_KINDS = (
    _kind("encoded again, coarse", None, coarseness=34),
    _kind("at night", None, picture=at_night),
    _kind("at a quarter of the speed", None, picture=at_a_quarter_of_the_speed),
    _kind("moving in one place only", None, picture=moving_in_one_place_only),
    _kind("fading in and out", None, picture=fading_in_and_out),
    _kind("quiet", None, sound=quiet),
)

DAMAGED_KINDS = (
    _kind("black", "not_black", picture=black),
    _kind("black with noise", "not_black", picture=black_with_noise),
    _kind("frozen", "not_frozen", picture=frozen),
    _kind("frozen, coarse", "not_frozen", picture=frozen, coarseness=38),
    _kind("frozen under grain", "not_frozen", picture=frozen_with_grain),
    _kind("frozen from its middle on", "not_frozen", picture=frozen_from_its_middle_on),
    _kind("silent", "not_silent", sound=silence),
    _kind("noise at -80 dBFS only", "not_silent", sound=noise_at_80_db),
    _kind("without sound", "has_sound", sound=None),
    _kind("half as long", "duration_matches", kept=0.5),
    Kind("half as large", "size_matches", _half_as_large),
    Kind("in another container", "format_matches", _in_another_container),
    Kind("truncated", "decodes", lambda clip, at: cut_short(clip, at / f"made{clip.suffix}")),
)


def _decoded(source: Path, size: tuple[int, int] | None) -> tuple[list[Picture], Sound, int]:
    pictures: list[Any] = []
    sounds: list[Any] = []
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        fps = round(float(video.average_rate or 30))
        for frame in container.decode():
            if isinstance(frame, VideoFrame):
                if size is not None:
                    frame = frame.reformat(width=size[0], height=size[1])
                pictures.append(frame.to_ndarray())
            elif isinstance(frame, AudioFrame):
                sounds.append(frame.to_ndarray())
    return pictures, np.concatenate(sounds, axis=1).astype(np.float32), fps


def found_in(path: Path) -> FoundVideo:
    """What an analysis finds in a file, as the checks take it."""
    try:
        analysis = analyze(path)
    except MediaError as error:
        analysis = analyze_damaged(path, error, expected_size=None)
    info = analysis.info
    return FoundVideo(
        container=info.container,
        width=info.width,
        height=info.height,
        duration_seconds=info.duration_seconds,
        frame_count=info.frame_count,
        audio_codec=info.audio_codec,
        measures=analysis.measures,
        decode_error=analysis.decode_error,
    )
