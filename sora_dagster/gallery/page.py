"""The gallery: one self-contained HTML page that shows, plays and filters generated clips.

The page is a file in the storage root. It contains its style, script and data, and links to posters
and videos by relative URLs, so it works from a bucket, a synced folder or a disk.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import quote, urlsplit

_SCRIPTS = ("entries", "filters", "layouts", "canvas", "player", "page")
_LINK_SCHEMES = ("", "https", "file")
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Characters that could end the script element or a line of it; JSON reads the escapes as the same.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class GalleryVideo:
    """One video of a clip.

    Arguments:
        href: URL-quoted link from the page to the file: relative (`relative_href`), https or file.
        content_type: media type, such as ``video/mp4``.
        seed: seed of the generation; None if unknown.
        cost_usd: cost of this video alone; None if unknown.
        width, height: size in pixels.
        duration_seconds: duration in seconds.
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
    """One take of a clip in the gallery.

    Arguments:
        asset: its asset key.
        clip: its partition key, or the shot's name.
        partition: the partition's display name; None for a clip of an unpartitioned asset.
        title: the heading of its card.
        prompt: the full prompt.
        model: display name of the model.
        tags: the dataset's tags of the clip.
        take: number of the take.
        created_at: when it was stored or failed, with a time zone.
        state: stored, partial (some of its videos are missing) or failed (it has none).
        cost_usd: its cost; the cost of a failed one counts as wasted. None: unknown.
        estimate_usd: its estimated cost; None if its price was unknown.
        duration_seconds, width, height: those of its first video; of a failed one, as requested.
        generation_seconds: duration of the generation; None if unknown.
        videos: its videos; none for a failed one.
        poster_href: link to its poster, in the form of `GalleryVideo.href`.
        cost_is_estimate: whether `cost_usd` is an estimate, since the API did not report the cost.
        failure: why it failed, or what is missing.
        parent: `id` of the entry it is a remix of; if not in the gallery, only its id is shown.
        checks_failed: names of its failed checks.
        model_id: the model's id; None to show no id.
        options: what was requested besides prompt, model, size and duration, as
            text; None if nothing was.
        removed: whether its row was removed from the dataset.

    Raises:
        ValueError: if a link is not relative, https or file, the time has no time zone, the cost
            is negative or not finite, or the videos do not match the state.
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
    cost_usd: float | None
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
    model_id: str | None = None
    options: str | None = None
    removed: bool = False

    def __post_init__(self) -> None:
        if self.poster_href is not None:
            _check_link(self.poster_href)
        _check_time(f"created_at of {self.id}", self.created_at)
        if self.cost_usd is not None and not 0 <= self.cost_usd < math.inf:
            raise ValueError(
                f"cost_usd of {self.id} is {self.cost_usd}; it must be a finite number, 0 or more"
            )
        if (self.state == "failed") == bool(self.videos):
            raise ValueError(
                f"{self.id} is {self.state} and has {len(self.videos)} videos; a stored or partial "
                "clip must have at least one, a failed one none"
            )

    @property
    def id(self) -> str:
        """Id of this entry, in `parent` of others and in links to it."""
        return entry_id(self.asset, self.clip, self.take)


def entry_id(asset: str, clip: str, take: int) -> str:
    """Id of one take of a clip in the gallery.

    >>> entry_id("clips", "paper-boat", 2)
    'clips:paper-boat:2'
    """
    return f"{asset}:{clip}:{take}"


def relative_href(key: str) -> str:
    """Link from a gallery (two folders below the storage root) to an object of the same root.

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
    """Render the page as HTML, to be stored in UTF-8.

    Arguments:
        entries: the clips, in any order.
        title: heading of the page.
        generated_at: date of the page's data, with a time zone.
        wasted_usd: cost of tasks without an entry (lost ones, earlier attempts); the cost of failed
            entries is added to it.

    Raises:
        ValueError: if two entries have the same id, or `generated_at` has no time zone.
    """
    _check_time("generated_at", generated_at)
    shown = list(entries)
    style = _template("style.css")
    modules = "\n".join(_template(f"{name}.js") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{modules}}})();\n'
    data = {
        "title": title,
        "generatedAt": _timestamp(generated_at),
        "totals": _totals(shown, wasted_usd),
        "entries": _entries_data(shown),
    }
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode()),
        "policy": _content_security_policy(style, script),
        "style": style,
        "data": _json(data),
        "script": script,
    }
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], _template("index.html"))


def _totals(entries: Sequence[GalleryEntry], wasted_usd: float) -> dict[str, float]:
    kept = math.fsum(entry.cost_usd or 0.0 for entry in entries if entry.state != "failed")
    failed = (entry.cost_usd or 0.0 for entry in entries if entry.state == "failed")
    return {
        "clips": len(entries),
        "costUsd": round(kept, 6),
        "wastedUsd": round(math.fsum([wasted_usd, *failed]), 6),
    }


def _entries_data(entries: Sequence[GalleryEntry]) -> list[dict[str, Any]]:
    indexes: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.id in indexes:
            raise ValueError(f"two entries have the id {entry.id!r}; include each take only once")
        indexes[entry.id] = index
    parents = _parents(entries, indexes)
    return [
        _data(
            entry,
            id=entry.id,
            created_at=_timestamp(entry.created_at),
            parent=parent,
            missing_parent=entry.parent if parent is None else None,
            videos=[_data(video) for video in entry.videos],
        )
        for entry, parent in zip(entries, parents, strict=True)
    ]


def _parents(entries: Sequence[GalleryEntry], indexes: Mapping[str, int]) -> list[int | None]:
    """Index of each entry's parent; a circle of parents is broken, so that families are trees."""
    parents = [indexes.get(entry.parent) if entry.parent else None for entry in entries]
    visited_from: list[int | None] = [None] * len(entries)
    for start in range(len(entries)):
        index: int | None = start
        while index is not None and visited_from[index] is None:
            visited_from[index] = start
            parent = parents[index]
            if parent is not None and visited_from[parent] == start:
                parents[index] = None
            index = parents[index]
    return parents


def _data(record: GalleryEntry | GalleryVideo, **values: object) -> dict[str, Any]:
    """Fields of a record in JavaScript's spelling. Empty ones are left out: there are thousands."""
    values = {field.name: getattr(record, field.name) for field in fields(record)} | values
    return {
        name[0] + name.title().replace("_", "")[1:]: value
        for name, value in values.items()
        if not (value is None or value is False or value in ((), []))
    }


def _timestamp(moment: datetime) -> str:
    """Whole seconds in UTC, so that days can be compared as text in any time zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(data: object) -> str:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.translate(_ESCAPES)


def _check_link(href: str) -> None:
    is_quoted = re.fullmatch(r"[!-~]+", href) is not None and not set(href) & set("\\\"'<>`")
    is_local = not href.startswith(("//", "#")) and urlsplit(href).scheme in _LINK_SCHEMES
    if not (is_quoted and is_local):
        raise ValueError(
            f"{href!r} is not a valid link for the gallery; use a URL-quoted relative path "
            "(relative_href makes one from a key), or an https or file URL"
        )


def _check_time(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{name} is {moment}, without a time zone; set one, such as UTC")


def _content_security_policy(style: str, script: str) -> str:
    """Allows this style and this script only, and loading of pictures and videos only.

    ``file:`` is needed beside ``'self'``: a page on a disk has no origin that would match.
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


def _template(name: str) -> str:
    return (files("sora_dagster.gallery") / "template" / name).read_text(encoding="utf-8")
