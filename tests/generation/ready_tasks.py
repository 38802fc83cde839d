"""Tasks that are over at Runware and not stored yet, as the collection has them in between."""

from __future__ import annotations

from sora_dagster.generation.collecting.tracked import ReadyTask
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET


def outstanding_attempt(generator: Generator) -> AttemptRecord:
    """The only attempt that is outstanding."""
    [entry] = generator.ledger.pending.tasks(DEFAULT_DATASET).values()
    attempt = generator.ledger.pending.attempt(entry)
    assert attempt is not None
    return attempt


def is_over(generator: Generator, attempt: AttemptRecord) -> bool:
    """Whether Runware has all results of a task."""
    status = generator.client.poll([attempt.task_uuid])[attempt.task_uuid]
    return status.is_over(attempt.request.spec.number_results)


def ready_task(generator: Generator, attempt: AttemptRecord | None = None) -> ReadyTask:
    """A task, by default the only outstanding one, as soon as Runware has all its results."""
    attempt = attempt or outstanding_attempt(generator)
    assert wait_until(lambda: is_over(generator, attempt), timeout_seconds=30)
    status = generator.client.poll([attempt.task_uuid])[attempt.task_uuid]
    return ReadyTask(attempt, status, generator.store_time())
