"""The commands on the model catalogue: `sora-dagster models list`, `show`, `add` and `check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_dagster.cli.options import one_line, plain, readable_errors, settings_from_environment
from sora_dagster.prompts.counts import counted

if TYPE_CHECKING:
    from sora_dagster.runware.catalogue import Catalogue, VideoModel
    from sora_dagster.runware.catalogue.published.documents import PublishedModel
    from sora_dagster.runware.published_catalogue import PublishedCatalogue

_EQUAL, _DIFFERENT, _NOT_READ = 0, 1, 2


@click.group("models")
def models_command() -> None:
    """Show and check the video models that datasets can use.

    The models are those that come with sora-dagster, and those of the file that SORA_MODELS names.
    None of these commands needs an API key or costs anything.
    """


@models_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List all models: what they can do, and what a second of video costs.

    Retired models are listed last. They are no longer available at Runware.
    """
    from rich.console import Console

    with readable_errors():
        catalogue = settings_from_environment().catalogue()
    # sorted() keeps the catalogue's order among equals.
    entries = sorted(catalogue.entries, key=lambda entry: entry.retired is not None)
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in entries], indent=2))
        return
    # Output to a file or a pipe is not wrapped.
    console = Console() if sys.stdout.isatty() else Console(width=240)
    console.print(_table(entries, catalogue))
    console.print(f"Default model: {one_line(catalogue.default.name)}", markup=False)


def _table(entries: Sequence[VideoModel], catalogue: Catalogue) -> Any:
    from rich.table import Table
    from rich.text import Text

    from sora_dagster.runware.catalogue import descriptions

    columns: dict[str, Callable[[VideoModel], str]] = {
        "model": lambda entry: entry.name,
        "short name": lambda entry: entry.short_name,
        "AIR": lambda entry: entry.air,
        "status": descriptions.status_text,
        "sizes": descriptions.tiers_text,
        "seconds": descriptions.seconds_text,
        "audio": descriptions.sound_text,
        "remixes": descriptions.remixes_text,
        "USD per second": descriptions.price_text,
    }
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for entry in entries:
        style = "dim" if entry.retired else "bold" if entry == catalogue.default else ""
        table.add_row(*(Text(one_line(show(entry)), style=style) for show in columns.values()))
    return table


def _as_json(entry: VideoModel) -> dict[str, Any]:
    from sora_dagster.runware.catalogue.descriptions import usd_per_second

    span = usd_per_second(entry)
    dumped = entry.model_dump(mode="json", by_alias=True)
    return {
        "air": entry.air,
        "name": entry.name,
        "short_name": entry.short_name,
        "retired": dumped["retired"],
        "sizes": dumped["sizes"],
        "size_rule": dumped["size_rule"],
        "resolutions": dumped["resolutions"],
        "durations": dumped["durations"],
        "audio": dumped["audio"],
        "inputs": list(entry.inputs),
        "remix_modes": list(entry.remix_modes),
        "usd_per_second": None if span is None else {"lowest": span[0], "highest": span[1]},
        "price_certainty": entry.prices.certainty,
    }


@models_command.command("show")
@click.argument("model")
def show_command(model: str) -> None:
    """Print everything that is known about MODEL: limits, rules, prices and their sources.

    MODEL is an AIR id or a short name, such as veo-3.1.
    """
    from sora_dagster.runware.catalogue.descriptions import described

    with readable_errors():
        entry = settings_from_environment().catalogue().get(model)
    for topic, lines in described(entry):
        for index, line in enumerate(lines):
            click.echo(f"{topic if index == 0 else '':<16}{plain(line)}")


@models_command.command("add")
@click.argument("source")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to add the entry to. Default: print it.",
)
def add_command(source: str, output: Path | None) -> None:
    """Make a catalogue entry from what Runware publishes about a model.

    SOURCE is the model's AIR id, its name in the addresses of Runware's pages, a URL of one of
    Runware's documents about it, or a saved document: the schema.json of its page, or an answer of
    schemas.runware.ai/resolve.

    What could not be determined is printed, and is in the entry as "guesses". Read these, correct
    the entry, and name its file in SORA_MODELS.
    """
    from sora_dagster.runware.catalogue.published.draft import draft_entry
    from sora_dagster.runware.catalogue.published.entry_yaml import add_to_file, entry_yaml

    with _readable_sources():
        draft = draft_entry(_published(source), today=datetime.now(UTC).date())
        text = entry_yaml(draft.data)
        if output is not None:
            add_to_file(output, draft.entry, text)
    if output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{draft.entry.air} was added to {output}. Use it with SORA_MODELS={output}")
    for note in draft.notes:
        click.echo(f"not determined: {plain(note)}", err=True)


