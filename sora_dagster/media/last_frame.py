"""The last frame of a video in full size, to start another video from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import MediaError
from sora_dagster.media.decoding import NO_FRAME, Video, opened

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_QUALITY = 95
_NO_COLORSPACE = 2
# Players assume BT.709 for a video of this many lines that names no colour space.
_HD_LINES = 720


def last_frame(source: BinaryIO | Path) -> bytes:
    """The last frame of a video, as JPEG in the size of the video.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).

    Raises:
        MediaError: if the file is not a video, or has no frame that can be decoded.
        OSError: if the source itself cannot be read.
    """
    with opened(source) as video:
        frame = _last_frame(video, from_end=True)
    if frame is None:
        # Not every file can be read from its last keyframe.
        with opened(source) as video:
            frame = _last_frame(video, from_end=False)
    if frame is None:
        raise MediaError(NO_FRAME)
    return _jpeg(frame)


def _last_frame(video: Video, *, from_end: bool) -> VideoFrame | None:
    from av import FFmpegError

    if from_end:
        try:
            video.container.seek(video.container.duration or 0)
        except FFmpegError:
            return None
    last: VideoFrame | None = None
    for frame in video.container.decode(video.picture):
        if last is None or (frame.time or 0.0) >= (last.time or 0.0):
            last = frame
    return last


def _jpeg(frame: VideoFrame) -> bytes:
    from av.video.reformatter import Colorspace

    is_named = frame.colorspace != _NO_COLORSPACE
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=None if is_named or frame.height < _HD_LINES else Colorspace.ITU709,
    )
    body = io.BytesIO()
    # Without chroma subsampling, so that the next video starts with the same colours.
    rgb.to_image().save(body, "JPEG", quality=_QUALITY, subsampling=0)  # type: ignore[no-untyped-call]
    return body.getvalue()
