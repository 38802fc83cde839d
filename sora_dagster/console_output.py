"""What the command line prints: the progress bar and the table of stored clips."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from sora_dagster.generation.records import ClipManifest
from sora_dagster.pipeline import PipelineResult
from sora_dagster.progress import ClipProgress, ClipState, count


class ProgressBar:
    """Shows how many clips are requested, generating and stored.

    Arguments:
        console: where it is drawn; where that is no terminal, each change is a line.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]clips"),
            BarColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._shown = ""

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Sequence[ClipProgress]) -> None:
        """Show how far the clips are."""
        counts = _counts(progress)
        stored = count(progress, ClipState.STORED)
        if self._task is None:
            self._task = self._bar.add_task("clips", total=len(progress), counts=counts)
        self._bar.update(self._task, completed=stored, counts=counts)
        if not self._console.is_terminal and counts != self._shown:
            self._console.print(counts)
        self._shown = counts


def _counts(progress: Sequence[ClipProgress]) -> str:
    total = len(progress)
    requested = total - count(progress, ClipState.WAITING)
    text = (
        f"{requested}/{total} requested · {count(progress, ClipState.GENERATING)} generating · "
        f"{count(progress, ClipState.STORED)} stored"
    )
    failed = count(progress, ClipState.FAILED)
    return f"{text} · {failed} failed" if failed else text


def clips_table(manifests: Sequence[ClipManifest]) -> Table:
    """The stored clips: take, videos, size, length, seed, cost and place."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("clip", "take", "videos", "size", "seconds", "seed", "USD", "stored"):
        is_number = name in ("take", "videos", "seconds", "USD")
        table.add_column(
            name,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=name != "stored",
            min_width=24 if name == "stored" else None,
        )
    for manifest in manifests:
        video = manifest.videos[0]
        table.add_row(
            manifest.clip,
            str(manifest.take),
            str(len(manifest.videos)),
            f"{video.width}x{video.height}",
            f"{video.duration_seconds:g}",
            "" if video.seed is None else str(video.seed),
            f"{manifest.cost_usd:.2f}",
            video.key.rpartition("/")[0],
        )
    return table


def print_result(console: Console, result: PipelineResult, *, storage_url: str) -> None:
    """Print what is stored, what it cost, what failed, and how many POSTs it took."""
    manifests = [clip.manifest for clip in result.progress if clip.manifest is not None]
    if manifests:
        console.print()
        console.print(clips_table(manifests))
    console.print()
    videos = sum(len(manifest.videos) for manifest in manifests)
    console.print(
        f"[bold]{len(manifests)} clips, {videos} videos, {result.total_cost_usd:.2f} USD in all; "
        f"paid now: {result.paid_now_usd:.2f} USD[/bold]"
    )
    if len(result.stored_before) == len(result.progress):
        console.print("Everything was stored already: nothing was generated, nothing was paid.")
    posts = result.posts
    console.print(
        f"POSTs to the API: {posts['submissions']} submissions, {posts['polls']} polls, "
        f"{posts['other']} other"
    )
    console.print(f"Stored in: {storage_url}", soft_wrap=True)
    if result.gallery_uri is not None:
        console.print(f"Look at them: {result.gallery_uri}", soft_wrap=True)
    for clip in result.progress:
        if clip.state is not ClipState.STORED:
            reason = clip.reason or "not finished; run the same command again to carry on"
            console.print(f"[red]{clip.clip}: {clip.state.value}: {reason}[/red]", soft_wrap=True)
    for problem in result.problems:
        console.print(f"[red]{problem}[/red]", soft_wrap=True)
