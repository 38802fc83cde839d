"""Decodes a video file to its end, and says what is in it.

A file counts as whole only after its last frame and its last sample of sound have been decoded:
a header alone looks fine in a file that was cut short. What no decoder can see is a byte changed
inside a picture that still decodes: VP8, VP9 and H.264 carry no checksums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import MediaError, check_container

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

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


@dataclass(frozen=True)
class Video:
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


@contextmanager
def opened(source: BinaryIO | Path) -> Iterator[Video]:
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


def _chosen_streams(container_name: str, container: InputContainer) -> Video:
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
    return Video(container_name, container, picture, sound)


def decode_all(
    video: Video, watch: Callable[[VideoFrame | AudioFrame, float], None] | None = None
) -> MediaInfo:
    from av import AudioFrame

    frame_count = 0
    first_seconds = last_seconds = sound_end_seconds = 0.0
    for frame, seconds in frames(video):
        if watch is not None:
            watch(frame, seconds)
        if isinstance(frame, AudioFrame):
            end = seconds + frame.samples / frame.sample_rate
            sound_end_seconds = max(sound_end_seconds, end)
            continue
        if frame_count == 0:
            first_seconds = seconds
        last_seconds = max(last_seconds, seconds)
        frame_count += 1
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


def frames(video: Video) -> Iterator[tuple[VideoFrame | AudioFrame, float]]:
    """Each decoded frame and piece of sound with the time of its beginning, in seconds."""
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
            yield frame, seconds
