"""The pictures of README and docs, of the example dataset and an incident: `make screenshots`."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect
from rich.console import Console
from rich.text import Text

from sora_dagster.environment.values import example_boards, example_prompts
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue
from tests.browser import running_browser
from tests.dagster_ui import (
    DagsterUi,
    dagster_page,
    expect_picture,
    generate,
    metadata,
    node,
    open_group,
    open_partition,
    running_dev,
)
from tests.incident import COLUMNS, Incident, running_incident

WIDTH = 1400
# Nodes of a large graph show their state only where there is room for it.
LARGE_GRAPH_WIDTH = 1800
SHOTS = ("monsoon", "storm", "dawn", "dawn_departure", "dawn_close_up")


def main(folder: Path) -> None:
    """Generate the example by clicks, and take the pictures.

    Arguments:
        folder: where they go.
    """
    settings = {"SORA_PROMPTS": str(example_prompts()), "SORA_BOARDS": ",".join(example_boards())}
    with (
        tempfile.TemporaryDirectory() as work,
        running_dev(Path(work), settings, project=Path.cwd()) as ui,
        running_browser() as browser,
    ):
        with dagster_page(browser) as page:
            dataset = load_dataset(example_prompts(), catalogue=Catalogue.builtin())
            videos = len(SHOTS) + len(dataset.clips) + len(dataset.remix_cells)
            generate(page, ui, board="mangrove", clips=len(dataset.clips), videos=videos)
        for name, view in {
            "asset-graph": asset_graph(browser, ui),
            "storyboard-graph": storyboard_graph(browser, ui),
            "clip": clip(browser, ui),
            "checks": checks(browser, ui),
            "cost-report": cost_report(browser, ui),
            "gallery": gallery(browser, ui),
        }.items():
            with view as page:
                save(page, folder / f"{name}.png")
    with (
        tempfile.TemporaryDirectory() as work,
        running_incident(Path(work)) as incident,
        running_browser() as browser,
    ):
        for name, view in {
            "status": status(browser, incident),
            "red-signals": red_signals(browser, incident),
        }.items():
            with view as page:
                save(page, folder / f"{name}.png")


@contextmanager
def asset_graph(browser: Browser, ui: DagsterUi) -> Iterator[Page]:
    with dagster_page(browser, width=LARGE_GRAPH_WIDTH, height=880) as page:
        page.goto(ui.url)
        page.get_by_role("button", name="Hide navigation").click()
        open_group(page, ui, "generative_video")
        expect(node(page, "cost_report")).to_contain_text("Materialized")
        yield page


@contextmanager
def storyboard_graph(browser: Browser, ui: DagsterUi) -> Iterator[Page]:
    with dagster_page(browser, width=WIDTH, height=800) as page:
        page.goto(ui.url)
        page.get_by_role("button", name="Hide navigation").click()
        open_group(page, ui, "mangrove")
        for shot in SHOTS:
            expect(node(page, shot)).to_contain_text("Passed")
        yield page


@contextmanager
def clip(browser: Browser, ui: DagsterUi) -> Iterator[Page]:
    with dagster_page(browser, width=WIDTH, height=940) as page:
        open_partition(page, ui, "clips", "clockwork-market")
        expect(metadata(page, "cost_usd")).to_be_visible()
        expect_picture(page, "thumbnail")
        yield page


@contextmanager
def checks(browser: Browser, ui: DagsterUi) -> Iterator[Page]:
    with dagster_page(browser, width=WIDTH, height=760) as page:
        page.goto(f"{ui.url}/assets/clips")
        page.get_by_role("tab", name="Checks").click()
        page.get_by_text("clip_checks", exact=True).first.click()
        page.get_by_role("tab", name="Partitions").last.click()
        page.get_by_text("glass-cello", exact=True).first.click()
        expect(page.get_by_role("cell", name="not_black", exact=True)).to_be_visible()
        yield page


@contextmanager
def cost_report(browser: Browser, ui: DagsterUi) -> Iterator[Page]:
    with dagster_page(browser, width=WIDTH, height=940) as page:
        page.goto(f"{ui.url}/assets/cost_report")
        expect(metadata(page, "total_usd")).to_be_visible()
        expect_picture(page, "plot")
        yield page


@contextmanager
def gallery(browser: Browser, ui: DagsterUi) -> Iterator[Page]:
    with dagster_page(browser, width=WIDTH, height=940) as page:
        page.goto(ui.gallery_url)
        page.wait_for_load_state("networkidle")
        yield page


@contextmanager
def status(browser: Browser, incident: Incident) -> Iterator[Page]:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(incident.status))
    # Without the fonts of another server.
    picture = re.sub(
        r"@font-face \{.*?\}", "", console.export_svg(title=incident.command), flags=re.S
    )
    # The page is as large as the picture of the terminal.
    with dagster_page(browser, width=WIDTH, height=600) as page:
        page.set_content(f"<body style='margin: 0'>{picture}")
        box = page.locator("svg").bounding_box()
        assert box is not None
        page.set_viewport_size({"width": WIDTH, "height": round(box["height"])})
        yield page


@contextmanager
def red_signals(browser: Browser, incident: Incident) -> Iterator[Page]:
    with dagster_page(browser, width=WIDTH, height=500) as page:
        page.goto(f"{incident.ui_url}/assets/generation_costs")
        page.get_by_role("tab", name="Checks").click()
        page.get_by_text("runware_works", exact=True).first.click()
        expect(page.get_by_text("Runware refused the API key")).to_be_visible()
        yield page


def save(page: Page, path: Path) -> None:
    """Take a picture, small enough for a repository."""
    # Dialogs fade in; with animations disabled they are there at once.
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = picture.quantize(256)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
