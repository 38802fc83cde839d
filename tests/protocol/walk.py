"""Random sequences of faults, requests, collections and crashes, each from one seed."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.markers import write_marker
from sora_dagster.generation.protocol.record_folder import stuck_folder
from sora_dagster.generation.resolve import ResolutionError, resend, retry_stuck
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest
from sora_dagster.runware.errors import RunwareError
from sora_dagster.storage import AccessDeniedError, StorageRoot
from tests.protocol.ending_early import CrashError, crashing_at
from tests.protocol.families import BOTH, PRICE_USD, Family
from tests.protocol.faulty_sandbox import Receiver
from tests.protocol.scenario import HASTY, Scenario, clip

_NAMES = ("fox", "owl", "crab")
# How long a generation takes where a known UUID is refused only while it runs: much longer than
# the time in which a task is replayed, which is what that API needs of us.
_LONG_GENERATION = {"fault": "late_result", "delay_seconds": 1.0}
# Shorter than the time for which Runware must say the same of a task before it counts.
_INCIDENT_SECONDS = 0.2
_CLOCK_STEPS = (timedelta(minutes=31), timedelta(minutes=-31))
_SHARE_OF_REMIXES = 0.25
_SHARE_OF_REFUSED_PARENTS = 0.3
# A process that makes no step says no more that it is alive, as if all of it were stopped.
_PAUSABLE = ClaimSettings(beat_seconds=0.05, dead_seconds=0.3, stall_seconds=0.1, gap_seconds=0.2)
NEEDS = (
    "where a known UUID is charged again, replays turned off, and a task that Runware says neither "
    "yes nor no to may end `unsure`; where it is refused only while it runs, generations (failing "
    "ones too) longer than the replay window, and no accepted task called unknown"
)


@dataclass
class Walk:
    """One random sequence.

    Arguments:
        seed: decides all of it.
        scenario: where it is played.
        families: the families of models that its clips are made by.
        steps: what was done, for a failure's message.
    """

    seed: int
    scenario: Scenario
    families: Sequence[Family] = BOTH
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        # Draws of its own, so that the families change nothing else of a sequence.
        self._family_random = random.Random(f"families of {self.seed}")
        # States that a video may end in by what the sequence assumes of Runware.
        self.may_be_lost: tuple[str, ...] = ()
        self._plan: dict[str, Any] = {}

    def run(self, receiver: Receiver) -> None:
        """Ask, collect partly and crash under faults, then collect without them until quiet."""
        rng, scenario = self._random, self.scenario
        self._prepare(receiver)
        steps: list[Callable[[], None]] = [self._ask]
        steps += rng.choices(
            [
                self._ask,
                self._ask_at_once,
                self._collect,
                self._crash,
                self._forge,
                self._pause,
                self._step_clock,
                self._incident,
                self._damage,
                self._refuse_one_read,
            ],
            weights=[3, 2, 4, 4, 1, 1, 1, 2, 2, 1],
            k=rng.randint(2, 5),
        )
        for step in steps:
            step()
        scenario.sandbox.clear_faults()
        self.steps.append("the faults end; collected until quiet")
        scenario.run_until_quiet()
        self._resolve()

    def _prepare(self, receiver: Receiver) -> None:
        rng = self._random
        known_uuids = rng.choices(
            ["refused_always", "refused_while_running", "charged_again"], weights=[5, 1, 3]
        )[0]
        settings = HASTY
        if known_uuids == "charged_again":
            # Without replays, only the deadline ends a task of which no word ever comes.
            settings = replace(
                settings,
                sending=replace(settings.sending, replays=False),
                deadlines=replace(settings.deadlines, generation_seconds=2.0),
            )
            self.may_be_lost = ("unsure",)
        if rng.random() < 0.3:
            settings = replace(settings, webhook=receiver.over(self.scenario.root()))
        self.scenario.settings = settings
        self._known_uuids = known_uuids
        self._plan = plan = self._drawn_plan(known_uuids)
        self._clips = self._in_families(
            [
                clip(name, number_results=rng.choice([1, 1, 2]))
                for name in _NAMES[: rng.randint(1, 3)]
            ]
        )
        self.scenario.sandbox.set_faults(**plan)
        self._limits = {
            f"run {number}": PRICE_USD * rng.choice([1.5, 3.5, 30]) for number in range(2)
        }
        self.steps += [
            f"plan: {plan}",
            f"clips: { {it.clip: _shown(it) for it in self._clips} }, "
            f"limits: {self._limits}, webhook: {settings.webhook is not None}",
        ]

    def _in_families(self, clips: list[ClipRequest]) -> list[ClipRequest]:
        """The clips, each made by one of the families; sometimes the first is a remix."""
        rng = self._family_random
        families = [rng.choice(self.families) for _ in clips]
        clips = [family.clip(it) for family, it in zip(families, clips, strict=True)]
        if rng.random() < _SHARE_OF_REMIXES:
            family = families[0]
            parent = self.scenario.stored_parent(family)
            mode = rng.choice(family.model.remix_modes)
            clips[0] = family.remix(clips[0], parent, mode=mode)
            if rng.random() < _SHARE_OF_REFUSED_PARENTS:
                self._plan["rules"].append({"fault": "refuse_video_uuids"})
        return clips

    def _drawn_plan(self, known_uuids: str) -> dict[str, Any]:
        rng = self._random
        drawn = [self._rule() for _ in range(rng.randint(1, 4))]
        if rng.random() < 0.4:
            # What tempts a client most to pay twice: no answer, and then no sign of the task.
            drawn[:2] = [
                {**rng.choice(_ACCEPTED_UNHEARD), "nth": rng.sample(range(1, 4), 2)},
                {"fault": "not_yet_known", "polls": rng.randint(1, 8)},
            ]
        if known_uuids == "refused_while_running":
            # It would make and charge again what was finished, while nobody could know of it.
            drawn = [rule for rule in drawn if rule["fault"] not in _HIDING]
            # First, since a failure that strikes decides how its generation ends.
            drawn.insert(0, _LONG_GENERATION)
        plan = {"known_uuids": known_uuids, "rules": drawn}
        if rng.random() < 0.3:
            plan["unknown_polls"] = rng.choice(["silent", "silent_running"])
        return plan

    def _rule(self) -> dict[str, Any]:
        rng = self._random
        rule: dict[str, Any] = dict(rng.choice(_RULES))
        if rule["fault"] in ("late_result", "refuse_batch", "webhook_late"):
            return rule
        if rule["fault"] in _HIDING:
            rule["for_seconds"] = _INCIDENT_SECONDS
        match rng.randint(0, 2):
            case 0:
                rule["nth"] = sorted(rng.sample(range(1, 7), rng.randint(1, 3)))
            case 1:
                rule["times"] = rng.randint(1, 6)
            case _:
                rule["prompt_contains"] = rng.choice(_NAMES)
        return rule

    # Steps

    def _asked(self) -> tuple[list[ClipRequest], str, float]:
        rng = self._random
        some = rng.sample(self._clips, rng.randint(1, len(self._clips)))
        root_run = rng.choice(list(self._limits))
        return some, root_run, self._limits[root_run]

    def _ask(self) -> None:
        some, root_run, limit = self._asked()
        retry_failed = self._random.random() < 0.2
        try:
            answers = self.scenario.request(
                self.scenario.generator(),
                *some,
                root_run=root_run,
                limit_usd=limit,
                retry_failed=retry_failed,
            )
            came_of_it = str([answer.state.value for answer in answers])
        except RunwareError as error:
            came_of_it = type(error).__name__
        self.steps.append(
            f"{root_run} requests {[it.clip for it in some]} (retry_failed {retry_failed}): "
            f"{came_of_it}"
        )

    def _ask_at_once(self) -> None:
        some, root_run, limit = self._asked()
        answers = self.scenario.request_at_once(
            [self.scenario.generator() for _ in range(2)],
            *some,
            root_run=root_run,
            limit_usd=limit,
        )
        self.steps.append(
            f"{root_run} requests twice at once {[it.clip for it in some]}: "
            + " and ".join(
                type(came).__name__
                if isinstance(came, BaseException)
                else str([answer.state.value for answer in came])
                for came in answers
            )
        )

    def _collect(self) -> None:
        rounds = self._random.randint(1, 4)
        self.steps.append(f"collected for {rounds} rounds")
        self._collect_rounds(rounds, self.scenario.root())

    def _collect_rounds(self, rounds: int, root: StorageRoot) -> None:
        try:
            self.scenario.collect(self.scenario.generator(root), rounds=rounds)
        except RunwareError as error:
            self.steps.append(f"  it failed: {type(error).__name__}")

    def _crash(self) -> None:
        step, requests = self._random.randrange(0, 50), self._random.random() < 0.6
        some, root_run, limit = self._asked()
        self.steps.append(
            f"crash at step {step} of {'requesting and ' if requests else ''}collecting "
            f"({root_run}, {[it.clip for it in some]})"
        )
        root = self.scenario.root()
        with crashing_at(root, step):
            try:
                if requests:
                    self.scenario.request(
                        self.scenario.generator(root), *some, root_run=root_run, limit_usd=limit
                    )
                self._collect_rounds(4, root)
                self.steps.append("  it did not come to that")
            except CrashError:
                pass
            except RunwareError as error:
                self.steps.append(f"  it failed: {type(error).__name__}")

    def _forge(self) -> None:
        """Markers that are none of Runware's, for a task that was sent or for none."""
        attempts = self.scenario.attempts()
        if not attempts:
            # The receiver writes nothing into a root from which nothing was sent.
            return
        known = self._random.random() < 0.5
        uuid = (
            self._random.choice(attempts).task_uuid
            if known
            else "11111111-2222-4333-8444-555555555555"
        )
        self.steps.append(f"a forged marker for {uuid}")
        body = b'{"error": {"code": "inferenceError", "message": "forged", "taskUUID": "%s"}}'
        write_marker(self.scenario.root(), DEFAULT_DATASET, uuid, body % uuid.encode())

    def _pause(self) -> None:
        """A collecting process is stopped for longer than its claim lives, and then goes on."""
        if self.scenario.ledger().is_empty:
            return
        self.steps.append("a collecting process is stopped, another collects, the first goes on")
        # A process that crashed before may hold the claim still.
        assert wait_until(lambda: self._takes_over(self.scenario.generator()), timeout_seconds=20)
        paused = self.scenario.generator(claims=_PAUSABLE)
        try:
            with self.scenario.collection(paused) as collection:
                self._some_rounds(collection, self._random.randint(0, 2))
                other = self.scenario.generator(claims=_PAUSABLE)
                taken_over = wait_until(lambda: self._takes_over(other), timeout_seconds=20)
                assert taken_over, "the claim of a stopped process lives on"
                # Whatever it was about to report, another process reports.
                assert collection.wait() == []
                assert collection.report.is_taken_over
        except RunwareError as error:
            self.steps.append(f"  it failed: {type(error).__name__}")

    def _takes_over(self, other: Generator) -> bool:
        """Whether another process could claim what there is; then it collects for some rounds."""
        with self.scenario.collection(other) as collection:
            if collection.report.is_elsewhere:
                return False
            self._some_rounds(collection, self._random.randint(1, 3))
            return True

    def _some_rounds(self, collection: Collection, rounds: int) -> None:
        for _ in range(rounds):
            self.scenario.take_ended(collection)

    def _step_clock(self) -> None:
        """The clock of a machine is set while it requests and collects."""
        step = self._random.choice(_CLOCK_STEPS)
        self.steps.append(f"a clock is set by {step} while its process requests and collects")
        generator = self.scenario.generator()
        some, root_run, limit = self._asked()
        right = generator.ledger.clock
        try:
            self.scenario.request(generator, *some, root_run=root_run, limit_usd=limit)
            with self.scenario.collection(generator) as collection:
                self._some_rounds(collection, 1)
                generator.ledger.clock = lambda: right() + step
                self._some_rounds(collection, 2)
        except RunwareError as error:
            self.steps.append(f"  it failed: {type(error).__name__}")

    def _incident(self) -> None:
        """For a while Runware knows nothing of any task, or answers everything with an error."""
        incidents: list[dict[str, Any]] = [
            {"fault": "status", "status": 503, "event": ["submission", "poll", "details"]},
        ]
        if self._known_uuids != "refused_while_running":
            incidents.append({"fault": "unknown"})
        incident = {**self._random.choice(incidents), "for_seconds": _INCIDENT_SECONDS}
        self.steps.append(f"an incident: {incident}")
        rules = [incident, *self._plan["rules"]]
        self.scenario.sandbox.set_faults(**{**self._plan, "rules": rules})
        self._collect_rounds(self._random.randint(2, 5), self.scenario.root())

    def _damage(self) -> None:
        """A record is damaged while a process collects and another requests, and then restored."""
        root = self.scenario.root()
        keys = [key for key in self.scenario.keys("") if _DAMAGEABLE.search(key)]
        if not keys:
            return
        key = self._random.choice(keys)
        self.steps.append(f"{key} is damaged for a while")
        body = root.read(key)
        root.write(key, b"{ damaged")
        some, root_run, limit = self._asked()
        with suppress(RunwareError):
            self.scenario.request(
                self.scenario.generator(), *some, root_run=root_run, limit_usd=limit
            )
        self._collect_rounds(self._random.randint(1, 4), root)
        root.write(key, body)
        self._put_back()

    def _put_back(self) -> None:
        ledger = self.scenario.ledger()
        stuck = stuck_folder(ledger, DEFAULT_DATASET).read()
        for clip_id in {it.clip for it in self.scenario.attempts() if it.task_uuid in stuck}:
            self.steps.append(f"  {clip_id} was set aside, and is put back")
            retry_stuck(ledger, "clips", clip_id)

    def _refuse_one_read(self) -> None:
        """The store refuses a process to read one record, once."""
        root, read = self.scenario.root(), StorageRoot.read_if_present
        skipped = self._random.randint(0, 20)
        self.steps.append(f"the store refuses to read a record, after {skipped} others")
        count = itertools.count()

        def refusing(key: str) -> bytes | None:
            if _DAMAGEABLE.search(key) and next(count) == skipped:
                raise AccessDeniedError(f"{key} may not be read")
            return read(root, key)

        root.read_if_present = refusing  # type: ignore[method-assign]
        some, root_run, limit = self._asked()
        with suppress(RunwareError):
            self.scenario.request(
                self.scenario.generator(root), *some, root_run=root_run, limit_usd=limit
            )
        self._collect_rounds(4, root)
        self._put_back()

    def _resolve(self) -> None:
        """Someone looks up what ended without an answer: what Runware has is collected after all.

        Until then it may be lost by what the sequence assumes of Runware.
        """
        charged = {charge["taskUUID"] for charge in self.scenario.charges()}
        ledger = self.scenario.ledger()
        for record in self.scenario.attempts():
            outcome = ledger.outcome(record.task_uuid)
            if outcome is None or outcome.state not in ("lost", "unsure"):
                continue
            if record.task_uuid in charged:
                self.steps.append(f"{record.clip} is resolved")
                with suppress(ResolutionError):
                    resend(self.scenario.generator(), "clips", record.clip, run_limit_usd=10.0)
        self.scenario.run_until_quiet()

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}:", *self.steps])


