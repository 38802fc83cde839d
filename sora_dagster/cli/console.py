"""What the commands print: what would be bought, progress with reasons, and the result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sora_dagster.cli.options import one_line
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.local.progress import ClipProgress, ClipState, PipelineOptions, Purchase, count
from sora_dagster.prompts.counts import counted
from sora_dagster.runware.pricing import Price, PriceTotal, costs_text

if TYPE_CHECKING:
    from sora_dagster.local.pipeline import PipelineResult

_MOST_LISTED = 20


def print_line(console: Console, text: str, style: str = "", *, indent: str = "") -> None:
    """Print a text as one line, without wrapping; nothing in it is markup."""
    console.print(Text(indent + one_line(text), style=style), soft_wrap=True)


class ProgressBar:
    """Shows how many clips are stored, generating and waiting, and why some are not.

    Arguments:
        console: where it is shown. Without a terminal, each change is printed as a line.
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
        self._counts = ""
        self._reasons: set[tuple[str, str, str]] | None = None

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Sequence[ClipProgress]) -> None:
        """Show how far the clips are, and each new reason why one is slow or failed."""
        counts = _counts(progress)
        stored = count(progress, ClipState.STORED, ClipState.CHANGED)
        if self._task is None:
            self._task = self._bar.add_task("clips", total=len(progress), counts=counts)
        self._bar.update(self._task, completed=stored, counts=counts)
        self._print_new_reasons(progress)
        if not self._console.is_terminal and counts != self._counts:
            print_line(self._console, counts)
        self._counts = counts

    def print(self, sentence: str) -> None:
        """Print a text above the progress bar, without failures of clips that were printed."""
        printed = {(clip, reason) for _, clip, reason in self._reasons or ()}
        for line in _without_printed(sentence, printed):
            print_line(self._console, line, "yellow")

    def _print_new_reasons(self, progress: Sequence[ClipProgress]) -> None:
        reasons = {
            (clip.asset, clip.clip, clip.reason): clip
            for clip in progress
            if clip.reason and clip.state is not ClipState.CHANGED
        }
        # Earlier failures may be retried now. If they fail again, the result says so.
        if self._reasons is None:
            self._reasons = {key for key, clip in reasons.items() if clip.state is ClipState.FAILED}
        for key, clip in reasons.items():
            if key not in self._reasons:
                self._reasons.add(key)
                print_line(self._console, f"{clip.clip}: {clip.reason}", "yellow")


def _without_printed(text: str, printed: Collection[tuple[str, str]]) -> list[str]:
    """The lines of a text, without the failures of clips whose reason was printed.

    Nothing is left of a text that lists only such failures.

    Arguments:
        text: for example ``2 failed (3 stored):`` and a line ``- fox: why`` for each clip.
        printed: clips with reasons.
    """
    reasons: dict[str, list[str]] = {}
    for clip, reason in printed:
        reasons.setdefault(clip, []).append(one_line(reason))
    header, *items = text.splitlines() or [""]
    left = []
    for item in items:
        clip, _, reason = item.removeprefix("- ").partition(": ")
        if not any(known in one_line(reason) for known in reasons.get(clip, ())):
            left.append(item)
    return [header, *left] if left or not items else []


def _counts(progress: Sequence[ClipProgress]) -> str:
    total = len(progress)
    text = (
        f"{count(progress, ClipState.STORED)}/{total} stored, "
        f"{count(progress, ClipState.GENERATING)} generating"
    )
    for state in (ClipState.WAITING, ClipState.CHANGED, ClipState.FAILED):
        if number := count(progress, state):
            text += f", {number} {state.value}"
    return text


# What would be bought


def purchases_line(progress: Sequence[ClipProgress], options: PipelineOptions) -> str:
    """What is about to be bought, and its price by the catalogue; empty if nothing is."""
    names = {
        Purchase.NEW: ("new clip", "new clips"),
        Purchase.RAISED_TAKE: ("raised take", "raised takes"),
        Purchase.CHANGED: ("changed row", "changed rows"),
        Purchase.FOLLOWS: ("remix of a new video", "remixes of new videos"),
        Purchase.RETRY: ("failed clip", "failed clips"),
    }
    parts: list[str] = []
    prices: list[Price | None] = []
    for purchase, words in names.items():
        bought = [
            clip for clip in progress if clip.purchase is purchase and clip.is_bought(options)
        ]
        if bought:
            of_these = [clip.price for clip in bought]
            prices += of_these
            total = PriceTotal.of(of_these)
            usd = "unknown price" if total.text == "unknown" else f"{total.usd:.2f} USD"
            parts.append(f"{counted(len(bought), *words)} ({usd})")
    if not parts:
        return ""
    return f"To generate: {', '.join(parts)}. Estimated total: {PriceTotal.of(prices).text}"


