"""The command that starts a sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sora_dagster.sandbox.settings import SandboxSettings

_DEFAULTS = SandboxSettings()


@click.command("sandbox")
@click.option("--host", default=_DEFAULTS.host, show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_DEFAULTS.port,
    show_default=True,
    help="Port to listen at; 0 for a free one.",
)
@click.option(
    "--key",
    default=_DEFAULTS.api_key.get_secret_value(),
    show_default=True,
    help="The API key that is accepted.",
)
@click.option(
    "--extra-key",
    "extra_keys",
    multiple=True,
    metavar="KEY=ORGANIZATION",
    help="A further key, and the UUID of the organization that it belongs to; may be repeated.",
)
@click.option(
    "--latency",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.latency_seconds,
    show_default=True,
    help="Seconds from a task's acceptance to its first video, at least.",
)
@click.option(
    "--latency-step",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.latency_step_seconds,
    show_default=True,
    help="Further seconds to each next video of a task.",
)
@click.option(
    "--max-tasks",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_tasks_per_request,
    show_default=True,
    help="Most tasks in one request.",
)
@click.option(
    "--max-polls",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_polls_per_request,
    show_default=True,
    help="Most polls in one request; 1 refuses batched polls.",
)
@click.option(
    "--unknown-polls",
    type=click.Choice(["error", "silent", "silent_running"]),
    default=_DEFAULTS.unknown_polls,
    show_default=True,
    help="How a poll of an unknown task is answered.",
)
@click.option(
    "--reuse-rendered",
    is_flag=True,
    help="Give all videos of one size, length and format the same bytes (for load tests).",
)
@click.option(
    "--webhook-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.webhook_timeout_seconds,
    show_default=True,
    help="Seconds that a webhook's receiver may take to answer.",
)
@click.option(
    "--webhook-attempts",
    type=click.IntRange(min=1),
    default=_DEFAULTS.webhook_attempts,
    show_default=True,
    help="How often a webhook is sent until it is answered with 2xx.",
)
@click.option(
    "--webhook-first-delay",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.webhook_first_delay_seconds,
    show_default=True,
    help="Seconds before a webhook is sent again; doubles from then on.",
)
@click.option(
    "--balance",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.balance_usd,
    show_default=True,
    help="USD that the account has at first.",
)
@click.option(
    "--render-workers",
    type=click.IntRange(min=1),
    default=_DEFAULTS.render_workers,
    show_default=True,
    help="Videos rendered at a time, a core each.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the rendered videos; a temporary one by default.",
)
@click.option(
    "--render-cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder where reused videos are kept for other sandboxes; with --reuse-rendered.",
)
@click.option(
    "--faults",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML or JSON file with a fault plan: what goes wrong, when, and how often.",
)
def sandbox_command(
    host: str,
    port: int,
    key: str,
    extra_keys: tuple[str, ...],
    latency: float,
    latency_step: float,
    max_tasks: int,
    max_polls: int,
    unknown_polls: str,
    reuse_rendered: bool,
    webhook_timeout: float,
    webhook_attempts: int,
    webhook_first_delay: float,
    balance: float,
    render_workers: int,
    data_dir: Path | None,
    render_cache: Path | None,
    faults: Path | None,
) -> None:
    """Start a local Runware that renders real videos and costs nothing.

    Prints "listening on http://HOST:PORT/v1" when it is ready, and ends on Ctrl-C.
    """
    # Loaded only now: the server brings the encoders along, which --help does not need.
    from sora_dagster.sandbox.faults.plan import FaultPlanError
    from sora_dagster.sandbox.server import AddressInUseError, serve

    settings = SandboxSettings.model_validate(
        {
            "host": host,
            "port": port,
            "api_key": key,
            "extra_keys": _organizations(extra_keys),
            "latency_seconds": latency,
            "latency_step_seconds": latency_step,
            "max_tasks_per_request": max_tasks,
            "max_polls_per_request": max_polls,
            "unknown_polls": unknown_polls,
            "reuse_rendered": reuse_rendered,
            "webhook_timeout_seconds": webhook_timeout,
            "webhook_attempts": webhook_attempts,
            "webhook_first_delay_seconds": webhook_first_delay,
            "balance_usd": balance,
            "render_workers": render_workers,
            "data_dir": data_dir,
            "render_cache_dir": render_cache,
            "faults_path": faults,
        }
    )
    try:
        serve(settings)
    except (AddressInUseError, FaultPlanError) as error:
        click.echo(f"sandbox: {error}", err=True)
        sys.exit(2)


def _organizations(pairs: tuple[str, ...]) -> dict[str, str]:
    """Keys and their organizations, from ``KEY=ORGANIZATION``."""
    organizations = {}
    for pair in pairs:
        key, _, organization = pair.partition("=")
        if not key or not organization:
            raise click.BadParameter(
                f"{pair!r} is not of the form KEY=ORGANIZATION", param_hint="--extra-key"
            )
        organizations[key] = organization
    return organizations
