"""Commands against a local Runware: `sora-dagster sandbox`, `demo` and `dev`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_dagster.cli.generate import generate_dataset, generation_options
from sora_dagster.cli.options import readable_errors

if TYPE_CHECKING:
    from sora_dagster.local.progress import PipelineOptions

_DEFAULT_HOME = Path(".sora") / "demo"
_LATENCY_SECONDS = 4.0
# Short, so that a demo that is continued shows its clips soon.
_WEBHOOK_WAIT_SECONDS = 10.0


def _demo_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--latency",
        default=_LATENCY_SECONDS,
        show_default=True,
        help="Seconds that the local Runware takes to generate a video.",
    )(command)
    return click.option(
        "--home",
        "home_folder",
        default=_DEFAULT_HOME,
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the demo: clips, Dagster instance and logs.",
    )(command)


@click.command(
    "sandbox",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox_command(arguments: tuple[str, ...]) -> None:
    """Start a local Runware that renders real videos."""
    from sora_dagster.extras import require_extras

    with readable_errors():
        require_extras("The sandbox", "sandbox")
    # The command with its options: loaded here, since it imports packages of the extra.
    from sora_dagster.sandbox.command import sandbox_command

    sandbox_command.main(list(arguments), prog_name="sora-dagster sandbox")


@click.command("demo")
@_demo_options
@click.option(
    "--storage", "storage_url", help="Storage root of the clips. Default: a folder in --home."
)
@generation_options(default_max_usd="unlimited")
def demo_command(
    home_folder: Path,
    latency: float,
    storage_url: str | None,
    max_usd: str | None,
    delivery: str | None,
    options: PipelineOptions,
) -> None:
    """Generate the example dataset against a local Runware.

    Needs no key and no cloud account, and costs nothing. SORA_PROMPTS names another dataset.
    """
    from sora_dagster.environment.values import example_prompts
    from sora_dagster.extras import require_extras
    from sora_dagster.local.home import LocalHome
    from sora_dagster.local.stack import local_runware
    from sora_dagster.settings import Settings
    from sora_dagster.storage import normalized_url

    home = LocalHome(home_folder)
    with readable_errors():
        require_extras("The demo", "media", "sandbox", "webhook", "viewer", "reports")
        settings = Settings(
            prompts_path=os.environ.get("SORA_PROMPTS") or str(example_prompts()),
            max_usd=max_usd or "unlimited",
            webhook_wait_seconds=_WEBHOOK_WAIT_SECONDS,
        ).updated(delivery=delivery or os.environ.get("SORA_DELIVERY"))
        with home.in_use():
            click.echo("Starting a local Runware, a webhook receiver and a viewer ...")
            with local_runware(
                home,
                settings,
                latency_seconds=latency,
                storage_url=storage_url and normalized_url(storage_url),
            ) as (local, secrets):
                generate_dataset(
                    local,
                    home,
                    options,
                    secrets=secrets,
                    has_daemon=True,
                    after=f"To open the result in the Dagster UI, run: {_dev_command(home_folder)}",
                )


def _dev_command(home_folder: Path) -> str:
    if home_folder == _DEFAULT_HOME:
        return "make dev (or: sora-dagster dev)"
    return f"sora-dagster dev --home {shlex.quote(str(home_folder))}"


@click.command("dev")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the Dagster UI.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Port of the Dagster UI.",
)
@_demo_options
def dev_command(host: str, port: int, home_folder: Path, latency: float) -> None:
    """Start the Dagster UI with the demo's clips.

    Also starts a local Runware, a webhook receiver and a viewer. Runs until Ctrl-C.
    """
    from sora_dagster.extras import require_extras
    from sora_dagster.local.home import LocalHome
    from sora_dagster.local.processes import wait_for_http
    from sora_dagster.local.stack import dagster_ui, local_runware
    from sora_dagster.settings import Settings

    home = LocalHome(home_folder)
    with readable_errors(), ExitStack() as stack:
        require_extras("The demo", "ui", "media", "sandbox", "webhook", "viewer", "reports")
        from sora_dagster.serving import listening

        stack.enter_context(home.in_use())
        with listening(host, port):
            pass  # raises if the port is in use, before anything is started
        environment = Settings.from_environment()
        settings = Settings(
            prompts_path=environment.prompts_path,
            boards=environment.boards,
            max_usd=environment.max_usd,
            webhook_wait_seconds=_WEBHOOK_WAIT_SECONDS,
        )
        click.echo("Starting a local Runware, a webhook receiver, a viewer and the Dagster UI ...")
        local, secrets = stack.enter_context(local_runware(home, settings, latency_seconds=latency))
        ui = stack.enter_context(
            dagster_ui(home, {**local.to_environment(), **secrets}, host=host, port=port)
        )
        url = f"http://{host}:{port}"
        wait_for_http(f"{url}/server_info", ui)
        click.echo(f"Dagster UI: {url}   gallery: {local.viewer_url}")
        click.echo(f"Local Runware: {local.base_url}   clips: {home.storage}")
        click.echo("Press Ctrl-C to stop everything.")
        ui.wait()
