"""The plot of a cost report: spending by day, and by model."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sora_dagster.generation.library.costs import CostSum

if TYPE_CHECKING:
    from PIL import Image

_USED, _WASTED, _OUTSTANDING = "#3b6fb6", "#d1495b", "#c9ced6"
_TEXT = "#3a3f47"
_MOST_DAYS = 31
_MOST_NAMES = 8
_MOST_DATES = 4
_STEPS = 5


def plot_costs(
    by_day: Sequence[CostSum],
    by_model: Sequence[CostSum],
    *,
    width_inches: float = 11.0,
    height_inches: float = 4.0,
    dots_per_inch: int = 120,
) -> bytes:
    """A PNG of two panels: USD per day (the last 31 days with spending), and USD per model.

    Arguments:
        by_day: sums by day, oldest first.
        by_model: sums by model.
        width_inches: width of the picture.
        height_inches: height of the picture.
        dots_per_inch: resolution.
    """
    # The object-oriented interface: pyplot keeps state between threads and runs.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), dpi=dots_per_inch, layout="constrained")
    days, models = figure.subplots(1, 2, width_ratios=(3, 2))
    _bars(days, by_day[-_MOST_DAYS:], horizontal=False)
    days.set_title("USD per day (UTC)", loc="left", color=_TEXT)
    most_expensive = sorted(by_model, key=lambda line: line.total_usd + line.outstanding_usd)
    _bars(models, most_expensive[-_MOST_NAMES:], horizontal=True)
    models.set_title("USD per model", loc="left", color=_TEXT)
    figure.legend(
        *days.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return _png_of(figure)


def _bars(axes: object, lines: Sequence[CostSum], *, horizontal: bool) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    names = [line.name for line in lines]
    start = [0.0] * len(lines)
    for label, colour, values in (
        ("used", _USED, [line.used_usd for line in lines]),
        ("wasted (failed or superseded)", _WASTED, [line.wasted_usd for line in lines]),
        ("outstanding", _OUTSTANDING, [line.outstanding_usd for line in lines]),
    ):
        if horizontal:
            axes.barh(names, values, left=start, color=colour, label=label, height=0.6)
        else:
            axes.bar(names, values, bottom=start, color=colour, label=label, width=0.6)
        start = [low + value for low, value in zip(start, values, strict=True)]
    # Leaves some space above the longest bar.
    most = 1.08 * max(start, default=0.0) or 1.0
    if horizontal:
        axes.set_xlim(0, most)
        axes.margins(y=0.4 if len(lines) == 1 else 0.1)
    else:
        axes.set_ylim(0, most)
        shown = range(0, len(lines), math.ceil(len(lines) / _MOST_DATES) or 1)
        axes.set_xticks(shown, [names[index] for index in shown])
        # A single day is a bar, not a wall.
        axes.set_xlim(-0.8, max(len(lines), 4) - 0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_TEXT, labelsize=9)


def _png_of(figure: object) -> bytes:
    """The figure as a PNG of few colours, small enough for an event's metadata."""
    from matplotlib.figure import Figure
    from PIL import Image

    assert isinstance(figure, Figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    small = io.BytesIO()
    picture = Image.open(drawn).convert("RGB")
    reduced = picture.quantize(palette=_palette(), dither=Image.Dither.NONE)
    reduced.save(small, format="png", optimize=True)
    return small.getvalue()


def _palette() -> Image.Image:
    """The colours of the plot, and their steps towards white, which edges have."""
    from PIL import Image, ImageColor

    colours = [ImageColor.getrgb(name) for name in (_USED, _WASTED, _OUTSTANDING, _TEXT, "#000000")]
    steps = [
        round(part + (255 - part) * step / _STEPS)
        for colour in colours
        for step in range(_STEPS + 1)
        for part in colour[:3]
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(steps)
    return palette
