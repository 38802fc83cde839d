"""What people can do with the gallery page, in a real browser, opened from a disk and over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from sora_dagster.gallery.page import GalleryEntry, entry_id, relative_href
from tests.browser import opened, opened_on_phone
from tests.gallery.entries import FIRST_DAY, entry, many_entries, video, write_gallery, write_poster
from tests.gallery.entries import write_video as encode_video
from tests.serving import serving

NAMELESS = """() => [...document.querySelectorAll("button, a, input, select, video, dialog, img")]
  .filter((element) => !(
    element.labels?.length || element.getAttribute("aria-label") || element.textContent.trim() ||
    element.hasAttribute("alt") || element.hasAttribute("aria-labelledby")))
  .map((element) => element.outerHTML)"""
TOO_SMALL = """() => [...document.querySelectorAll("button, input, select, a.plain")]
  .filter((element) => element.checkVisibility())
  .map((element) => [(element.closest("label.check") ?? element).getBoundingClientRect(), element])
  .filter(([box]) => box.height < 44 || box.width < 44)
  .map(([box, element]) => `${box.width}x${box.height} ${element.outerHTML}`)"""
IS_WIDER = "() => document.documentElement.scrollWidth > window.innerWidth"
SIX = (
    entry("harbour", tags=("sea", "city"), cost_usd=2.0, width=1792, height=1024),
    entry(
        "harbour-night",
        asset="remixes",
        prompt="The same, at night.",
        tags=("sea",),
        parent=entry_id("clips", "harbour", 1),
        created_at=FIRST_DAY + timedelta(days=1),
    ),
    entry(
        "harbour-night-snow",
        asset="remixes",
        parent=entry_id("remixes", "harbour-night", 1),
        created_at=FIRST_DAY + timedelta(days=2),
        checks_failed=("not_frozen",),
    ),
    entry(
        "harbour-dawn",
        asset="remixes",
        parent=entry_id("clips", "harbour", 1),
        created_at=FIRST_DAY + timedelta(days=3),
    ),
    entry(
        "cat",
        model="openai:3@1",
        width=720,
        height=1280,
        cost_usd=1.0,
        created_at=FIRST_DAY + timedelta(days=4),
    ),
    entry(
        "glass",
        state="failed",
        failure="Refused by the content filter.",
        cost_usd=0.25,
        created_at=FIRST_DAY + timedelta(days=5),
    ),
)
NEWEST_FIRST = ["glass", "cat", "harbour dawn", "harbour night snow", "harbour night", "harbour"]


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page of six clips, two of them vertical or failed, four of them a family."""
    return write_gallery(tmp_path_factory.mktemp("six"), SIX, wasted_usd=1.0)


