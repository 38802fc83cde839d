"""Decodes a video file to its end.

A file counts as complete only after its last frame and its last audio sample were decoded: the
header of a file that was truncated looks fine. Missing parts show in the container's own index, not
in the length that its header states: a header may state more than the frames last, and players
accept that. No decoder notices a changed byte inside a picture that still decodes: VP8, VP9 and
H.264 carry no checksums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sora_dagster.media.container import (
    MediaError,
    check_container,
    check_ebml_elements,
    check_head,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Headers count encoder delay and padding, which are not decoded. A smaller difference is normal.
_HEADER_TOLERANCE_SECONDS = 0.5
# Allowed difference from the header's length in a file that has neither an index of its packets
# nor a size of its own. Coarse, since the header may be wrong.
_UNCOUNTED_TOLERANCE_SECONDS = 1.0
_UNCOUNTED_TOLERANCE = 0.25
# Each decoder thread keeps a frame in memory.
_DECODER_THREADS = 2

NO_FRAME = "the file has a video stream, but no frame in it"


@dataclass(frozen=True)
class MediaInfo:
    """Facts of a video file, found by decoding it to its end.

    Arguments:
        container: ``mp4``, ``mov``, ``webm`` or ``matroska``.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        duration_seconds: length of the decoded video, from the start of its first frame to the
            end of its last.
        frame_count: number of decoded frames.
        frames_per_second: average rate of the frames.
        video_codec: FFmpeg's name of the codec, such as ``h264`` or ``vp9``.
        audio_codec: FFmpeg's name of the sound's codec; None without sound.
    """

    container: str
    width: int
    height: int
    duration_seconds: float
    frame_count: int
    frames_per_second: float
    video_codec: str
    audio_codec: str | None = None


@dataclass(frozen=True)
class Video:
    """An open file and the streams of it that are decoded."""

    container_name: str
    file: BinaryIO
    container: InputContainer
    picture: VideoStream
    sound: AudioStream | None
    # Packets listed in the index, by stream; empty without an index of all packets.
    packet_counts: Mapping[int, int]

    @property
    def stated_seconds(self) -> float | None:
        """The length that the container's header states."""
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
    """Open a file for decoding; errors of FFmpeg inside the block are raised as `MediaError`.

    Arguments:
        is_damaged: open the file even if parts of it are missing.

    Raises:
        MediaError: if it is not a video, or cannot be decoded.
    """
    import av

    # FFmpeg would read a path such as "concat:…" as an instruction.
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        name = check_head(file) if is_damaged else check_container(file)
        file.seek(0)
        # A fixed format, so that a disguised playlist never makes FFmpeg open other addresses.
        demuxer = "mov" if name in ("mp4", "mov") else "matroska"
        try:
            with av.open(file, mode="r", format=demuxer, metadata_errors="replace") as container:
                yield _video(name, file, container)
        except av.FFmpegError as error:
            raise MediaError(
                f"the {name} file is damaged and cannot be decoded to its end ({error.strerror})"
            ) from error


def _video(name: str, file: BinaryIO, container: InputContainer) -> Video:
    picture = next(iter(container.streams.video), None)
    sound = next(iter(container.streams.audio), None)
    if picture is None:
        raise MediaError("the file has no video stream, only other streams")
    for stream in (picture, sound):
        if stream is None:
            continue
        if stream.codec_context is None:
            raise MediaError(f"the codec of its {stream.type} stream is not supported by FFmpeg")
        # Otherwise FFmpeg conceals what it cannot decode, and reports no error.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.codec_context.thread_count = _DECODER_THREADS
        stream.codec_context.thread_type = "AUTO"
    streams: list[Stream] = [picture] if sound is None else [picture, sound]
    # An index of Matroska lists keyframes only. Fragmented MP4 has its frames in later parts, and
    # states "0 frames" in the first.
    has_index = name in ("mp4", "mov") and picture.frames > 0
    counts = {stream.index: _listed_packets(stream) for stream in streams} if has_index else {}
    return Video(name, file, container, picture, sound, counts)


