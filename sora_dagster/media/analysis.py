"""Analysis of a video file: one decoding of all of it gives its facts, figures and pictures."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import HEAD_BYTES, MediaError, container_name
from sora_dagster.media.decoding import (
    NO_FRAME,
    MediaInfo,
    Video,
    decode_all,
    frames,
    opened,
    seconds_shown,
)
from sora_dagster.media.meter import Meter, VideoMeasures
from sora_dagster.media.pictures import Pictures, draw_pictures, image_of, placeholder

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame
    from PIL.Image import Image

_log = logging.getLogger(__name__)

# Size of the placeholder for a video whose size is known neither from its file nor its request.
_UNKNOWN_SIZE = (640, 360)


@dataclass(frozen=True)
class VideoAnalysis:
    """Everything that one decoding of a video gives.

    Arguments:
        info: facts of the file; of a damaged one, those of its header.
        measures: measurements of pictures and sound; None for a damaged video.
        poster: its middle frame, as a JPEG at most 960 pixels wide.
        sheet: its first, middle and last frame side by side, as a JPEG at most 1440 pixels wide.
        thumbnail: the sheet in small, as a JPEG of at most 4,300 bytes.
        decode_error: why the video cannot be decoded to its end, in a sentence; None if it can.
    """

    info: MediaInfo
    measures: VideoMeasures | None
    poster: bytes
    sheet: bytes
    thumbnail: bytes
    decode_error: str | None = None


def analyze(source: BinaryIO | Path) -> VideoAnalysis:
    """Decode all of a video once, and return its facts, measurements and pictures.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).

    Raises:
        MediaError: if it is not an MP4, MOV or WebM file, is truncated, or cannot be decoded to
            its end.
        OSError: if the source itself cannot be read.
    """
    from av import VideoFrame

    meter = Meter()
    with opened(source) as video:
        selected = _SelectedFrames(video.middle_seconds)

        def add(frame: VideoFrame | AudioFrame, seconds: float) -> None:
            if isinstance(frame, VideoFrame):
                meter.add_frame(frame, seconds)
                selected.add(frame, seconds)
            else:
                meter.add_samples(frame)

        info = decode_all(video, add)
    if selected.middle is None:
        # A stream that was muxed without its length: only now is its middle known.
        with opened(source) as video:
            selected.middle = _image_at(video, info.duration_seconds / 2)
    pictures = selected.pictures()
    return VideoAnalysis(
        info=info, measures=meter.measures(info.duration_seconds), **vars(pictures)
    )


def analyze_damaged(
    source: BinaryIO | Path, error: MediaError, *, expected_size: tuple[int, int] | None
) -> VideoAnalysis:
    """Best effort to analyze a file for which `analyze` raised an error.

    The facts are those of the file's header; a missing number is 0, an unknown container or video
    codec ``unknown``. ``frame_count`` counts the frames that could be decoded. The pictures show
    those frames, or plain grey if there are none. No content of the file raises an error.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).
        error: the error that `analyze` raised.
        expected_size: requested width and height in pixels, used if the header states none.

    Raises:
        OSError: if the source itself cannot be read.
    """
    from av import VideoFrame

    info = _unread_info(source, expected_size)
    selected = _SelectedFrames(None)
    frame_count, end_seconds = 0, 0.0
    try:
        with opened(source, is_damaged=True) as video:
            info = _header_info(video, info)
            selected = _SelectedFrames(video.middle_seconds)
            for frame, seconds in frames(video):
                if isinstance(frame, VideoFrame):
                    selected.add(frame, seconds)
                    frame_count += 1
                    end_seconds = max(end_seconds, seconds + seconds_shown(frame, video.fps or 1.0))
    except OSError:
        raise
    except Exception as problem:  # noqa: BLE001 - decoders fail on damaged data in many ways
        # The error to report is the one that `analyze` raised.
        _log.debug("%d frames of a damaged video were decoded: %s", frame_count, problem)
    info = replace(
        info,
        frame_count=frame_count,
        duration_seconds=info.duration_seconds or round(end_seconds, 3),
    )
    try:
        pictures = selected.pictures()
    except Exception as problem:  # noqa: BLE001 - no frame, or one that cannot be scaled
        _log.debug("a damaged video gets grey pictures: %s", problem)
        size = (info.width, info.height) if info.width and info.height else _UNKNOWN_SIZE
        pictures = draw_pictures(*[placeholder(*size)] * 3)
    message = str(error)
    return VideoAnalysis(
        info=info,
        measures=None,
        **vars(pictures),
        decode_error=f"{message[:1].upper()}{message[1:].rstrip('.')}.",
    )


def _unread_info(source: BinaryIO | Path, expected_size: tuple[int, int] | None) -> MediaInfo:
    """Facts of a file that cannot be opened as a video."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        file.seek(0)
        name = container_name(file.read(HEAD_BYTES))
    width, height = expected_size or (0, 0)
    return MediaInfo(
        container=name or "unknown",
        width=width,
        height=height,
        duration_seconds=0.0,
        frame_count=0,
        frames_per_second=0.0,
        video_codec="unknown",
    )


def _header_info(video: Video, unread: MediaInfo) -> MediaInfo:
    """Facts that a file's header states."""
    picture, sound = video.picture.codec_context, video.sound
    has_size = picture.width > 0 and picture.height > 0
    return replace(
        unread,
        width=picture.width if has_size else unread.width,
        height=picture.height if has_size else unread.height,
        duration_seconds=round(video.stated_seconds or 0.0, 3),
        frames_per_second=round(video.fps or 0.0, 3),
        video_codec=picture.codec.canonical_name,
        audio_codec=sound.codec_context.codec.canonical_name if sound else None,
    )


class _SelectedFrames:
    """The frames of a video that its pictures are drawn from.

    Arguments:
        middle_seconds: time of its middle, if the header states the length.
    """

    def __init__(self, middle_seconds: float | None) -> None:
        self._middle_seconds = middle_seconds
        self._first: Image | None = None
        self.middle: Image | None = None
        self._last: VideoFrame | None = None

    def add(self, frame: VideoFrame, seconds: float) -> None:
        if self._first is None:
            self._first = image_of(frame)
        is_past_middle = self._middle_seconds is not None and seconds >= self._middle_seconds
        if is_past_middle and self.middle is None:
            self.middle = image_of(frame)
        self._last = frame

    def pictures(self) -> Pictures:
        """Draw the pictures.

        Raises:
            MediaError: if there was no frame.
        """
        if self._first is None or self._last is None:
            raise MediaError(NO_FRAME)
        last = image_of(self._last)
        # A video may end before the middle that its header states.
        return draw_pictures(self._first, self.middle or last, last)


def _image_at(video: Video, wanted_seconds: float) -> Image:
    """The first frame at or after a time, or the last one of a shorter video."""
    from av import VideoFrame

    last: VideoFrame | None = None
    for frame, seconds in frames(video):
        if isinstance(frame, VideoFrame):
            last = frame
            if seconds >= wanted_seconds:
                break
    if last is None:
        raise MediaError(NO_FRAME)
    return image_of(last)
