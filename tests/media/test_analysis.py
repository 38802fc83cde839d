import io
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image

from sora_dagster.media import (
    MediaError,
    VideoAnalysis,
    analyze,
    analyze_damaged,
    looks_like_video,
)
from sora_dagster.media.meter import VideoMeasures
from sora_dagster.storage import StorageRoot
from tests.media.probing import probe

FPS = 10
RED, GREEN, BLUE = (220, 30, 30), (30, 190, 40), (40, 60, 210)
CODECS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
}
EncodeVideo = Callable[..., bytes]


@pytest.fixture(scope="module")
def encode(tmp_path_factory: pytest.TempPathFactory) -> EncodeVideo:
    """Makes a video of 2 s: one red, one green and two blue quarters, with noise and a tone."""

    def encode_video(
        container: str,
        *,
        size: tuple[int, int] = (160, 96),
        picture: bool = True,
        sound: bool = True,
        muxer_options: dict[str, str] | None = None,
    ) -> bytes:
        path = tmp_path_factory.mktemp("videos") / f"video.{container}"
        video_codec, audio_codec = CODECS[container]
        width, height = size
        with av.open(path, "w", options=muxer_options or {}) as output:
            video = audio = None
            if picture:
                video = cast(VideoStream, output.add_stream(video_codec, rate=FPS))
            if sound:
                audio = cast(AudioStream, output.add_stream(audio_codec, 48_000, layout="mono"))
            if video is not None:
                video.width, video.height, video.pix_fmt = width, height, "yuv420p"
                video.gop_size = FPS
            noise = np.random.default_rng(7).integers(0, 40, (height, width, 3))
            for index in range(2 * FPS):
                if video is not None:
                    color = (RED, GREEN, BLUE, BLUE)[index * 4 // (2 * FPS)]
                    pixels = np.roll(noise, 5 * index, axis=1) + np.array(color) - 20
                    frame = av.VideoFrame.from_ndarray(
                        pixels.clip(0, 255).astype(np.uint8), format="rgb24"
                    )
                    output.mux(video.encode(frame))
                if audio is not None:
                    samples = 48_000 // FPS
                    wave = np.sin(np.arange(samples) * 0.06) * 9_000
                    block = av.AudioFrame.from_ndarray(
                        wave.astype(np.int16)[None, :], format="s16", layout="mono"
                    )
                    block.sample_rate, block.pts = 48_000, index * samples
                    block.time_base = Fraction(1, 48_000)
                    output.mux(audio.encode(block))
            if video is not None:
                output.mux(video.encode(None))
            if audio is not None:
                output.mux(audio.encode(None))
        return path.read_bytes()

    return encode_video


@pytest.fixture(scope="module")
def videos(encode: EncodeVideo) -> dict[str, bytes]:
    return {
        "mp4": encode("mp4"),
        "mp4 with its index first": encode("mp4", muxer_options={"movflags": "+faststart"}),
        "mov": encode("mov"),
        "webm": encode("webm"),
        "webm of unknown length": encode("webm", muxer_options={"live": "1"}),
    }


WITH_KNOWN_LENGTH = ["mp4", "mp4 with its index first", "mov", "webm"]


def color_of(jpeg: bytes) -> list[float]:
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    return [float(channel) for channel in pixels.reshape(-1, 3).mean(axis=0)]


# --- what is found in a whole file


@pytest.mark.parametrize(
    ("name", "container", "video_codec", "audio_codec"),
    [
        ("mp4", "mp4", "h264", "aac"),
        ("mp4 with its index first", "mp4", "h264", "aac"),
        ("mov", "mov", "h264", "aac"),
        ("webm", "webm", "vp9", "opus"),
        ("webm of unknown length", "webm", "vp9", "opus"),
    ],
)
def test_a_whole_video_is_described_by_what_was_decoded(
    videos: dict[str, bytes], name: str, container: str, video_codec: str, audio_codec: str
) -> None:
    info = probe(io.BytesIO(videos[name]))
    assert (info.container, info.video_codec, info.audio_codec) == (
        container,
        video_codec,
        audio_codec,
    )
    assert (info.width, info.height, info.frame_count) == (160, 96, 2 * FPS)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.01)
    assert info.frames_per_second == pytest.approx(FPS, rel=0.01)


