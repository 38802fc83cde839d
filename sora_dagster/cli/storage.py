"""Commands for what is stored: `sora-dagster verify`, `prune`, `link` and `resolve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sora_dagster.cli.options import (
    max_usd_option,
    one_line,
    opened_root,
    plain,
    readable_errors,
    settings_from_environment,
    storage_option,
    with_storage,
)

if TYPE_CHECKING:
    from sora_dagster.prompts.clips import ClipSpec
    from sora_dagster.settings import Settings


@click.command("verify")
@storage_option
@click.option("--deep", is_flag=True, help="Read every video and compare its hash.")
def verify_command(storage_url: str | None, deep: bool) -> None:
    """Check that every stored clip is there and intact. Changes nothing.

    If something is missing or damaged, prints what to do and exits with status 1.
    """
    from sora_dagster.generation.housekeeping.verify import verify
    from sora_dagster.generation.protocol.ledger import Ledger

    with opened_root(storage_url, must_exist=True) as root:
        report = verify(
            Ledger(root), deep=deep, on_finding=lambda found: click.echo(plain(found.sentence))
        )
    click.echo(report.sentence)
    if not report.is_complete:
        sys.exit(1)


@click.command("prune")
@storage_option
@click.option(
    "--keep-takes",
    type=click.IntRange(min=1),
    help="How many of the newest takes of each clip to keep. Default: all.",
)
@click.option(
    "--keep-parents/--no-keep-parents",
    default=True,
    show_default=True,
    help="Whether to keep older takes that remixes were made from.",
)
@click.option(
    "--upload-days",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Remove unfinished uploads older than this many days.",
)
@click.option("--apply", "is_applied", is_flag=True, help="Remove the objects. Default: dry run.")
def prune_command(
    storage_url: str | None,
    keep_takes: int | None,
    keep_parents: bool,
    upload_days: float,
    is_applied: bool,
) -> None:
    """Remove older takes, unused files and unfinished uploads.

    Without --apply, only lists what it would remove. Keeps the newest take of each clip, and every
    record of what was requested and paid: nothing is paid for again.
    """
    from sora_dagster.generation.housekeeping.prune import prune
    from sora_dagster.generation.protocol.ledger import Ledger

    with opened_root(storage_url, must_exist=True) as root:
        report = prune(
            Ledger(root),
            keep_takes=keep_takes,
            keep_parents=keep_parents,
            upload_days=upload_days,
            dry_run=not is_applied,
            on_removed=lambda removed: click.echo(plain(f"{removed.kind}: {removed.key}")),
        )
    for sentence in report.sentences:
        click.echo(sentence)
    if report.is_dry_run and report.objects:
        click.echo("Nothing was removed. Run this again with --apply to remove these objects.")


def default_asset(clip: str) -> str:
    """The asset of a clip that is named without one: remixes for ``CLIP|RECIPE``, else clips."""
    return "remixes" if "|" in clip else "clips"


@click.command("link")
@click.argument("clip")
@click.option("--asset", help="Asset key of the clip. Default: clips, or remixes for CLIP|RECIPE.")
@click.option(
    "--hours",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.01, max=168),
    help="How many hours a signed link is valid.",
)
@storage_option
def link_command(clip: str, asset: str | None, hours: float, storage_url: str | None) -> None:
    """Print a link that plays the newest take of CLIP.

    For a remix, CLIP is "clip|recipe". For a shot of a storyboard, CLIP is the shot, and --asset is
    "board/shot".
    """
    from sora_dagster.generation.library.stored_clip import load_clip
    from sora_dagster.generation.protocol.ledger import Ledger

    with opened_root(storage_url, must_exist=True) as root:
        stored = load_clip(Ledger(root), asset or default_asset(clip), clip)
        for index in range(len(stored.videos)):
            click.echo(stored.url(expires_seconds=hours * 3600, index=index))


def _current_rows(settings: Settings) -> Sequence[ClipSpec]:
    """The rows of the dataset, whose full URLs no record keeps; none if it cannot be read."""
    from sora_dagster.generation.requesting.input_urls import rows_and_remixes
    from sora_dagster.prompts.dataset import DatasetError

    dataset = settings.dataset()
    try:
        return rows_and_remixes(dataset.load_prompts(settings.storage()), dataset.catalogue)
    except DatasetError as error:
        click.echo(f"warning: {one_line(str(error))}", err=True)
        return ()


@click.command("resolve")
@click.argument("clip")
@storage_option
@click.option("--asset", help="Asset key of the clip. Default: clips, or remixes for CLIP|RECIPE.")
@click.option(
    "--resend",
    is_flag=True,
    help="Poll once more; if there is no video, make a new attempt, which costs again.",
)
@click.option(
    "--retry",
    is_flag=True,
    help="Put a clip that was set aside (state `stuck`) back into collection.",
)
@click.option("--give-up", is_flag=True, help="Leave the clip without a video.")
@max_usd_option("SORA_MAX_USD, or 25")
def resolve_command(
    clip: str,
    storage_url: str | None,
    asset: str | None,
    resend: bool,
    retry: bool,
    give_up: bool,
    max_usd: str | None,
) -> None:
    """Decide about CLIP, which has no video or was set aside.

    A clip needs a decision if it may have been paid for and has no video, or if one of its records
    could not be read.

    --resend polls the last attempt once more. If Runware has its video, or is still generating it,
    that video is collected and nothing is sent. Otherwise a new attempt is made, which costs again.
    --give-up sends nothing and leaves CLIP without a video.

    --retry collects CLIP again, free of charge, if it was set aside because one of its records
    could not be read. Restore that record first.
    """
    from sora_dagster.generation import resolve
    from sora_dagster.generation.protocol.ledger import Ledger

    if resend + retry + give_up != 1:
        raise click.UsageError("choose one of --resend, --retry or --give-up")
    asset = asset or default_asset(clip)
    with readable_errors():
        settings = settings_from_environment(max_usd=max_usd)
        settings = with_storage(settings, storage_url, must_exist=True)
        ledger = Ledger(settings.storage().root())
        try:
            if give_up:
                outcome = resolve.give_up(ledger, asset, clip)
                counted = (
                    "Its cost is unknown."
                    if outcome.cost_usd is None
                    else f"{outcome.cost_usd:.2f} USD still counts towards the spending limits."
                )
                click.echo(
                    f"{clip}: given up without a video (ended as {outcome.state}). {counted}"
                )
                return
            if retry:
                tasks = resolve.retry_stuck(ledger, asset, clip)
                click.echo(
                    f"{clip}: task {', '.join(tasks)} is outstanding again. The next collecting "
                    f"run stores it. Nothing was sent."
                )
                return
            runware = settings.runware()
            with runware.generator(settings.storage()) as generator:
                generator.use_rows(lambda: _current_rows(settings))
                requested = resolve.resend(
                    generator, asset, clip, run_limit_usd=runware.run_limit_usd()
                )
        except resolve.ResolutionError as error:
            raise click.ClickException(one_line(str(error))) from error
    click.echo(one_line(f"{clip}: {requested.detail}"))
    if not requested.ok:
        sys.exit(1)
