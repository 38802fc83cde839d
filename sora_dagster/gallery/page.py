"""The gallery: one HTML page that shows, plays and filters generated clips, with nothing around it.

The page is a file like any other in the storage root. It holds its own style, script and data, and
reaches posters and videos by relative links, so it works from a bucket, a synced folder or a disk.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import quote, urlsplit

_SCRIPTS = ("entries", "filters", "layouts", "canvas", "player", "page")
_LINK_SCHEMES = ("", "https", "file")
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# What could end the script element or a line of it; JSON reads the escapes as the same text.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class GalleryVideo:
    """One video of a clip.

    Arguments:
        href: link to the file from the page, URL-quoted: relative (`relative_href`), https or file.
        content_type: such as ``video/mp4``.
        seed: the seed it was made from, None where it is not known.
        cost_usd: what it cost by itself, None where that is not known.
        width, height: in pixels.
        duration_seconds: its length.
    """

    href: str
    content_type: str
    seed: int | None
    cost_usd: float | None
    width: int
    height: int
    duration_seconds: float

    def __post_init__(self) -> None:
        _check_link(self.href)


@dataclass(frozen=True)
class GalleryEntry:
    """One take of a clip, as the gallery shows it.

    Arguments:
        asset: its asset key.
        clip: its partition key, or the shot's name.
        partition: how people call the partition; None for a clip of an unpartitioned asset.
        title: the heading of its card.
        prompt: all of it.
        model: the model's id.
        tags: words of the dataset's author.
        take: number of the deliberate generation.
        created_at: when it was stored, or failed, with a time zone.
        state: stored, partial (some of its videos are missing) or failed (it has none).
        cost_usd: what it cost; that of a failed one counts as wasted.
        estimate_usd: what it was expected to cost, None where nobody said.
        duration_seconds, width, height: of its first video; of a failed one, as asked for.
        generation_seconds: how long the generation took, None where that is not known.
        videos: its videos; none for a failed one.
        poster_href: link to a JPEG of it, in the form of `GalleryVideo.href`.
        cost_is_estimate: whether the API did not tell the cost.
        failure: why it failed, or what is missing.
        parent: `id` of the entry it is a remix of; one that is not in the gallery is only named.
        checks_failed: names of its failed checks.

    Raises:
        ValueError: for a link that is not relative, https or file, a time without time zone, a cost
            that is no amount, or videos that do not fit the state.
    """

    asset: str
    clip: str
    partition: str | None
    title: str
    prompt: str
    model: str
    tags: tuple[str, ...]
    take: int
    created_at: datetime
    state: Literal["stored", "partial", "failed"]
    cost_usd: float
    estimate_usd: float | None
    duration_seconds: float | None
    width: int | None
    height: int | None
    generation_seconds: float | None = None
    videos: tuple[GalleryVideo, ...] = ()
    poster_href: str | None = None
    cost_is_estimate: bool = False
    failure: str | None = None
    parent: str | None = None
    checks_failed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.poster_href is not None:
            _check_link(self.poster_href)
        _check_time(f"created_at of {self.id}", self.created_at)
        if not (math.isfinite(self.cost_usd) and self.cost_usd >= 0):
            raise ValueError(
                f"cost_usd of {self.id} is {self.cost_usd}; USD from 0 on are expected"
            )
        if (self.state == "failed") == bool(self.videos):
            raise ValueError(
                f"{self.id} is {self.state} and has {len(self.videos)} videos; a stored or partial "
                "clip has at least one, a failed one none"
            )

    @property
    def id(self) -> str:
        """What other entries name it by; also in links to it."""
        return entry_id(self.asset, self.clip, self.take)


def entry_id(asset: str, clip: str, take: int) -> str:
    """Id of one take of a clip in the gallery.

    >>> entry_id("clips", "paper-boat", 2)
    'clips:paper-boat:2'
    """
    return f"{asset}:{clip}:{take}"


def relative_href(key: str) -> str:
    """Link from a gallery, two folders below the root, to an object of the same storage root.

    >>> relative_href("clips/remixes/boat #1/poster.jpg")
    '../../clips/remixes/boat%20%231/poster.jpg'
    """
    return "../../" + quote(key)


def render_gallery(
    entries: Iterable[GalleryEntry],
    *,
    title: str,
    generated_at: datetime,
    wasted_usd: float = 0.0,
) -> str:
    """The page as HTML, to be stored in UTF-8.

    Arguments:
        entries: the clips, in any order.
        title: heading of the page.
        generated_at: what the page says it is as of, with a time zone.
        wasted_usd: what was paid for tasks that no entry stands for (lost ones, earlier attempts);
            the cost of failed entries is added to it.

    Raises:
        ValueError: where two entries have the same id, or `generated_at` has no time zone.
    """
    _check_time("generated_at", generated_at)
    shown = list(entries)
    style = _template("style.css")
    script = '"use strict";\n(() => {\n' + "\n".join(map(_script, _SCRIPTS)) + "})();\n"
    data = {
        "title": title,
        "generated": _timestamp(generated_at),
        "totals": _totals(shown, wasted_usd),
        "entries": _entries_data(shown),
    }
    parts = {
        "title": html.escape(_encodable(title)),
        "policy": _content_security_policy(style, script),
        "style": style,
        "data": _json(data),
        "script": script,
    }
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], _template("index.html"))


def _totals(entries: Sequence[GalleryEntry], wasted_usd: float) -> dict[str, float]:
    kept = math.fsum(entry.cost_usd for entry in entries if entry.state != "failed")
    failed = (entry.cost_usd for entry in entries if entry.state == "failed")
    return {
        "clips": len(entries),
        "cost": round(kept, 6),
        "wasted": round(math.fsum([wasted_usd, *failed]), 6),
    }


def _entries_data(entries: Sequence[GalleryEntry]) -> list[dict[str, Any]]:
    places: dict[str, int] = {}
    for place, entry in enumerate(entries):
        if entry.id in places:
            raise ValueError(f"two entries have the id {entry.id!r}; give each take of a clip once")
        places[entry.id] = place
    parents = _parents(entries, places)
    return [_entry_data(entry, parent) for entry, parent in zip(entries, parents, strict=True)]


def _parents(entries: Sequence[GalleryEntry], places: Mapping[str, int]) -> list[int | None]:
    """Place of each entry's parent; a ring of parents is opened, so that every family is a tree."""
    parents = [places.get(entry.parent) if entry.parent else None for entry in entries]
    walked_by: list[int | None] = [None] * len(entries)
    for start in range(len(entries)):
        place: int | None = start
        while place is not None and walked_by[place] is None:
            walked_by[place] = start
            parent = parents[place]
            if parent is not None and walked_by[parent] == start:
                parents[place] = None
            place = parents[place]
    return parents


