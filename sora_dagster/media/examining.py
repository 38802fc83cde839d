"""What is inside a video file, found by decoding all of it, with pictures and figures of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import MediaError
from sora_dagster.media.decoding import MediaInfo, Video, decode_all, frames, opened
from sora_dagster.media.measures import VideoMeasures
from sora_dagster.media.meter import Meter
from sora_dagster.media.pictures import (
    jpeg_of,
    panel_of,
    sheet_jpeg,
    sheet_of,
    thumbnail_jpeg,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

DEFAULT_POSTER_WIDTH = 960

_SHEET_PANELS = 3


@dataclass(frozen=True)
class Examination:
    """All that one decoding of a video gives.

    Arguments:
        info: what the file is.
        measures: how bright, moving and loud it is.
        poster: its middle frame, as a JPEG at most 960 pixels wide.
        sheet: its first, middle and last frame side by side, as a JPEG at most 1440 pixels wide.
        thumbnail: the same small, as a JPEG of at most 4,300 bytes.
    """

    info: MediaInfo
    measures: VideoMeasures
    poster: bytes
    sheet: bytes
    thumbnail: bytes


def examine(source: BinaryIO | Path) -> Examination:
    """Decode all of a video once, and say and show what it is.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).

    Raises:
        MediaError: where it is no MP4, MOV or WebM file, is cut short, or cannot be decoded to
            its end.
        OSError: where the source itself cannot be read.
    """
    with opened(source) as video:
        viewer = _Viewer(video.middle_seconds)
        info = decode_all(video, viewer.watch)
    if not viewer.has_middle:
        # A stream that was muxed without knowing its length: only now is its middle known.
        with opened(source) as video:
            viewer.keep_middle(_frame_at(video, info.duration_seconds / 2))
    return viewer.examination(info)


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


class _Viewer:
    """Watches a video as it is decoded: measures it, and keeps what its pictures are made of.

    Arguments:
        middle_seconds: when its middle is, where the header tells.
    """

    def __init__(self, middle_seconds: float | None) -> None:
        self._middle_seconds = middle_seconds
        self._meter = Meter()
        self._poster = b""
        self._first: VideoFrame | None = None
        self._middle: VideoFrame | None = None
        self._last: VideoFrame | None = None

    @property
    def has_middle(self) -> bool:
        return self._middle is not None

    def watch(self, frame: VideoFrame | AudioFrame, seconds: float) -> None:
        from av import AudioFrame

        if isinstance(frame, AudioFrame):
            self._meter.hear(frame)
            return
        self._meter.see(frame, seconds)
        if self._first is None:
            self._first = panel_of(frame, _SHEET_PANELS)
        is_past_middle = self._middle_seconds is not None and seconds >= self._middle_seconds
        if is_past_middle and not self.has_middle:
            self.keep_middle(frame)
        self._last = frame

    def keep_middle(self, frame: VideoFrame) -> None:
        self._poster = jpeg_of(frame, DEFAULT_POSTER_WIDTH)
        self._middle = panel_of(frame, _SHEET_PANELS)

    def examination(self, info: MediaInfo) -> Examination:
        assert self._first is not None
        assert self._middle is not None
        assert self._last is not None
        sheet = sheet_of([self._first, self._middle, panel_of(self._last, _SHEET_PANELS)])
        return Examination(
            info=info,
            measures=self._meter.measures(info.duration_seconds),
            poster=self._poster,
            sheet=sheet_jpeg(sheet),
            thumbnail=thumbnail_jpeg(sheet),
        )


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
        raise MediaError("the file has a video stream, but no frame in it; fetch it again")
    return last
