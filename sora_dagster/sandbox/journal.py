"""The journal of accepted tasks: what a sandbox still knows after a restart, as Runware would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sora_dagster.sandbox.tasks import Task, as_wire_number

JOURNAL_NAME = "tasks.jsonl"


@dataclass(frozen=True)
class JournalEntry:
    """A task that was accepted before a restart.

    Arguments:
        task: the task as it was sent.
        accepted_at: Unix time in seconds.
        account: UUID of the organization that pays for it.
    """

    task: Mapping[str, Any]
    accepted_at: float
    account: str


class Journal:
    """A file with a line for each accepted task.

    Arguments:
        folder: where the file is.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME

    def append(self, task: Task) -> None:
        """Record a task, before its acceptance is answered."""
        line = json.dumps(
            {
                "taskUUID": task.task_uuid,
                "accepted_at": task.accepted_at,
                "account": task.order.account,
                "cost": as_wire_number(task.order.cost_usd),
                "task": dict(task.order.request.raw),
            }
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def entries(self) -> list[JournalEntry]:
        """All recorded tasks, in order; an incomplete line is skipped."""
        if not self._path.exists():
            return []
        entries = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                # The sandbox was killed while writing it, so the task was never acknowledged.
                continue
            entries.append(JournalEntry(entry["task"], entry["accepted_at"], entry["account"]))
        return entries
