"""Commands that serve: `sora-dagster webhook` and `sora-dagster viewer`."""

from __future__ import annotations

import os

import click

from sora_dagster.cli.options import listen_options, opened_root, readable_errors, storage_option


@click.command("webhook")
@listen_options(8788)
@storage_option
def webhook_command(host: str, port: int, storage_url: str | None) -> None:
    """Receive Runware's webhooks and write them to the storage root's inbox.

    Needs SORA_WEBHOOK_SECRET. Prints "listening on URL" when ready. Make that URL reachable for
    Runware, and set SORA_WEBHOOK_URL to its public address.
    """
    from sora_dagster.extras import require_extras

    secret = os.environ.get("SORA_WEBHOOK_SECRET", "")
    if not secret:
        raise click.ClickException(
            "SORA_WEBHOOK_SECRET is not set. Set it to a random string of at least 32 characters, "
            "the same in all processes that request clips."
        )
    with readable_errors():
        require_extras("The webhook receiver", "webhook")
    from sora_dagster.serving import serve
    from sora_dagster.web.webhook import create_app

    with opened_root(storage_url) as root:
        root.check_writable()
        serve(
            create_app(root, secret),
            host=host,
            port=port,
            on_ready=lambda url: click.echo(f"listening on {url}/runware"),
        )


@click.command("viewer")
@listen_options(8789)
@storage_option
def viewer_command(host: str, port: int, storage_url: str | None) -> None:
    """Show clips, galleries and reports in browsers, read-only.

    Prints "listening on URL" when ready. Set SORA_VIEWER_URL to the address that browsers use, and
    the Dagster UI links to it. The viewer has no authentication: run it locally or behind a proxy.
    """
    from sora_dagster.extras import require_extras

    with readable_errors():
        require_extras("The viewer", "viewer")
    from sora_dagster.serving import serve
    from sora_dagster.web.viewer import create_app

    with opened_root(storage_url) as root:
        serve(
            create_app(root),
            host=host,
            port=port,
            on_ready=lambda url: click.echo(f"listening on {url}"),
        )
