"""What a dataset would cost."""

from __future__ import annotations

import os

from rich.table import Table
from rich.text import Text

from sora_dagster.cli.plain_text import one_line
from sora_dagster.dataset import remix_partition
from sora_dagster.generation.requesting.estimates import estimate
from sora_dagster.resources import API_KEY_VARIABLE
from sora_dagster.settings import Settings


def estimate_table(settings: Settings) -> tuple[Table, float]:
    """A line for each clip and remix of a dataset, and the total in USD.

    Prices are the API's if there is a key and its dry run gives them, else the catalogue's. A
    remix cannot be priced by the API before its clip is stored.

    Raises:
        DatasetError: naming all problems of the dataset.
    """
    dataset = settings.dataset()
    prompts = dataset.load_prompts()
    prices: dict[str, tuple[float, str]] = {}
    if os.environ.get(API_KEY_VARIABLE):
        with settings.runware().client() as client:
            asked = [dataset.clip_request(prompts, clip_id) for clip_id in prompts.clip_ids]
            prices = {
                item.request.clip: (item.usd, item.priced_by)
                for item in estimate(client, None, asked)
            }
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("clip", "model", "size", "seconds", "videos", "USD", "by"):
        table.add_column(name, justify="right" if name in ("seconds", "videos", "USD") else "left")
    total = 0.0
    rows = [(spec.clip_id, spec, spec.number_results) for spec in prompts.clips]
    rows += [
        (remix_partition(clip_id, recipe), prompts.clip(clip_id), 1)
        for clip_id, recipe in prompts.remix_cells
    ]
    for clip, spec, videos in rows:
        by_catalogue = dataset.catalogue.get(spec.model).price_usd(
            size=spec.size, duration_seconds=spec.duration_seconds, number_results=videos
        )
        price, priced_by = prices.get(clip, (by_catalogue, "catalogue"))
        total += price
        table.add_row(
            Text(one_line(clip)),
            Text(one_line(spec.model)),
            "first frame's" if spec.size is None else str(spec.size),
            "" if spec.duration_seconds is None else f"{spec.duration_seconds:g}",
            str(videos),
            f"{price:.2f}",
            priced_by,
        )
    return table, total
