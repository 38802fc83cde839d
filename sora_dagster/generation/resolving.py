"""A person's word on a clip that the protocol cannot decide about by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sora_dagster.generation import layout
from sora_dagster.generation.first_frame_store import whole_request
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.ledger import Ledger, Take
from sora_dagster.generation.records import OutcomeRecord, Record
from sora_dagster.generation.requested import Requested
from sora_dagster.generation.requester import Asking

_UNDECIDED = ("unsure", "lost", "failed", "void")


class ResolutionError(Exception):
    """There is nothing to resolve; the message says how the clip stands."""


class Resolution(Record):
    """`tasks/<uuid>/resolved.json`: what a person decided.

    Arguments:
        decision: to ask for another attempt, or to leave it.
    """

    decision: Literal["resend", "give-up"]
    at: datetime


def resend(
    generator: Generator, asset: str, clip: str, *, run_limit_usd: float | None
) -> Requested:
    """Ask for another attempt of a clip, whatever became of the last; it may be paid for again.

    The last attempt is polled once more first: where Runware has its video after all, that is
    collected, and nothing is sent.

    Raises:
        ResolutionError: where the clip is stored, under way, or was never asked for.
        RunwareError: where the API refuses the key or cannot be reached.
    """
    take, _ = undecided(generator.ledger, asset, clip)
    _record(generator.ledger, take, "resend")
    request = whole_request(generator.ledger.root, take.latest.request)
    asking = Asking(
        root_run=f"resolve-{take.latest.task_uuid}",
        run_limit_usd=run_limit_usd,
        regenerate_stale=False,
        retry_failed=True,
    )
    [requested] = generator.request([request], asking)
    return requested


def give_up(ledger: Ledger, asset: str, clip: str) -> OutcomeRecord:
    """Leave a clip as it is, on record; what it may have cost stays counted.

    Raises:
        ResolutionError: where the clip is stored, under way, or was never asked for.
    """
    take, outcome = undecided(ledger, asset, clip)
    _record(ledger, take, "give-up")
    return outcome


def undecided(ledger: Ledger, asset: str, clip: str) -> tuple[Take, OutcomeRecord]:
    """The latest take of a clip whose last attempt brought no video.

    Raises:
        ResolutionError: where there is none.
    """
    takes = ledger.takes(asset, clip)
    if not takes:
        raise ResolutionError(f"{asset}/{clip} was never asked for in {ledger.root.url}")
    outcome = ledger.outcome(takes[-1].latest.task_uuid)
    if outcome is None:
        raise ResolutionError(f"{asset}/{clip} is still under way; wait for it")
    if outcome.state not in _UNDECIDED:
        raise ResolutionError(f"{asset}/{clip} is stored; there is nothing to resolve")
    return takes[-1], outcome


def _record(ledger: Ledger, take: Take, decision: Literal["resend", "give-up"]) -> None:
    ledger.root.write(
        layout.task_key(take.latest.task_uuid, "resolved"),
        Resolution(decision=decision, at=ledger.clock()).to_json(),
    )
