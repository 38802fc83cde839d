"""An asset downstream of clips: each clip as a 9:16 center crop for phones, with its sound.

A complete code location: `dagster dev -f examples/vertical_crop.py`. The crops are stored in the
same storage root, under `derived/`, which sora-dagster never touches.
"""

import shutil
import tempfile
from typing import BinaryIO

import av
import av.filter
import dagster as dg

import sora_dagster as sora

settings = sora.Settings.from_environment()
dataset = settings.dataset()


@dg.asset(
    ins={"clip": dg.AssetIn(dataset.clips)},
    partitions_def=dataset.clip_partitions,
    group_name=dataset.group_name,
    kinds={"mp4"},
    description="The clips as 9:16 center crops.",
)
def vertical(
    context: dg.AssetExecutionContext, clip: sora.StoredClip
) -> dg.MaterializeResult[None]:
    key = f"derived/vertical/{context.partition_key}.mp4"
    with tempfile.TemporaryFile() as cropped:
        with clip.open() as source:
            width, height = crop_to_portrait(source, cropped)
        size_bytes = cropped.seek(0, 2)
        cropped.seek(0)
        with clip.root.writer(key) as sink:
            shutil.copyfileobj(cropped, sink)
    return dg.MaterializeResult(
        metadata={
            "dagster/uri": clip.root.uri(key),
            "size": f"{width}x{height}",
            "size_bytes": size_bytes,
            "clip_take": clip.manifest.take,
            "clip_uri": clip.uri,
            "prompt": clip.prompt,
        },
    )


def crop_to_portrait(source: BinaryIO, target: BinaryIO) -> tuple[int, int]:
    """Write the center of a video as MP4, no wider than 9:16. Returns its width and height."""
    with av.open(source, "r") as video, av.open(target, "w", format="mp4") as cropped:
        picture = video.streams.video[0]
        # H.264 requires even numbers.
        width = min(picture.width, picture.height * 9 // 16) // 2 * 2
        height = min(picture.height, picture.width * 16 // 9) // 2 * 2
        encoder = cropped.add_stream("libx264", rate=picture.average_rate)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = picture.time_base
        sound = {
            stream.index: cropped.add_stream_from_template(stream) for stream in video.streams.audio
        }

        crop = av.filter.Graph()
        frames_in = crop.add_buffer(template=picture)
        frames_out = crop.add("buffersink")
        crop.link_nodes(frames_in, crop.add("crop", f"{width}:{height}"), frames_out).configure()
        for packet in video.demux(picture, *video.streams.audio):
            if packet.stream.index in sound:
                if packet.dts is not None:
                    packet.stream = sound[packet.stream.index]
                    cropped.mux(packet)
                continue
            for frame in picture.decode(packet):
                crop.vpush(frame)
                cropped.mux(encoder.encode(crop.vpull()))
        cropped.mux(encoder.encode())
    return width, height


defs = dg.Definitions.merge(
    sora.build_definitions(dataset, runware=settings.runware(), storage=settings.storage()),
    dg.Definitions(assets=[vertical]),
)
