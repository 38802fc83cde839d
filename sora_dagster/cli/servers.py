"""Commands that serve: `sora-dagster webhook` and `sora-dagster viewer`."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from sora_dagster.cli.options import (
    listen_options,
    opened_root,
    readable_errors,
    settings_from_environment,
    storage_option,
)

if TYPE_CHECKING:
    from sora_dagster.generation.status.root_status import RootStatus
    from sora_dagster.storage import StorageRoot


@click.command("webhook")
@listen_options(8788)
@storage_option
@click.option(
    "--storage-metrics",
    is_flag=True,
    help="Add the state of the storage root, with what was spent, to /metrics.",
)
def webhook_command(host: str, port: int, storage_url: str | None, storage_metrics: bool) -> None:
    """Receive Runware's webhooks and write them to the storage root's inbox.

    Needs SORA_WEBHOOK_SECRET. Prints "listening on URL" when ready. Make that URL reachable for
    Runware, and set SORA_WEBHOOK_URL to its public address. If the bucket does not exist yet,
    webhooks are answered with 503 until it does. GET /metrics gives Prometheus metrics; block
    it at the proxy if the receiver is public.
    """
    from sora_dagster.extras import require_extras
    from sora_dagster.generation.protocol.markers import check_secret
    from sora_dagster.storage import StorageError

    secret = os.environ.get("SORA_WEBHOOK_SECRET", "").strip()
    with readable_errors():
        check_secret(secret)
        require_extras("The webhook receiver", "webhook")
    from sora_dagster.serving import serve
    from sora_dagster.web.webhook import create_app

    with opened_root(storage_url) as root:
        try:
            root.check_writable()
        except StorageError as error:
            # The bucket may be made after the receiver is started. Runware sends again what is
            # answered with 503.
            click.echo(
                f"warning: {error} Webhooks are answered with 503 until the storage root can be "
                "used.",
                err=True,
            )
        serve(
            create_app(root, secret, read_status=_status_reader(root) if storage_metrics else None),
            host=host,
            port=port,
            on_ready=lambda url: click.echo(f"listening on {url}/runware"),
        )


def _status_reader(root: StorageRoot) -> Callable[[], RootStatus]:
    from sora_dagster.generation.protocol.ledger import Ledger
    from sora_dagster.generation.protocol.spending_limits import SpendingLimits
    from sora_dagster.generation.status.reader import read_status

    limits = SpendingLimits(day_usd=settings_from_environment().runware().day_limit_usd())
    return lambda: read_status(Ledger(root), clock=lambda: datetime.now(UTC), limits=limits)


@click.command("viewer")
@listen_options(8789)
@storage_option
def viewer_command(host: str, port: int, storage_url: str | None) -> None:
    """Show clips, galleries and reports in browsers, read-only.

    Prints "listening on URL" when ready. Set SORA_VIEWER_URL to the address that browsers use, and
    the Dagster UI links to it. The viewer answers to the host of that address, to HOST, to
    localhost, to IP addresses, and to the names in SORA_VIEWER_HOSTS. Set SORA_VIEWER_PASSWORD for
    a login; without it, run the viewer locally or behind a proxy.
    """
    from sora_dagster.environment.values import SettingValues
    from sora_dagster.extras import require_extras
    from sora_dagster.web.access import PASSWORD_VARIABLE, check_password

    password = os.environ.get(PASSWORD_VARIABLE, "").strip() or None
    with readable_errors():
        require_extras("The viewer", "viewer")
        if password is not None:
            check_password(password)
        public_url = SettingValues.value_of("viewer_url")
        hosts = [host, *SettingValues.value_of("viewer_hosts")]
        if public_url is not None and (name := urlsplit(public_url).hostname):
            hosts.append(name)
    from sora_dagster.serving import serve
    from sora_dagster.web.viewer import create_app

    with opened_root(storage_url) as root:
        serve(
            create_app(root, hosts=hosts, password=password),
            host=host,
            port=port,
            on_ready=lambda url: click.echo(f"listening on {url}"),
        )
