"""Commands on a prompt dataset: `sora-dagster generate` and `sora-dagster estimate`."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_dagster.cli.options import (
    Interrupted,
    max_usd_option,
    one_line,
    readable_errors,
    settings_from_environment,
    storage_option,
    with_storage,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sora_dagster.local.home import LocalHome
    from sora_dagster.local.progress import ClipProgress, PipelineOptions
    from sora_dagster.prompts.clips import ClipSpec
    from sora_dagster.runware.pricing import Price, PriceTotal
    from sora_dagster.settings import Settings


def generation_options(*, default_max_usd: str) -> Callable[..., Any]:
    """The options of commands that generate a dataset, most of them as one `PipelineOptions`.

    Arguments:
        default_max_usd: the default of --max-usd, in words.
    """
    click_options = (
        click.option(
            "--stall-timeout-minutes",
            default=45.0,
            show_default=True,
            help="Stop waiting after this many minutes without any change. Nothing is lost.",
        ),
        click.option(
            "--retry-failed",
            is_flag=True,
            help="Retry failed clips that are not retried automatically. May cost again.",
        ),
        click.option(
            "--regenerate-changed",
            is_flag=True,
            help="Generate a new take of each clip whose row changed, which costs again. Default: "
            "ask on a terminal; elsewhere, keep the clips.",
        ),
        click.option(
            "--delivery",
            type=click.Choice(["auto", "direct", "download"]),
            help="direct: Runware puts videos into the bucket. download: videos are downloaded "
            "from Runware. auto: direct if possible, else download. Default: SORA_DELIVERY, or "
            "auto.",
        ),
        max_usd_option(default_max_usd),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_options(
            *,
            regenerate_changed: bool,
            retry_failed: bool,
            stall_timeout_minutes: float,
            **arguments: Any,
        ) -> None:
            from sora_dagster.local.progress import PipelineOptions

            options = PipelineOptions(regenerate_changed, retry_failed, stall_timeout_minutes)
            command(options=options, **arguments)

        decorated: Callable[..., Any] = with_options
        for option in click_options:
            decorated = option(decorated)
        return decorated

    return decorate


@click.command("generate")
@click.argument("prompts")
@storage_option
@click.option(
    "--home",
    "home_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the Dagster instance. Default: one for each storage root, in .sora beside "
    "PROMPTS; for a dataset in an object store, in DAGSTER_HOME.",
)
@generation_options(default_max_usd="SORA_MAX_USD, or 25")
def generate_command(
    prompts: str,
    storage_url: str | None,
    home_folder: Path | None,
    max_usd: str | None,
    delivery: str | None,
    options: PipelineOptions,
) -> None:
    """Generate all clips and remixes of the dataset PROMPTS: a file, or its URL in an object store.

    Waits until all are stored. Needs RUNWARE_API_KEY. Polls for results unless SORA_WEBHOOK_URL is
    set. Can be interrupted and run again at any time: nothing is paid for twice.

    A clip whose row, recipe or parent video changed keeps its take. To generate a new take, confirm
    on the terminal or use --regenerate-changed. A raised take number in the dataset is generated
    without confirmation.

    SORA_STORAGE or --storage is required, except with a local sandbox: then the default is
    .sora/storage beside PROMPTS.
    """
    from sora_dagster.generation.protocol.layout import segment
    from sora_dagster.local.home import LocalHome

    with readable_errors():
        settings = settings_from_environment(prompts, max_usd=max_usd, delivery=delivery)
        if home_folder is None and "://" not in prompts and not Path(prompts).parent.is_dir():
            raise click.ClickException(
                f"the dataset {Path(prompts).absolute()} does not exist: its folder is missing"
            )
        # First, since it is what new users are most likely to lack.
        settings.runware().resolve_api_key()
        settings = with_storage(settings, storage_url)
        if home_folder is None:
            folder = settings.local_folder()
            if folder is None:
                raise click.ClickException(
                    "the dataset is in an object store, so there is no folder beside it for the "
                    "Dagster instance; pass --home, or set DAGSTER_HOME"
                )
            home_folder = folder / "generate" / segment(settings.storage_root_url())
        home = LocalHome(home_folder)
        with home.in_use():
            generate_dataset(settings, home, options)


def generate_dataset(
    settings: Settings,
    home: LocalHome,
    options: PipelineOptions,
    *,
    secrets: Mapping[str, str] | None = None,
    after: str | None = None,
    has_daemon: bool = False,
) -> None:
    """Generate a dataset and print progress and result. Exits with status 1 if it is incomplete.

    Arguments:
        settings: dataset, API and storage root.
        home: folder of the Dagster instance.
        options: what is generated, and how long to wait.
        secrets: environment variables that are not settings.
        after: printed after the result.
        has_daemon: whether the Dagster daemon starts the collecting runs.
    """
    from sora_dagster.cli.console import ProgressBar, print_line, print_result, purchases_line
    from sora_dagster.local.pipeline import Pipeline
    from sora_dagster.prompts.retired_models import RetiredModelWarning

    # Raises if the limit is invalid, before anything is started.
    settings.runware().run_limit_usd()
    console = _console()
    pipeline = Pipeline(settings, home, secrets or {}, has_daemon=has_daemon)
    progress = pipeline.read_progress()
    # Printed once, for the models that rows use, and not again when definitions load.
    warnings.simplefilter("ignore", RetiredModelWarning)
    for warning in pipeline.warnings:
        print_line(console, warning, "yellow")
    if not options.regenerate_changed and _confirm_changes(console, progress):
        options = replace(options, regenerate_changed=True)
    if line := purchases_line(progress, options):
        print_line(console, line)
    with ProgressBar(console) as bar:

        def show(progress: Sequence[ClipProgress]) -> None:
            Interrupted.check()
            bar.show(progress)

        result = pipeline.run(options, show, bar.print)
    print_result(console, result, options, storage_url=settings.storage_root_url())
    if after is not None:
        print_line(console, after)
    if not result.is_complete:
        sys.exit(1)


def _console() -> Console:
    from rich.console import Console

    # Output to a file or a pipe is not wrapped.
    return Console() if sys.stdout.isatty() else Console(width=160)


def _confirm_changes(console: Console, progress: Sequence[ClipProgress]) -> bool:
    """Whether changed clips get new takes. Asks on a terminal; elsewhere, no."""
    from sora_dagster.cli.console import changes_line, print_changes

    changes = changes_line(progress)
    if not changes or not sys.stdin.isatty() or not sys.stdout.isatty():
        return False
    print_changes(console, progress)
    return click.confirm(f"{changes}. Generate them?", default=False)


@click.command("estimate")
@click.argument("prompts")
def estimate_command(prompts: str) -> None:
    """Print what every clip of the dataset PROMPTS would cost. Generates nothing, costs nothing.

    If RUNWARE_API_KEY is set, prices come from the API's dry run where available.
    """
    with readable_errors():
        table, total = estimate_table(settings_from_environment(prompts))
    console = _console()
    console.print(table)
    console.print(f"[bold]Total: {total.text}.[/bold] Nothing was generated.")


def estimate_table(settings: Settings) -> tuple[Table, PriceTotal]:
    """A row for each clip and remix of a dataset, and the sum of their prices.

    Prices come from the API's dry run if there is a key, otherwise from the catalogue. The API
    cannot price a remix before its clip is stored.

    Raises:
        DatasetError: naming all problems of the dataset.
    """
    from rich.table import Table
    from rich.text import Text

    from sora_dagster.dataset import remix_partition
    from sora_dagster.generation.requesting.estimates import estimate
    from sora_dagster.generation.requesting.payloads import planned_remix_price, spec_price
    from sora_dagster.prompts.recipes import remix_spec
    from sora_dagster.resources import API_KEY_VARIABLE
    from sora_dagster.runware.pricing import PriceTotal

    dataset = settings.dataset()
    prompts = dataset.load_prompts(settings.storage())
    by_api: dict[str, Price] = {}
    if os.environ.get(API_KEY_VARIABLE):
        with settings.runware().client() as client:
            requests = [dataset.clip_request(prompts, clip_id) for clip_id in prompts.clip_ids]
            by_api = {
                item.request.clip: item.price
                for item in estimate(client, requests)
                if item.price is not None
            }
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("clip", "model", "size", "seconds", "videos", "USD", "price"):
        is_number = name in ("seconds", "videos", "USD")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    catalogue = dataset.catalogue
    rows = [(spec.clip_id, spec, spec, spec_price(spec, catalogue)) for spec in prompts.clips]
    for clip_id, name in prompts.remix_cells:
        spec, recipe = prompts.clip(clip_id), prompts.recipe(name)
        remix = remix_spec(spec, recipe, catalogue)
        price = planned_remix_price(spec, recipe, catalogue)
        rows.append((remix_partition(clip_id, name), remix, spec, price))
    prices = []
    for clip, spec, parent, by_catalogue in rows:
        price = by_api.get(clip, by_catalogue)
        prices.append(price)
        table.add_row(
            Text(one_line(clip)),
            Text(one_line(catalogue.get(spec.model).name)),
            _size_text(spec) or _size_text(parent),
            _seconds_text(spec) or _seconds_text(parent),
            str(spec.number_results),
            "unknown" if price.usd is None else f"{price.usd:.2f}",
            _certainty_text(price),
        )
    return table, PriceTotal.of(prices)


def _size_text(spec: ClipSpec) -> str:
    return str(spec.size or spec.resolution or ("first frame's" if spec.first_frame else ""))


def _seconds_text(spec: ClipSpec) -> str:
    seconds = spec.duration_seconds
    return f"{seconds:g}" if isinstance(seconds, (int, float)) else seconds or ""


def _certainty_text(price: Price) -> str:
    """How sure a price is, in words: ``published``, ``approximate, +25% margin``."""
    if price.priced_by == "api":
        return "by Runware's dry run"
    return price.note or price.certainty