def changes_line(progress: Sequence[ClipProgress]) -> str:
    """How many rows changed, and what new takes would cost; empty if no row changed.

    >>> changes_line([])
    ''
    """
    changed = [clip for clip in progress if clip.is_kept]
    if not changed:
        return ""
    rows = sum(clip.purchase is Purchase.CHANGED for clip in changed)
    follow = len(changed) - rows
    parts = []
    if rows:
        parts.append(f"{counted(rows, 'row', 'rows')} changed")
    if follow:
        parts.append(f"{counted(follow, 'remix depends', 'remixes depend')} on new takes")
    total = PriceTotal.of(clip.price for clip in changed)
    return f"{' and '.join(parts)}; {total.would_cost('new takes')}"


def print_changes(console: Console, progress: Sequence[ClipProgress]) -> None:
    """Print which rows changed, and what a new take of each would cost."""
    changed = [clip for clip in progress if clip.is_kept]
    for clip in changed[:_MOST_LISTED]:
        if clip.purchase is Purchase.FOLLOWS:
            what = clip.reason or "it depends on the new take of its clip"
        else:
            what = f"{clip.changes.rstrip(',')} changed"
        kept = f"take {clip.take} is kept" if clip.take else "no take is stored"
        print_line(
            console,
            f"{clip.clip}: {what}; {kept}; {PriceTotal.of([clip.price]).would_cost('a new take')}",
            indent="  ",
        )
    if len(changed) > _MOST_LISTED:
        print_line(console, f"and {len(changed) - _MOST_LISTED} more", indent="  ")


# The result


def clips_table(manifests: Sequence[ClipManifest]) -> Table:
    """The stored clips: take, videos, size, duration, seed, cost and folder."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("clip", "take", "videos", "size", "seconds", "seed", "USD", "folder"):
        is_number = name in ("take", "videos", "seconds", "USD")
        table.add_column(
            name,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=name != "folder",
            min_width=24 if name == "folder" else None,
        )
    for manifest in manifests:
        video = manifest.videos[0]
        table.add_row(
            Text(one_line(manifest.clip)),
            str(manifest.take),
            str(len(manifest.videos)),
            f"{video.width}x{video.height}",
            f"{video.duration_seconds:g}",
            "" if video.seed is None else str(video.seed),
            "unknown" if manifest.cost_usd is None else f"{manifest.cost_usd:.2f}",
            Text(one_line(video.key.rpartition("/")[0])),
        )
    return table


def print_result(
    console: Console, result: PipelineResult, options: PipelineOptions, *, storage_url: str
) -> None:
    """Print what is stored, its cost, what changed or failed, and the number of API requests."""
    manifests = list(result.manifests.values())
    if manifests:
        console.print()
        console.print(clips_table(manifests))
    console.print()
    videos = sum(len(manifest.videos) for manifest in manifests)
    console.print(
        f"[bold]{counted(len(manifests), 'clip', 'clips')}, {counted(videos, 'video', 'videos')}, "
        f"{costs_text(result.costs_usd)} in total; "
        f"paid now: {costs_text(result.paid_now_usd)}[/bold]"
    )
    if result.is_complete and result.takes_before == {
        clip: manifest.take for clip, manifest in result.manifests.items()
    }:
        console.print("Everything was already stored. Nothing was generated or paid.")
    posts = result.posts
    console.print(
        f"API requests: {posts['submissions']} submissions, {posts['polls']} polls, "
        f"{posts['other']} other"
    )
    print_line(console, f"Stored in: {storage_url}")
    if result.gallery_uri is not None:
        print_line(console, f"Gallery: {result.gallery_uri}")
    if not options.regenerate_changed and (line := changes_line(result.progress)):
        print_line(
            console,
            f"{line}. The existing clips are kept. To generate new takes, run the same command "
            f"with --regenerate-changed:",
            "yellow",
        )
        print_changes(console, result.progress)
    if result.stalled_minutes is not None:
        print_line(console, _stalled_line(result), "red")
    printed: set[tuple[str, str]] = set()
    for clip in result.progress:
        if clip.state not in (ClipState.STORED, ClipState.CHANGED):
            reason = clip.reason or "not finished; run the same command again to continue"
            print_line(console, f"{clip.clip}: {clip.state.value}: {reason}", "red")
            printed.add((clip.clip, reason))
    if failed := sum(clip.purchase is Purchase.RETRY for clip in result.progress):
        print_line(
            console,
            f"To request {counted(failed, 'failed clip', 'failed clips')} again, which may cost "
            f"again, run the same command with --retry-failed.",
            "yellow",
        )
    for problem in result.problems:
        for line in _without_printed(problem, printed):
            print_line(console, line, "red")


def _stalled_line(result: PipelineResult) -> str:
    outstanding = count(result.progress, ClipState.WAITING, ClipState.GENERATING)
    return (
        f"Nothing changed for {result.stalled_minutes:g} min, so this command stopped waiting "
        f"for {counted(outstanding, 'clip', 'clips')}, listed below. Nothing is lost, and nothing "
        f"is paid for twice. Run the same command again to continue, or set a longer "
        f"--stall-timeout-minutes."
    )
