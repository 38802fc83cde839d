"""Claims: which live process collects which tasks, so that each clip is fetched and reported once.

They only save work: two processes that collect the same clip do no harm, since every step of
collecting can be repeated. One process may claim the rest of a dataset, which is every task that no
other process has claimed. A process that waits for its own clips claims those.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import stamina

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import Record
from sora_dagster.runware.retry_log import log_retries_as_sentences
from sora_dagster.storage import AccessDeniedError, StorageError

_log = logging.getLogger(__name__)

_REST = re.compile(r"rest-(\d+)\.json")
_TASKS = re.compile(r"([0-9a-f]+)-tasks-(\d+)\.json")
_SIGN = re.compile(r"([0-9a-f]+)\.(alive|dead)")
# Files of ended processes are not read after this.
_OLD_FILES = timedelta(days=7)
# A process that was asked to end is killed after 10 s.
_RELEASE_SECONDS = 8.0


@dataclass(frozen=True)
class ClaimSettings:
    """What makes a process count as dead, in seconds.

    Arguments:
        beat_seconds: interval between the signs of life of a process.
        dead_seconds: time since its last sign of life after which a process counts as dead, by the
            store's clock.
        stall_seconds: time without a finished step after which a process gives no sign of life.
        gap_seconds: pause of a process after which it checks its claims again.
    """

    beat_seconds: float = 20.0
    dead_seconds: float = 100.0
    stall_seconds: float = 600.0
    gap_seconds: float = 50.0


class ClaimRecord(Record):
    """`claims/<dataset>/rest-<n>.json`, `claims/<dataset>/<process>-tasks-<n>.json`.

    Arguments:
        process: the process that claims; empty if the last one has released its claim.
        holder: human-readable name of the process, such as a run id.
        tasks: UUIDs of the claimed tasks; empty for the rest of the dataset.
    """

    process: str
    holder: str
    tasks: tuple[str, ...] = ()
    at: datetime


@dataclass(frozen=True)
class ClaimsView:
    """Which processes collect a dataset now.

    Arguments:
        rest: the live process that collects all tasks that are not claimed; None if there is none.
        tasks: tasks that live processes have claimed, with the process.
        rest_number: number of the newest claim of the rest.
        stopped: processes with claims and without a sign of life.
    """

    rest: str | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    rest_number: int = 0
    stopped: frozenset[str] = frozenset()


class ClaimReader:
    """Reads the claims of one dataset.

    Arguments:
        ledger: the ledger of the storage root.
        dataset: name of the dataset.
        store_time: the store's clock.
        settings: what makes a process count as dead.
    """

    def __init__(
        self,
        ledger: Ledger,
        dataset: str,
        *,
        store_time: Callable[[], datetime],
        settings: ClaimSettings | None = None,
    ) -> None:
        self._ledger = ledger
        self.folder = layout.dataset_folder(layout.CLAIMS_FOLDER, dataset)
        self._store_time = store_time
        self._settings = settings or ClaimSettings()
        self._records: dict[str, ClaimRecord | None] = {}

    def view(self) -> ClaimsView:
        """Which processes collect it now. Costs one listing, and a read of each new claim."""
        signs: dict[str, dict[str, datetime]] = {}
        rests: dict[int, str] = {}
        tasks: dict[str, str] = {}
        for info in self._ledger.root.list(self.folder):
            name = info.key.removeprefix(f"{self.folder}/")
            if match := _SIGN.fullmatch(name):
                signs.setdefault(match[1], {})[match[2]] = info.last_modified
            elif match := _REST.fullmatch(name):
                rests[int(match[1])] = info.key
            elif match := _TASKS.fullmatch(name):
                tasks[info.key] = match[1]
        oldest = self._store_time() - timedelta(seconds=self._settings.dead_seconds)
        live = {
            process
            for process, found in signs.items()
            if "dead" not in found and found.get("alive", oldest) > oldest
        }
        claimed = {
            uuid: record.process
            for key in tasks
            if (record := self._record(key)) is not None and record.process in live
            for uuid in record.tasks
        }
        number = max(rests, default=0)
        newest = self._record(rests[number]) if rests else None
        holder = newest.process if newest is not None and newest.process in live else None
        owners = set(tasks.values())
        if newest is not None and newest.process:
            owners.add(newest.process)
        ended = {process for process, found in signs.items() if "dead" in found}
        stopped = (owners | signs.keys()) - live - ended
        return ClaimsView(holder, claimed, number, frozenset(stopped))

    def _record(self, key: str) -> ClaimRecord | None:
        if key not in self._records:
            record = None
            try:
                record = self._ledger.read(key, ClaimRecord)
            except UnreadableRecordError as error:
                # A claim only saves work: without it, the task is at worst collected again.
                _log.warning("a claim is ignored: %s", error)
            self._records[key] = record
        return self._records[key]


class Claims:
    """The claims of this process on one dataset, kept alive by a timer until :meth:`release`.

    Arguments:
        ledger: the ledger of the storage root.
        dataset: name of the dataset.
        holder: human-readable name of this process, such as a run id.
        store_time: the store's clock.
        settings: what makes a process count as dead.
        elapsed: a clock that runs through a suspended machine, in seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        dataset: str,
        *,
        holder: str,
        store_time: Callable[[], datetime],
        settings: ClaimSettings | None = None,
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._holder = holder
        self._settings = settings or ClaimSettings()
        self._elapsed = elapsed
        self._store_time = store_time
        self._reader = ClaimReader(ledger, dataset, store_time=store_time, settings=self._settings)
        self.process = ledger.new_nonce()
        self._claimed: set[str] = set()
        self._task_keys: list[str] = []
        self._claims_made = 0
        self._stepped_at = elapsed()
        self._is_suspect = False
        self._is_lost = False
        self._stop = threading.Event()
        self._timer: threading.Thread | None = None

    def view(self) -> ClaimsView:
        """Which processes collect the dataset now. Costs one listing."""
        return self._reader.view()

    def claim_rest(self) -> bool:
        """Claim the rest of the dataset; False if another live process has it."""
        self._start()
        view = self.view()
        if view.rest == self.process:
            return True
        if view.rest is not None:
            return False
        self._bury(view.stopped - {self.process})
        number = view.rest_number + 1
        if not self._write_rest(number, self.process):
            return False
        # A process that was stopped before it wrote may have won a number that was removed.
        if self.view().rest_number == number:
            return True
        self._root.delete(f"{self._reader.folder}/rest-{number}.json")
        return False

    def _write_rest(self, number: int, process: str) -> bool:
        """Create the next claim of the rest; False if another process created it first."""
        record = ClaimRecord(process=process, holder=self._holder, at=self._ledger.clock())
        key = f"{self._reader.folder}/rest-{number}.json"
        is_created = self._root.create(key, record.to_json())
        # Numbers are never used twice, so that one process wins.
        if not is_created and self._ledger.require(key, ClaimRecord).process != process:
            return False
        self._root.delete(f"{self._reader.folder}/rest-{number - 1}.json")
        return True

    def claim(self, task_uuids: Iterable[str]) -> frozenset[str]:
        """Claim tasks, unless another live process collects them.

        Nothing is claimed if another live process collects the rest: it collects them, too.

        Returns:
            The tasks that this process holds now.
        """
        wanted = frozenset(task_uuids)
        new = wanted - self._claimed
        if new:
            self._start()
            view = self.view()
            if view.rest not in (None, self.process):
                return wanted & self._claimed
            self._bury(view.stopped - {self.process})
            new -= {uuid for uuid, process in view.tasks.items() if process != self.process}
        if new:
            key = self._write_tasks(new)
            if self.view().rest not in (None, self.process):
                # It began at the same moment and may not have read this claim, so it collects them.
                self._root.delete(key)
                return wanted & self._claimed
            self._task_keys.append(key)
            self._claimed |= new
        return wanted & self._claimed

    def drop(self, task_uuids: Collection[str]) -> None:
        """Leave claimed tasks to any other process."""
        dropped = self._claimed & set(task_uuids)
        if not dropped:
            return
        self._claimed -= dropped
        # A claim is never rewritten, since others read it once: a new one replaces it.
        replaced = self._task_keys
        self._task_keys = [self._write_tasks(self._claimed)] if self._claimed else []
        for key in replaced:
            self._root.delete(key)

    def _write_tasks(self, task_uuids: Collection[str]) -> str:
        key = f"{self._reader.folder}/{self.process}-tasks-{self._claims_made}.json"
        record = ClaimRecord(
            process=self.process,
            holder=self._holder,
            tasks=tuple(sorted(task_uuids)),
            at=self._ledger.clock(),
        )
        self._claims_made += 1
        self._root.create(key, record.to_json())
        return key

    def step(self) -> None:
        """Record that this process finished a step; its loop must call this."""
        now = self._elapsed()
        if now - self._stepped_at > self._settings.gap_seconds:
            self._is_suspect = True
        self._stepped_at = now

    def are_mine(self) -> bool:
        """Whether the claims are still valid; read again after this process was paused.

        Call this before anything is reported, requested or concluded.
        """
        self.step()
        if self._is_suspect and not self._is_lost:
            self._is_lost = self._is_buried()
            self._is_suspect = False
        return not self._is_lost

    def release(self) -> None:
        """Release all claims: this process has stopped.

        It waits some seconds for a store that cannot be reached: other processes would wait for
        minutes before they take over.
        """
        self._stop.set()
        if self._timer is None:
            return
        # It may be waiting for a store that does not answer.
        self._timer.join(_RELEASE_SECONDS / 4)
        self._timer = None
        log_retries_as_sentences()
        for attempt in stamina.retry_context(
            on=_is_outage, attempts=None, timeout=_RELEASE_SECONDS, wait_initial=0.5, wait_max=2.0
        ):
            with attempt:
                self._withdraw()

    def _withdraw(self) -> None:
        for key in self._task_keys:
            self._root.delete(key)
        view = self.view()
        if view.rest == self.process:
            self._write_rest(view.rest_number + 1, "")
        self._root.delete(self._sign("alive"))

    def _start(self) -> None:
        if self._timer is not None:
            return
        self._beat()
        self._timer = threading.Thread(target=self._keep_alive, name="claims", daemon=True)
        self._timer.start()
        self._sweep()

    def _keep_alive(self) -> None:
        while not self._stop.wait(self._settings.beat_seconds):
            if self._elapsed() - self._stepped_at > self._settings.stall_seconds:
                continue
            try:
                # Checked at each beat: another process may have declared this one dead just
                # before it resumed, and take over just after.
                if self._is_buried():
                    self._is_lost = True
                    return
                self._beat()
            except StorageError as error:
                # The next beat tries again; after too many another process takes over.
                _log.warning("the claim could not be kept alive yet: %s", error)

    def _beat(self) -> None:
        self._root.write(self._sign("alive"), b"")

    def _is_buried(self) -> bool:
        return self._root.exists(self._sign("dead"))

    def _bury(self, processes: Collection[str]) -> None:
        """Take over from dead processes; one that was only paused notices when it resumes."""
        for process in processes:
            self._root.create(self._sign("dead", process), b"")
            self._root.delete(self._sign("alive", process))

    def _sweep(self) -> None:
        """Remove files of processes that ended long ago."""
        oldest = self._store_time() - _OLD_FILES
        for info in list(self._root.list(self._reader.folder)):
            is_rest = _REST.fullmatch(info.key.rpartition("/")[2]) is not None
            if info.last_modified < oldest and not is_rest:
                self._root.delete(info.key)

    def _sign(self, kind: Literal["alive", "dead"], process: str | None = None) -> str:
        return f"{self._reader.folder}/{process or self.process}.{kind}"


def _is_outage(error: Exception) -> bool:
    return isinstance(error, StorageError) and not isinstance(error, AccessDeniedError)