def _entry_data(entry: GalleryEntry, parent: int | None) -> dict[str, Any]:
    data = {
        "id": entry.id,
        "asset": entry.asset,
        "clip": entry.clip,
        "partition": entry.partition,
        "title": entry.title,
        "prompt": entry.prompt,
        "model": entry.model,
        "tags": entry.tags,
        "take": entry.take,
        "created": _timestamp(entry.created_at),
        "state": entry.state,
        "failure": entry.failure,
        "cost": entry.cost_usd,
        "estimate": entry.estimate_usd,
        "costIsEstimate": entry.cost_is_estimate,
        "seconds": entry.duration_seconds,
        "width": entry.width,
        "height": entry.height,
        "generationSeconds": entry.generation_seconds,
        "parent": parent,
        "parentElsewhere": entry.parent if parent is None else None,
        "poster": entry.poster_href,
        "videos": [_video_data(video) for video in entry.videos],
        "checks": entry.checks_failed,
    }
    return _without_blanks(data)


def _video_data(video: GalleryVideo) -> dict[str, Any]:
    data: dict[str, Any] = {
        "href": video.href,
        "type": video.content_type,
        "seed": video.seed,
        "cost": video.cost_usd,
        "width": video.width,
        "height": video.height,
        "seconds": video.duration_seconds,
    }
    return _without_blanks(data)


def _without_blanks(data: Mapping[str, Any]) -> dict[str, Any]:
    """Thousands of entries: what is not there is left out. A nought is there."""
    return {
        name: value
        for name, value in data.items()
        if not (value is None or value is False or value in ((), []))
    }


def _timestamp(moment: datetime) -> str:
    """Whole seconds in UTC: days compare as text, whatever the reader's time zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(data: object) -> str:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.translate(_ESCAPES)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _check_link(href: str) -> None:
    is_quoted = re.fullmatch(r"[!-~]+", href) is not None and not set(href) & set("\\\"'<>`")
    is_local = not href.startswith(("//", "#")) and urlsplit(href).scheme in _LINK_SCHEMES
    if not (is_quoted and is_local):
        raise ValueError(
            f"{href!r} is no link for the gallery; give a URL-quoted relative path (relative_href "
            "makes one of a key), or an https or file URL"
        )


def _check_time(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{name} is {moment}, without a time zone; give it one, such as UTC")


def _content_security_policy(style: str, script: str) -> str:
    """Only this style and this script run, and only pictures and videos are loaded.

    ``file:`` is named beside ``'self'``: a page from a disk has no origin that would match.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_source_hash(script)}'",
            f"style-src '{_source_hash(style)}'",
            "img-src 'self' https: file: data:",
            "media-src 'self' https: file:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _source_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _script(name: str) -> str:
    return _template(f"{name}.js")


def _template(name: str) -> str:
    return (files("sora_dagster.gallery") / "template" / name).read_text(encoding="utf-8")
