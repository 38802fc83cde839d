"""The gallery page as text: its data is whole, and nothing in it can break out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_dagster.gallery.page import (
    GalleryEntry,
    entry_id,
    relative_href,
    render_gallery,
)
from sora_dagster.generation.protocol.layout import gallery_key
from tests.gallery.entries import FIRST_DAY, entry, video

HOSTILE = "</script><img src=x onerror=alert(1)><!-- {{data}} & \u2028 \u2029 \" ' \ud800 \x00"


def render(*entries: GalleryEntry, title: str = "Gallery", **options: Any) -> str:
    return render_gallery(entries, title=title, generated_at=FIRST_DAY, **options)


def data_text(page: str) -> str:
    [text] = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL
    )
    return text


def data_of(page: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(data_text(page))
    return data


def parents_of(page: str) -> dict[str, str | None]:
    entries = data_of(page)["entries"]
    return {
        shown["id"]: entries[shown["parent"]]["id"] if "parent" in shown else None
        for shown in entries
    }


def test_every_field_of_an_entry_is_in_the_data() -> None:
    shown = entry(
        "boat",
        partition="boat · night",
        tags=("sea", "night"),
        take=3,
        created_at=datetime(2026, 11, 24, 1, 30, tzinfo=timezone(timedelta(hours=2))),
        state="partial",
        failure="one video is missing",
        cost_usd=0.0,
        cost_is_estimate=True,
        parent="clips:harbour:1",
        poster_href="../poster.jpg",
        checks_failed=("has_sound",),
        videos=(video("../a.mp4", seed=0), video("../b.webm", seed=None, cost_usd=None)),
    )
    [data] = data_of(render(shown))["entries"]
    assert data == {
        "id": "clips:boat:3",
        "asset": "clips",
        "clip": "boat",
        "partition": "boat · night",
        "title": "boat",
        "prompt": "Everything about boat.",
        "model": "openai:3@2",
        "tags": ["sea", "night"],
        "take": 3,
        "createdAt": "2026-11-23T23:30:00Z",
        "state": "partial",
        "failure": "one video is missing",
        "costUsd": 0.0,
        "estimateUsd": 0.5,
        "costIsEstimate": True,
        "durationSeconds": 4.0,
        "width": 1280,
        "height": 720,
        "generationSeconds": 75.0,
        "missingParent": "clips:harbour:1",
        "posterHref": "../poster.jpg",
        "videos": [
            {
                "href": "../a.mp4",
                "contentType": "video/mp4",
                "seed": 0,
                "costUsd": 0.5,
                "width": 1280,
                "height": 720,
                "durationSeconds": 4.0,
            },
            {
                "href": "../b.webm",
                "contentType": "video/mp4",
                "width": 1280,
                "height": 720,
                "durationSeconds": 4.0,
            },
        ],
        "checksFailed": ["has_sound"],
    }


def test_hostile_text_stays_data() -> None:
    shown = replace(
        entry("boat"), title=HOSTILE, prompt=HOSTILE, tags=(HOSTILE,), clip=HOSTILE, model=HOSTILE
    )
    page = render(shown, title=HOSTILE)
    page.encode()
    assert "<img" not in page
    assert not set(data_text(page)) & set("<>&\u2028\u2029\x00")
    [data] = data_of(page)["entries"]
    assert {data["title"], data["prompt"], data["clip"], data["model"], *data["tags"]} == {HOSTILE}


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(codec=None), max_size=40))
def test_any_prompt_comes_back_as_it_was(prompt: str) -> None:
    page = render(replace(entry("boat"), prompt=prompt)).encode().decode()
    assert data_of(page)["entries"][0]["prompt"] == prompt


def test_only_the_pages_own_script_and_style_run() -> None:
    page = render(entry("boat"))
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    [script] = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    for kind, source in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = render(entry("boat"))
    linked = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page)
    assert [href.partition(",")[0] for href in linked] == ["data:image/svg+xml", "#clips"]
    assert {url.rpartition("/")[0] for url in re.findall(r"https?://[^\s\"']+", page)} == {
        "http://www.w3.org/2000"
    }
    assert "@import" not in page
    assert "url(" not in page
    assert "innerHTML" not in page


@pytest.mark.parametrize(
    ("key", "href"),
    [
        ("clips/a b/video.mp4", "../../clips/a%20b/video.mp4"),
        ("clips/#1?x=2/video.mp4", "../../clips/%231%3Fx%3D2/video.mp4"),
        ("clips/100%/übung.mp4", "../../clips/100%25/%C3%BCbung.mp4"),
        ("a:b/it's.mp4", "../../a%3Ab/it%27s.mp4"),
    ],
)
def test_links_to_objects_are_relative_and_quoted(key: str, href: str) -> None:
    assert gallery_key("Trailers/../x").count("/") == 2
    assert relative_href(key) == href
    assert data_of(render(entry("boat", href=href)))["entries"][0]["videos"][0]["href"] == href


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "http://example.com/v.mp4",
        "//example.com/v.mp4",
        "\\\\example.com\\v.mp4",
        "../a b.mp4",
        "../ü.mp4",
        '../"x.mp4',
        "#x",
        "",
    ],
)
def test_other_links_are_refused(href: str) -> None:
    with pytest.raises(ValueError, match="not a valid link for the gallery"):
        video(href)
    with pytest.raises(ValueError, match="not a valid link for the gallery"):
        entry("boat", poster_href=href)


@pytest.mark.parametrize("href", ["https://b.example.com/v.mp4?sig=a%2Fb&x=1", "file:///a/v.mp4"])
def test_https_and_file_links_are_taken(href: str) -> None:
    assert video(href).href == href


def test_totals_keep_what_was_wasted_apart() -> None:
    page = render(
        entry("a", cost_usd=0.1),
        entry("b", cost_usd=0.2),
        entry("c", cost_usd=0.4, state="failed"),
        wasted_usd=1.5,
    )
    assert data_of(page)["totals"] == {"clips": 3, "costUsd": 0.3, "wastedUsd": 1.9}


def test_remixes_know_their_parents() -> None:
    page = render(
        entry("c", parent=entry_id("clips", "b", 1)),
        entry("a"),
        entry("b", parent=entry_id("clips", "a", 1)),
        entry("d", parent=entry_id("clips", "a", 2)),
    )
    assert parents_of(page) == {
        "clips:c:1": "clips:b:1",
        "clips:a:1": None,
        "clips:b:1": "clips:a:1",
        "clips:d:1": None,
    }
    assert [shown.get("missingParent") for shown in data_of(page)["entries"]] == [
        None,
        None,
        None,
        "clips:a:2",
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.none(), st.integers(0, 11)), min_size=1, max_size=12))
def test_only_a_link_that_closes_a_ring_is_cut(parents: list[int | None]) -> None:
    ids = [entry_id("clips", str(number), 1) for number in range(12)]
    requested = {
        ids[number]: ids[parent] if parent is not None and parent < len(parents) else None
        for number, parent in enumerate(parents)
    }
    shown = parents_of(render(*(entry(i.split(":")[1], parent=requested[i]) for i in requested)))
    assert all(start not in ancestors(start, shown) for start in shown)
    for child, parent in requested.items():
        is_cut = parent is not None and shown[child] is None
        assert shown[child] == parent or is_cut
        assert not is_cut or child in ancestors(child, requested)


def ancestors(start: str, parents: dict[str, str | None]) -> set[str]:
    """All that are met on the way up; the start too, where the way leads back to it."""
    met: set[str] = set()
    current = parents[start]
    while current is not None and current not in met:
        met.add(current)
        current = parents[current]
    return met


def test_a_ring_of_parents_loses_one_link_only() -> None:
    page = render(*(entry(f"{n}", parent=f"clips:{(n + 1) % 3}:1") for n in range(3)))
    assert list(parents_of(page).values()).count(None) == 1


def test_a_clip_that_is_its_own_parent_is_a_root() -> None:
    assert parents_of(render(entry("a", parent="clips:a:1"))) == {"clips:a:1": None}


def test_the_same_take_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two entries have the id 'clips:a:1'"):
        render(entry("a"), entry("a"))


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        entry("a", created_at=datetime(2026, 11, 24))
    with pytest.raises(ValueError, match="generated_at is 2026-11-24 00:00:00, without"):
        render_gallery([], title="Gallery", generated_at=datetime(2026, 11, 24))


def test_videos_fit_the_state() -> None:
    with pytest.raises(ValueError, match="is stored and has 0 videos"):
        entry("a", videos=())
    with pytest.raises(ValueError, match="is failed and has 1 videos"):
        entry("a", state="failed", videos=(video("../a.mp4"),))


@pytest.mark.parametrize("cost_usd", [float("nan"), float("inf"), -0.5])
def test_a_cost_that_is_no_amount_is_refused(cost_usd: float) -> None:
    with pytest.raises(ValueError, match="a finite number, 0 or more"):
        entry("a", cost_usd=cost_usd)


def test_a_thousand_clips_stay_lean() -> None:
    prompt = "A slow dolly through a covered market. " * 10
    shown = [replace(entry(f"clip-{n}"), prompt=prompt) for n in range(1000)]
    empty = len(render())
    assert (len(render(*shown)) - empty) / 1000 < len(prompt) + 500


def test_colours_of_text_contrast_with_their_grounds() -> None:
    style = (files("sora_dagster.gallery") / "template" / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    )
    for theme in (light, dark):
        for text, ground in (
            ("ink", "ground"),
            ("ink", "panel"),
            ("muted", "ground"),
            ("muted", "panel"),
            ("muted", "blank"),
            ("ink", "field"),
            ("accent", "field"),
            ("on-accent", "accent"),
            ("bad", "bad-ground"),
            ("bad", "ground"),
        ):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        for sign, ground in (
            ("field-line", "ground"),
            ("edge", "panel"),
            ("accent", "ground"),
            ("accent", "panel"),
        ):
            assert contrast(theme[sign], theme[ground]) >= 3, (sign, ground)


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2, 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_page_says_when_it_was_made() -> None:
    made = datetime(2026, 11, 24, 8, 5, 9, 999, tzinfo=UTC)
    page = render_gallery([], title="Gallery", generated_at=made)
    assert data_of(page)["generatedAt"] == "2026-11-24T08:05:09Z"