@pytest.fixture(scope="module")
def root_of_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with a page and real videos, with names that must be quoted."""
    root = tmp_path_factory.mktemp("videos")
    keys = [f"clips/clips/A #1? 100%/{name}" for name in ("one.mp4", "two.webm")]
    for key in keys:
        encode_video(root / key)
    write_poster(root / "clips/clips/A #1? 100%/poster.jpg")
    poster_href = relative_href("clips/clips/A #1? 100%/poster.jpg")
    both = tuple(video(relative_href(key), seed=11 + n) for n, key in enumerate(keys))
    write_gallery(
        root,
        [
            entry("mp4", videos=both[:1], poster_href=poster_href),
            entry("webm", videos=both[1:], poster_href=poster_href),
            entry("both", options="fps: 24", videos=both, poster_href=poster_href),
            entry("gone", href="../../nowhere.mp4"),
        ],
    )
    return root


@pytest.fixture(scope="module")
def videos(root_of_videos: Path) -> str:
    return (root_of_videos / "gallery/default/index.html").as_uri()


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_gallery(tmp_path_factory.mktemp("thousand"), many_entries(1000))


@contextmanager
def gallery(browser: Browser, root: Path, *entries: GalleryEntry) -> Iterator[Page]:
    with opened(browser, write_gallery(root, entries)) as page:
        yield page


def titles(page: Page) -> list[str]:
    return page.locator(".clip .title").all_inner_texts()


def card(page: Page, title: str) -> Locator:
    return page.locator(".clip", has=page.get_by_text(title, exact=True))


def expect_titles(page: Page, wanted: list[str]) -> None:
    expect(page.locator(".clip .title")).to_have_text(wanted)


def wait_for_playing(page: Page) -> None:
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")


def box_of(locator: Locator) -> Any:
    box = locator.bounding_box()
    assert box is not None
    return box


def test_the_grid_shows_every_clip_and_what_all_cost(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        expect_titles(page, NEWEST_FIRST)
        expect(page).to_have_title("Test gallery")
        expect(page.locator(".totals dd")).to_have_text(["6", "$4.50", "$1.25"])
        expect(card(page, "glass")).to_contain_text("Failed")
        expect(card(page, "harbour night snow")).to_contain_text("1 check failed")


def test_posters_of_every_shape_keep_it_and_fill_their_rows(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        vertical = box_of(card(page, "cat").locator(".poster"))
        wide = box_of(card(page, "harbour dawn").locator(".poster"))
        assert vertical["width"] / vertical["height"] == pytest.approx(720 / 1280, rel=0.02)
        assert wide["width"] / wide["height"] == pytest.approx(1280 / 720, rel=0.02)
        assert vertical["height"] == pytest.approx(wide["height"], abs=1)
        canvas = box_of(page.locator("#canvas"))
        assert wide["x"] + wide["width"] <= canvas["x"] + canvas["width"] + 1


def test_a_sum_with_an_estimate_in_it_says_so(browser: Browser, tmp_path: Path) -> None:
    known, guessed = entry("known"), entry("guessed", cost_is_estimate=True)
    with gallery(browser, tmp_path, known, guessed) as page:
        expect(page.locator("#total-cost")).to_have_text("≈ $1.00")
        page.get_by_label("Search").fill("known")
        expect(page.locator("#total-cost")).to_have_text("$0.50 of ≈ $1.00")


def test_an_unknown_cost_is_said_and_makes_totals_a_lower_bound(
    browser: Browser, tmp_path: Path
) -> None:
    unknown = entry("unknown", cost_usd=None, estimate_usd=None)
    failed = entry("failed", state="failed", failure="It failed.", cost_usd=None)
    with gallery(browser, tmp_path, unknown, entry("known"), failed) as page:
        expect(page.locator("#total-cost")).to_have_text("≥ $0.50")
        expect(page.locator("#total-wasted")).to_have_text("≥ $0.00")
        expect(page.get_by_text("cost unknown").first).to_be_visible()


def test_filters_narrow_the_clips_and_the_totals(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.get_by_label("Search").fill("HARBOUR night")
        expect_titles(page, ["harbour night snow", "harbour night"])
        totals = ["2 of 6", "$1.00 of $4.50", "$0.00 of $1.25"]
        expect(page.locator(".totals dd")).to_have_text(totals)
        page.get_by_label("Tag", exact=True).select_option("sea")
        expect_titles(page, ["harbour night"])
        page.get_by_role("button", name="Clear filters").click()
        page.get_by_label("Model").select_option("openai:3@1")
        expect_titles(page, ["cat"])
        page.get_by_label("Model").select_option("Any model")
        page.get_by_label("From").fill("2026-11-02")
        page.get_by_label("To", exact=True).fill("2026-11-03")
        expect_titles(page, ["harbour night snow", "harbour night"])
        page.get_by_role("button", name="Clear filters").click()
        page.get_by_label("Failed only").check()
        expect_titles(page, ["glass"])
        expect(page.locator("#total-wasted")).to_have_text("$0.25 of $1.25")


def test_the_prompt_and_the_id_are_searched(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.get_by_label("Search").fill("same, at")
        expect_titles(page, ["harbour night"])
        page.get_by_label("Search").fill("remixes:harbour-dawn")
        expect_titles(page, ["harbour dawn"])


def test_clips_can_be_sorted_by_cost(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.get_by_label("Sort").select_option("Most expensive first")
        expect(page.locator(".clip .title").first).to_have_text("harbour")
        expect(page.locator(".clip .title").nth(1)).to_have_text("cat")


def test_a_filtered_view_is_shared_by_its_address(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.get_by_label("Search").fill("night & snow? #1")
        page.get_by_label("Search").fill("harbour")
        page.get_by_label("From").fill("2026-11-03")
        page.get_by_label("Sort").select_option("cost")
        expect_titles(page, ["harbour dawn", "harbour night snow"])
        address = page.url
    with opened(browser, address) as other:
        expect_titles(other, ["harbour dawn", "harbour night snow"])
        expect(other.get_by_label("Search")).to_have_value("harbour")
        expect(other.get_by_label("From")).to_have_value("2026-11-03")
        expect(other.get_by_label("Sort")).to_have_value("cost")


def test_an_address_with_filters_that_match_nothing_shows_a_message(
    browser: Browser, six: str
) -> None:
    with opened(browser, f"{six}#tag=moon&from=soon&view=cube&clip=none") as page:
        expect(page.get_by_label("Tag", exact=True)).to_have_value("moon")
        expect(page.get_by_text("No matching clips")).to_be_visible()
        page.locator("#empty").get_by_role("button", name="Clear filters").click()
        expect_titles(page, NEWEST_FIRST)


def test_an_empty_gallery_says_so(browser: Browser, tmp_path: Path) -> None:
    with gallery(browser, tmp_path) as page:
        expect(page.get_by_text("No clips yet")).to_be_visible()
        expect(page.get_by_role("button", name="Clear filters")).to_have_count(0)


def test_a_gallery_without_remixes_says_so(browser: Browser, tmp_path: Path) -> None:
    with gallery(browser, tmp_path, entry("alone")) as page:
        page.get_by_role("button", name="Families").click()
        expect(page.get_by_text("No remixes")).to_be_visible()


def test_the_keyboard_reaches_plays_and_comes_back(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to clips")).to_be_focused()
        page.keyboard.press("Enter")
        expect(card(page, "glass")).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(card(page, "harbour dawn")).to_be_focused()
        page.keyboard.press("ArrowDown")
        below = re.compile(f"^({'|'.join(NEWEST_FIRST[3:])})$")
        expect(page.locator(".clip:focus .title")).to_have_text(below)
        page.keyboard.press("ArrowUp")
        page.keyboard.press("End")
        expect(card(page, "harbour")).to_be_focused()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowLeft")
        expect(card(page, "glass")).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="cat")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("dialog", name="harbour dawn")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(card(page, "harbour dawn")).to_be_focused()


def test_tab_stops_once_at_the_clips(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        expect(page.locator(".clip[tabindex='0']")).to_have_count(1)
        page.locator(".clip").first.focus()
        page.keyboard.press("Shift+Tab")
        expect(page.get_by_label("Failed only")).to_be_focused()


def test_focus_is_seen(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(card(page, "glass")).to_be_focused()
        expect(card(page, "glass")).to_have_css("outline-width", "3px")


@pytest.mark.parametrize("clip", ["mp4", "webm"])
def test_a_click_plays_the_video(browser: Browser, videos: str, clip: str) -> None:
    with opened(browser, videos) as page:
        if clip == "mp4" and not page.evaluate(
            "() => document.querySelector('video').canPlayType('video/mp4; codecs=\"avc1.64000a\"')"
        ):
            pytest.skip("this Chromium was built without H.264")
        card(page, clip).click()
        expect(page.get_by_role("dialog", name=clip)).to_be_visible()
        wait_for_playing(page)
        assert page.locator("video").count() == 1
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator("video")).not_to_have_attribute("src", re.compile(""))


def test_over_http_only_the_opened_video_is_loaded(browser: Browser, root_of_videos: Path) -> None:
    app = Starlette(routes=[Mount("/", StaticFiles(directory=root_of_videos))])
    with serving(app) as address, opened(browser, "about:blank") as page:
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url.removeprefix(address)))
        page.goto(f"{address}/gallery/default/index.html")
        expect(card(page, "webm").locator("img")).to_have_js_property("complete", True)
        assert not [path for path in requested if path.endswith((".mp4", ".webm"))]
        card(page, "webm").click()
        wait_for_playing(page)
        loaded = {path for path in requested if path.endswith((".mp4", ".webm"))}
        assert loaded == {"/clips/clips/A%20%231%3F%20100%25/two.webm"}


def test_posters_are_shown(browser: Browser, videos: str) -> None:
    with opened(browser, videos) as page:
        expect(card(page, "mp4").locator("img")).to_have_js_property("naturalWidth", 128)
        expect(card(page, "gone")).to_contain_text("No poster")


def test_each_video_of_a_clip_can_be_chosen(browser: Browser, videos: str) -> None:
    with opened(browser, videos) as page:
        card(page, "both").click()
        dialog = page.get_by_role("dialog", name="both")
        expect(dialog.locator(".facts")).to_contain_text("Seed\n11", use_inner_text=True)
        expect(dialog.locator(".facts")).to_contain_text("Options\nfps: 24", use_inner_text=True)
        second = dialog.get_by_role("button", name="Video 2")
        second.click()
        expect(second).to_have_attribute("aria-pressed", "true")
        expect(dialog.locator(".facts")).to_contain_text("Seed\n12", use_inner_text=True)
        wait_for_playing(page)
        expect(page.locator("video")).to_have_attribute("src", re.compile(r"two\.webm$"))


def test_space_pauses(browser: Browser, videos: str) -> None:
    with opened(browser, videos) as page:
        card(page, "webm").click()
        wait_for_playing(page)
        page.keyboard.press(" ")
        expect(page.locator("video")).to_have_js_property("paused", True)


def test_a_missing_video_is_reported(browser: Browser, root_of_videos: Path) -> None:
    url = (root_of_videos / "gallery/default/index.html").as_uri()
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    card(page, "gone").click()
    expect(page.get_by_text("This video could not be loaded.")).to_be_visible()
    context.close()


def test_the_dialog_shows_all_details_of_a_clip(browser: Browser, tmp_path: Path) -> None:
    parent = entry("harbour")
    shown = entry(
        "night",
        prompt="First line.\nSecond line.",
        take=2,
        tags=("sea",),
        cost_usd=0.1234,
        cost_is_estimate=True,
        estimate_usd=0.2,
        generation_seconds=125.0,
        checks_failed=("has_sound", "not_frozen"),
        parent=parent.id,
    )
    child = entry("snow", parent=shown.id)
    with gallery(browser, tmp_path, parent, shown, child) as page:
        card(page, "night").click()
        dialog = page.get_by_role("dialog", name="night")
        prompt = dialog.locator("#player-prompt")
        expect(prompt).to_have_js_property("innerText", "First line.\nSecond line.")
        expect(dialog.get_by_role("heading", name="1 remix", exact=True)).to_be_visible()
        for part in (
            "≈ $0.1234",
            "$0.20",
            "openai:3@2",
            "1280 × 720",
            "2 min 5 s",
            "has_sound",
            "not_frozen",
            "1 Nov 2026, 12:00 UTC",
        ):
            expect(dialog).to_contain_text(part)
        dialog.get_by_role("button", name="snow").click()
        expect(page.get_by_role("dialog", name="snow")).to_be_visible()
        page.get_by_role("dialog").get_by_role("button", name="night").click()
        page.get_by_role("dialog").get_by_role("button", name="harbour").click()
        expect(page.get_by_role("dialog", name="harbour")).to_be_visible()


def test_a_failed_clip_says_why(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        card(page, "glass").click()
        dialog = page.get_by_role("dialog", name="glass")
        expect(dialog.locator(".failure")).to_have_text("Refused by the content filter.")
        expect(dialog.locator("video")).to_be_hidden()
        expect(dialog.get_by_role("link", name="Open video")).to_be_hidden()


def test_a_parent_that_is_not_here_is_named(browser: Browser, tmp_path: Path) -> None:
    with gallery(browser, tmp_path, entry("night", parent="clips:pruned:1")) as page:
        card(page, "night").click()
        expect(page.get_by_role("dialog")).to_contain_text("clips:pruned:1")


def test_a_tag_in_the_dialog_filters(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        card(page, "harbour").click()
        page.get_by_role("dialog").get_by_role("button", name="city").click()
        expect_titles(page, ["harbour"])
        expect(page.get_by_label("Tag", exact=True)).to_have_value("city")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_link_to_a_clip_is_copied_and_opens_it(browser: Browser, six: str) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    with opened(browser, f"{six}#text=cat", permissions=permissions) as page:
        card(page, "cat").click()
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_text("Copied", exact=True)).to_be_visible()
        link = page.evaluate("() => navigator.clipboard.readText()")
    with opened(browser, link) as other:
        expect(other.get_by_role("dialog", name="cat")).to_be_visible()
        other.keyboard.press("Escape")
        expect_titles(other, NEWEST_FIRST)
        expect(other).not_to_have_url(re.compile("clip="))


def test_back_closes_the_dialog(browser: Browser, six: str) -> None:
    with opened(browser, f"{six}#text=harbour") as page:
        card(page, "harbour dawn").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_label("Search")).to_have_value("harbour")


def test_families_are_trees_from_left_to_right(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        page.get_by_role("button", name="Families").click()
        expect(page.locator("path.edge")).to_have_count(3)
        places = {title: box_of(card(page, title).locator(".poster")) for title in titles(page)}
        assert set(places) == {"harbour", "harbour night", "harbour dawn", "harbour night snow"}
        assert places["harbour night"]["x"] == places["harbour dawn"]["x"]
        assert places["harbour"]["x"] < places["harbour night"]["x"]
        assert places["harbour night"]["x"] < places["harbour night snow"]["x"]
        canvas = box_of(page.locator("#canvas"))
        ends = page.evaluate(
            """() => [...document.querySelectorAll("path.edge")].map((path) => {
              const end = path.getPointAtLength(path.getTotalLength());
              return [end.x, end.y];
            })"""
        )
        for child in ("harbour night", "harbour dawn", "harbour night snow"):
            box = places[child]
            end = (box["x"] - canvas["x"], box["y"] - canvas["y"] + box["height"] / 2)
            assert any(end == pytest.approx(reached, abs=1.5) for reached in ends)
        levels = {title: card(page, title).get_attribute("aria-level") for title in places}
        assert levels["harbour"] == "1"
        assert levels["harbour night snow"] == "3"


def test_families_are_walked_with_arrow_keys(browser: Browser, six: str) -> None:
    with opened(browser, f"{six}#view=families") as page:
        card(page, "harbour").focus()
        page.keyboard.press("ArrowRight")
        expect(card(page, "harbour night")).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        expect(card(page, "harbour dawn")).to_be_focused()
        page.keyboard.press("ArrowLeft")
        expect(card(page, "harbour")).to_be_focused()


def test_a_family_is_shown_completely_with_other_members_dimmed(browser: Browser, six: str) -> None:
    with opened(browser, f"{six}#view=families&text=dawn") as page:
        expect(page.locator(".clip")).to_have_count(4)
        expect(page.locator(".clip:not(.dimmed) .title")).to_have_text(["harbour dawn"])


def test_families_are_indented_on_a_phone(browser: Browser, six: str) -> None:
    with opened_on_phone(browser, f"{six}#view=families") as page:
        expect(page.locator("path.edge")).to_have_count(3)
        boxes = [
            box_of(card(page, title))
            for title in ("harbour", "harbour night", "harbour night snow")
        ]
        assert boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"] < 120
        assert boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
        assert not page.evaluate(IS_WIDER)


def test_a_deep_family_stays_within_the_window(browser: Browser, tmp_path: Path) -> None:
    chain = [entry(f"c{n:03d}", parent=f"clips:c{n - 1:03d}:1" if n else None) for n in range(300)]
    with gallery(browser, tmp_path, *chain) as page:
        page.get_by_role("button", name="Families").click()
        card(page, "c000").focus()
        page.keyboard.press("End")
        expect(card(page, "c299")).to_be_focused()
        assert not page.evaluate(IS_WIDER)


def test_a_parent_of_hundreds_draws_only_what_is_near(browser: Browser, tmp_path: Path) -> None:
    children = [entry(f"c{n:03d}", parent="clips:root:1") for n in range(600)]
    with gallery(browser, tmp_path, entry("root"), *children) as page:
        page.get_by_role("button", name="Families").click()
        expect(card(page, "root")).to_be_visible()
        expect(page.locator("path.edge").first).to_be_attached()
        assert page.locator("path.edge").count() < 60
        page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight / 2)")
        expect(card(page, "c300")).to_have_count(1)
        assert page.locator("path.edge").count() < 60


def test_a_thousand_clips_draw_only_what_is_near(browser: Browser, thousand: str) -> None:
    with opened(browser, thousand) as page:
        expect(card(page, "clip 0999")).to_be_visible()
        assert page.locator("*").count() < 1200
        page.locator(".clip").first.focus()
        page.keyboard.press("End")
        expect(card(page, "clip 0000")).to_be_focused()
        expect(card(page, "clip 0000")).to_be_in_viewport()
        assert page.locator("*").count() < 1200
        expect(card(page, "clip 0000").locator("..")).to_have_attribute("aria-posinset", "1000")
        page.evaluate("() => scrollTo(0, 0)")
        expect(card(page, "clip 0999")).to_be_in_viewport()


def test_every_clip_of_a_thousand_is_met_on_the_way_down(browser: Browser, thousand: str) -> None:
    with opened(browser, thousand) as page:
        met: set[str] = set(titles(page))
        while not page.evaluate("() => scrollY + innerHeight >= document.body.scrollHeight - 1"):
            page.evaluate("() => scrollBy(0, 1.8 * innerHeight)")
            page.evaluate(
                "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
            )
            met |= set(titles(page))
        assert len(met) == 1000


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, six: str) -> None:
    with opened_on_phone(browser, six) as page:
        assert not page.evaluate(IS_WIDER)
        page.get_by_role("button", name="Filters").tap()
        page.get_by_label("Failed only").check()
        expect_titles(page, ["glass"])
        expect(page.get_by_role("button", name="Filters (1)")).to_have_attribute(
            "aria-expanded", "true"
        )
        assert page.evaluate(TOO_SMALL) == []
        card(page, "glass").tap()
        expect(page.get_by_role("dialog", name="glass")).to_be_visible()
        assert not page.evaluate(IS_WIDER)
        assert page.evaluate(TOO_SMALL) == []
        page.get_by_role("button", name="Close").tap()
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_everything_has_a_name(browser: Browser, six: str) -> None:
    with opened(browser, six) as page:
        assert page.evaluate(NAMELESS) == []
        card(page, "harbour night").click()
        expect(page.get_by_role("dialog", name="harbour night")).to_be_visible()
        assert page.evaluate(NAMELESS) == []
        assert page.locator("h1").count() == 1
        assert page.locator("html").get_attribute("lang") == "en"


def test_hostile_text_is_shown_as_it_is(browser: Browser, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=\"document.title='broken'\">&amp;"
    shown = replace(
        entry("boat"), title=hostile, prompt=hostile, clip=hostile, tags=(hostile,), model=hostile
    )
    with gallery(browser, tmp_path, shown) as page:
        expect_titles(page, [hostile])
        page.locator(".clip").click()
        expect(page.locator("#player-prompt")).to_have_text(hostile)
        expect(page.locator("img")).to_have_count(0)
        expect(page).to_have_title("Test gallery")
        assert page.locator("#player-tags").inner_text() == hostile


def test_the_policy_stops_a_script_that_is_not_the_pages(browser: Browser, six: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(six)
    page.evaluate(
        """() => {
          const added = document.createElement("script");
          added.textContent = "document.title = 'broken'";
          document.body.append(added);
        }"""
    )
    assert page.title() == "Test gallery"
    context.close()


def test_dark_and_light_follow_the_system(browser: Browser, six: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with opened(browser, six, color_scheme=scheme) as page:
            grounds.append(
                page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
            )
    assert grounds == ["rgb(246, 245, 241)", "rgb(19, 22, 24)"]


def test_with_less_motion_nothing_plays_by_itself(browser: Browser, videos: str) -> None:
    with opened(browser, videos, reduced_motion="reduce") as page:
        card(page, "webm").click()
        expect(page.get_by_role("dialog", name="webm")).to_be_visible()
        expect(page.locator("video")).to_have_js_property("paused", True)
        assert page.locator("video").get_attribute("preload") == "none"
        duration = page.evaluate(
            "() => getComputedStyle(document.getElementById('player')).animationName"
        )
        assert duration == "none"