def test_a_silent_video_has_no_audio_codec(encode: EncodeVideo) -> None:
    info = probe(io.BytesIO(encode("mp4", sound=False)))
    assert info.audio_codec is None


def test_a_path_is_read_like_an_open_file(videos: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "concat:video.mp4"
    path.write_bytes(videos["mp4"])
    assert probe(path) == probe(io.BytesIO(videos["mp4"]))


def test_a_stored_object_is_read_through_its_seekable_reader(videos: dict[str, bytes]) -> None:
    root = StorageRoot("memory://")
    root.create("video.webm", videos["webm"])
    with root.open("video.webm") as stored:
        assert probe(stored).frame_count == 2 * FPS


def test_an_open_file_is_read_from_its_beginning_and_left_open(videos: dict[str, bytes]) -> None:
    source = io.BytesIO(videos["mp4"])
    source.seek(1000)
    probe(source)
    assert probe(source).frame_count == 2 * FPS


@pytest.mark.parametrize("name", ["mp4", "webm"])
def test_bytes_after_the_end_of_a_video_do_no_harm(videos: dict[str, bytes], name: str) -> None:
    assert probe(io.BytesIO(videos[name] + b"\0" * 500)) == probe(io.BytesIO(videos[name]))


def test_an_unknown_box_is_skipped(videos: dict[str, bytes]) -> None:
    video = videos["mp4"]
    after_the_first_box = int.from_bytes(video[:4], "big")
    unknown_box = (20).to_bytes(4, "big") + b"abcd" + b"\0" * 12
    # Chunk offsets count from the file's start, so the box goes where nothing moves: the end.
    assert probe(io.BytesIO(video + unknown_box)).frame_count == 2 * FPS
    with pytest.raises(MediaError, match="'moov'"):
        probe(io.BytesIO(video[:after_the_first_box] + unknown_box))


# --- how long frames last, and what a header says


@pytest.mark.parametrize("container", ["mp4", "mov", "webm"])
def test_a_last_frame_that_is_held_counts_as_long_as_it_is_shown(
    tmp_path: Path, container: str
) -> None:
    path = grey_video(tmp_path / f"held.{container}", [60 + i for i in range(20)], held_seconds=2.1)
    info = probe(path)
    assert (info.frame_count, info.duration_seconds) == (20, pytest.approx(4.0, abs=0.002))


def test_a_webm_whose_frames_last_a_rounded_time_has_its_exact_length(tmp_path: Path) -> None:
    path = grey_video(tmp_path / "rounded.webm", [60 + i for i in range(24)], fps=24)
    assert probe(path).duration_seconds == 1.0


@pytest.mark.parametrize("name", ["mp4", "mp4 with its index first", "mov", "webm"])
@pytest.mark.parametrize("longer_seconds", [0.5, 0.6, 2.0])
def test_a_header_that_is_longer_than_the_frames_is_no_damage(
    videos: dict[str, bytes], name: str, longer_seconds: float
) -> None:
    info = probe(io.BytesIO(with_stated_length(videos[name], 2.0 + longer_seconds)))
    assert (info.frame_count, info.duration_seconds) == (2 * FPS, pytest.approx(2.0, abs=0.01))


def test_frames_that_an_edit_list_leaves_out_are_not_reported_as_missing(tmp_path: Path) -> None:
    # MP4 writes what begins before 0 as left out by an edit list.
    path = grey_video(tmp_path / "cut.mp4", [60 + i for i in range(20)], first_seconds=-1.0)
    with av.open(path) as container:
        assert container.streams.video[0].frames == 20
    assert probe(path).frame_count == 10


def with_stated_length(video: bytes, seconds: float) -> bytes:
    """The same file with another length in its header."""
    content = bytearray(video)
    if video.startswith(b"\x1a\x45\xdf\xa3"):
        place = video.index(b"\x44\x89\x88") + 3
        content[place : place + 8] = struct.pack(">d", seconds * 1000)
        return bytes(content)
    for name, timescale_offset, duration_offset in ((b"mvhd", 16, 20), (b"mdhd", 16, 20)):
        place = -1
        while (place := video.find(name, place + 1)) >= 0:
            [timescale] = struct.unpack_from(">I", video, place + timescale_offset)
            duration = round(seconds * timescale)
            struct.pack_into(">I", content, place + duration_offset, duration)
    return bytes(content)


# --- what is refused


@pytest.mark.parametrize("name", WITH_KNOWN_LENGTH)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.5, 0.8, 0.95, 0.999])
def test_a_video_that_was_cut_short_is_refused(
    videos: dict[str, bytes], name: str, kept: float
) -> None:
    video = videos[name]
    with pytest.raises(MediaError, match="truncated"):
        probe(io.BytesIO(video[: int(len(video) * kept)]))


