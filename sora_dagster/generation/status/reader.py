"""Reads the state of a storage root, from the root alone.

The cost depends on what is outstanding, not on what is stored: a few listings a dataset, and at
most `MAX_TASKS_READ` records.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.claims import ClaimReader
from sora_dagster.generation.protocol.collection_record import read_collection
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import tasks_with_markers
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import AnyRecord, UnreadableRecordError
from sora_dagster.generation.protocol.records import (
    UNDECIDED_STATES,
    DatasetRecord,
    NoteRecord,
    SentRecord,
    StuckRecord,
)
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.protocol.spending_log import BudgetLogError
from sora_dagster.generation.status.root_status import (
    TASK_STATES,
    DatasetSpending,
    DatasetStatus,
    NotableTask,
    RootStatus,
    RunSpending,
    SpendingStatus,
    TaskState,
)
from sora_dagster.storage import AccessDeniedError

# Of the oldest outstanding tasks, and of stuck and undecided ones.
MAX_TASKS_READ = 100
_MAX_RUNS_READ = 5


def read_status(
    ledger: Ledger,
    *,
    clock: Callable[[], datetime],
    datasets: Sequence[str] | None = None,
    limits: SpendingLimits | None = None,
) -> RootStatus:
    """Read the state of a storage root. Writes nothing.

    Arguments:
        ledger: the ledger of the storage root.
        clock: the time; that of a machine whose clock is set is close enough to the store's.
        datasets: names of the datasets to read. Default: all of the root.
        limits: the spending limits of a day. Default: none.

    Raises:
        StorageError: if the storage root cannot be read.
    """
    now = clock()
    names = _dataset_names(ledger) if datasets is None else list(datasets)
    run_limits: dict[str, float] = {}
    found = tuple(_DatasetReader(ledger, name, now, run_limits).read() for name in names)
    return RootStatus(
        url=ledger.root.url,
        at=now,
        datasets=found,
        spending=_spending(ledger, now, limits or SpendingLimits(), run_limits),
    )


def _dataset_names(ledger: Ledger) -> list[str]:
    # A dataset that was requested from Python code has no record; of those, plain names are known.
    names = {
        name
        for folder in (layout.PENDING_FOLDER, layout.STUCK_FOLDER, layout.UNDECIDED_FOLDER)
        for name in ledger.root.folders(folder)
        if layout.segment(name) == name
    }
    for info in ledger.root.list(layout.DATASETS_FOLDER):
        try:
            record = ledger.read(info.key, DatasetRecord)
        except UnreadableRecordError:
            # Its folder's name says which it is, but not what it was called.
            continue
        if record is not None:
            names.add(record.name)
    return sorted(names)


class _DatasetReader:
    """Reads the state of one dataset.

    Arguments:
        ledger: the ledger of the storage root.
        dataset: its name.
        now: the store's time.
        limits: limits of root runs in USD; those of outstanding tasks are added.
    """

    def __init__(
        self, ledger: Ledger, dataset: str, now: datetime, limits: dict[str, float]
    ) -> None:
        self._ledger = ledger
        self._dataset = dataset
        self._now = now
        self._limits = limits

    def read(self) -> DatasetStatus:
        """Its state now."""
        ledger, dataset = self._ledger, self._dataset
        outstanding = ledger.pending.outstanding(dataset)
        entries = list(outstanding.tasks.values())
        markers = Counter(marker.task_uuid for marker in tasks_with_markers(ledger.root, dataset))
        slow = self._notes(layout.NOTES_FOLDER, "slow", set(outstanding.tasks))
        slow_uuids = {task.task_uuid for task in slow}
        others = [entry for entry in entries if entry.task_uuid not in slow_uuids]
        tasks: Counter[TaskState] = Counter(dict.fromkeys(TASK_STATES, 0))
        tasks["slow"] = len(slow)
        tasks["unread"] = len(others[MAX_TASKS_READ:])
        for state in in_parallel(
            others[:MAX_TASKS_READ],
            lambda entry: self._state(entry, has_marker=entry.task_uuid in markers),
        ):
            tasks[state] += 1
        stuck, undecided = self._stuck(), self._undecided()
        # One whose note cannot be read either counts all the same.
        tasks["stuck"], tasks["undecided"] = len(self._listed(layout.STUCK_FOLDER)), len(undecided)
        view = ClaimReader(ledger, dataset, store_time=lambda: self._now).view()
        return DatasetStatus(
            name=dataset,
            tasks=dict(tasks),
            oldest_seconds=(self._now - entries[0].since).total_seconds() if entries else None,
            markers=sum(markers.values()),
            remixes_due=len(outstanding.remixes_due),
            is_collected=view.rest is not None,
            last_collection=read_collection(ledger, dataset),
            notable=(*stuck, *undecided, *slow),
        )

    def _state(self, entry: PendingEntry, *, has_marker: bool) -> TaskState:
        try:
            files = self._ledger.task_files(entry.task_uuid)
            sent = self._ledger.sent(entry.task_uuid)
        except (UnreadableRecordError, AccessDeniedError):
            # The collecting run moves it to the stuck ones.
            return "unread"
        self._add_limit(sent)
        if has_marker:
            return "waiting_for_upload" if self._awaits_upload(entry) else "finished"
        if files.is_seen:
            return "accepted"
        return "sent" if files.sent else "unsent"

    def _add_limit(self, sent: SentRecord | None) -> None:
        if sent is not None and sent.root_run is not None and sent.run_limit_usd is not None:
            self._limits[sent.root_run] = sent.run_limit_usd

    def _awaits_upload(self, entry: PendingEntry) -> bool:
        root = self._ledger.root
        try:
            attempt = self._ledger.sent_attempt(entry.task_uuid)
        except (UnreadableRecordError, AccessDeniedError):
            return False
        is_direct = attempt is not None and attempt.delivery == "direct"
        return is_direct and not root.exists(layout.incoming_key(entry.task_uuid))

    def _notes(self, folder: str, state: TaskState, among: set[str] | None) -> list[NotableTask]:
        """The tasks that a folder of notes names, at most `MAX_TASKS_READ`."""
        return [
            NotableTask(
                clip=note.clip,
                asset=note.asset,
                task_uuid=uuid,
                state=state,
                since=note.at,
                reason=note.reason,
                command="" if state == "slow" else _resolve(note.clip, note.asset, "--resend"),
            )
            for uuid, note in self._records(folder, NoteRecord, among)
        ]

    def _undecided(self) -> list[NotableTask]:
        found = self._notes(layout.UNDECIDED_FOLDER, "undecided", None)
        is_open = in_parallel(found, lambda task: self._is_undecided(task.task_uuid))
        return [task for task, keep in zip(found, is_open, strict=True) if keep]

    def _is_undecided(self, task_uuid: str) -> bool:
        """Whether a task still has no video: the note is written before its outcome."""
        try:
            outcome = self._ledger.outcome(task_uuid)
        except (UnreadableRecordError, AccessDeniedError):
            return True
        return outcome is not None and outcome.state in UNDECIDED_STATES

    def _stuck(self) -> list[NotableTask]:
        return [
            NotableTask(
                clip=uuid if stuck.pending is None else stuck.pending.clip,
                asset="" if stuck.pending is None else stuck.pending.asset,
                task_uuid=uuid,
                state="stuck",
                since=stuck.at,
                reason=stuck.reason,
                command=_resolve("CLIP", "ASSET", "--retry")
                if stuck.pending is None
                else _resolve(stuck.pending.clip, stuck.pending.asset, "--retry"),
            )
            for uuid, stuck in self._records(layout.STUCK_FOLDER, StuckRecord, None)
        ]

    def _records(
        self, folder: str, model: type[AnyRecord], among: set[str] | None
    ) -> list[tuple[str, AnyRecord]]:
        """The records of a folder by task, oldest first, at most `MAX_TASKS_READ`.

        Arguments:
            folder: folder of a record for each task.
            model: what the records are.
            among: only those of these tasks; None: all.
        """
        by_task = self._listed(folder)
        named = [(uuid, key) for uuid, key in by_task.items() if among is None or uuid in among]
        found = in_parallel(named[:MAX_TASKS_READ], lambda item: self._read(item[1], model))
        return [
            (uuid, record)
            for (uuid, _), record in zip(named[:MAX_TASKS_READ], found, strict=True)
            if record is not None
        ]

    def _listed(self, folder: str) -> dict[str, str]:
        """The keys of a folder's records by task, oldest first. Costs one listing."""
        listed = sorted(
            self._ledger.root.list(layout.dataset_folder(folder, self._dataset)),
            key=lambda info: info.last_modified,
        )
        return {info.key.rpartition("/")[2].removesuffix(".json"): info.key for info in listed}

    def _read(self, key: str, model: type[AnyRecord]) -> AnyRecord | None:
        try:
            return self._ledger.read(key, model)
        except (UnreadableRecordError, AccessDeniedError):
            return None


