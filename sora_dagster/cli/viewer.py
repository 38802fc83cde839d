"""Commands that show what is stored: `sora-dagster viewer` and `sora-dagster link`."""

from __future__ import annotations

import click

from sora_dagster.cli.options import opened_root, storage_option


@click.command("viewer")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8789, show_default=True, help="Port; 0 for a free one.")
@storage_option
def viewer_command(host: str, port: int, storage_url: str | None) -> None:
    """Show clips, galleries and reports in browsers, read-only.

    Prints "listening on URL" when ready. Name the address by which browsers reach it in
    SORA_VIEWER_URL, and the Dagster UI links to it. It has no authentication: run it locally or
    behind a proxy.
    """
    from sora_dagster.web.viewer import serve

    try:
        with opened_root(storage_url) as root:
            serve(
                root, host=host, port=port, on_ready=lambda url: click.echo(f"listening on {url}")
            )
    except OSError as error:
        raise click.ClickException(
            f"cannot listen at {host}:{port}: {error.strerror}. Choose another --port, or 0 for a "
            f"free one."
        ) from error


@click.command("link")
@click.argument("clip")
@click.option("--asset", default="clips", show_default=True, help="Asset key of the clip.")
@click.option(
    "--hours",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.01, max=168),
    help="How long a signed link is valid.",
)
@storage_option
def link_command(clip: str, asset: str, hours: float, storage_url: str | None) -> None:
    """Print a link that plays the newest take of CLIP.

    For a remix, CLIP is "clip|recipe" and the asset "remixes"; for a shot of a storyboard, the
    shot, and the asset "board/shot".
    """
    from sora_dagster.generation.library.stored_clip import load_clip
    from sora_dagster.generation.protocol.ledger import Ledger

    with opened_root(storage_url) as root:
        stored = load_clip(Ledger(root), asset, clip)
        for index in range(len(stored.videos)):
            click.echo(stored.url(expires_seconds=hours * 3600, index=index))
