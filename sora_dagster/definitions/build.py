"""Everything that a dataset needs, as one `Definitions`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from sora_dagster.assets.clips import build_clip_assets, build_remix_assets
from sora_dagster.assets.reports import build_report_assets
from sora_dagster.assets.status_checks import build_status_checks, build_status_sensor
from sora_dagster.assets.storyboards import build_board_or_problem
from sora_dagster.dataset import REPORTS_JOB, ResourceKeys, VideoDataset, without_beta_warnings
from sora_dagster.environment.values import SettingValues
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.jobs.collect import build_collect_job
from sora_dagster.jobs.housekeeping import build_prune_job, build_verify_job
from sora_dagster.jobs.request import build_request_job
from sora_dagster.jobs.sync import build_sync_job
from sora_dagster.prompts.table_sources import AssetPrompts
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.sensors import build_completion_sensor, build_dataset_sensor

# The IO manager of each storage resource, since Dagster merges only identical resources.
_IO_MANAGERS: dict[int, ClipIOManager] = {}


def build_definitions(
    dataset: VideoDataset,
    *,
    boards: Sequence[str | Path] = (),
    runware: RunwareResource | None = None,
    storage: ClipStorageResource | None = None,
    io_manager: ClipIOManager | None = None,
    request_condition: dg.AutomationCondition[Any] | None = None,
    schedules: Sequence[dg.ScheduleDefinition] = (),
    executor: dg.ExecutorDefinition | None = None,
    dataset_interval_seconds: int = 30,
    # Dagster looks every 5 s for sensors that are due; with 5 s here, every second look would come
    # a moment too early.
    completion_interval_seconds: int = 4,
) -> dg.Definitions:
    """Everything that a dataset needs: assets, checks, jobs, sensors, reports and resources.

    Merge the definitions of several datasets, and those of your other assets, with
    ``dg.Definitions.merge``. Datasets that use the same resources must get the same objects.

    Arguments:
        dataset: the dataset.
        boards: files of storyboards, which are collected and reported together with the dataset.
            One that cannot be read is replaced by an asset with the error, so that the other assets
            load and everything paid for is still collected.
        runware: the API. Default: a resource whose fields have the values of their environment
            variables.
        storage: the storage root. Default: likewise.
        io_manager: the IO manager of clips. Default: one for that storage root.
        request_condition: when clips are requested automatically; see :func:`build_clip_assets`.
            Default: never.
        schedules: schedules of the dataset, such as those of :func:`build_generation_schedule`.
        executor: executor of the runs of assets and of the jobs, such as that of `dagster-celery`.
            Default: Dagster's default for the assets; a job's steps run in the process of the run.
        dataset_interval_seconds: shortest time between two ticks of the sensor that looks for
            changed rows, in seconds. Default: 30.
        completion_interval_seconds: shortest time between two ticks of the sensor that looks for
            finished clips, in seconds. Default: 4.

    Example:
        >>> defs = build_definitions(VideoDataset("prompts.yaml"))
        >>> sorted(job.name for job in defs.jobs)[:4]
        ['collect_clips', 'make_reports', 'prune_storage', 'request_clips']
    """
    board_assets = [build_board_or_problem(board, dataset) for board in boards]
    shots = [key for board in board_assets for key in board.keys]
    board_names = sorted({key.path[0] for key in shots})
    collect_job = build_collect_job(dataset, board_names, executor=executor)
    reports = build_report_assets(dataset, boards=board_names, also_refresh_on=shots)
    reported = dg.AssetSelection.assets(*reports.keys)
    # The status sensor evaluates the checks of these assets.
    report_selection = reported.without_checks()
    is_of_asset = isinstance(dataset.prompt_source, AssetPrompts)
    automated: dg.AssetSelection = report_selection
    if is_of_asset:
        automated = automated | dg.AssetSelection.assets(dataset.prompt_rows)
    with without_beta_warnings():
        automation = dg.AutomationConditionSensorDefinition(
            dataset.definition_name("report_automation"),
            target=automated,
            default_status=dg.DefaultSensorStatus.RUNNING,
            minimum_interval_seconds=30 if is_of_asset else 60,
            description="Refreshes the gallery and the cost report after changes"
            + (", and loads the rows of the upstream asset." if is_of_asset else "."),
        )
    definitions = dg.Definitions(
        assets=[
            *build_clip_assets(dataset, request_condition=request_condition),
            *build_remix_assets(dataset),
            *board_assets,
            reports,
        ],
        asset_checks=[build_status_checks(dataset, boards=board_names)],
        jobs=[
            build_request_job(dataset, executor=executor),
            collect_job,
            build_sync_job(dataset, executor=executor),
            build_prune_job(dataset, executor=executor),
            build_verify_job(dataset, executor=executor),
            dg.define_asset_job(
                dataset.definition_name(REPORTS_JOB),
                report_selection,
                description="Refreshes the gallery and the cost report.",
                # Its step is short; starting a process for it takes longer.
                executor_def=executor or dg.in_process_executor,
            ),
        ],
        schedules=schedules,
        executor=executor,
        sensors=[
            build_dataset_sensor(dataset, minimum_interval_seconds=dataset_interval_seconds),
            build_completion_sensor(
                dataset,
                collect_job,
                boards=board_names,
                poll_after_seconds=_poll_after_seconds(runware),
                minimum_interval_seconds=completion_interval_seconds,
            ),
            automation,
            build_status_sensor(dataset, boards=board_names),
        ],
        resources=_resources(dataset.resource_keys, runware, storage, io_manager),
    )
    if dataset.translation is None:
        return definitions
    with without_beta_warnings():
        return definitions.map_asset_specs(func=dataset.translated)


def _resources(
    keys: ResourceKeys,
    runware: RunwareResource | None,
    storage: ClipStorageResource | None,
    io_manager: ClipIOManager | None,
) -> dict[str, Any]:
    storage = storage or _default_storage()
    return {
        keys.runware: runware or _default_runware(),
        keys.clip_storage: storage,
        keys.clip_io_manager: io_manager or _io_manager(storage),
    }


@cache
def _default_runware() -> RunwareResource:
    return RunwareResource()


@cache
def _default_storage() -> ClipStorageResource:
    return ClipStorageResource()


def _io_manager(storage: ClipStorageResource) -> ClipIOManager:
    # It refers to the storage resource, whose id is therefore not used again.
    return _IO_MANAGERS.setdefault(id(storage), ClipIOManager(storage=storage))


def _poll_after_seconds(runware: RunwareResource | None) -> float | None:
    """When outstanding clips are polled, if that is not decided by environment variables."""
    if runware is None or runware.webhook_url is None:
        return None
    wait: float = SettingValues.value_of("webhook_wait_seconds")
    return runware.poll_first_seconds or wait
