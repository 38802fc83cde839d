"""How clips are requested, and who pays for them."""

from __future__ import annotations

from dataclasses import dataclass

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord


@dataclass(frozen=True)
class RequestOptions:
    """How clips are requested, and who pays for them.

    Arguments:
        root_run: the run that pays; its limit counts retries and remixes too.
        run_limit_usd: spending limit of that run in USD; None for no limit.
        regenerate_changed: whether a clip whose row changed gets a new take, which is paid for.
        retry_failed: whether a clip that failed for good, or too often, is tried again.
    """

    root_run: str
    run_limit_usd: float | None
    regenerate_changed: bool = False
    retry_failed: bool = False


def options_after(ledger: Ledger, attempt: AttemptRecord) -> RequestOptions:
    """Options to request an attempt's clip again: paid by the same run, within the same limit.

    Raises:
        UnreadableRecordError: if the record of who sent it cannot be read.
    """
    sent = ledger.sent(attempt.task_uuid)
    if sent is None or sent.root_run is None:
        return RequestOptions(attempt.root_run, attempt.run_limit_usd)
    return RequestOptions(sent.root_run, sent.run_limit_usd)


def retry_advice(asset: str, clip: str) -> str:
    """How a user retries a failed clip, from Dagster and from the command line.

    Arguments:
        asset: asset key of the clip.
        clip: its partition key.
    """
    return (
        f"set retry_failed in the run config (sora-dagster generate: --retry-failed), or run: "
        f"sora-dagster resolve {clip!r} --asset {asset} --resend"
    )
