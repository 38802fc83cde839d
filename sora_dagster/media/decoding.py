"""Decodes a video file to its end, and says what is in it.

A file counts as whole only after its last frame and its last sample of sound have been decoded:
a header alone looks fine in a file that was cut short. What is missing shows in the container's
own index, not in the length that its header states: a header may be longer than the frames, and
players accept that. What no decoder can see is a byte changed inside a picture that still decodes:
VP8, VP9 and H.264 carry no checksums.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import (
    HEAD_BYTES,
    MediaError,
    check_container,
    check_ebml_elements,
    container_name,
    not_a_video,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Headers count encoder delay and padding, which are not decoded. A shorter difference is no reason
# to look closer.
_HEADER_TOLERANCE_SECONDS = 0.5
# How much less than the header states may be decoded of a file that has neither an index of its
# packets nor a size of its own. Coarse, since the header may be wrong.
_UNCOUNTED_TOLERANCE_SECONDS = 1.0
_UNCOUNTED_TOLERANCE = 0.25
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
            end of its last, which lasts as long as the file says of that frame.
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
    file: BinaryIO
    container: InputContainer
    picture: VideoStream
    sound: AudioStream | None
    # By stream, how many packets its index lists; empty where there is no index of all packets.
    packet_counts: Mapping[int, int]

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
def opened(source: BinaryIO | Path, *, is_damaged: bool = False) -> Iterator[Video]:
    """A file opened for decoding; errors of FFmpeg inside the block are raised as `MediaError`.

    Arguments:
        is_damaged: open what can be opened, even if parts of the file are missing.

    Raises:
        MediaError: where it is no video, or cannot be decoded.
    """
    import av

    # Paths are opened here: FFmpeg would take a path such as "concat:…" as an instruction.
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        name = _begun_container(file) if is_damaged else check_container(file)
        file.seek(0)
        # The format is named, so that a playlist in disguise never has FFmpeg open other addresses.
        demuxer = "mov" if name in ("mp4", "mov") else "matroska"
        try:
            with av.open(file, mode="r", format=demuxer, metadata_errors="replace") as container:
                yield _video(name, file, container)
        except av.FFmpegError as error:
            raise MediaError(
                f"the {name} file is damaged and cannot be decoded to its end ({error.strerror})"
            ) from error


def _begun_container(file: BinaryIO) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    name = container_name(head)
    if name is None:
        raise not_a_video(head, size)
    return name


def _video(name: str, file: BinaryIO, container: InputContainer) -> Video:
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
    streams: list[Stream] = [picture] if sound is None else [picture, sound]
    # An index of Matroska lists keyframes only. Fragmented MP4 has its frames in later parts, and
    # says "0 frames" in the first.
    has_index = name in ("mp4", "mov") and picture.frames > 0
    counts = {stream.index: _listed_packets(stream) for stream in streams} if has_index else {}
    return Video(name, file, container, picture, sound, counts)


def _listed_packets(stream: Stream) -> int:
    # What an edit list leaves out is no longer in FFmpeg's index, unlike in the frame count of the
    # header. Empty samples hold nothing that could be missing.
    return sum(entry.size > 0 for entry in stream.index_entries)


def decode_all(
    video: Video, watch: Callable[[VideoFrame | AudioFrame, float], None] | None = None
) -> MediaInfo:
    from av import AudioFrame

    frame_count = 0
    first_seconds = last_seconds = sound_end_seconds = 0.0
    last_frame: VideoFrame | None = None
    for frame, seconds in frames(video):
        if watch is not None:
            watch(frame, seconds)
        if isinstance(frame, AudioFrame):
            end = seconds + frame.samples / frame.sample_rate
            sound_end_seconds = max(sound_end_seconds, end)
            continue
        if frame_count == 0:
            first_seconds = seconds
        if last_frame is None or seconds >= last_seconds:
            last_frame, last_seconds = frame, seconds
        frame_count += 1
    if last_frame is None:
        raise MediaError("the file has a video stream, but no frame in it")

    fps = video.fps
    if fps is None:
        spread_seconds = last_seconds - first_seconds
        fps = (frame_count - 1) / spread_seconds if spread_seconds > 0 else 1.0
    end_seconds = last_seconds + seconds_shown(last_frame, fps)
    _check_length(video, max(end_seconds, sound_end_seconds))
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


def seconds_shown(frame: VideoFrame, fps: float) -> float:
    """How long a frame is shown: as long as it says itself, else as long as most frames are."""
    usual_seconds = 1 / fps
    if not frame.duration or frame.duration < 0 or frame.time_base is None:
        return usual_seconds
    tick_seconds = float(frame.time_base)
    own_seconds = frame.duration * tick_seconds
    # WebM counts whole milliseconds: 41 of them mean a 24th of a second.
    return usual_seconds if abs(own_seconds - usual_seconds) < tick_seconds else own_seconds


def _check_length(video: Video, decoded_seconds: float) -> None:
    """See that a file whose packets are not counted by an index does not end early."""
    stated_seconds = video.stated_seconds
    if video.packet_counts or stated_seconds is None:
        return
    missing_seconds = stated_seconds - decoded_seconds
    if missing_seconds <= _HEADER_TOLERANCE_SECONDS:
        return
    problem = (
        f"the file ends early: its header says {stated_seconds:.2f} s, but only "
        f"{decoded_seconds:.2f} s could be decoded"
    )
    if video.container_name in ("webm", "matroska"):
        try:
            states_its_size = check_ebml_elements(video.file)
        except MediaError as error:
            raise MediaError(f"{problem}, and {error}") from error
        if states_its_size:
            return  # Each part is there, so the header is wrong.
    if missing_seconds > max(_UNCOUNTED_TOLERANCE_SECONDS, _UNCOUNTED_TOLERANCE * stated_seconds):
        raise MediaError(problem)


def _check_counts(video: Video, packet_counts: Mapping[int, int]) -> None:
    for stream in (video.picture, video.sound):
        if stream is None:
            continue
        listed, found = video.packet_counts.get(stream.index, 0), packet_counts[stream.index]
        if found < listed:
            raise MediaError(
                f"the file is cut short or damaged: its index lists {listed} packets of "
                f"{stream.type}, and {found} of them are in it"
            )


def frames(video: Video) -> Iterator[tuple[VideoFrame | AudioFrame, float]]:
    """Each decoded frame and piece of sound with the time of its beginning, in seconds.

    Raises:
        MediaError: where one of them is incomplete, or, at the end, missing.
    """
    from av import AudioFrame, VideoFrame

    packet_counts: Counter[int] = Counter()
    streams = [video.picture] if video.sound is None else [video.picture, video.sound]
    for packet in video.container.demux(*streams):
        # The last packet of each stream is empty, and flushes its decoder.
        packet_counts[packet.stream.index] += packet.size > 0
        if packet.is_corrupt:
            raise MediaError(
                f"the file is damaged: a packet of its {packet.stream.type} is incomplete"
            )
        for frame in packet.decode():
            if not isinstance(frame, (VideoFrame, AudioFrame)):
                continue
            seconds = frame.time or 0.0
            if frame.is_corrupt:
                raise MediaError(
                    f"the file is damaged: its {packet.stream.type} cannot be decoded without "
                    f"gaps at {seconds:.2f} s"
                )
            yield frame, seconds
    _check_counts(video, packet_counts)