def _shown(request: ClipRequest) -> str:
    spec = request.spec
    return f"{spec.number_results} by {spec.model} ({spec.mode or 'no remix'})"


_ACCEPTED_UNHEARD: tuple[dict[str, Any], ...] = (
    {"fault": "lose_answer"},
    {"fault": "reset"},
    {"fault": "empty_data"},
    {"fault": "garbage"},
    {"fault": "status", "status": 500, "moment": "after"},
    {"fault": "status", "status": 504, "moment": "after"},
)

# A slot, the proof that a task was seen, an outcome, or a manifest.
_DAMAGEABLE = re.compile(r"/attempt-1\.json$|/seen\.json$|/outcome-\d+\.json$|/clip\.json$")

_HIDING = frozenset({"unknown", "not_yet_known", "forgotten"})

_RULES: tuple[dict[str, Any], ...] = (
    {"fault": "lose_answer"},
    {"fault": "lose_answer"},
    {"fault": "lose_answer", "moment": "before"},
    {"fault": "lose_answer", "event": ["poll", "details", "account"]},
    {"fault": "reset"},
    {"fault": "reset", "event": ["submission", "poll", "download"]},
    {"fault": "garbage", "event": ["submission", "poll", "details"]},
    {"fault": "empty_data"},
    {"fault": "empty_data", "moment": "before"},
    {"fault": "status", "status": 429, "retry_after_seconds": 1},
    {"fault": "status", "status": 429, "event": ["poll", "details", "account"]},
    {"fault": "status", "status": 402},
    {"fault": "status", "status": 500, "event": ["submission", "poll"]},
    {"fault": "status", "status": 500, "moment": "after"},
    {"fault": "status", "status": 503, "body": "html", "moment": "after"},
    {"fault": "status", "status": 504, "event": ["submission", "details"]},
    {"fault": "refuse_batch"},
    {"fault": "refuse", "error": "validation", "positions": 1},
    {"fault": "refuse", "error": "safety"},
    {"fault": "unknown"},
    {"fault": "not_yet_known", "polls": 3},
    {"fault": "not_yet_known", "seconds": 0.3},
    {"fault": "forgotten", "polls": 0},
    {"fault": "archived_refusal"},
    {"fault": "fail", "error": "provider"},
    {"fault": "fail", "error": "provider", "results": 1},
    {"fault": "fail", "error": "timeout", "reported_in": "data"},
    {"fault": "fail", "error": "safety"},
    {"fault": "late_result", "delay_seconds": 0.2},
    {"fault": "nsfw"},
    {"fault": "wrong_cost", "reported": "missing"},
    {"fault": "wrong_cost", "reported": "zero"},
    {"fault": "webhook_lost"},
    {"fault": "webhook_late", "delay_seconds": 0.2},
    {"fault": "webhook_repeated", "copies": 3},
    {"fault": "webhook_failure", "of": "all"},
    {"fault": "webhook_malformed"},
    {"fault": "download_gone"},
    {"fault": "download_truncated"},
    {"fault": "download_wrong_length"},
    {"fault": "download_corrupt"},
    {"fault": "download_redirected"},
)
