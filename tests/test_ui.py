"""What people do and see in the Dagster UI and the gallery, with `sora-dagster dev`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, expect

from sora_dagster.environment.values import example_boards
from sora_dagster.media.checks import CHECKS
from tests.browser import opened
from tests.dagster_ui import (
    REPORTS,
    DagsterUi,
    dagster_page,
    edges,
    expect_picture,
    generate,
    metadata,
    node,
    node_names,
    open_group,
    open_partition,
    running_dev,
)

pytestmark = pytest.mark.daemon

PROMPTS = """
clips:
  - {id: fox, prompt: a fox in snow, recipes: [night], tags: [animal]}
  - {id: owl, prompt: an owl on a branch}
recipes: {night: the same at night}
"""
FAMILY = {
    ("monsoon", "dawn"),
    ("monsoon", "storm"),
    ("dawn", "dawn_departure"),
    ("dawn", "dawn_close_up"),
}
SHOTS = {name for edge in FAMILY for name in edge}


@dataclass(frozen=True)
class Studio:
    """A running UI with a small dataset and a small storyboard."""

    ui: DagsterUi
    board: Path


def small_board(path: Path) -> Path:
    """The example's family, in small and short shots."""
    board = yaml.safe_load(Path(example_boards()[0]).read_text())
    board["defaults"] |= {"size": "1280x720", "duration": 4}
    path.write_text(yaml.safe_dump(board))
    return path


