"""What commands share: options, settings, errors without traceback, and interruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sora_dagster.settings import Settings
    from sora_dagster.storage import StorageRoot

storage_option = click.option(
    "--storage",
    "storage_url",
    help="Storage root. Default: SORA_STORAGE; with a local sandbox, .sora/storage beside the "
    "dataset.",
)


def max_usd_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --max-usd.

    Arguments:
        default: its default, in words.
    """
    return click.option(
        "--max-usd", help=f"Spending limit in USD, or 'unlimited'. Default: {default}."
    )


def listen_options(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options --host and --port of a server.

    Arguments:
        port: the default port.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Port to listen on; 0 for a free one.",
        )(command)
        return click.option(
            "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
        )(command)

    return decorate


class Interrupted(BaseException):
    """SIGINT or SIGTERM, as an exception, so that everything that was started is stopped."""

    # Python drops exceptions that are raised in finalizers, so loops check this, too.
    signal_number: int | None = None

    @classmethod
    def check(cls) -> None:
        """Raise it if a signal came, even if its exception was dropped."""
        if cls.signal_number is not None:
            raise cls


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn errors that a user can fix into messages without a traceback."""
    from sora_dagster.extras import MissingExtraError
    from sora_dagster.local.home import HomeInUseError
    from sora_dagster.local.processes import ProcessError
    from sora_dagster.runware.errors import RunwareError
    from sora_dagster.storage import StorageError

    try:
        yield
    except (
        HomeInUseError,
        MissingExtraError,
        ProcessError,
        RunwareError,
        StorageError,
        OSError,
        ValueError,
    ) as error:
        raise click.ClickException(plain(str(error))) from error


def settings_from_environment(prompts: str | None = None, **options: str | None) -> Settings:
    """Settings from the environment, overridden by the options that are given.

    Arguments:
        prompts: the prompt dataset: a path or a URL. None: that of the environment.
        options: values from the command line, by the names of settings. None: not given.

    Raises:
        SettingsError: if a value is not allowed.
    """
    from sora_dagster.settings import Settings

    environ = dict(os.environ)
    if prompts is not None:
        environ["SORA_PROMPTS"] = prompts
    names = {field: f"--{field.replace('_', '-')}" for field in options}
    return Settings.from_environment(environ).updated(source_names=names, **options)


def with_storage(
    settings: Settings, storage_url: str | None, *, must_exist: bool = False
) -> Settings:
    """Settings with an explicit storage root. If that is the default, it is printed.

    Arguments:
        settings: settings from the environment.
        storage_url: storage root from the command line. None: that of the settings.
        must_exist: whether a folder that does not exist is refused. It would be created otherwise.

    Raises:
        SettingsError: if there is none, and no default.
        StorageError: if the URL cannot be a storage root, or its folder does not exist.
    """
    from sora_dagster.storage import StorageError, folder_of, normalized_url

    url = normalized_url(storage_url or settings.storage_root_url())
    folder = folder_of(url)
    if must_exist and folder is not None and not folder.is_dir():
        raise StorageError(
            f"there is no storage root {folder}: the folder does not exist. Check --storage and "
            f"SORA_STORAGE. The first request creates it"
        )
    if storage_url is None and settings.storage_url is None:
        click.echo(f"Storage root: {url}", err=True)
    return settings.updated(storage_url=url)


@contextmanager
def opened_root(storage_url: str | None, *, must_exist: bool = False) -> Iterator[StorageRoot]:
    """A storage root, with errors without traceback.

    Arguments:
        storage_url: its URL. None: SORA_STORAGE, or its default.
        must_exist: whether a folder that does not exist is refused. It would be created otherwise.
    """
    from sora_dagster.storage import StorageRoot

    with readable_errors():
        settings = with_storage(settings_from_environment(), storage_url, must_exist=must_exist)
        yield StorageRoot(settings.storage_root_url())


def plain(text: str) -> str:
    """A text without what a terminal would obey, such as escape sequences. Keeps line breaks.

    >>> plain("a \\x1b[31mred\\x07 fox")
    'a  [31mred  fox'
    """
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def one_line(text: str) -> str:
    """The same in one line.

    >>> one_line("a fox\\nin snow")
    'a fox in snow'
    """
    return " ".join(plain(text).split())
