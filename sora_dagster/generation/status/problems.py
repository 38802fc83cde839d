"""What needs attention in a storage root, in words and by severity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sora_dagster.generation.status.root_status import DatasetStatus, RootStatus, SpendingStatus
from sora_dagster.prompts.counts import counted
from sora_dagster.runware.account import AccountStatus
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import AuthenticationError, QuotaError, RunwareError

# A budget use from which a warning is given.
WARNING_SHARE = 0.8
_UNREACHABLE = timedelta(minutes=10)
_FAILURES_IN_A_ROW = 3
_UNCOLLECTED_SECONDS = 3600.0
_MOST_NAMED = 5

Severity = Literal["warning", "error"]
# The subjects are the names of asset checks, too.
Subject = Literal["budget_use", "runware_works", "collecting_works", "no_clip_needs_a_decision"]


class Problem(BaseModel):
    """Something that needs attention.

    Arguments:
        subject: what is concerned.
        severity: `error` if clips or money wait for a decision.
        cause: short name of what is wrong, such as `balance`, or the kind of an error of Runware.
        sentence: what is wrong.
        action: what to do.
    """

    model_config = ConfigDict(frozen=True)

    subject: Subject
    severity: Severity
    cause: str
    sentence: str
    action: str


class AccountAnswer(BaseModel):
    """What Runware answered when it was asked for the account; that is free.

    Arguments:
        status: the account; None if it was not answered.
        error: why not; empty if it was.
        error_kind: kind of that error.
    """

    model_config = ConfigDict(frozen=True)

    status: AccountStatus | None = None
    error: str = ""
    error_kind: str = ""


def ask_account(client: RunwareClient) -> AccountAnswer:
    """Ask Runware whether it answers, whether it accepts the key, and what the balance is."""
    try:
        return AccountAnswer(status=client.account())
    except RunwareError as error:
        return AccountAnswer(error=str(error), error_kind=error.kind)


def find_problems(status: RootStatus, account: AccountAnswer | None) -> tuple[Problem, ...]:
    """What needs attention, errors first.

    Arguments:
        status: the state of the storage root.
        account: what Runware answered; None if it was not asked.
    """
    found = [
        *budget_problems(status.spending),
        *(account_problems(account) if account is not None else ()),
    ]
    for dataset in status.datasets:
        found += [
            *outage_problems(dataset),
            *collecting_problems(dataset),
            *decision_problems(dataset),
        ]
    return tuple(sorted(found, key=lambda problem: problem.severity != "error"))


def budget_problems(spending: SpendingStatus) -> Sequence[Problem]:
    """Whether a daily spending limit is used up, or nearly, or a log is damaged."""
    if spending.error:
        return [
            Problem(
                subject="budget_use",
                severity="error",
                cause="spending_log",
                sentence=spending.error,
                action="Restore the missing or damaged object from a backup.",
            )
        ]
    found = []
    if (use := spending.day_use) is not None:
        used = (
            f"{spending.day_usd:.2f} USD of the daily spending limit of "
            f"{spending.day_limit_usd:.2f} USD"
        )
        found.append((use, used, "max_usd_per_day of RunwareResource (SORA_MAX_USD_PER_DAY)"))
    for item in spending.datasets:
        used = (
            f"{item.used_usd:.2f} USD of dataset {item.dataset}'s daily spending limit of "
            f"{item.limit_usd:.2f} USD"
        )
        found.append((item.use, used, "max_usd_per_day of the dataset"))
    return [
        Problem(
            subject="budget_use",
            severity="error" if use >= 1 else "warning",
            cause="day_limit",
            sentence=f"{used} is used ({use:.0%}).",
            action=f"Raise {setting}, or wait for the next day (UTC).",
        )
        for use, used, setting in found
        if use >= WARNING_SHARE
    ]


def account_problems(account: AccountAnswer) -> Sequence[Problem]:
    """Whether Runware answers, accepts the key, and has a balance to take from."""
    if account.status is not None:
        balance = account.status.balance_usd
        if balance is None or balance > 0:
            return []
        cause = "balance"
        sentence = f"The balance of the Runware account is {balance:.2f} USD; requests are refused."
        action = "Add credit at https://my.runware.ai."
    else:
        cause = account.error_kind
        what = "did not answer for the account"
        if account.error_kind == AuthenticationError.kind:
            what = "refused the API key"
        sentence = f"Runware {what}: {account.error}"
        action = _action_for(account.error_kind)
    return [
        Problem(
            subject="runware_works",
            severity="error",
            cause=cause,
            sentence=sentence,
            action=action,
        )
    ]


def outage_problems(dataset: DatasetStatus) -> Sequence[Problem]:
    """Whether the last collection of a dataset could not poll Runware, or was refused."""
    last = dataset.last_collection
    if last is None:
        return []
    subject: Subject = "runware_works"
    if last.error_kind in (AuthenticationError.kind, QuotaError.kind):
        return [
            Problem(
                subject=subject,
                severity="error",
                cause=last.error_kind,
                sentence=f"{dataset.name}: Runware refused the last collection: {last.error}",
                action=_action_for(last.error_kind),
            )
        ]
    if last.unreachable_since is None:
        return []
    minutes = (last.updated_at - last.unreachable_since).total_seconds() / 60
    is_long = last.updated_at - last.unreachable_since >= _UNREACHABLE
    return [
        Problem(
            subject=subject,
            severity="error" if is_long else "warning",
            cause="polls",
            sentence=f"{dataset.name}: polls of Runware have failed for {minutes:.0f} minutes, "
            f"since {last.unreachable_since:%Y-%m-%d %H:%M} UTC: {last.error}",
            action=f"Nothing is lost, and polling goes on. {_action_for(last.error_kind or '')}",
        )
    ]


def collecting_problems(dataset: DatasetStatus) -> Sequence[Problem]:
    """Whether collections keep failing, or nobody collects what is outstanding."""
    subject: Subject = "collecting_works"
    last = dataset.last_collection
    if last is not None and last.failures_in_a_row >= _FAILURES_IN_A_ROW:
        return [
            Problem(
                subject=subject,
                severity="error",
                cause="failed_collections",
                sentence=f"{dataset.name}: the last {last.failures_in_a_row} collections failed: "
                f"{last.error}",
                action="Look at the newest run of collect_clips in the Dagster UI.",
            )
        ]
    age = dataset.oldest_seconds
    if dataset.is_collected or age is None or age < _UNCOLLECTED_SECONDS:
        return []
    if last is not None and not last.is_running and dataset.outstanding == dataset.tasks["slow"]:
        # Runs have looked at them, and Runware is still generating them.
        return []
    outstanding = counted(dataset.outstanding, "clip is", "clips are")
    return [
        Problem(
            subject=subject,
            severity="error",
            cause="not_collected",
            sentence=f"{dataset.name}: {outstanding} outstanding, the oldest for "
            f"{age / 60:.0f} minutes, and no process collects them.",
            action="Check that the completion sensor and the Dagster daemon run, or launch "
            "collect_clips.",
        )
    ]


def decision_problems(dataset: DatasetStatus) -> Sequence[Problem]:
    """Clips that wait for a person: stuck ones, and ones that may have been paid for."""
    texts = {
        "stuck": (
            "clip is set aside because of an unreadable record",
            "clips are set aside because of unreadable records",
        ),
        "undecided": (
            "clip has no video and may have been paid for",
            "clips have no video and may have been paid for",
        ),
    }
    problems = []
    for state, (one, several) in texts.items():
        tasks = [task for task in dataset.notable if task.state == state]
        if not tasks:
            continue
        more = len(tasks) - _MOST_NAMED
        names = ", ".join(task.clip for task in tasks[:_MOST_NAMED])
        names += f" and {more} more" if more > 0 else ""
        problems.append(
            Problem(
                subject="no_clip_needs_a_decision",
                severity="error",
                cause=state,
                sentence=f"{dataset.name}: {counted(len(tasks), one, several)}: {names}.",
                action=f"Run: {tasks[0].command}",
            )
        )
    return problems


def _action_for(kind: str) -> str:
    if kind == AuthenticationError.kind:
        return "Set a valid RUNWARE_API_KEY, then restart the processes that read it."
    if kind == QuotaError.kind:
        return "Add credit at https://my.runware.ai."
    return (
        "Check the network, the proxy and RUNWARE_BASE_URL, and whether Runware reports an outage."
    )
