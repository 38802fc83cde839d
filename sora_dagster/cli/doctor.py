"""`sora-dagster doctor`: where each setting comes from, and whether everything works."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sora_dagster.cli.options import one_line, plain, readable_errors, storage_option

if TYPE_CHECKING:
    from sora_dagster.cli.diagnosis import Diagnosis


@click.command("doctor")
@click.argument("prompts", required=False, type=click.Path(path_type=Path))
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(prompts: Path | None, storage_url: str | None, as_json: bool) -> None:
    """Print every setting and where it comes from, and check that what they point to works.

    Checks the API, the key, the balance, the storage root, the webhook receiver, the models, the
    installed extras and the dataset PROMPTS (default: SORA_PROMPTS). Requests no video and pays
    nothing. Writes one small object to the storage root and removes it.

    Exits with status 1 if a check failed.
    """
    from sora_dagster.cli.diagnosis import diagnose

    with readable_errors():
        found = diagnose(
            {"prompts_path": None if prompts is None else str(prompts), "storage_url": storage_url},
            folder=Path.cwd(),
        )
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)
    if not found.is_ok:
        sys.exit(1)


def _as_json(found: Diagnosis) -> dict[str, object]:
    return {
        "ok": found.is_ok,
        "settings": [row._asdict() for row in found.settings],
        "checks": [check._asdict() for check in found.checks],
    }


def _print(found: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Output to a file or a pipe is not wrapped.
    console = Console() if sys.stdout.isatty() else Console(width=240)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("variable", "value", "from"):
        table.add_column(name, overflow="fold")
    for row in found.settings:
        style = "dim" if row.source == "default" else ""
        cells = (row.variable, one_line(row.value), row.source)
        table.add_row(*(Text(cell, style=style) for cell in cells))
    console.print(table)
    console.print()
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    for check in found.checks:
        line = Text(f"{check.status:<8}", style=colours[check.status])
        line.append(plain(f"{check.name}: {check.sentence}"), style="default")
        console.print(line, soft_wrap=True)
        if check.action:
            console.print(Text(f"{'':<8}{one_line(check.action)}"), soft_wrap=True)
