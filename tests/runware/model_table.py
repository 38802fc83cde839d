"""The table of all built-in models in the documentation.

``python -m tests.runware.model_table docs/reference/models.md`` writes it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from sora_dagster.runware import Catalogue, VideoModel
from sora_dagster.runware.catalogue import descriptions

_TABLE = re.compile(r"(?<=<!-- models -->\n).*?(?=<!-- end of models -->)", re.DOTALL)
_REFERENCES = {
    "referenceImages": "image",
    "referenceVideos": "video",
    "referenceAudios": "audio file",
}
_HEADER = (
    "model",
    "short name",
    "AIR",
    "status",
    "sizes",
    "seconds",
    "audio",
    "frames",
    "references",
    "remixes",
    "USD per second",
    "price",
)


def with_table(page: str) -> str:
    """The page with the table of today's catalogue."""
    entries = sorted(Catalogue.builtin().entries, key=lambda entry: entry.retired is not None)
    rows = [_HEADER, ("---",) * len(_HEADER), *map(_cells, entries)]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    replaced, count = _TABLE.subn(lambda _: table, page)
    if count != 1:
        raise ValueError("the page needs one '<!-- models -->' and one '<!-- end of models -->'")
    return replaced


def _cells(entry: VideoModel) -> tuple[str, ...]:
    span = descriptions.usd_per_second(entry)
    usd = "" if span is None else _span(f"{price:.3f}".removesuffix("0") for price in span)
    return (
        f"[{entry.name}]({entry.source})",
        f"`{entry.short_name}`",
        f"`{entry.air}`",
        descriptions.status_text(entry),
        descriptions.tiers_text(entry),
        descriptions.seconds_text(entry),
        descriptions.sound_text(entry),
        _frames(entry),
        _references(entry),
        descriptions.remixes_text(entry),
        usd,
        entry.prices.certainty,
    )


def _span(values: Iterable[str]) -> str:
    return "–".join(dict.fromkeys(values))


def _frames(entry: VideoModel) -> str:
    limits = entry.inputs.get("frameImages")
    if limits is None:
        return ""
    places = [*limits.positions]
    if limits.by_index or limits.by_time:
        places.append(f"up to {limits.max} anywhere")
    return ", ".join(places)


def _references(entry: VideoModel) -> str:
    most = {name: limits.max for name, limits in entry.inputs.items()}
    return ", ".join(
        f"{most[name]} {word}{'s' * (most[name] > 1)}"  # type: ignore[index]
        for name, word in _REFERENCES.items()
        if name in most
    )


def main(page: Path) -> None:
    """Write the table into a page."""
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the page to write the table into, for example docs/reference/models.md")
    main(Path(sys.argv[1]))
