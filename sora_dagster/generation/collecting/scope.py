"""Which outstanding tasks a collection collects: the rest of datasets, and awaited tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.problem_reporter import ProblemReporter
from sora_dagster.generation.collecting.tracked import Ended, FinishedTask, TrackedTask
from sora_dagster.generation.protocol.claims import Claims
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.storage import AccessDeniedError

# How often claims are read again while nothing new is outstanding.
_CLAIMS_SECONDS = 20.0
# How often a process that waits for another process's tasks checks whether that one is alive.
_OTHERS_SECONDS = 3.0


class CollectionScope:
    """The tasks that this process collects, as far as no other live process has claimed them.

    Arguments:
        context: what the collection works with.
        problems: reports awaited tasks with unreadable records.
    """

    def __init__(self, context: CollectionContext, problems: ProblemReporter) -> None:
        self._ledger = context.ledger
        self._problems = problems
        self._new_claims = context.new_claims
        self._elapsed = context.elapsed
        self._claims: dict[str, Claims] = {}
        self._claims_read_at: dict[str, float] = {}
        self._claimed_by_others: dict[str, frozenset[str]] = {}
        # Tasks that are awaited by name; another process may be collecting them.
        self._awaited: dict[str, AttemptRecord] = {}
        self._was_outstanding: set[str] = set()
        #: Datasets of which this process collects everything that no other has claimed.
        self.datasets: tuple[str, ...] = ()

    def claim_datasets(self, datasets: Sequence[str]) -> None:
        """Claim the rest of datasets, except for those that another live process has claimed."""
        self.datasets = tuple(name for name in datasets if self._claims_of(name).claim_rest())

    def add_awaited(self, attempt: AttemptRecord) -> None:
        """Wait for a task, whichever process collects it."""
        self._awaited.setdefault(attempt.task_uuid, attempt)

    def drop_awaited(self, task_uuid: str) -> bool:
        """Stop waiting for a task; returns whether it was awaited."""
        self._was_outstanding.discard(task_uuid)
        return self._awaited.pop(task_uuid, None) is not None

    @property
    def awaited(self) -> Mapping[str, AttemptRecord]:
        """The tasks that are awaited by name."""
        return dict(self._awaited)

    def entries(
        self, tracked: Mapping[str, TrackedTask], handed_over: Collection[str]
    ) -> tuple[dict[str, PendingEntry], list[FinishedTask]]:
        """The entries of the index that this process collects now.

        Arguments:
            tracked: the tasks that it already collects.
            handed_over: tasks that are being reported.

        Returns:
            The entries by task, and awaited tasks that ended without this process.
        """
        found: dict[str, PendingEntry] = {}
        ended: list[FinishedTask] = []
        for dataset in self.datasets:
            entries = self._ledger.pending.tasks(dataset)
            others = self._others(dataset, entries, tracked)
            found |= {uuid: entry for uuid, entry in entries.items() if uuid not in others}
        by_dataset: dict[str, set[str]] = {}
        for uuid, attempt in self._awaited.items():
            if attempt.dataset not in self.datasets:
                by_dataset.setdefault(attempt.dataset, set()).add(uuid)
        for dataset, uuids in by_dataset.items():
            entries = self._ledger.pending.tasks(dataset)
            for uuid in uuids - entries.keys() - tracked.keys() - set(handed_over):
                ended.extend(self._end_of(uuid))
            mine = self._claimed(dataset, uuids & entries.keys(), tracked)
            found |= {uuid: entries[uuid] for uuid in mine}
        return found, ended

    def owns_claims(self) -> bool:
        """Whether no other process took over while this one was stopped."""
        return all(claims.are_mine() for claims in self._claims.values())

    def step(self) -> None:
        """Record that this process made progress."""
        for claims in self._claims.values():
            claims.step()

    def leave(self, task: TrackedTask) -> None:
        """Leave a task to any other process."""
        if task.attempt.dataset in self._claims:
            self._claims[task.attempt.dataset].drop([task.task_uuid])

    def release(self) -> None:
        """Give up all claims: this process has stopped."""
        for claims in self._claims.values():
            claims.release()

    def _claims_of(self, dataset: str) -> Claims:
        if dataset not in self._claims:
            self._claims[dataset] = self._new_claims(dataset)
            self._problems.load_notes(dataset)
        return self._claims[dataset]

    def _others(
        self, dataset: str, entries: Collection[str], tracked: Mapping[str, TrackedTask]
    ) -> frozenset[str]:
        """Tasks of a dataset that other live processes have claimed."""
        now = self._elapsed()
        is_old = now - self._claims_read_at.get(dataset, -1e9) >= _CLAIMS_SECONDS
        if is_old or any(uuid not in tracked for uuid in entries):
            claims = self._claims_of(dataset)
            view = claims.view()
            self._claims_read_at[dataset] = now
            self._claimed_by_others[dataset] = frozenset(
                uuid for uuid, process in view.tasks.items() if process != claims.process
            )
        # This process finishes what it is already storing.
        return self._claimed_by_others[dataset] - {
            uuid for uuid, task in tracked.items() if task.phase == "storing"
        }

    def _claimed(
        self, dataset: str, outstanding: set[str], tracked: Mapping[str, TrackedTask]
    ) -> frozenset[str]:
        """Those of the outstanding awaited tasks that this process collects."""
        self._was_outstanding |= outstanding
        mine = frozenset(outstanding & tracked.keys())
        new = outstanding - mine
        now = self._elapsed()
        if new and now - self._claims_read_at.get(dataset, -1e9) >= _OTHERS_SECONDS:
            self._claims_read_at[dataset] = now
            return self._claims_of(dataset).claim(new) | mine
        return mine

    def _end_of(self, task_uuid: str) -> list[FinishedTask]:
        """How an awaited task ended that is not in the index; added there if it has not ended."""
        attempt = self._awaited[task_uuid]
        try:
            outcome = self._ledger.outcome(task_uuid)
            manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            stuck = None
            if outcome is None:
                stuck = self._ledger.pending.stuck(attempt.dataset, task_uuid)
        except (UnreadableRecordError, AccessDeniedError) as error:
            self.drop_awaited(task_uuid)
            self._problems.report_unreadable(attempt, str(error))
            return []
        if stuck is not None:
            # Another process set it aside, and would do so again.
            self.drop_awaited(task_uuid)
            self._problems.report_stuck(attempt, stuck.reason)
            return []
        if outcome is None:
            # Its entry was lost with the process that was about to write it.
            self._ledger.pending.add(attempt, self._ledger.task_files(task_uuid).reopening)
            return []
        ended: Ended = "elsewhere" if task_uuid in self._was_outstanding else "earlier"
        stored = manifest if outcome.has_videos else None
        return [FinishedTask(attempt, outcome, stored, ended=ended)]
