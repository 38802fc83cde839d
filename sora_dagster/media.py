"""What is inside a video file, found by decoding all of it, and a poster picture of it.

A file counts as whole only after its last frame and its last sample of sound have been decoded:
a header alone looks fine in a file that was cut short. What no decoder can see is a byte changed
inside a picture that still decodes: VP8, VP9 and H.264 carry no checksums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media_container import MediaError, check_container

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["MediaError", "MediaInfo", "inspect", "poster", "probe"]

DEFAULT_POSTER_WIDTH = 960

# A container's own length counts encoder delay and padding, which are not decoded.
_LENGTH_TOLERANCE_SECONDS = 0.5
# Each decoder thread keeps a frame of its own.
_DECODER_THREADS = 2


@dataclass(frozen=True)
class MediaInfo:
    """What was found in a video file by decoding it to the end.

    Arguments:
        container: ``mp4``, ``mov``, ``webm`` or ``matroska``.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        duration_seconds: length of the decoded video, from the start of its first frame to the
            end of its last.
        frame_count: how many frames were decoded.
        fps: frames a second.
        video_codec: FFmpeg's name of the codec, such as ``h264`` or ``vp9``.
        audio_codec: the same for the sound; None for a silent file.
        audio_sample_rate: samples a second of the sound, in Hz; None for a silent file.
    """

    container: str
    width: int
    height: int
    duration_seconds: float
    frame_count: int
    fps: float
    video_codec: str
    audio_codec: str | None
    audio_sample_rate: int | None


def probe(source: BinaryIO | Path) -> MediaInfo:
    """Decode all of a video, and say what it is.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).

    Raises:
        MediaError: where it is no MP4, MOV or WebM file, is cut short, or cannot be decoded to
            its end.
        OSError: where the source itself cannot be read.
    """
    with _opened(source) as video:
        return _decode_all(video)


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
    with _opened(source) as video:
        wanted_seconds = video.middle_seconds if at_seconds is None else at_seconds
        if wanted_seconds is not None:
            return _picture_at(video, wanted_seconds, max_width)
    # A stream that was muxed without knowing its length: only decoding it tells the middle.
    middle_seconds = probe(source).duration_seconds / 2
    return poster(source, at_seconds=middle_seconds, max_width=max_width)


def inspect(
    source: BinaryIO | Path, *, max_width: int = DEFAULT_POSTER_WIDTH
) -> tuple[MediaInfo, bytes]:
    """What `probe` and `poster` (of the middle) give, decoding the video once.

    Arguments:
        source: a file's path, or a seekable binary file (read from its beginning, left open).
        max_width: a wider picture is made smaller, to this width in pixels.

    Raises:
        MediaError: where it is no whole video.
        OSError: where the source itself cannot be read.
        ValueError: where `max_width` is less than 16.
    """
    with _opened(source) as video:
        snapshot = _Snapshot(video.middle_seconds, max_width)
        info = _decode_all(video, snapshot)
    if snapshot.jpeg is None:
        return info, poster(source, at_seconds=info.duration_seconds / 2, max_width=max_width)
    return info, snapshot.jpeg


@dataclass(frozen=True)
class _Video:
    """An opened file and the streams of it that are decoded."""

    container_name: str
    container: InputContainer
    picture: VideoStream
    sound: AudioStream | None

    @property
    def stated_seconds(self) -> float | None:
        """The length that the container's header gives."""
        return self.container.duration / 1_000_000 if self.container.duration else None

    @property
    def middle_seconds(self) -> float | None:
        return None if self.stated_seconds is None else self.stated_seconds / 2

    @property
    def fps(self) -> float | None:
        rate = self.picture.average_rate or self.picture.guessed_rate
        return float(rate) if rate else None


class _Snapshot:
    """Makes a JPEG of the first frame at or after a time, and ignores the others."""

    def __init__(self, wanted_seconds: float | None, max_width: int) -> None:
        if max_width < 16:
            raise ValueError(f"max_width is {max_width}; at least 16 pixels are expected")
        self._wanted_seconds = wanted_seconds
        self._max_width = max_width
        self.jpeg: bytes | None = None

    def see(self, frame: VideoFrame, seconds: float) -> None:
        if self.jpeg is None and self._wanted_seconds is not None:
            if seconds < self._wanted_seconds:
                return
            self.jpeg = _jpeg_of(frame, self._max_width)


@contextmanager
def _opened(source: BinaryIO | Path) -> Iterator[_Video]:
    import av

    # Paths are opened here: FFmpeg would take a path such as "concat:…" as an instruction.
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        container_name = check_container(file)
        file.seek(0)
        # The format is named, so that a playlist in disguise never has FFmpeg open other addresses.
        demuxer = "mov" if container_name in ("mp4", "mov") else "matroska"
        try:
            with av.open(file, mode="r", format=demuxer, metadata_errors="replace") as container:
                yield _chosen_streams(container_name, container)
        except av.FFmpegError as error:
            raise MediaError(
                f"the {container_name} file is damaged and cannot be decoded to its end "
                f"({error.strerror}); fetch it again"
            ) from error


