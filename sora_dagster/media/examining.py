"""What is inside a video file, found by decoding all of it, with pictures and figures of it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import HEAD_BYTES, MediaError, container_name
from sora_dagster.media.decoding import (
    MediaInfo,
    Video,
    decode_all,
    frames,
    opened,
    seconds_shown,
)
from sora_dagster.media.measures import VideoMeasures
from sora_dagster.media.meter import Meter
from sora_dagster.media.pictures import (
    grey_frame,
    jpeg_of,
    panel_of,
    sheet_jpeg,
    sheet_of,
    thumbnail_jpeg,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

_log = logging.getLogger(__name__)

DEFAULT_POSTER_WIDTH = 960

_SHEET_PANELS = 3
# Of the grey pictures of a video whose size neither its file nor its request says.
_UNKNOWN_SIZE = (640, 360)


@dataclass(frozen=True)
class VideoAnalysis:
    """All that one decoding of a video gives.

    Arguments:
        info: what the file is; of a damaged one, what its header says.
        measures: how bright, moving and loud it is; None for a damaged video.
        poster: its middle frame, as a JPEG at most 960 pixels wide.
        sheet: its first, middle and last frame side by side, as a JPEG at most 1440 pixels wide.
        thumbnail: the same small, as a JPEG of at most 4,300 bytes.
        decode_error: why it cannot be decoded to its end, in a sentence; None for a whole video.
    """

    info: MediaInfo
    measures: VideoMeasures | None
    poster: bytes
    sheet: bytes
    thumbnail: bytes
    decode_error: str | None = None


def examine(source: BinaryIO | Path) -> VideoAnalysis:
    """Decode all of a video once, and say and show what it is.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).

    Raises:
        MediaError: where it is no MP4, MOV or WebM file, is cut short, or cannot be decoded to
            its end.
        OSError: where the source itself cannot be read.
    """
    from av import VideoFrame

    meter = Meter()
    with opened(source) as video:
        viewer = _Viewer(video.middle_seconds)

        def watch(frame: VideoFrame | AudioFrame, seconds: float) -> None:
            if isinstance(frame, VideoFrame):
                meter.see(frame, seconds)
                viewer.show(frame, seconds)
            else:
                meter.hear(frame)

        info = decode_all(video, watch)
    if not viewer.has_middle:
        # A stream that was muxed without knowing its length: only now is its middle known.
        with opened(source) as video:
            viewer.keep_middle(_frame_at(video, info.duration_seconds / 2))
    poster, sheet, thumbnail = viewer.pictures()
    return VideoAnalysis(
        info=info,
        measures=meter.measures(info.duration_seconds),
        poster=poster,
        sheet=sheet,
        thumbnail=thumbnail,
    )


def examine_damaged(
    source: BinaryIO | Path, error: MediaError, *, expected_size: tuple[int, int] | None
) -> VideoAnalysis:
    """Best effort at what `examine` gives, for a file that it refused.

    Facts are those of the file's header; a number that it lacks is 0, a container or video codec
    ``unknown``. ``frame_count`` counts the frames that could be decoded. The pictures show those
    frames, or plain grey if there are none. No content of the file makes it raise an error.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).
        error: why `examine` refused it.
        expected_size: width and height that were requested, in pixels; taken where the header
            does not say them.

    Raises:
        OSError: where the source itself cannot be read.
    """
    from av import VideoFrame

    info = _unread(source, expected_size)
    viewer = _Viewer(None)
    frame_count, end_seconds = 0, 0.0
    try:
        with opened(source, is_damaged=True) as video:
            info = _stated(video, info)
            viewer = _Viewer(video.middle_seconds)
            for frame, seconds in frames(video):
                if isinstance(frame, VideoFrame):
                    viewer.show(frame, seconds)
                    frame_count += 1
                    end_seconds = max(end_seconds, seconds + seconds_shown(frame, video.fps or 1.0))
    except OSError:
        raise
    except Exception as problem:  # noqa: BLE001 - decoders fail on damaged data in many ways
        # The error to report is the one that the whole file was refused for.
        _log.debug("%d frames of a damaged video were decoded: %s", frame_count, problem)
    info = replace(
        info,
        frame_count=frame_count,
        duration_seconds=info.duration_seconds or round(end_seconds, 3),
    )
    try:
        poster, sheet, thumbnail = viewer.pictures()
    except Exception as problem:  # noqa: BLE001 - no frame, or one that cannot be scaled
        _log.debug("grey pictures are made for a damaged video: %s", problem)
        viewer = _Viewer(None)
        size = (info.width, info.height) if info.width and info.height else _UNKNOWN_SIZE
        viewer.show(grey_frame(*size), 0.0)
        poster, sheet, thumbnail = viewer.pictures()
    return VideoAnalysis(
        info=info,
        measures=None,
        poster=poster,
        sheet=sheet,
        thumbnail=thumbnail,
        decode_error=_sentence(str(error)),
    )


def probe(source: BinaryIO | Path) -> MediaInfo:
    """Decode all of a video, and say what it is.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).

    Raises:
        MediaError: where it is no MP4, MOV or WebM file, is cut short, or cannot be decoded to
            its end.
        OSError: where the source itself cannot be read.
    """
    with opened(source) as video:
        return decode_all(video)


def poster(
    source: BinaryIO | Path,
    *,
    at_seconds: float | None = None,
    max_width: int = DEFAULT_POSTER_WIDTH,
) -> bytes:
    """One frame of a video as a JPEG.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).
        at_seconds: which frame, in seconds from the start; the middle of the video by default,
            its last frame where the video is shorter.
        max_width: a wider picture is made smaller, to this width in pixels.

    Raises:
        MediaError: where the file cannot be decoded up to that frame.
        OSError: where the source itself cannot be read.
        ValueError: where `at_seconds` is negative or `max_width` is less than 16.
    """
    if at_seconds is not None and at_seconds < 0:
        raise ValueError(f"at_seconds is {at_seconds}; a time from 0 on is expected")
    if max_width < 16:
        raise ValueError(f"max_width is {max_width}; at least 16 pixels are expected")
    with opened(source) as video:
        wanted_seconds = video.middle_seconds if at_seconds is None else at_seconds
        if wanted_seconds is not None:
            return jpeg_of(_frame_at(video, wanted_seconds), max_width)
    # A stream that was muxed without knowing its length: only decoding it tells the middle.
    middle_seconds = probe(source).duration_seconds / 2
    return poster(source, at_seconds=middle_seconds, max_width=max_width)


def _unread(source: BinaryIO | Path, expected_size: tuple[int, int] | None) -> MediaInfo:
    """What is known of a file that cannot be opened as a video."""
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
        fps=0.0,
        video_codec="unknown",
        audio_codec=None,
        audio_sample_rate=None,
    )


def _stated(video: Video, unread: MediaInfo) -> MediaInfo:
    """What a file's header says of it."""
    picture, sound = video.picture.codec_context, video.sound
    has_size = picture.width > 0 and picture.height > 0
    return replace(
        unread,
        width=picture.width if has_size else unread.width,
        height=picture.height if has_size else unread.height,
        duration_seconds=round(video.stated_seconds or 0.0, 3),
        fps=round(video.fps or 0.0, 3),
        video_codec=picture.codec.canonical_name,
        audio_codec=sound.codec_context.codec.canonical_name if sound else None,
        audio_sample_rate=sound.codec_context.sample_rate if sound else None,
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


class _Viewer:
    """Watches a video as it is decoded, and keeps what its pictures are made of.

    Arguments:
        middle_seconds: when its middle is, where the header says.
    """

    def __init__(self, middle_seconds: float | None) -> None:
        self._middle_seconds = middle_seconds
        self._poster = b""
        self._first: VideoFrame | None = None
        self._middle: VideoFrame | None = None
        self._last: VideoFrame | None = None

    @property
    def has_middle(self) -> bool:
        return self._middle is not None

    def show(self, frame: VideoFrame, seconds: float) -> None:
        if self._first is None:
            self._first = panel_of(frame, _SHEET_PANELS)
        is_past_middle = self._middle_seconds is not None and seconds >= self._middle_seconds
        if is_past_middle and not self.has_middle:
            self.keep_middle(frame)
        self._last = frame

    def keep_middle(self, frame: VideoFrame) -> None:
        self._poster = jpeg_of(frame, DEFAULT_POSTER_WIDTH)
        self._middle = panel_of(frame, _SHEET_PANELS)

    def pictures(self) -> tuple[bytes, bytes, bytes]:
        """Poster, contact sheet and thumbnail.

        Raises:
            MediaError: where no frame was shown.
        """
        if self._first is None or self._last is None:
            raise MediaError("the file has a video stream, but no frame in it")
        if self._middle is None:
            # The video ended before its middle came.
            self.keep_middle(self._last)
        assert self._middle is not None
        sheet = sheet_of([self._first, self._middle, panel_of(self._last, _SHEET_PANELS)])
        return self._poster, sheet_jpeg(sheet), thumbnail_jpeg(sheet)


def _frame_at(video: Video, wanted_seconds: float) -> VideoFrame:
    """The first frame at or after a time; the last one where the video is shorter."""
    from av import VideoFrame

    last: VideoFrame | None = None
    for frame, seconds in frames(video):
        if isinstance(frame, VideoFrame):
            last = frame
            if seconds >= wanted_seconds:
                break
    if last is None:
        raise MediaError("the file has a video stream, but no frame in it")
    return last