@pytest.mark.parametrize("name", WITH_KNOWN_LENGTH)
def test_a_video_that_lacks_only_its_last_byte_is_refused(
    videos: dict[str, bytes], name: str
) -> None:
    with pytest.raises(MediaError, match="truncated"):
        probe(io.BytesIO(videos[name][:-1]))


def test_a_video_that_ends_between_its_index_and_its_pictures_is_refused(
    videos: dict[str, bytes],
) -> None:
    video = videos["mp4 with its index first"]
    index_end = video.index(b"mdat") - 4
    with pytest.raises(MediaError):
        probe(io.BytesIO(video[:index_end]))


@pytest.mark.parametrize("boundary", [False, True], ids=["in a frame", "between two frames"])
def test_a_cut_video_whose_data_are_of_open_length_is_refused_by_its_index(
    videos: dict[str, bytes], boundary: bool
) -> None:
    video = bytearray(videos["mp4 with its index first"])
    # A size of 0 means: to the end of the file, wherever that is.
    size_place = video.index(b"mdat") - 4
    video[size_place : size_place + 4] = bytes(4)
    assert probe(io.BytesIO(video)).frame_count == 2 * FPS
    with av.open(io.BytesIO(video)) as container:
        entry = container.streams.video[0].index_entries[15]
    with pytest.raises(MediaError, match="damaged"):
        probe(io.BytesIO(video[: entry.pos if boundary else entry.pos + entry.size // 2]))


def test_a_fragmented_video_of_less_than_its_header_says_is_refused(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    greys = [60 + i for i in range(20)]
    video = grey_video(tmp_path / "parts.mp4", greys, muxer_options=options).read_bytes()
    assert probe(io.BytesIO(with_stated_length(video, 2.9))).frame_count == 20
    with pytest.raises(MediaError, match=r"header states 4\.00 s, but only 2\.00 s"):
        probe(io.BytesIO(with_stated_length(video, 4.0)))


def test_a_cut_video_that_never_stated_its_length_shows_as_shorter(
    videos: dict[str, bytes],
) -> None:
    video = videos["webm of unknown length"]
    info = probe(io.BytesIO(video[: len(video) // 2]))
    assert info.duration_seconds < 1.6


@pytest.mark.parametrize("name", ["mp4", "mp4 with its index first", "mov"])
def test_a_video_with_a_damaged_middle_is_refused(videos: dict[str, bytes], name: str) -> None:
    video = bytearray(videos[name])
    middle, length = len(video) // 2, len(video) // 10
    video[middle : middle + length] = np.random.default_rng(3).bytes(length)
    with pytest.raises(MediaError, match="damaged"):
        probe(io.BytesIO(bytes(video)))


def test_a_webm_with_unreadable_bytes_in_the_middle_is_refused(videos: dict[str, bytes]) -> None:
    video = bytearray(videos["webm"])
    middle, end = len(video) // 3, len(video) * 9 // 10
    video[middle:end] = bytes(end - middle)
    with pytest.raises(MediaError, match="ends early"):
        probe(io.BytesIO(bytes(video)))


def test_an_empty_file_is_refused_as_empty() -> None:
    with pytest.raises(MediaError, match="empty"):
        probe(io.BytesIO(b""))


def test_an_error_page_in_place_of_a_video_is_refused_with_its_beginning() -> None:
    with pytest.raises(MediaError, match="begins with '<Error><Code>NoSuchKey"):
        probe(io.BytesIO(b"<Error><Code>NoSuchKey</Code></Error>"))


def test_a_playlist_is_refused_before_any_address_in_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXTINF:2,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match="not an MP4, MOV or WebM"):
        probe(path)


def test_a_file_with_sound_only_is_refused(encode: EncodeVideo) -> None:
    with pytest.raises(MediaError, match="no video stream"):
        probe(io.BytesIO(encode("mp4", picture=False)))


def test_a_missing_file_is_no_media_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "nothing.mp4")


class FailingFile(io.BytesIO):
    """A file on a connection that breaks after some bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 2_000:
            raise ConnectionResetError("the store hung up")
        return super().read(size)


def test_a_source_that_cannot_be_read_fails_as_itself(videos: dict[str, bytes]) -> None:
    with pytest.raises(ConnectionResetError, match="the store hung up"):
        probe(FailingFile(videos["webm"] + b"\0" * 100_000))


# --- posters


@pytest.mark.parametrize("name", ["mp4", "mov", "webm", "webm of unknown length"])
def test_a_poster_shows_the_middle_of_the_video(videos: dict[str, bytes], name: str) -> None:
    assert color_of(analyze(io.BytesIO(videos[name])).poster) == pytest.approx(BLUE, abs=12)


def test_a_poster_is_a_jpeg_in_the_size_of_the_video(videos: dict[str, bytes]) -> None:
    assert size_of(analyze(io.BytesIO(videos["webm"])).poster) == (160, 96)


def test_the_poster_of_a_wide_video_is_smaller_in_its_proportions(encode: EncodeVideo) -> None:
    video = encode("mp4", size=(1280, 720), sound=False)
    assert size_of(analyze(io.BytesIO(video)).poster) == (960, 540)


# --- all of it by one decoding


WITH_EVERY_LENGTH = ["mp4", "mov", "webm", "webm of unknown length"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda video: video[:-5_000],
        lambda video: video[: len(video) // 3] + bytes(len(video) // 2),
        lambda video: b"<Error><Code>NoSuchKey</Code></Error>",
        lambda video: b"",
    ],
)
def test_analyzing_a_damaged_video_raises_an_error(
    videos: dict[str, bytes], damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(MediaError):
        analyze(io.BytesIO(damage(videos["webm"])))


@pytest.mark.parametrize(
    ("container", "muxer_options"),
    [("mp4", {}), ("mov", {}), ("webm", {}), ("webm", {"live": "1"})],
)
def test_a_sheet_shows_the_first_the_middle_and_the_last_frame(
    tmp_path: Path, container: str, muxer_options: dict[str, str]
) -> None:
    greys = [20 + 10 * index for index in range(21)]
    path = grey_video(tmp_path / f"grey.{container}", greys, muxer_options=muxer_options)
    sheet = analyze(path).sheet
    assert [panel[0] for panel in panels_of(sheet)] == pytest.approx(
        [greys[0], greys[11], greys[-1]], abs=6
    )


def grey_video(
    path: Path,
    greys: Sequence[int],
    *,
    size: tuple[int, int] = (320, 180),
    pixel_format: str = "yuv420p",
    fps: int = FPS,
    first_seconds: float = 0.0,
    held_seconds: float | None = None,
    muxer_options: dict[str, str] | None = None,
) -> Path:
    """Writes a video whose frames are evenly grey, from 0 to 255 each.

    Arguments:
        first_seconds: when its first frame begins.
        held_seconds: how long its last frame is shown.
    """
    width, height = size
    codec = CODECS[path.suffix.removeprefix(".")][0]
    with av.open(path, "w", options=muxer_options or {}) as output:
        video = cast(VideoStream, output.add_stream(codec, fps))
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        if codec == "libx264":
            video.codec_context.options = {"preset": "ultrafast"}
        video.gop_size = fps
        packets = []
        for index, grey in enumerate(greys):
            pixels = np.full((height, width, 3), grey, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            packets += video.encode(frame)
        packets += video.encode(None)
        if held_seconds is not None:
            last = max(packets, key=lambda packet: packet.pts or 0)
            last.duration = round(held_seconds / last.time_base)
        for packet in packets:
            assert packet.pts is not None
            assert packet.dts is not None
            shift = round(first_seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            output.mux(packet)
    return path


def panels_of(sheet: bytes) -> list[list[float]]:
    """The mean colours of the inner parts of a sheet's thirds."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    third = pixels.shape[1] // 3
    margin = third // 8
    parts = [pixels[:, i * third + margin : (i + 1) * third - margin] for i in range(3)]
    return [[float(value) for value in part.reshape(-1, 3).mean(axis=0)] for part in parts]


def size_of(jpeg: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    return image.size


Noisy = Callable[[tuple[int, int]], VideoAnalysis]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Noisy:
    """Analyzes a short video that is the worst for a JPEG: coarse noise, new in each frame."""

    def analyzed(size: tuple[int, int]) -> VideoAnalysis:
        path = tmp_path_factory.mktemp("noise") / "noise.mp4"
        random = np.random.default_rng(11)
        width, height = size
        with av.open(path, "w") as output:
            video = output.add_stream("libx264", FPS, options={"preset": "ultrafast"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            for _ in range(4):
                blocks = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
                pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)
                output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            output.mux(video.encode(None))
        return analyze(path)

    return analyzed


@pytest.mark.parametrize(
    ("size", "sheet_size"),
    [
        ((1792, 1024), (1440, 272)),
        ((1024, 1792), (834, 480)),
        ((1080, 1920), (822, 480)),
        ((1280, 720), (1440, 268)),
    ],
)
def test_pictures_keep_to_their_sizes_even_of_noise(
    noisy: Noisy, size: tuple[int, int], sheet_size: tuple[int, int]
) -> None:
    analysis = noisy(size)
    assert size_of(analysis.sheet) == sheet_size
    assert size_of(analysis.poster)[0] == min(960, size[0])
    assert len(analysis.thumbnail) <= 4_300
    width, height = size_of(analysis.thumbnail)
    assert width >= 100
    assert width / height == pytest.approx(sheet_size[0] / sheet_size[1], rel=0.1)


def test_a_video_that_changes_its_size_on_the_way_has_a_sheet_of_one_size(tmp_path: Path) -> None:
    path = tmp_path / "sizes.webm"
    with av.open(path, "w") as output:
        stream = output.add_stream("libvpx-vp9", FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for part, (width, height) in enumerate(((160, 96), (80, 128))):
            encoder = av.CodecContext.create("libvpx-vp9", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base = Fraction(1, FPS)
            packets = []
            for index in range(5):
                frame = av.VideoFrame(width, height, "yuv420p")
                frame.pts, frame.time_base = 5 * part + index, Fraction(1, FPS)
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream = stream
                output.mux(packet)
    analysis = analyze(path)
    assert analysis.info.frame_count == 10
    assert size_of(analysis.sheet)[1] == 96


def test_a_small_video_is_not_made_larger_for_its_sheet(videos: dict[str, bytes]) -> None:
    width, height = size_of(analyze(io.BytesIO(videos["mp4"])).sheet)
    assert (3 * 160 <= width <= 3 * 160 + 20, height) == (True, 96)


def test_a_video_of_one_frame_has_all_its_pictures(tmp_path: Path) -> None:
    analysis = analyze(grey_video(tmp_path / "frame.mp4", [90]))
    assert analysis.info.frame_count == 1
    for panel in panels_of(analysis.sheet):
        assert panel == pytest.approx([90, 90, 90], abs=6)
    assert measures_of(analysis).frozen_seconds == 0


def test_analyzing_a_long_video_takes_no_more_memory_than_a_short_one(
    tmp_path: Path,
) -> None:
    def most_memory_kb(frames: int) -> int:
        greys = [index % 200 for index in range(frames)]
        path = grey_video(tmp_path / f"{frames}.mp4", greys, size=(1280, 720))
        result = run_python(
            "import resource, sys; from pathlib import Path\n"
            "from sora_dagster.media import analyze; analyze(Path(sys.argv[1]))\n"
            "sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))",
            str(path),
        )
        return int(result.stdout)

    # A decoded frame is 1.4 MB: 80 more of them would be 110 MB.
    assert most_memory_kb(100) < most_memory_kb(20) + 20_000


# --- a file that is kept though it cannot be decoded


def damaged(video: bytes, expected_size: tuple[int, int] | None = (160, 96)) -> VideoAnalysis:
    """The analysis of a video that `analyze` refuses."""
    with pytest.raises(MediaError) as refusal:
        analyze(io.BytesIO(video))
    return analyze_damaged(io.BytesIO(video), refusal.value, expected_size=expected_size)


def with_noise(video: bytes, start: float, end: float) -> bytes:
    content = bytearray(video)
    first, last = int(len(video) * start), int(len(video) * end)
    content[first:last] = np.random.default_rng(3).bytes(last - first)
    return bytes(content)


def test_a_video_that_breaks_off_shows_the_frames_that_could_be_decoded(
    videos: dict[str, bytes],
) -> None:
    video = videos["mp4 with its index first"]
    analysis = damaged(video[: len(video) * 6 // 10])
    info = analysis.info
    assert (info.container, info.width, info.height) == ("mp4", 160, 96)
    assert (info.video_codec, info.audio_codec, info.frames_per_second) == ("h264", "aac", FPS)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert 5 <= info.frame_count < 2 * FPS
    assert analysis.measures is None
    assert analysis.decode_error is not None
    assert analysis.decode_error.startswith("The file is truncated: its part 'mdat' ends")
    first, _, _ = panels_of(analysis.sheet)
    assert first == pytest.approx(RED, abs=12)


def test_a_webm_that_breaks_off_shows_the_frames_that_could_be_decoded(
    videos: dict[str, bytes],
) -> None:
    analysis = damaged(videos["webm"][: len(videos["webm"]) // 2])
    assert analysis.info.video_codec == "vp9"
    assert 1 <= analysis.info.frame_count < 2 * FPS
    assert panels_of(analysis.sheet)[0] == pytest.approx(RED, abs=12)


def test_a_video_whose_index_is_missing_has_grey_pictures_in_the_size_that_was_requested(
    videos: dict[str, bytes],
) -> None:
    analysis = damaged(videos["mov"][:5_000], expected_size=(1280, 720))
    info = analysis.info
    assert (info.container, info.width, info.height) == ("mov", 1280, 720)
    assert (info.frame_count, info.duration_seconds, info.video_codec) == (0, 0.0, "unknown")
    assert size_of(analysis.poster) == (960, 540)
    colors = color_of(analysis.poster)
    assert max(colors) - min(colors) < 5
    assert len(analysis.thumbnail) <= 4_300


def test_a_file_of_which_nothing_is_known_has_grey_pictures_too(videos: dict[str, bytes]) -> None:
    analysis = damaged(b"<Error>NoSuchKey</Error>", expected_size=None)
    assert (analysis.info.container, analysis.info.width) == ("unknown", 0)
    assert size_of(analysis.poster) == (640, 360)
    assert "NoSuchKey" in (analysis.decode_error or "")


def test_a_header_with_an_absurd_size_is_no_reason_to_draw_a_picture_of_it() -> None:
    analysis = damaged(b"", expected_size=(1_000_000, 2))
    assert size_of(analysis.poster) == (960, 2)


@pytest.mark.parametrize("name", ["mp4", "mp4 with its index first", "mov", "webm"])
@pytest.mark.parametrize("place", range(9))
def test_no_damage_keeps_a_file_from_being_described(
    videos: dict[str, bytes], name: str, place: int
) -> None:
    video = with_noise(videos[name], place / 10, place / 10 + 0.2)
    error = MediaError("it was refused")
    analysis = analyze_damaged(io.BytesIO(video), error, expected_size=(160, 96))
    assert analysis.decode_error == "It was refused."
    for picture in (analysis.poster, analysis.sheet, analysis.thumbnail):
        assert min(size_of(picture)) > 0


def test_a_damaged_file_that_cannot_be_read_fails_as_itself(
    videos: dict[str, bytes], tmp_path: Path
) -> None:
    error = MediaError("it was refused")
    with pytest.raises(ConnectionResetError):
        source = FailingFile(videos["webm"] + b"\0" * 100_000)
        analyze_damaged(source, error, expected_size=None)
    with pytest.raises(FileNotFoundError):
        analyze_damaged(tmp_path / "nothing.mp4", error, expected_size=None)


@pytest.mark.parametrize("name", WITH_EVERY_LENGTH)
def test_the_first_bytes_of_a_video_look_like_one(videos: dict[str, bytes], name: str) -> None:
    assert looks_like_video(videos[name][:16])
    assert looks_like_video(videos[name])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0\0\0\x20",
        b"<!DOCTYPE html><html>",
        b'{"errors": [{"code": "notFound"}]}',
        b"The free tier does not include this video",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"#EXTM3U\n#EXTINF:2,\n",
        b"RIFF\x24\x08\0\0AVI LIST",
    ],
)
def test_the_first_bytes_of_anything_else_do_not(head: bytes) -> None:
    assert not looks_like_video(head)


# --- what is measured


def measures_of(analysis: VideoAnalysis) -> VideoMeasures:
    assert analysis.measures is not None
    return analysis.measures


def test_measures_show_how_bright_and_loud_a_video_is(videos: dict[str, bytes]) -> None:
    measures = measures_of(analyze(io.BytesIO(videos["mp4"])))
    # A quarter is red, one is green, two are blue.
    lumas = [(0.299 * r + 0.587 * g + 0.114 * b) / 255 for r, g, b in (RED, GREEN, BLUE, BLUE)]
    assert measures.brightness == pytest.approx(sum(lumas) / 4, abs=0.03)
    assert measures.black_fraction == 0
    # A sine of 9,000 of 32,768 steps.
    assert measures.loudness_dbfs == pytest.approx(20 * np.log10(9_000 / 32_768 / 2**0.5), abs=0.5)
    assert measures.silent_fraction == 0


def test_a_video_without_sound_has_no_loudness(encode: EncodeVideo) -> None:
    measures = measures_of(analyze(io.BytesIO(encode("mp4", sound=False))))
    assert (measures.loudness_dbfs, measures.silent_fraction) == (None, None)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize(("grey", "brightness"), [(0, 0.0), (255, 1.0)])
def test_black_is_black_and_white_is_white_in_every_pixel_format(
    tmp_path: Path, pixel_format: str, grey: int, brightness: float
) -> None:
    path = grey_video(tmp_path / "grey.mp4", [grey] * 5, pixel_format=pixel_format)
    measures = measures_of(analyze(path))
    assert measures.brightness == pytest.approx(brightness, abs=0.01)
    assert measures.black_fraction == 1 - brightness


# --- what is loaded


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_importing_the_module_does_not_load_the_decoders() -> None:
    result = run_python(
        "import sys, sora_dagster.media; sys.stdout.write(str('av' in sys.modules))"
    )
    assert (result.stdout, result.stderr) == ("False", "")
