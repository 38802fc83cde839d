"""The Dagster UI of `sora-dagster dev` in a real browser: what people click, and what they see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Locator, Page, expect

from sora_dagster.local.processes import wait_until
from tests.browser import TIMEOUT_SECONDS
from tests.command_line import clean_environment
from tests.sandbox_server import free_port

START_SECONDS = 120
# Rendering takes its time on a machine that is busy with other tests.
GENERATION_SECONDS = 400
REPORTS = ("gallery", "generation_costs", "cost_report")
_RUNS = """{runsOrError {... on Runs {results {status assetSelection {path}}}}}"""
_LOCATIONS = """{workspaceOrError {... on Workspace {locationEntries {name loadStatus}}}}"""
# Each line of the graph starts at the right of one node and ends at the left of another, in the
# graph's own coordinates.
_EDGES = """() => {
  const nodes = [...document.querySelectorAll("svg foreignObject")].map((node) => ({
    name: node.querySelector("[data-tooltip]")?.textContent ?? node.textContent,
    ...Object.fromEntries(["x", "y", "width", "height"].map((a) => [a, +node.getAttribute(a)])),
  }));
  const at = (x, y) => nodes.find((node) =>
    node.x - 20 <= x && x <= node.x + node.width + 20 && node.y <= y && y <= node.y + node.height);
  return [...document.querySelectorAll("svg path[marker-end]")].map((line) => {
    const numbers = line.getAttribute("d").match(/-?[0-9.]+/g).map(Number);
    return [at(...numbers.slice(0, 2))?.name, at(...numbers.slice(-2))?.name];
  });
}"""


@dataclass(frozen=True)
class DagsterUi:
    """A running `sora-dagster dev`.

    Arguments:
        url: address of the Dagster UI.
        gallery_url: address of the gallery, as it is printed.
        home: its folder.
    """

    url: str
    gallery_url: str
    home: Path

    @property
    def location(self) -> str | None:
        """Name of the code location; None until it is loaded."""
        [entry] = self._ask(_LOCATIONS)["workspaceOrError"]["locationEntries"]
        return entry["name"] if entry["loadStatus"] == "LOADED" else None

    def has_materialized(self, asset: str) -> bool:
        """Whether a run that was asked for an asset has succeeded, and nothing is under way."""
        runs = self._ask(_RUNS)["runsOrError"]["results"]
        entries = (self.home / "storage" / "pending").rglob("*")
        pending = [path for path in entries if path.is_file()]
        return (
            not pending
            and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs)
            and any(
                run["status"] == "SUCCESS" and {"path": [asset]} in (run["assetSelection"] or [])
                for run in runs
            )
        )

    def _ask(self, query: str) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query}, timeout=30)
        data: dict[str, Any] = answer.raise_for_status().json()["data"]
        return data


@contextmanager
def running_dev(
    folder: Path,
    settings: Mapping[str, str],
    *,
    project: Path | None = None,
    latency_seconds: float = 0.5,
) -> Iterator[DagsterUi]:
    """`sora-dagster dev` in a folder, in a process group of its own, which ends with the block.

    Arguments:
        folder: where its home and its output go.
        settings: environment variables, such as SORA_PROMPTS.
        project: folder that it is started in, with or without a project; the same where not given.
        latency_seconds: how long the local Runware takes for a video.
    """
    home, output_path = folder / "home", folder / "output.txt"
    with output_path.open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sora_dagster", "dev", f"--home={home}"),
                *(f"--port={free_port()}", f"--latency={latency_seconds}"),
            ],
            cwd=project or folder,
            env=clean_environment(**settings, COLUMNS="200"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        printed = re.compile(r"Dagster UI: (\S+) +gallery: (\S+)")
        found: list[re.Match[str]] = []

        def is_up() -> bool:
            assert process.poll() is None, output_path.read_text()
            found.extend(printed.finditer(output_path.read_text()))
            return bool(found)

        assert wait_until(is_up, timeout_seconds=START_SECONDS), output_path.read_text()
        ui = DagsterUi(url=found[0][1], gallery_url=found[0][2], home=home)
        assert wait_until(lambda: ui.location is not None, timeout_seconds=START_SECONDS)
        yield ui
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def dagster_page(
    browser: Browser, *, width: int = 1600, height: int = 1000, **options: Any
) -> Iterator[Page]:
    """A page for the Dagster UI; none of its scripts may break.

    Arguments:
        width, height: of the window, in pixels; nodes of a graph show their state only where there
            is room for it.
        options: of Playwright's `new_context`.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(1000 * TIMEOUT_SECONDS)
    page = context.new_page()
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    try:
        yield page
        assert not broken, broken
    finally:
        context.close()