def _resolve(clip: str, asset: str, option: str) -> str:
    return f"sora-dagster resolve {shlex.quote(clip)} --asset {shlex.quote(asset)} {option}"


def _spending(
    ledger: Ledger,
    now: datetime,
    limits: SpendingLimits,
    run_limits: Mapping[str, float],
) -> SpendingStatus:
    budget = Budget(ledger, store_time=lambda: now)
    day_usd, datasets, runs, errors = None, [], [], []
    try:
        day_usd = budget.spent_usd()
        for name, limit_usd in limits.dataset_day_usd.items():
            used_usd = budget.dataset_spent_usd(name)
            datasets.append(DatasetSpending(dataset=name, used_usd=used_usd, limit_usd=limit_usd))
    except BudgetLogError as error:
        errors.append(str(error))
    for root_run in sorted(run_limits)[:_MAX_RUNS_READ]:
        try:
            used_usd = budget.run_spent_usd(root_run)
        except BudgetLogError as error:
            errors.append(str(error))
            continue
        limit_usd = run_limits[root_run]
        runs.append(RunSpending(root_run=root_run, used_usd=used_usd, limit_usd=limit_usd))
    runs.sort(key=lambda run: run.limit_usd - run.used_usd)
    return SpendingStatus(
        day_usd=day_usd,
        day_limit_usd=limits.day_usd,
        datasets=tuple(datasets),
        runs=tuple(runs),
        error=" ".join(errors),
    )
