"""One story of the generation protocol against a sandbox with faults, from the request to the end.

A scenario has a storage root of its own and as many processes (generators) on it as it takes. All
its waits are tens of milliseconds, so that a story that takes an hour at Runware takes a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx

from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines, PollSettings
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.generator import GenerationSettings, Generator, parent_video
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, OutcomeRecord
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, ClipSpec, ParentVideo
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import RunwareError
from sora_dagster.storage import StorageRoot
from tests.protocol.ending_early import CrashError
from tests.protocol.families import CATALOGUE, TINY, Family
from tests.protocol.faulty_sandbox import KEY, FaultySandbox

# Looks often, and gives nothing up while a test lasts, however busy the machine is.
QUICK = GenerationSettings(
    polls=PollSettings(first_seconds=0.02, factor=1.2, longest_seconds=0.1, refresh_seconds=0.02),
    sending=SendSettings(confirm_seconds=0.02, replay_window_seconds=10.0),
    deadlines=Deadlines(
        unknown_seconds=0.4,
        generation_seconds=600.0,
        unsent_seconds=0.3,
        fetch_seconds=15.0,
        damaged_seconds=0.2,
    ),
    retry_wait_seconds=0.02,
    claims=ClaimSettings(beat_seconds=0.1, dead_seconds=0.5),
)
# Gives up, or sends again, what Runware does not show for half a second after the deadline.
HASTY = replace(
    QUICK,
    sending=replace(QUICK.sending, replay_window_seconds=0.2),
    deadlines=replace(QUICK.deadlines, generation_seconds=0.6),
)
_QUIET_SECONDS = 30.0


class StaysOutstandingError(AssertionError):
    """The collecting loop did not come to its end."""


def clip(clip_id: str = "fox", **fields: Any) -> ClipRequest:
    """A clip of the tiny model; its prompt holds its id, so that faults can be aimed at it."""
    given: dict[str, Any] = {"prompt": f"a {clip_id} in snow", "size": "160x90", **fields}
    spec = ClipSpec.model_validate({"clip_id": clip_id, "model": TINY.air, **given})
    return ClipRequest(asset="clips", clip=clip_id, spec=spec)


@dataclass
class Scenario:
    """One story: a storage root, the processes that work on it, and what the sandbox charged.

    Arguments:
        sandbox: the sandbox.
        root_url: the storage root's URL.
        settings: how the generators work.
        family: the family of models that makes its clips; default: the model of each clip.
    """

    sandbox: FaultySandbox
    root_url: str
    settings: GenerationSettings = QUICK
    family: Family | None = None
    limits_usd: dict[str, float] = field(default_factory=dict)
    finished: list[FinishedTask] = field(default_factory=list)
    _made: list[Generator] = field(default_factory=list)
    _charges_before: int = 0
    _bucket: StorageRoot | None = None

    def __post_init__(self) -> None:
        self._charges_before = len(self.sandbox.books()["charges"])
        self._submissions_before = self.submissions_in_all()

    # The processes

    def root(self) -> StorageRoot:
        """The storage root, as a process that starts now opens it."""
        if self.root_url.startswith("s3:"):
            # Opening a bucket reads long descriptions of AWS's services: once for all.
            self._bucket = self._bucket or StorageRoot(self.root_url)
            return self._bucket
        return StorageRoot(self.root_url)

    def generator(
        self,
        root: StorageRoot | None = None,
        *,
        clock_is_wrong_by: timedelta = timedelta(),
        transport: httpx.BaseTransport | None = None,
        key: str = KEY,
        **settings: Any,
    ) -> Generator:
        """A process that starts now.

        Arguments:
            root: the storage root as it sees it.
            clock_is_wrong_by: how far its local clock is ahead.
            transport: what carries its requests.
            key: its API key.
            settings: settings that differ from the scenario's.
        """
        client = RunwareClient(
            key,
            base_url=self.sandbox.base_url,
            catalogue=CATALOGUE,
            timeout_seconds=1.0,
            retry_attempts=3,
            retry_timeout_seconds=5.0,
            transport=transport,
        )
        generator = Generator(client, root or self.root(), replace(self.settings, **settings))
        if clock_is_wrong_by:
            right = generator.ledger.clock
            generator.ledger.clock = lambda: right() + clock_is_wrong_by
        self._made.append(generator)
        return generator

    def close(self) -> None:
        """End all processes."""
        for generator in self._made:
            generator.close()

    def request(
        self,
        generator: Generator,
        *requests: ClipRequest,
        root_run: str = "run",
        limit_usd: float = 10.0,
        **options: Any,
    ) -> list[RequestResult]:
        """Ask for clips on behalf of a run with a spending limit."""
        self.limits_usd[root_run] = limit_usd
        if self.family is not None:
            requests = tuple(map(self.family.clip, requests))
        return generator.request(requests, RequestOptions(root_run, limit_usd, **options))

    def request_at_once(
        self, generators: Sequence[Generator], *requests: ClipRequest, **options: Any
    ) -> list[list[RequestResult] | BaseException]:
        """Have several processes request the same clips at the same moment."""
        start = threading.Barrier(len(generators))

        def request(generator: Generator) -> list[RequestResult] | BaseException:
            start.wait()
            try:
                return self.request(generator, *requests, **options)
            except (RunwareError, CrashError) as error:
                return error

        with ThreadPoolExecutor(len(generators)) as pool:
            return list(pool.map(request, generators))

    def stored_parent(self, family: Family) -> ParentVideo:
        """A stored clip, made while no fault strikes, to make remixes from."""
        generator = self.generator()
        self.request(generator, family.clip(clip("hen")), root_run="run of the parent")
        self.run_until_quiet(generator)
        manifest = self.ledger().latest_manifest("clips", "hen")
        assert manifest is not None
        return parent_video(manifest)

    # Collecting

    def collect(self, generator: Generator, *, rounds: int) -> None:
        """Have a collecting process make some rounds, and then end."""
        with self.collection(generator) as collection:
            for _ in range(rounds):
                self.take_ended(collection)

    def collect_until(self, condition: Callable[[], bool]) -> None:
        """Have collecting processes work until something has happened, or all is collected.

        Raises:
            StaysOutstandingError: if neither comes.
        """
        deadline = time.monotonic() + _QUIET_SECONDS
        generator = self.generator()
        while not condition() and not self._is_quiet():
            # If a collecting run fails, the sensor starts the next.
            with suppress(RunwareError), self.collection(generator) as collection:
                while not (collection.is_done or condition()):
                    self.take_ended(collection)
                    self._check_time(deadline)
            self._check_time(deadline)

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise StaysOutstandingError(self.left())

    def run_until_quiet(
        self,
        generator: Generator | None = None,
        *,
        within_seconds: float = _QUIET_SECONDS,
    ) -> None:
        """Do what the sensor and the collecting run do, until there is nothing to do.

        Arguments:
            generator: the process; a new one by default.
            within_seconds: when to give up.

        Raises:
            StaysOutstandingError: where there still is after that time.
        """
        deadline = time.monotonic() + within_seconds
        generator = generator or self.generator()
        while True:
            try:
                with self.collection(generator) as collection:
                    while not collection.is_done:
                        self.take_ended(collection)
                        self._check_time(deadline)
            except RunwareError as error:
                # This run has failed; the sensor starts the next.
                if time.monotonic() >= deadline:
                    raise StaysOutstandingError(self.left()) from error
            if self._is_quiet():
                return
            self._check_time(deadline)

    def _is_quiet(self) -> bool:
        # A marker in the inbox makes the sensor start a run, too.
        root = self.root()
        return not [*root.list("inbox"), *root.list("pending")]

    def collection(self, generator: Generator) -> Collection:
        """A collecting process, as the sensor starts one."""
        limits = CollectionLimits(max_wait_seconds=_QUIET_SECONDS, parallel_clips=2)
        return generator.collection(limits, holder="a run", datasets=[DEFAULT_DATASET])

    def take_ended(self, collection: Collection) -> None:
        """Report what has ended, and close it."""
        for finished in collection.wait():
            self.finished.append(finished)
            collection.close(finished)

    # What there is in the end

    def ledger(self) -> Ledger:
        """The records of the root."""
        return Ledger(self.root())

    def attempts(self) -> list[AttemptRecord]:
        """Every attempt that was ever claimed, each clip's in their order."""
        records = [
            AttemptRecord.model_validate_json(self.root().read(info.key))
            for info in self.root().list("slots")
        ]
        return sorted(records, key=lambda record: (record.clip, record.take, record.attempt))

    def attempts_of(self, clip_id: str) -> list[AttemptRecord]:
        """The attempts of one clip, in their order."""
        return [record for record in self.attempts() if record.clip == clip_id]

    def outcomes_of(self, clip_id: str) -> list[OutcomeRecord | None]:
        """How each attempt of a clip ended, in their order."""
        ledger = self.ledger()
        return [ledger.outcome(record.task_uuid) for record in self.attempts_of(clip_id)]

    def charges(self) -> list[Mapping[str, Any]]:
        """What the sandbox charged since the scenario began."""
        charges: list[Mapping[str, Any]] = self.sandbox.books()["charges"][self._charges_before :]
        return charges

    def charges_of(self, clip_id: str) -> int:
        """How many charges there were for a clip."""
        tasks = {record.task_uuid for record in self.attempts_of(clip_id)}
        return sum(charge["taskUUID"] in tasks for charge in self.charges())

    def submissions_in_all(self) -> int:
        """POSTs of submissions that reached the sandbox since it started."""
        return int(self.sandbox.books()["posts"]["submissions"])

    @property
    def submissions(self) -> int:
        """POSTs of submissions that reached the sandbox since the scenario began."""
        return self.submissions_in_all() - self._submissions_before

    def keys(self, folder: str) -> list[str]:
        """Keys of all objects in a folder of the root."""
        return sorted(info.key for info in self.root().list(folder))

    def left(self) -> str:
        """What is still outstanding, for a failure's message."""
        ledger = self.ledger()
        tasks = [
            f"{uuid}: files {[key.rpartition('/')[2] for key in self.keys(f'tasks/{uuid}')]}"
            for uuid in ledger.pending.task_uuids()
        ]
        return "\n".join(["something stays outstanding:", *tasks, *self.keys("inbox")])
