"""What commands on a storage root have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sora_dagster.cli.plain_text import plain

if TYPE_CHECKING:
    from sora_dagster.settings import Settings
    from sora_dagster.storage import StorageRoot

storage_option = click.option(
    "--storage",
    "storage_url",
    help="Storage root. Default: SORA_STORAGE; with a local sandbox, .sora/storage beside the "
    "dataset.",
)


def with_storage(settings: Settings, storage_url: str | None) -> Settings:
    """Settings with an explicit storage root; if it is the default, it is printed.

    Arguments:
        settings: settings from the environment.
        storage_url: storage root from the command line. None: that of the settings.

    Raises:
        SettingsError: if there is none, and no default.
        StorageError: if the URL cannot be a storage root.
    """
    from sora_dagster.storage import normalized_url

    url = normalized_url(storage_url or settings.storage_root_url())
    if storage_url is None and settings.storage_url is None:
        click.echo(f"storage root: {url}", err=True)
    return replace(settings, storage_url=url)


@contextmanager
def opened_root(storage_url: str | None) -> Iterator[StorageRoot]:
    """A storage root; what is wrong with it is a message without a traceback.

    Arguments:
        storage_url: its URL. None: SORA_STORAGE, or its default.
    """
    from sora_dagster.settings import Settings
    from sora_dagster.storage import StorageError, StorageRoot

    try:
        settings = with_storage(Settings.from_environment(), storage_url)
        yield StorageRoot(settings.storage_root_url())
    except (StorageError, ValueError) as error:
        raise click.ClickException(plain(str(error))) from error
