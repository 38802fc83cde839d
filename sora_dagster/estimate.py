"""What a dataset would cost, by the catalogue's prices."""

from __future__ import annotations

from rich.table import Table

from sora_dagster.generation.clips import ClipSpec
from sora_dagster.graph import VideoGraph, remix_partition


def estimate_table(graph: VideoGraph) -> tuple[Table, float]:
    """A line for each clip and remix of a dataset, and the total in USD.

    Raises:
        DatasetError: naming all problems of the dataset.
    """
    dataset = graph.load_dataset()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("clip", "model", "size", "seconds", "videos", "USD"):
        table.add_column(name, justify="right" if name in ("seconds", "videos", "USD") else "left")
    total = 0.0

    def add(clip: str, spec: ClipSpec, videos: int) -> float:
        price = graph.catalogue.get(spec.model).price_usd(
            size=spec.size, duration_seconds=spec.duration_seconds, number_results=videos
        )
        table.add_row(
            clip,
            spec.model,
            "first frame's" if spec.size is None else str(spec.size),
            "" if spec.duration_seconds is None else f"{spec.duration_seconds:g}",
            str(videos),
            f"{price:.2f}",
        )
        return price

    for spec in dataset.clips:
        total += add(spec.clip_id, spec, spec.number_results)
    for clip_id, recipe in dataset.remix_cells:
        total += add(remix_partition(clip_id, recipe), dataset.clip(clip_id), 1)
    return table, total
