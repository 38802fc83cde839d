"""`sora-dagster status`: what is outstanding, what was spent, and what needs attention."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from sora_dagster.cli.options import (
    one_line,
    plain,
    readable_errors,
    settings_from_environment,
    storage_option,
    with_storage,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sora_dagster.generation.status.problems import AccountAnswer, Problem
    from sora_dagster.generation.status.root_status import DatasetStatus, RootStatus
    from sora_dagster.settings import Settings

_API_SECONDS = 10.0
_MOST_NAMED = 20
# That of the longest label, so that the tables are aligned.
_LABEL_WIDTH = len("run 12345678")


@click.command("status")
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--metrics", is_flag=True, help="Print Prometheus metrics.")
@click.option("--offline", is_flag=True, help="Send no request to Runware.")
def status_command(storage_url: str | None, as_json: bool, metrics: bool, offline: bool) -> None:
    """Print what is outstanding, what was spent today, and what needs attention.

    Reads the storage root only, and sends one free request to Runware, for the balance. Writes and
    pays nothing. Works without Dagster's instance.

    Exits with status 1 if something needs attention: Runware does not answer or refuses the key,
    the balance or the daily spending limit is used up, collections keep failing or do not run, or
    clips wait for a decision. A warning alone does not change the status.
    """
    if as_json and metrics:
        raise click.UsageError("choose one of --json and --metrics")
    from sora_dagster.generation.protocol.ledger import Ledger
    from sora_dagster.generation.protocol.spending_limits import SpendingLimits
    from sora_dagster.generation.status.problems import find_problems
    from sora_dagster.generation.status.reader import read_status

    with readable_errors():
        settings = with_storage(settings_from_environment(), storage_url, must_exist=True)
        ledger = Ledger(settings.storage().root())
        found = read_status(
            ledger,
            clock=lambda: datetime.now(UTC),
            limits=SpendingLimits(day_usd=settings.runware().day_limit_usd()),
        )
        account = None if offline else _account(settings)
        problems = find_problems(found, account)
        if metrics:
            from sora_dagster.web.metrics import metrics_text

            click.echo(metrics_text(found, account), nl=False)
        elif as_json:
            click.echo(json.dumps(_as_json(found, account, problems), indent=2))
        else:
            print_status(_console(), found, account, problems)
    if any(problem.severity == "error" for problem in problems):
        sys.exit(1)


def _account(settings: Settings) -> AccountAnswer:
    from sora_dagster.generation.status.problems import AccountAnswer, ask_account
    from sora_dagster.runware.client import RunwareClient

    key = os.environ.get("RUNWARE_API_KEY", "").strip()
    try:
        with RunwareClient(
            key, base_url=settings.base_url, timeout_seconds=_API_SECONDS, retry_attempts=1
        ) as client:
            return ask_account(client)
    except ValueError as error:
        return AccountAnswer(error=str(error), error_kind="authentication")


def _as_json(
    found: RootStatus, account: AccountAnswer | None, problems: Sequence[Problem]
) -> dict[str, Any]:
    return {
        "ok": not any(problem.severity == "error" for problem in problems),
        "problems": [problem.model_dump() for problem in problems],
        "runware": None if account is None else account.model_dump(),
        **found.model_dump(mode="json"),
    }


def _console() -> Console:
    from rich.console import Console

    # Output to a file or a pipe is not wrapped.
    return Console() if sys.stdout.isatty() else Console(width=200)


def print_status(
    console: Console,
    found: RootStatus,
    account: AccountAnswer | None,
    problems: Sequence[Problem],
) -> None:
    """Print the state of a storage root.

    Arguments:
        console: where to.
        found: the state.
        account: what Runware answered; None if it was not asked.
        problems: what needs attention.
    """
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{plain(found.url)} at {found.at:%Y-%m-%d %H:%M:%S} UTC", style="bold"))
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=False)
    table.add_column(style="dim", min_width=_LABEL_WIDTH)
    table.add_column(overflow="fold")
    for name, value in [*_money_lines(found), ("Runware", _runware_line(account))]:
        table.add_row(name, Text(one_line(value)))
    console.print(table)
    for dataset in found.datasets:
        _print_dataset(console, dataset)
    if not found.datasets:
        console.print("Nothing was requested in this storage root yet.")
    console.print()
    if not problems:
        console.print(Text("Nothing needs attention.", style="green"))
    for problem in problems:
        style = "red" if problem.severity == "error" else "yellow"
        line = Text(f"{problem.severity:<8}", style=style)
        line.append(one_line(problem.sentence), style="default")
        console.print(line, soft_wrap=True)
        console.print(Text(f"{'':<8}{one_line(problem.action)}"), soft_wrap=True)


def _money_lines(found: RootStatus) -> list[tuple[str, str]]:
    spending = found.spending
    day = "unknown" if spending.day_usd is None else f"{spending.day_usd:.2f} USD"
    limit = (
        "no limit"
        if spending.day_limit_usd is None
        else f"of {spending.day_limit_usd:.2f} USD ({spending.day_use or 0:.0%})"
    )
    lines = [("spent today", f"{day}, {limit}")]
    lines += [
        (f"run {run.root_run[:8]}", f"{run.used_usd:.2f} USD of {run.limit_usd:.2f} USD")
        for run in spending.runs
    ]
    return lines


def _runware_line(account: AccountAnswer | None) -> str:
    if account is None:
        return "not asked"
    if account.status is None:
        what = "refuses the key" if account.error_kind == "authentication" else "no answer"
        return f"{what}: {account.error}"
    balance = account.status.balance_usd
    return "answers" if balance is None else f"answers; the balance is {balance:.2f} USD"


def _print_dataset(console: Console, dataset: DatasetStatus) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print()
    console.print(Text(one_line(dataset.name), style="bold cyan"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", min_width=_LABEL_WIDTH)
    table.add_column(overflow="fold")
    states = [f"{number} {state}" for state, number in dataset.tasks.items() if number]
    age = dataset.oldest_seconds
    oldest = "" if age is None else f"; the oldest for {_duration(age)}"
    table.add_row("tasks", Text(", ".join(states).replace("_", " ") + oldest or "none outstanding"))
    table.add_row("webhooks", Text(f"{dataset.markers} waiting"))
    if dataset.remixes_due:
        table.add_row("remixes", Text(f"of {dataset.remixes_due} clips are not requested yet"))
    table.add_row("collection", Text(one_line(_collection_line(dataset))))
    console.print(table)
    for task in dataset.notable[:_MOST_NAMED]:
        line = Text(f"  {task.state:<7} ", style="yellow" if task.state == "slow" else "red")
        line.append(one_line(f"{task.clip}: {task.reason}"), style="default")
        console.print(line, soft_wrap=True)
        if task.command:
            console.print(Text(f"          {one_line(task.command)}"), soft_wrap=True)
    if len(dataset.notable) > _MOST_NAMED:
        console.print(f"  and {len(dataset.notable) - _MOST_NAMED} more; see --json")


def _collection_line(dataset: DatasetStatus) -> str:
    last = dataset.last_collection
    if last is None:
        return "running for the first time" if dataset.is_collected else "none yet"
    if dataset.is_collected:
        now = "a process collects it now"
    else:
        now = f"the last one ended at {last.updated_at:%Y-%m-%d %H:%M:%S} UTC"
        if last.is_running:
            now = f"none runs; the last one was seen at {last.updated_at:%Y-%m-%d %H:%M:%S} UTC"
    failed = f"; it failed: {last.error}" if last.error else ""
    return f"{now}; {last.clips_stored} clips stored so far{failed}"


def _duration(seconds: float) -> str:
    """A duration in words.

    >>> _duration(50), _duration(300), _duration(9000)
    ('50 s', '5 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
