"""Commands that look after a storage root: `sora-dagster verify` and `sora-dagster prune`."""

from __future__ import annotations

import sys

import click

from sora_dagster.cli.options import opened_root, storage_option
from sora_dagster.cli.plain_text import plain


@click.command("verify")
@storage_option
@click.option("--deep", is_flag=True, help="Read every video and compare its hash.")
def verify_command(storage_url: str | None, deep: bool) -> None:
    """Check that every stored clip is there and intact. Changes nothing.

    Exits with 1 if something is missing or damaged, and says what to do.
    """
    from sora_dagster.generation.housekeeping.verify import verify
    from sora_dagster.generation.protocol.ledger import Ledger

    with opened_root(storage_url) as root:
        report = verify(
            Ledger(root), deep=deep, on_finding=lambda found: click.echo(plain(found.sentence))
        )
    click.echo(report.sentence)
    if not report.is_whole:
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
    help="Remove unfinished uploads that are older than this many days.",
)
@click.option("--apply", "is_applied", is_flag=True, help="Remove the objects. Default: dry run.")
def prune_command(
    storage_url: str | None,
    keep_takes: int | None,
    keep_parents: bool,
    upload_days: float,
    is_applied: bool,
) -> None:
    """Remove older takes, files that no clip names, and unfinished uploads.

    Without --apply it only lists what it would remove. The newest take of a clip always stays, and
    so does every record of what was asked and paid: nothing is paid for again.
    """
    from sora_dagster.generation.housekeeping.prune import prune
    from sora_dagster.generation.protocol.ledger import Ledger

    with opened_root(storage_url) as root:
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