def _listed_packets(stream: Stream) -> int:
    # FFmpeg's index excludes what an edit list leaves out, unlike the frame count of the header.
    # Empty samples hold nothing that could be missing.
    return sum(entry.size > 0 for entry in stream.index_entries)


def decode_all(
    video: Video, on_frame: Callable[[VideoFrame | AudioFrame, float], None]
) -> MediaInfo:
    """Decode all of a video, and pass each frame with its time in seconds to `on_frame`."""
    from av import AudioFrame

    frame_count = 0
    first_seconds = last_seconds = sound_end_seconds = 0.0
    last_frame: VideoFrame | None = None
    for frame, seconds in frames(video):
        on_frame(frame, seconds)
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
        raise MediaError(NO_FRAME)

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
        frames_per_second=round(fps, 3),
        video_codec=video.picture.codec_context.codec.canonical_name,
        audio_codec=video.sound.codec_context.codec.canonical_name if video.sound else None,
    )


def seconds_shown(frame: VideoFrame, fps: float) -> float:
    """How long a frame is shown: its own duration, or else that of most frames."""
    usual_seconds = 1 / fps
    if not frame.duration or frame.duration < 0 or frame.time_base is None:
        return usual_seconds
    tick_seconds = float(frame.time_base)
    own_seconds = frame.duration * tick_seconds
    # WebM counts whole milliseconds: 41 of them mean a 24th of a second.
    return usual_seconds if abs(own_seconds - usual_seconds) < tick_seconds else own_seconds


def _check_length(video: Video, decoded_seconds: float) -> None:
    """Check that a file without an index of its packets does not end early."""
    stated_seconds = video.stated_seconds
    if video.packet_counts or stated_seconds is None:
        return
    missing_seconds = stated_seconds - decoded_seconds
    if missing_seconds <= _HEADER_TOLERANCE_SECONDS:
        return
    problem = (
        f"the file ends early: its header states {stated_seconds:.2f} s, but only "
        f"{decoded_seconds:.2f} s could be decoded"
    )
    if video.container_name in ("webm", "matroska"):
        try:
            states_its_size = check_ebml_elements(video.file)
        except MediaError as error:
            raise MediaError(f"{problem}, and {error}") from error
        if states_its_size:
            return  # every part is present, so the header is wrong
    if missing_seconds > max(_UNCOUNTED_TOLERANCE_SECONDS, _UNCOUNTED_TOLERANCE * stated_seconds):
        raise MediaError(problem)


def _check_counts(video: Video, packet_counts: Mapping[int, int]) -> None:
    for stream in (video.picture, video.sound):
        if stream is None:
            continue
        listed, found = video.packet_counts.get(stream.index, 0), packet_counts[stream.index]
        if found < listed:
            raise MediaError(
                f"the file is truncated or damaged: it contains {found} of the {listed} "
                f"{stream.type} packets that its index lists"
            )


def frames(video: Video) -> Iterator[tuple[VideoFrame | AudioFrame, float]]:
    """Each decoded video and audio frame with its start time in seconds.

    Raises:
        MediaError: if a frame is incomplete, or, at the end, missing.
    """
    from av import AudioFrame, VideoFrame

    packet_counts: Counter[int] = Counter()
    streams = [video.picture] if video.sound is None else [video.picture, video.sound]
    for packet in video.container.demux(*streams):
        # The last packet of each stream is empty, and flushes its decoder.
        packet_counts[packet.stream.index] += packet.size > 0
        if packet.is_corrupt:
            raise MediaError(
                f"the file is damaged: a packet of its {packet.stream.type} stream is incomplete"
            )
        for frame in packet.decode():
            if not isinstance(frame, (VideoFrame, AudioFrame)):
                continue
            seconds = frame.time or 0.0
            if frame.is_corrupt:
                raise MediaError(
                    f"the file is damaged: its {packet.stream.type} stream cannot be decoded at "
                    f"{seconds:.2f} s"
                )
            yield frame, seconds
    _check_counts(video, packet_counts)
