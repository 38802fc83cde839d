"""The journal of accepted tasks: what a sandbox with a folder of its own still knows when it is
started again, as Runware itself would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sora_dagster.sandbox.tasks import MAIN_ACCOUNT, Task, as_wire_number

JOURNAL_NAME = "tasks.jsonl"


@dataclass(frozen=True)
class JournalEntry:
    """A task that was accepted in an earlier life.

    Arguments:
        task: the task as it came.
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
        """Note a task, before its acceptance is answered."""
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
        """All tasks that were noted, in their order; a line that was cut off counts for nothing."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                # The sandbox was killed in the middle of writing it, so that the task was never
                # acknowledged.
                continue
            found.append(
                JournalEntry(
                    entry["task"],
                    float(entry["accepted_at"]),
                    # Journals of before there were several accounts do not tell it.
                    entry.get("account", MAIN_ACCOUNT),
                )
            )
        return found
