"""Asset checks about money, Runware and collecting, and the sensor that evaluates them."""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import get_args

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.status.problems import Problem, Subject, find_problems
from sora_dagster.generation.status.reader import read_status
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.storage import StorageError

SUBJECTS: tuple[Subject, ...] = get_args(Subject)
_DESCRIPTIONS: dict[Subject, str] = {
    "budget_use": "Less than 80 % of the daily spending limit is used. At 100 % it is an error.",
    "runware_works": "Runware answers and accepts the key, and the account has a balance.",
    "collecting_works": "Collections do not keep failing, and outstanding clips are collected.",
    "no_clip_needs_a_decision": "No clip is set aside, or may have been paid for without a video.",
}
# An unchanged result is logged again after this time, so that it does not look forgotten.
_REPEAT_SECONDS = 3600.0


def build_status_checks(
    dataset: VideoDataset, *, boards: Sequence[str] = ()
) -> dg.AssetChecksDefinition:
    """The asset checks of `generation_costs` on spending, Runware and collection.

    Arguments:
        dataset: the dataset.
        boards: names of the storyboards to include.

    Evaluating them reads the storage root's index and sends one free request to Runware.

    Example:
        >>> checks = build_status_checks(VideoDataset("prompts.yaml"))
        >>> sorted(key.name for key in checks.check_keys)[:2]
        ['budget_use', 'collecting_works']
    """
    keys = dataset.resource_keys
    costs = dataset.asset_key("generation_costs")

    @dg.multi_asset_check(
        name=dataset.definition_name("status_checks"),
        specs=[
            dg.AssetCheckSpec(subject, asset=costs, description=_DESCRIPTIONS[subject])
            for subject in SUBJECTS
        ],
        # So that the UI can execute each of them.
        can_subset=True,
        required_resource_keys={keys.runware, keys.clip_storage},
    )
    def status_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        problems = _problems(
            dataset,
            boards,
            resource_of(context, keys.runware, RunwareResource),
            resource_of(context, keys.clip_storage, ClipStorageResource),
        )
        selected = {key.name for key in context.selected_asset_check_keys}
        for subject in SUBJECTS:
            if subject not in selected:
                continue
            found = [problem for problem in problems if problem.subject == subject]
            yield dg.AssetCheckResult(
                asset_key=costs,
                check_name=subject,
                passed=not found,
                severity=_severity(found),
                description=_text(found),
            )

    return status_checks


def build_status_sensor(
    dataset: VideoDataset,
    *,
    boards: Sequence[str] = (),
    minimum_interval_seconds: int = 300,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that evaluates the checks of :func:`build_status_checks`, without a run.

    Arguments:
        dataset: the dataset.
        boards: names of the storyboards to include.
        minimum_interval_seconds: shortest time between two ticks, in seconds. Default: 300.
        default_status: whether the sensor runs from the start.

    An evaluation is logged if a result has changed, and otherwise once an hour. If the storage root
    cannot be read, the tick fails.

    Example:
        >>> build_status_sensor(VideoDataset("prompts.yaml")).name
        'status_sensor'
    """
    keys = dataset.resource_keys
    costs = dataset.asset_key("generation_costs")

    @dg.sensor(
        name=dataset.definition_name("status_sensor"),
        description="Evaluates the checks on spending, Runware and collection, without a run.",
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        required_resource_keys={keys.runware, keys.clip_storage},
    )
    def status_sensor(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        storage = resource_of(context, keys.clip_storage, ClipStorageResource)
        if storage.root_url() is None:
            return dg.SkipReason("there is no storage root yet")
        runware = resource_of(context, keys.runware, RunwareResource)
        try:
            problems = _problems(dataset, boards, runware, storage)
        except StorageError as error:
            raise dg.Failure(description=str(error)) from error
        logged: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        by_subject = {
            subject: [problem for problem in problems if problem.subject == subject]
            for subject in SUBJECTS
        }
        states = {subject: _state(found) for subject, found in by_subject.items()}
        is_old = time.time() - float(logged.get("at", "0")) >= _REPEAT_SECONDS
        changed = [name for name in SUBJECTS if is_old or logged.get(name) != states[name]]
        if not changed:
            return dg.SkipReason("no result has changed")
        at = str(time.time()) if is_old else logged["at"]
        return dg.SensorResult(
            cursor=json.dumps({**states, "at": at}),
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=costs,
                    check_name=name,
                    passed=not by_subject[name],
                    severity=_severity(by_subject[name]),
                    description=_text(by_subject[name]),
                )
                for name in changed
            ],
        )

    return status_sensor


def _problems(
    dataset: VideoDataset,
    boards: Sequence[str],
    runware: RunwareResource,
    storage: ClipStorageResource,
) -> tuple[Problem, ...]:
    status = read_status(
        Ledger(storage.root()),
        clock=lambda: datetime.now(UTC),
        datasets=[dataset.name, *boards],
        limits=SpendingLimits(
            day_usd=runware.day_limit_usd(), dataset_day_usd=dataset.day_limits_usd
        ),
    )
    return find_problems(status, runware.account_answer())


def _state(problems: Sequence[Problem]) -> str:
    """What is compared with the state that was logged last.

    Sentences have figures that change all the time.
    """
    if not problems:
        return "passed"
    causes = sorted({problem.cause for problem in problems})
    return f"{_severity(problems).value}: {', '.join(causes)}"


def _severity(problems: Sequence[Problem]) -> dg.AssetCheckSeverity:
    if problems and all(problem.severity == "warning" for problem in problems):
        return dg.AssetCheckSeverity.WARN
    return dg.AssetCheckSeverity.ERROR


def _text(problems: Sequence[Problem]) -> str:
    return " ".join(f"{problem.sentence} {problem.action}" for problem in problems)
