"""What must be true at the end of every scenario, checked against the sandbox's own books."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest, OutcomeRecord
from sora_dagster.media import MediaError
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.results import TaskStatus
from sora_dagster.storage import StorageRoot
from tests.media.probing import probe
from tests.protocol.budget_logs import read_logs
from tests.protocol.families import CATALOGUE
from tests.protocol.faulty_sandbox import KEY, SECRET
from tests.protocol.scenario import Scenario

Violations = dict[int, list[str]]
# The API key, what webhook addresses are signed with, and the queries of signed addresses.
SECRETS = (KEY.encode(), SECRET.encode(), b"signature=", b"X-Amz-")


@dataclass(frozen=True)
class _Facts:
    """Both sides' books at the end of a scenario.

    Arguments:
        attempts: every attempt of the root, each clip's in their order.
        outcomes: how they ended, by task UUID.
        charged_usd: what the sandbox charged for each task.
        charge_counts: how often it charged each task.
        reported: the status of each task at the sandbox, now that no fault strikes.
    """

    attempts: list[AttemptRecord]
    outcomes: dict[str, OutcomeRecord | None]
    charged_usd: dict[str, float]
    charge_counts: Counter[str]
    reported: dict[str, TaskStatus]

    def is_exempt(self, task_uuid: str) -> bool:
        """Whether an attempt may cost more in our books than was charged.

        Only where Runware never said whether it has the task: it counts at its estimate then.
        """
        outcome = self.outcomes[task_uuid]
        return outcome is not None and outcome.state == "unsure" and task_uuid not in self.charged

    @property
    def charged(self) -> Collection[str]:
        """The tasks that were charged."""
        return self.charge_counts.keys()


def check_invariants(
    scenario: Scenario,
    *,
    may_be_lost: Collection[str] = (),
    may_cost_more: bool = False,
    may_leave_files: bool = False,
) -> Violations:
    """The violations of each invariant; all lists are empty if there are none.

    Arguments:
        scenario: a scenario at its end; no fault may be in force any more.
        may_be_lost: states (`lost`, `unsure`) that the scenario's assumption lets a video that was
            charged and finished end in: reported, and not stored.
        may_cost_more: whether its assumption lets our books hold more than was charged.
        may_leave_files: whether a process ended in the middle, so that files may lie in the folder
            of a take that its manifest does not name; housekeeping removes them.
    """
    facts = _facts(scenario)
    return {
        1: _charged_once(facts),
        2: _stored_or_reported(scenario, facts, may_be_lost),
        3: [
            *_nothing_left(scenario, facts, may_cost_more=may_cost_more),
            *_index_differs(scenario),
            *([] if may_leave_files else _unnamed_files(scenario)),
        ],
        4: _within_limits(scenario, facts),
        5: secrets_in(scenario.root()),
    }


def _facts(scenario: Scenario) -> _Facts:
    attempts = scenario.attempts()
    ledger = scenario.ledger()
    charged_usd: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for charge in scenario.charges():
        uuid = charge["taskUUID"]
        counts[uuid] += 1
        charged_usd[uuid] = round(charged_usd.get(uuid, 0.0) + charge["cost"], 6)
    uuids = list({record.task_uuid for record in attempts} | counts.keys())
    reported: dict[str, TaskStatus] = {}
    if uuids:
        with RunwareClient(KEY, base_url=scenario.sandbox.base_url, catalogue=CATALOGUE) as client:
            reported = client.poll(uuids)
    return _Facts(
        attempts=attempts,
        outcomes={record.task_uuid: ledger.outcome(record.task_uuid) for record in attempts},
        charged_usd=charged_usd,
        charge_counts=counts,
        reported=reported,
    )


def _charged_once(facts: _Facts) -> list[str]:
    """Each attempt at most once, and no further one while an earlier may still succeed."""
    violations = [
        f"task {uuid} was charged {count} times"
        for uuid, count in facts.charge_counts.items()
        if count > 1
    ]
    known = {record.task_uuid for record in facts.attempts}
    violations += [f"task {uuid} is no attempt" for uuid in facts.charged if uuid not in known]
    for earlier, later in zip(facts.attempts, facts.attempts[1:], strict=False):
        if (earlier.clip, earlier.take) != (later.clip, later.take):
            continue
        outcome, reported = facts.outcomes[earlier.task_uuid], facts.reported[earlier.task_uuid]
        if outcome is None or outcome.state not in ("failed", "void"):
            state = outcome.state if outcome else "open"
            violations.append(f"{later.clip}: attempt {later.attempt} follows one that is {state}")
        if reported.results or reported.processing:
            violations.append(f"{later.clip}: attempt {earlier.attempt} succeeds, and is followed")
    return violations


def _stored_or_reported(
    scenario: Scenario, facts: _Facts, may_be_lost: Collection[str]
) -> list[str]:
    """Every charged and finished video stored whole, with its cost; every failure with a reason."""
    violations: list[str] = []
    for record in facts.attempts:
        uuid, who = record.task_uuid, f"{record.clip} attempt {record.attempt}"
        outcome, reported = facts.outcomes[uuid], facts.reported[uuid]
        if outcome is None:
            violations.append(f"{who} has no outcome")
            continue
        reasons = [error.message for error in outcome.errors]
        if outcome.state not in ("done", "void") and not (reasons and all(reasons)):
            violations.append(f"{who} is {outcome.state} without a reason")
        if uuid not in facts.charged:
            continue
        if not reported.results:
            if outcome.state not in ("failed", *may_be_lost):
                violations.append(f"{who} failed at Runware and is {outcome.state} here")
            continue
        if outcome.state in may_be_lost:
            continue
        if not outcome.has_videos:
            violations.append(f"{who} has videos at Runware and is {outcome.state} here")
            continue
        violations += _stored_whole(scenario, record, reported, facts.charged_usd[uuid])
    return violations


def _stored_whole(
    scenario: Scenario, record: AttemptRecord, reported: TaskStatus, charged_usd: float
) -> list[str]:
    manifest = scenario.ledger().manifest(record.asset, record.clip, record.take)
    if manifest is None:
        return [f"{record.clip} take {record.take} has no manifest"]
    violations = []
    if manifest.task_uuid != record.task_uuid:
        violations.append(f"{record.clip}: the manifest is of task {manifest.task_uuid}")
    if manifest.cost_usd is None or abs(manifest.cost_usd - charged_usd) > 1e-6:
        violations.append(
            f"{record.clip}: {manifest.cost_usd} USD in the manifest, {charged_usd} USD charged"
        )
    stored = {video.video_uuid: video for video in manifest.videos}
    if manifest.facts_from == "upload":
        # Runware had forgotten the task, and the video's own UUID with it.
        stored = dict(zip([reported.results[0].video_uuid], manifest.videos, strict=True))
    if stored.keys() != {result.video_uuid for result in reported.results}:
        violations.append(
            f"{record.clip}: {len(stored)} videos are stored, {len(reported.results)} finished"
        )
    root = scenario.root()
    for result in reported.results:
        video = stored.get(result.video_uuid)
        if video is None or result.video_url is None:
            continue
        body = root.read_if_present(video.key)
        if body != scenario.sandbox.http.get(result.video_url).content:
            violations.append(f"{record.clip}: {video.key} is not the video that was generated")
        elif hashlib.sha256(body).hexdigest() != video.sha256:
            violations.append(f"{record.clip}: {video.key} has another hash than its manifest says")
        else:
            try:
                with root.open(video.key) as file:
                    probe(file)
            except MediaError as error:
                violations.append(f"{record.clip}: {video.key} cannot be decoded: {error}")
    return violations


def _index_differs(scenario: Scenario) -> list[str]:
    """The index of what is stored has an entry for each manifest, and no other."""
    root = scenario.root()
    wanted = {
        layout.stored_key(
            manifest.request.dataset,
            manifest.clip,
            manifest.take,
            manifest.fingerprint,
            sum(video.size_bytes for video in manifest.videos),
        )
        for manifest in _manifests(scenario)
    }
    found = {info.key for info in root.list(layout.STORED_FOLDER)}
    return [f"{key} is in one of index and clips only" for key in sorted(wanted ^ found)]


def _unnamed_files(scenario: Scenario) -> list[str]:
    """Every file of a clip is named by its manifest."""
    named: set[str | None] = set()
    for manifest in _manifests(scenario):
        named |= {manifest.poster_key, manifest.sheet_key, manifest.thumbnail_key}
        named |= {video.key for video in manifest.videos}
    return [
        f"{key} is named by no manifest"
        for key in scenario.keys(layout.CLIPS_FOLDER)
        if key not in named and not key.endswith("/clip.json")
    ]


def _manifests(scenario: Scenario) -> list[ClipManifest]:
    ledger = scenario.ledger()
    found = {
        (record.asset, record.clip, record.take): ledger.manifest(
            record.asset, record.clip, record.take
        )
        for record in scenario.attempts()
    }
    return [manifest for manifest in found.values() if manifest is not None]


def _nothing_left(scenario: Scenario, facts: _Facts, *, may_cost_more: bool) -> list[str]:
    """No entry, marker, upload or note is left, every slot has an outcome, and the sums agree."""
    violations = [
        f"{key} is left"
        for folder in ("pending", "inbox", "incoming", "stuck", "notes")
        for key in scenario.keys(folder)
    ]
    violations += [
        f"{record.clip} attempt {record.attempt} has no outcome"
        for record in facts.attempts
        if facts.outcomes[record.task_uuid] is None
    ]
    ours = round(
        sum(
            outcome.cost_usd or 0.0
            for uuid, outcome in facts.outcomes.items()
            if outcome is not None and not facts.is_exempt(uuid)
        ),
        6,
    )
    theirs = round(sum(facts.charged_usd.values()), 6)
    if ours < theirs or (ours > theirs and not may_cost_more):
        violations.append(f"the outcomes cost {ours} USD together, and {theirs} USD were charged")
    return violations


def secrets_in(root: StorageRoot) -> list[str]:
    """The objects of a storage root that hold a key or a signature."""
    bodies = ((info.key, root.read_if_present(info.key) or b"") for info in root.list(""))
    return [
        f"{key} holds {secret.decode()!r}"
        for key, body in bodies
        for secret in SECRETS
        if secret in body
    ]


def _within_limits(scenario: Scenario, facts: _Facts) -> list[str]:
    """No run's limit is passed, neither by its log at any time nor by what was charged."""
    logs = read_logs(scenario.root())
    runs = {log.folder: log for log in logs if log.is_of_run}
    days = [log for log in logs if not log.is_of_run]
    violations: list[str] = []
    for task in facts.charged:
        for kind, some in (("run", runs.values()), ("day", days)):
            if not any(task in log.reserved_usd for log in some):
                violations.append(f"task {task} was charged, and is in no {kind}'s spending log")
        if sum(task in log.reserved_usd for log in days) > 1:
            violations.append(f"task {task} counts on two days")
    for root_run, limit_usd in scenario.limits_usd.items():
        log = runs.get(layout.budget_folder(layout.run_log(root_run)))
        if log is None:
            continue
        violations += [
            f"entry {number} of the log takes {root_run} to {total:.2f} USD of {limit_usd:.2f}"
            for number, total in enumerate(log.totals_usd, start=1)
            if total > limit_usd + 1e-6
        ]
        # An attempt that one run claimed and another sent is paid for by the other.
        charged = sum(facts.charged_usd.get(task, 0.0) for task in log.reserved_usd)
        if charged > limit_usd + 1e-6:
            violations.append(f"{root_run} was charged {charged:.2f} USD of {limit_usd:.2f}")
    return violations
