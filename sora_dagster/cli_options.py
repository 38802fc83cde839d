"""What commands on a storage root have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sora_dagster.storage import StorageRoot

storage_option = click.option(
    "--storage", "storage_url", help="Storage root; SORA_STORAGE where not given."
)


@contextmanager
def opened_root(storage_url: str | None) -> Iterator[StorageRoot]:
    """A storage root, and what is wrong with it as a message without a traceback.

    Arguments:
        storage_url: its URL; None for SORA_STORAGE.
    """
    from sora_dagster.environment import Settings
    from sora_dagster.storage import StorageError, StorageRoot

    try:
        yield StorageRoot(storage_url or Settings.from_environment().storage_url)
    except (StorageError, ValueError) as error:
        raise click.ClickException(str(error)) from error