def _chosen_streams(container_name: str, container: InputContainer) -> _Video:
    picture = next(iter(container.streams.video), None)
    sound = next(iter(container.streams.audio), None)
    if picture is None:
        raise MediaError("the file has no picture in it, only other streams")
    for stream in (picture, sound):
        if stream is None:
            continue
        if stream.codec_context is None:
            raise MediaError(f"its {stream.type} stream has a codec that FFmpeg lacks")
        # Otherwise FFmpeg paints over what it cannot decode, and reports no error.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.codec_context.thread_count = _DECODER_THREADS
        stream.codec_context.thread_type = "AUTO"
    return _Video(container_name, container, picture, sound)


def _decode_all(video: _Video, snapshot: _Snapshot | None = None) -> MediaInfo:
    frame_count = 0
    first_seconds = last_seconds = sound_end_seconds = 0.0
    for frame, seconds in _frames(video):
        if frame is None:
            sound_end_seconds = max(sound_end_seconds, seconds)
            continue
        if frame_count == 0:
            first_seconds = seconds
        last_seconds = max(last_seconds, seconds)
        frame_count += 1
        if snapshot is not None:
            snapshot.see(frame, seconds)
    if frame_count == 0:
        raise MediaError("the file has a video stream, but no frame in it; fetch it again")

    fps = video.fps
    if fps is None:
        spread_seconds = last_seconds - first_seconds
        fps = (frame_count - 1) / spread_seconds if spread_seconds > 0 else 1.0
    end_seconds = last_seconds + 1 / fps
    decoded_seconds = max(end_seconds, sound_end_seconds)
    stated_seconds = video.stated_seconds
    if stated_seconds is not None and decoded_seconds < stated_seconds - _LENGTH_TOLERANCE_SECONDS:
        raise MediaError(
            f"the file ends early: its header says {stated_seconds:.2f} s, but only "
            f"{decoded_seconds:.2f} s could be decoded; fetch it again"
        )
    return MediaInfo(
        container=video.container_name,
        width=video.picture.codec_context.width,
        height=video.picture.codec_context.height,
        duration_seconds=round(end_seconds - first_seconds, 3),
        frame_count=frame_count,
        fps=round(fps, 3),
        video_codec=video.picture.codec_context.codec.canonical_name,
        audio_codec=video.sound.codec_context.codec.canonical_name if video.sound else None,
        audio_sample_rate=video.sound.codec_context.sample_rate if video.sound else None,
    )


def _frames(video: _Video) -> Iterator[tuple[VideoFrame | None, float]]:
    """Each decoded frame with its time; sound comes as None with the time of its end."""
    from av import AudioFrame, VideoFrame

    streams = [video.picture] if video.sound is None else [video.picture, video.sound]
    for packet in video.container.demux(*streams):
        if packet.is_corrupt:
            raise MediaError(
                f"the file is damaged: a piece of its {packet.stream.type} is incomplete; "
                f"fetch it again"
            )
        for frame in packet.decode():
            if not isinstance(frame, (VideoFrame, AudioFrame)):
                continue
            seconds = frame.time or 0.0
            if frame.is_corrupt:
                raise MediaError(
                    f"the file is damaged: its {packet.stream.type} cannot be decoded without "
                    f"gaps at {seconds:.2f} s; fetch it again"
                )
            if isinstance(frame, VideoFrame):
                yield frame, seconds
            else:
                yield None, seconds + frame.samples / frame.sample_rate


def _picture_at(video: _Video, wanted_seconds: float, max_width: int) -> bytes:
    snapshot = _Snapshot(wanted_seconds, max_width)
    last: VideoFrame | None = None
    for frame, seconds in _frames(video):
        if frame is None:
            continue
        snapshot.see(frame, seconds)
        if snapshot.jpeg is not None:
            return snapshot.jpeg
        last = frame
    if last is None:
        raise MediaError("the file has a video stream, but no frame in it; fetch it again")
    return _jpeg_of(last, max_width)


def _jpeg_of(frame: VideoFrame, max_width: int) -> bytes:
    from av.codec import CodecContext

    scale = min(1.0, max_width / frame.width)
    # 4:2:0 needs even sides.
    width = max(2, round(frame.width * scale) // 2 * 2)
    height = max(2, round(frame.height * scale) // 2 * 2)
    picture = frame.reformat(
        width=width,
        height=height,
        format="yuvj420p",
        # What every JPEG reader assumes, whatever the video is in.
        dst_colorspace="ITU601",
        dst_color_range="JPEG",
        interpolation="AREA",
    )
    picture.pts = 0
    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.qmin, encoder.qmax = 3, 5
    packets = [*encoder.encode(picture), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
