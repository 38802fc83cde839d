"""The `sora-dagster` command."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sora_dagster.cli.options import storage_option, with_storage
from sora_dagster.cli.storage import prune_command, verify_command
from sora_dagster.cli.viewer import link_command, viewer_command

if TYPE_CHECKING:
    from rich.console import Console

    from sora_dagster.local.home import LocalHome
    from sora_dagster.local.progress import ClipProgress
    from sora_dagster.settings import Settings

DEFAULT_HOME = Path(".sora")
_DEMO_LATENCY_SECONDS = 4.0
# Soon enough that a demo that is carried on shows its clips before one looks away.
_DEMO_WEBHOOK_WAIT_SECONDS = 10.0


class _AskedToEnd(BaseException):
    """SIGINT or SIGTERM, as an exception, so that everything that was started is ended.

    Arguments:
        number: the signal.
    """

    # An exception that is raised in a finalizer is dropped by Python, so that loops look here too.
    number: int | None = None

    @classmethod
    def check(cls) -> None:
        """Raise it if a signal came, even if its exception was dropped."""
        if cls.number is not None:
            raise cls


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sora-dagster")
def cli() -> None:
    """Generative video as Dagster assets."""


cli.add_command(verify_command)
cli.add_command(prune_command)
cli.add_command(viewer_command)
cli.add_command(link_command)


def main() -> NoReturn:
    """Run the command; its exit status is 0 only when it did all it was asked."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    for stream in (sys.stdout, sys.stderr):
        # A clip id or a reason that the terminal's encoding lacks must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(prog_name="sora-dagster", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, _AskedToEnd):
        click.echo("\nstopped; run the same command again to carry on", err=True)
        # As shells report a process that a signal ended.
        sys.exit(128 + (_AskedToEnd.number or signal.SIGINT))
    sys.exit(0)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    _AskedToEnd.number = number
    raise _AskedToEnd


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what a user can fix into a message without a traceback."""
    from sora_dagster.cli.plain_text import plain
    from sora_dagster.local.home import HomeInUseError
    from sora_dagster.local.processes import ProcessError
    from sora_dagster.prompts.dataset import DatasetError
    from sora_dagster.runware.errors import MissingKeyError, RunwareError
    from sora_dagster.storage import StorageError

    try:
        yield
    except (
        DatasetError,
        HomeInUseError,
        MissingKeyError,
        ProcessError,
        RunwareError,
        StorageError,
        OSError,
        ValueError,
    ) as error:
        raise click.ClickException(plain(str(error))) from error


@cli.command(
    "sandbox",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox(arguments: tuple[str, ...]) -> None:
    """Start a local Runware that renders real videos (see sora-dagster sandbox --help)."""
    # Its options are declared with it; they are loaded only when it is asked for, since it needs
    # packages that the others do not.
    try:
        from sora_dagster.sandbox.command import sandbox_command
    except ImportError as error:
        raise click.ClickException(
            f'the sandbox needs {error.name}; install it with: pip install "sora-dagster[sandbox]"'
        ) from error
    sandbox_command.main(list(arguments), prog_name="sora-dagster sandbox")


@cli.command("webhook")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8788, show_default=True, help="Port; 0 for a free one.")
@storage_option
def webhook(host: str, port: int, storage_url: str | None) -> None:
    """Receive Runware's webhooks into the storage root's inbox.

    Needs SORA_WEBHOOK_SECRET. Prints "listening on URL" when ready; put that URL behind a public
    address and name the public one in SORA_WEBHOOK_URL.
    """
    from sora_dagster.settings import Settings
    from sora_dagster.storage import StorageRoot
    from sora_dagster.web.webhook import serve

    secret = os.environ.get("SORA_WEBHOOK_SECRET", "")
    if not secret:
        raise click.ClickException(
            "SORA_WEBHOOK_SECRET is not set; set it to a random string of 32 characters or more, "
            "the same one in the processes that request clips"
        )
    with _clear_errors():
        settings = with_storage(Settings.from_environment(), storage_url)
        root = StorageRoot(settings.storage_root_url())
        root.check_writable()
        try:
            serve(
                root,
                secret,
                host=host,
                port=port,
                on_ready=lambda url: click.echo(f"listening on {url}"),
            )
        except OSError as error:
            raise click.ClickException(
                f"cannot listen at {host}:{port}: {error.strerror or error}. End what listens "
                f"there, or choose another port with --port."
            ) from error


def _demo_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--latency",
        default=_DEMO_LATENCY_SECONDS,
        show_default=True,
        help="Seconds that the local Runware takes for a video.",
    )(command)
    return click.option(
        "--home",
        "home_folder",
        default=DEFAULT_HOME / "demo",
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the demo: clips, Dagster instance and logs.",
    )(command)


def _pipeline_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--stall-timeout-minutes",
        default=45.0,
        show_default=True,
        help="Stop waiting after this many minutes without any change. Nothing is lost.",
    )(command)
    command = click.option(
        "--regenerate-changed",
        is_flag=True,
        help="Generate a new take of each clip whose row changed, which costs again. Default: ask "
        "on a terminal; elsewhere, keep the clips.",
    )(command)
    command = click.option(
        "--delivery",
        type=click.Choice(["auto", "direct", "download"]),
        help="Whether Runware puts videos into the bucket, or they are downloaded. Default: "
        "SORA_DELIVERY, or auto.",
    )(command)
    return click.option(
        "--max-usd",
        help="Spending limit in USD, or 'unlimited'. Default: SORA_MAX_USD, or 25.",
    )(command)


@cli.command("generate")
@click.argument("prompts", type=click.Path(path_type=Path))
@storage_option
@click.option(
    "--home",
    "home_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the Dagster instance. Default: one for each storage root, in .sora beside "
    "PROMPTS.",
)
@_pipeline_options
def generate(
    prompts: Path,
    storage_url: str | None,
    home_folder: Path | None,
    max_usd: str | None,
    delivery: str | None,
    regenerate_changed: bool,
    stall_timeout_minutes: float,
) -> None:
    """Generate every clip of the dataset PROMPTS, and its remixes, and wait until all are stored.

    Needs RUNWARE_API_KEY; RUNWARE_BASE_URL names another API. Polls for results unless
    SORA_WEBHOOK_URL names a receiver. May be killed and run again: nothing is paid twice.

    A clip whose row, recipe or parent video changed keeps its take. To generate a new one, answer
    the question on a terminal, or pass --regenerate-changed. A raised take is generated without
    a question.

    SORA_STORAGE or --storage is required unless the API is on this machine, as a sandbox is: then
    the storage root is .sora/storage beside PROMPTS by default.
    """
    from sora_dagster.generation.protocol.layout import segment
    from sora_dagster.generation.requesting.direct_delivery import parse_delivery
    from sora_dagster.local.home import LocalHome
    from sora_dagster.settings import Settings, folder_beside

    with _clear_errors():
        settings = Settings.from_environment({**os.environ, "SORA_PROMPTS": str(prompts)})
        settings = replace(
            settings,
            max_usd=max_usd or settings.max_usd,
            delivery=parse_delivery(delivery or settings.delivery),
        )
        if home_folder is None and not prompts.parent.is_dir():
            raise click.ClickException(
                f"the dataset {prompts.absolute()} does not exist: its folder is missing"
            )
        # The first thing that a newcomer lacks, so the first to be reported.
        settings.runware().resolve_api_key()
        settings = with_storage(settings, storage_url)
        own_folder = folder_beside(prompts) / "generate" / segment(settings.storage_root_url())
        home = LocalHome(home_folder or own_folder)
        with home.in_use():
            _run_pipeline(
                settings,
                home,
                {},
                stall_timeout_minutes=stall_timeout_minutes,
                regenerate_changed=regenerate_changed,
            )


@cli.command("resolve")
@click.argument("clip")
@storage_option
@click.option("--asset", help="Asset of the clip. Default: clips, or remixes for CLIP|RECIPE.")
@click.option(
    "--resend",
    "decision",
    flag_value="resend",
    help="Poll once more, then make a new attempt if there is no video.",
)
@click.option("--retry", "decision", flag_value="retry", help="Collect again what was set aside.")
@click.option("--give-up", "decision", flag_value="give-up", help="Leave it without a video.")
@click.option("--max-usd", help="Spending limit in USD. Default: SORA_MAX_USD, or 25.")
def resolve(
    clip: str,
    storage_url: str | None,
    asset: str | None,
    decision: str | None,
    max_usd: str | None,
) -> None:
    """Decide about CLIP, which has no video and may have been paid for, or was set aside.

    --resend polls that attempt once more. If Runware has its video after all, or is still
    generating it, it is collected and nothing is sent. Otherwise a new attempt is made, which costs
    again. --give-up sends nothing, and leaves CLIP without a video.

    --retry has CLIP collected again, free, if it was set aside because one of its records could
    not be read. Restore the record first.
    """
    from sora_dagster.cli.plain_text import one_line
    from sora_dagster.generation.protocol.ledger import Ledger
    from sora_dagster.generation.resolve import (
        ResolutionError,
        give_up,
        resend,
        retry_stuck,
    )
    from sora_dagster.settings import Settings

    if decision is None:
        raise click.UsageError("choose one of --resend, --retry or --give-up")
    asset = asset or ("remixes" if "|" in clip else "clips")
    with _clear_errors():
        settings = Settings.from_environment()
        settings = replace(with_storage(settings, storage_url), max_usd=max_usd or settings.max_usd)
        ledger = Ledger(settings.storage().root())
        try:
            if decision == "give-up":
                outcome = give_up(ledger, asset, clip)
                click.echo(
                    f"{clip}: left as it is ({outcome.state}); {outcome.cost_usd:.2f} USD stay "
                    f"counted for it"
                )
                return
            if decision == "retry":
                tasks = retry_stuck(ledger, asset, clip)
                click.echo(
                    f"{clip}: task {', '.join(tasks)} is outstanding again; the next collecting "
                    f"run stores it. Nothing was sent"
                )
                return
            runware = settings.runware()
            with runware.generator(settings.storage()) as generator:
                requested = resend(generator, asset, clip, run_limit_usd=runware.run_limit_usd())
        except ResolutionError as error:
            raise click.ClickException(one_line(str(error))) from error
    click.echo(one_line(f"{clip}: {requested.detail}"))
    if not requested.ok:
        sys.exit(1)


@cli.command("estimate")
@click.argument("prompts", type=click.Path(path_type=Path))
def estimate(prompts: Path) -> None:
    """Print what every clip of the dataset PROMPTS would cost. Generates nothing, costs nothing.

    With RUNWARE_API_KEY set, prices are those of the API's dry run, if it gives them.
    """
    from rich.console import Console

    from sora_dagster.cli.estimate import estimate_table
    from sora_dagster.settings import Settings

    with _clear_errors():
        settings = Settings.from_environment({**os.environ, "SORA_PROMPTS": str(prompts)})
        table, total = estimate_table(settings)
    console = Console()
    console.print(table)
    console.print(f"[bold]{total:.2f} USD in all[/bold]; nothing was generated")


@cli.command("demo")
@_demo_options
@click.option(
    "--storage", "storage_url", help="Storage root of the clips. Default: a folder in --home."
)
@_pipeline_options
def demo(
    home_folder: Path,
    latency: float,
    storage_url: str | None,
    max_usd: str | None,
    delivery: str | None,
    regenerate_changed: bool,
    stall_timeout_minutes: float,
) -> None:
    """Generate the example dataset against a local Runware: no key, no cloud, no cost."""
    from sora_dagster.generation.requesting.direct_delivery import parse_delivery
    from sora_dagster.local.home import LocalHome
    from sora_dagster.local.stack import local_runware
    from sora_dagster.settings import Settings, example_prompts
    from sora_dagster.storage import normalized_url

    home = LocalHome(home_folder)
    with _clear_errors(), home.in_use():
        settings = Settings(
            prompts_path=os.environ.get("SORA_PROMPTS") or str(example_prompts()),
            max_usd=max_usd or "unlimited",
            webhook_wait_seconds=_DEMO_WEBHOOK_WAIT_SECONDS,
            delivery=parse_delivery(delivery or os.environ.get("SORA_DELIVERY")),
        )
        click.echo("Starting a local Runware and a webhook receiver ...")
        with local_runware(
            home,
            settings,
            latency_seconds=latency,
            storage_url=storage_url and normalized_url(storage_url),
        ) as (local, environment):
            _run_pipeline(
                local,
                home,
                environment,
                stall_timeout_minutes=stall_timeout_minutes,
                regenerate_changed=regenerate_changed,
                after="To look at it in the Dagster UI: make dev   (or: sora-dagster dev)",
            )


@cli.command("dev")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the UI.")
@click.option("--port", default=3000, show_default=True, help="Port of the UI.")
@_demo_options
def dev(host: str, port: int, home_folder: Path, latency: float) -> None:
    """Start a local Runware, the webhook receiver and the Dagster UI on the demo's data."""
    from sora_dagster.local.home import LocalHome
    from sora_dagster.local.processes import check_port_is_free, wait_for_http
    from sora_dagster.local.stack import dagster_ui, local_runware
    from sora_dagster.settings import Settings

    home = LocalHome(home_folder)
    with _clear_errors(), home.in_use(), ExitStack() as stack:
        check_port_is_free(host, port)
        settings = Settings(
            prompts_path=os.environ.get("SORA_PROMPTS"),
            boards=Settings.from_environment().boards,
            max_usd=os.environ.get("SORA_MAX_USD"),
            webhook_wait_seconds=_DEMO_WEBHOOK_WAIT_SECONDS,
        )
        click.echo("Starting a local Runware, a webhook receiver and the Dagster UI ...")
        local, environment = stack.enter_context(
            local_runware(home, settings, latency_seconds=latency)
        )
        ui = stack.enter_context(
            dagster_ui(home, {**local.to_environment(), **environment}, host=host, port=port)
        )
        url = f"http://{host}:{port}"
        wait_for_http(f"{url}/server_info", ui)
        click.echo(f"Dagster UI: {url}   gallery: {local.viewer_url}")
        click.echo(f"Local Runware: {local.base_url}   clips: {home.storage}")
        click.echo("Ctrl-C ends everything.")
        ui.wait()