def _published(source: str) -> PublishedModel:
    from sora_dagster.runware.catalogue.published.documents import read_file

    if not source.startswith(("http://", "https://")) and Path(source).exists():
        return read_file(Path(source))
    with _catalogue_of_runware() as published:
        if source.startswith(("http://", "https://")):
            return published.document(source)
        if ":" in source and "@" in source:
            return published.model(source)
        if "/" in source or source.endswith((".json", ".yaml", ".yml")):
            raise click.ClickException(f"there is no file {source}")
        return published.page(source)


@models_command.command("check")
@click.argument("models", nargs=-1)
@click.option(
    "--own", is_flag=True, help="Check only the entries of the file that SORA_MODELS names."
)
@click.pass_context
def check_command(context: click.Context, models: tuple[str, ...], own: bool) -> None:
    """Compare the catalogue with what Runware publishes now.

    MODELS are AIR ids or short names. Default: all models. Prints each difference: a model that
    was retired or is not published any more, other limits, rules or prices.

    Exits with status 0 if everything is equal, 1 if there are differences, and 2 if there are
    none but something could not be read.
    """
    with readable_errors():
        catalogue = settings_from_environment().catalogue()
        entries: Sequence[VideoModel] = catalogue.entries
        if own:
            entries = _own_entries(entries)
        if models:
            wanted = [catalogue.get(model).air for model in models]
            entries = [entry for entry in entries if entry.air in wanted]
    status = _EQUAL
    with _readable_sources(), _catalogue_of_runware() as published:
        for entry in entries:
            found, lines = _compared(entry, published)
            status = _DIFFERENT if _DIFFERENT in (status, found) else max(status, found)
            for line in lines:
                click.echo(plain(f"{entry.name} ({entry.air}): {line}"))
    if status == _EQUAL:
        click.echo(f"{counted(len(entries), 'model', 'models')} checked, no differences")
    context.exit(status)


def _own_entries(entries: Sequence[VideoModel]) -> list[VideoModel]:
    from sora_dagster.runware.catalogue import Catalogue

    builtin = Catalogue.builtin().entries
    return [entry for entry in entries if entry not in builtin]


def _compared(entry: VideoModel, published: PublishedCatalogue) -> tuple[int, list[str]]:
    """The status of one model, and what to print about it."""
    from sora_dagster.runware.address_guard import DownloadError
    from sora_dagster.runware.catalogue.published.comparison import differences
    from sora_dagster.runware.catalogue.published.documents import PublishedDocumentError
    from sora_dagster.runware.catalogue.published.draft import draft_entry
    from sora_dagster.runware.published_catalogue import NotPublishedError

    try:
        model = published.model(entry.air)
        draft = draft_entry(model, today=datetime.now(UTC).date())
    except NotPublishedError:
        if entry.retired is not None:
            return _EQUAL, []
        return _DIFFERENT, ["it is not published any more; was it retired?"]
    except (PublishedDocumentError, DownloadError) as error:
        return _NOT_READ, [f"not checked: {error}"]
    found = differences(entry, draft, model)
    return (_DIFFERENT if found else _EQUAL), found


@contextmanager
def _catalogue_of_runware() -> Iterator[PublishedCatalogue]:
    from sora_dagster.runware.published_catalogue import PublishedCatalogue

    settings = settings_from_environment()
    with PublishedCatalogue(
        settings.published_addresses(),
        result_hosts=settings.result_hosts,
        result_networks=settings.result_networks,
    ) as published:
        yield published


@contextmanager
def _readable_sources() -> Iterator[None]:
    from sora_dagster.runware.address_guard import DownloadError

    with readable_errors():
        try:
            yield
        except DownloadError as error:
            raise click.ClickException(plain(str(error))) from error