def open_group(page: Page, ui: DagsterUi, group: str) -> None:
    """Open the graph of an asset group."""
    page.goto(f"{ui.url}/locations/{ui.location}/asset-groups/{group}")
    expect(nodes(page).first).to_be_visible()


def choose(page: Page, selection: str) -> None:
    """Type an asset selection into the search field above the graph."""
    page.locator(".CodeMirror").click()
    page.keyboard.type(selection)
    page.keyboard.press("Enter")
    # Closes the suggestions, which would lie over the graph.
    page.keyboard.press("Escape")


def materialize_all(page: Page) -> None:
    """Materialize what the graph shows, all partitions of it where it has any."""
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("button", name="Launch backfill")
    launched = page.get_by_text(re.compile("Launched run|Created backfill"))
    expect(dialog.or_(launched)).to_be_visible()
    if dialog.is_visible():
        page.get_by_role("button", name="All", exact=True).click()
        dialog.click()
    expect(launched).to_be_visible()


def generate(page: Page, ui: DagsterUi, *, board: str, clips: int, videos: int) -> None:
    """Materialize a storyboard, the dataset's clips and the reports; remixes follow by themselves.

    Arguments:
        page: a page.
        ui: the UI.
        board: name of the storyboard.
        clips: how many the dataset has.
        videos: how many takes are stored in the end, with shots and remixes.
    """
    open_group(page, ui, board)
    materialize_all(page)
    open_group(page, ui, "generative_video")
    choose(page, 'key:"clip_requests" or key:"clips"')
    # The dataset sensor makes the partitions.
    expect(node(page, "clips")).to_contain_text(f"{clips} partitions")
    materialize_all(page)
    storage = ui.home / "storage"
    assert wait_until(
        lambda: (
            len(list(storage.glob("clips/*/*/take-1/clip.json"))) == videos
            and ui.has_materialized("clips")
        ),
        timeout_seconds=GENERATION_SECONDS,
    )
    open_group(page, ui, "generative_video")
    choose(page, " or ".join(f'key:"{name}"' for name in REPORTS))
    materialize_all(page)
    assert wait_until(
        lambda: ui.has_materialized("cost_report"), timeout_seconds=GENERATION_SECONDS
    )


def nodes(page: Page) -> Locator:
    """The nodes of the graph."""
    return page.locator("svg foreignObject")


def node(page: Page, name: str) -> Locator:
    """One node of the graph."""
    return nodes(page).filter(has=page.get_by_text(name, exact=True))


def node_names(page: Page) -> set[str]:
    """The names of the graph's nodes."""
    return set(page.locator("svg foreignObject [data-tooltip]").all_inner_texts())


def edges(page: Page, *, until: Callable[[set[tuple[str, str]]], bool]) -> set[tuple[str, str]]:
    """Which nodes the lines of the graph lead from and to.

    Arguments:
        page: the page.
        until: says whether they are all drawn; they are given as they are where that takes long.
    """
    drawn: set[tuple[str, str]] = set()

    def look() -> bool:
        drawn.clear()
        drawn.update((start, end) for start, end in page.evaluate(_EDGES))
        return until(drawn)

    wait_until(look, timeout_seconds=TIMEOUT_SECONDS)
    return drawn


def open_partition(page: Page, ui: DagsterUi, asset: str, partition: str) -> None:
    """Open the page of one partition of an asset."""
    page.goto(f"{ui.url}/assets/{asset}")
    page.get_by_role("tab", name="Partitions").or_(
        page.get_by_role("link", name="Partitions")
    ).first.click()
    page.get_by_text(partition, exact=True).first.click()
    expect(page.get_by_text("prompt", exact=True)).to_be_visible()


def metadata(page: Page, name: str) -> Locator:
    """A row of the table of metadata."""
    return page.locator("tr", has=page.get_by_role("cell", name=name, exact=True))


def expect_picture(page: Page, name: str) -> None:
    """Open a picture that stands in the metadata, and see that it is one."""
    metadata(page, name).get_by_text("Show Markdown").click()
    picture = page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("(picture) => picture.complete && picture.naturalWidth > 0")