def _run_pipeline(
    settings: Settings,
    home: LocalHome,
    environment: Mapping[str, str],
    *,
    stall_timeout_minutes: float,
    regenerate_changed: bool,
    after: str | None = None,
) -> None:
    from rich.console import Console

    from sora_dagster.cli.console import ProgressBar, print_result
    from sora_dagster.local.pipeline import Pipeline

    settings.runware().run_limit_usd()
    # If the output goes to a file or a pipe, nothing needs to be folded.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    pipeline = Pipeline(
        settings, home, environment=environment, stall_timeout_minutes=stall_timeout_minutes
    )
    regenerate_changed = _decide(console, pipeline.look(), regenerate_changed)
    with ProgressBar(console) as bar:

        def show(progress: Sequence[ClipProgress]) -> None:
            _AskedToEnd.check()
            bar.show(progress)

        result = pipeline.run(show, bar.say, regenerate_changed=regenerate_changed)
    print_result(
        console,
        result,
        storage_url=settings.storage_root_url(),
        regenerate_changed=regenerate_changed,
    )
    if after is not None:
        console.print(after)
    if not result.is_complete:
        sys.exit(1)


def _decide(console: Console, progress: Sequence[ClipProgress], regenerate_changed: bool) -> bool:
    """Whether changed clips get new takes: asks on a terminal. Says what is about to be bought."""
    from sora_dagster.cli.console import (
        changes_line,
        print_changes,
        print_line,
        purchases_line,
    )

    changes = changes_line(progress)
    if changes and not regenerate_changed and sys.stdin.isatty() and sys.stdout.isatty():
        print_changes(console, progress)
        regenerate_changed = click.confirm(f"{changes}: regenerate?", default=False)
    if line := purchases_line(progress, regenerate_changed=regenerate_changed):
        print_line(console, line)
    return regenerate_changed