@pytest.fixture(scope="module")
def studio(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """All is generated, by clicks alone."""
    folder = tmp_path_factory.mktemp("ui")
    prompts, board = folder / "prompts.yaml", small_board(folder / "mangrove.yaml")
    prompts.write_text(PROMPTS)
    settings = {"SORA_PROMPTS": str(prompts), "SORA_BOARDS": str(board)}
    with running_dev(folder, settings) as ui:
        with dagster_page(browser) as page:
            generate(page, ui, board="mangrove", clips=2, videos=8)
        yield Studio(ui, board)


def test_a_storyboard_is_drawn_as_the_family_that_it_is(browser: Browser, studio: Studio) -> None:
    with dagster_page(browser) as page:
        open_group(page, studio.ui, "mangrove")
        for shot in SHOTS:
            expect(node(page, shot)).to_contain_text("Materialized")
            # The list of all checks; a check of its own is logged only if it fails.
            expect(node(page, shot)).to_contain_text(f"1 / {len(CHECKS) + 1} Passed")
        assert node_names(page) == SHOTS
        assert edges(page, until=FAMILY.__eq__) == FAMILY
        page.goto(f"{studio.ui.url}/assets/mangrove/dawn_departure")
        page.get_by_role("tab", name="Lineage").click()
        expect(node(page, "dawn")).to_be_visible()
        upstream = {("dawn", "dawn_departure")}
        assert edges(page, until=upstream.__eq__) == upstream


def test_the_dataset_is_drawn_from_its_rows_to_the_reports(
    browser: Browser, studio: Studio
) -> None:
    with dagster_page(browser) as page:
        open_group(page, studio.ui, "generative_video")
        expect(node(page, "cost_report")).to_be_visible()
        expected = {
            ("prompts", "clip_requests"),
            ("clip_requests", "clips"),
            ("clips", "remix_requests"),
            ("remix_requests", "remixes"),
            ("clips", "gallery"),
            ("remixes", "gallery"),
            ("clips", "generation_costs"),
            ("generation_costs", "cost_report"),
        }
        assert expected <= edges(page, until=expected.__le__)
        # A storyboard's shots are in the reports, and would hide the dataset behind their lines.
        assert not node_names(page) & SHOTS


def test_a_clips_page_shows_its_picture_what_it_cost_and_its_checks(
    browser: Browser, studio: Studio
) -> None:
    with dagster_page(browser) as page:
        open_partition(page, studio.ui, "clips", "fox")
        expect(metadata(page, "prompt")).to_contain_text("a fox in snow")
        expect(metadata(page, "cost_usd")).to_contain_text("1.2")
        expect_picture(page, "thumbnail")
        page.get_by_role("button", name="Close").click()

        play = metadata(page, "play").get_by_role("link").first.get_attribute("href")
        assert play is not None
        assert page.request.get(play).headers["content-type"] == "video/mp4"

        page.get_by_role("tab", name="Checks").click()
        expect(page.get_by_text("Succeeded", exact=True)).to_have_count(2)
        expect(page.get_by_text("Skipped", exact=True)).to_have_count(len(CHECKS))
        page.get_by_text("clip_checks", exact=True).first.click()
        for check in CHECKS:
            expect(page.get_by_role("cell", name=check, exact=True)).to_be_visible()
        page.get_by_role("tab", name="Partitions").last.click()
        expect(page.get_by_text("Passed (2)")).to_be_visible()
        page.get_by_text("quality", exact=True).first.click()
        expect(page.get_by_text("None of 2 clips failed a check.")).to_be_visible()


def test_figures_are_plotted_over_the_clips(browser: Browser, studio: Studio) -> None:
    with dagster_page(browser, height=1600) as page:
        page.goto(f"{studio.ui.url}/assets/clips")
        page.get_by_text("Plots", exact=True).click()
        for figure in ("cost_usd", "generation_seconds", "duration_seconds"):
            expect(page.get_by_text(figure, exact=True)).to_be_visible()
        expect(page.locator("canvas").first).to_be_visible()


def test_a_remix_names_its_parent(browser: Browser, studio: Studio) -> None:
    with dagster_page(browser, height=1600) as page:
        page.goto(f"{studio.ui.url}/assets/mangrove/storm")
        page.get_by_role("link", name="mangrove / monsoon").first.click()
        expect(page).to_have_url(re.compile("/assets/mangrove/monsoon"))
        page.goto(f"{studio.ui.url}/assets/remixes")
        page.get_by_role("tab", name="Partitions").click()
        page.get_by_text("fox", exact=True).first.click()
        page.get_by_text("night", exact=True).first.click()
        expect(metadata(page, "parent")).to_contain_text("clips")
        expect(metadata(page, "parent_partition")).to_contain_text("fox")


def test_the_cost_report_shows_a_plot_and_all_that_was_spent(
    browser: Browser, studio: Studio
) -> None:
    with dagster_page(browser, height=1600) as page:
        page.goto(f"{studio.ui.url}/assets/cost_report")
        # Eight videos of 4 s, at 0.30 USD per second.
        expect(metadata(page, "total_usd")).to_contain_text("9.6")
        expect(metadata(page, "tasks")).to_contain_text("8")
        expect_picture(page, "plot")


def test_the_gallery_shows_and_plays_every_clip(browser: Browser, studio: Studio) -> None:
    with opened(browser, studio.ui.gallery_url) as page:
        expect(page.locator(".clip")).to_have_count(8)
        posters = page.locator(".clip .poster img")
        expect(posters).to_have_count(8)
        for index in range(8):
            posters.nth(index).scroll_into_view_if_needed()
            expect(posters.nth(index)).to_be_visible()
            page.wait_for_function(
                "([index]) => document.querySelectorAll('.clip .poster img')[index].naturalWidth",
                arg=[index],
            )
        page.locator(".clip", has=page.get_by_text("dawn close up", exact=True)).click()
        page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
        expect(page.locator("#player-family")).to_contain_text("dawn")


def test_nothing_is_stale_until_its_prompt_changes(browser: Browser, studio: Studio) -> None:
    with dagster_page(browser, width=2800, height=1400) as page:
        open_group(page, studio.ui, "generative_video")
        for report in REPORTS:
            expect(node(page, report)).to_contain_text("Materialized")
            expect(node(page, report)).not_to_contain_text("Unsynced")
        open_group(page, studio.ui, "mangrove")
        for shot in SHOTS:
            expect(node(page, shot)).to_contain_text("Materialized")
            expect(node(page, shot)).not_to_contain_text("Unsynced")

        board = yaml.safe_load(studio.board.read_text())
        board["shots"][0]["remixes"][1]["prompt"] = "The same shot as the storm moves on."
        studio.board.write_text(yaml.safe_dump(board))
        page.get_by_role("button", name="Reload definitions").click()
        expect(node(page, "storm")).to_contain_text("Unsynced", timeout=120_000)
        for shot in SHOTS - {"storm"}:
            expect(node(page, shot)).not_to_contain_text("Unsynced")
