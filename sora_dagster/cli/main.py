"""The `sora-dagster` command."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from sora_dagster.cli.demo import demo_command, dev_command, sandbox_command
from sora_dagster.cli.doctor import doctor_command
from sora_dagster.cli.generate import estimate_command, generate_command
from sora_dagster.cli.models import models_command
from sora_dagster.cli.options import Interrupted
from sora_dagster.cli.servers import viewer_command, webhook_command
from sora_dagster.cli.status import status_command
from sora_dagster.cli.storage import link_command, prune_command, resolve_command, verify_command
from sora_dagster.cli.sync import sync_command
from sora_dagster.generation.threads import ending_after_signals
from sora_dagster.local.processes import terminate_all


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sora-dagster")
def cli() -> None:
    """Generative video as Dagster assets."""


for command in (
    demo_command,
    dev_command,
    doctor_command,
    estimate_command,
    generate_command,
    link_command,
    models_command,
    prune_command,
    resolve_command,
    sandbox_command,
    status_command,
    sync_command,
    verify_command,
    viewer_command,
    webhook_command,
):
    cli.add_command(command)


def run_process() -> NoReturn:
    """Run the command as a process of its own, which ends soon after SIGINT or SIGTERM."""
    with ending_after_signals():
        main()


def main() -> NoReturn:
    """Run the command. Exits with status 0 only if everything succeeded."""
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
    except (click.Abort, Interrupted):
        click.echo("\nstopped; run the same command again to continue", err=True)
        # As shells report a process that a signal ended.
        sys.exit(128 + (Interrupted.signal_number or signal.SIGINT))
    sys.exit(0)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    Interrupted.signal_number = number
    terminate_all()
    raise Interrupted
