"""The definitions of one dataset: everything in one call."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from sora_dagster.assets.clips import build_clip_assets, build_remix_assets
from sora_dagster.assets.costs import build_cost_assets
from sora_dagster.assets.gallery import build_gallery_asset
from sora_dagster.assets.storyboards import build_board_or_problem
from sora_dagster.assets.videos import CLIP_IO_MANAGER_KEY
from sora_dagster.dataset import without_beta_warnings
from sora_dagster.generation.library.clip_checks import ClipChecks
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.jobs.collect import build_collect_job
from sora_dagster.jobs.housekeeping import build_prune_job, build_verify_job
from sora_dagster.jobs.request import build_request_job
from sora_dagster.resources import RunwareResource
from sora_dagster.sensors import build_completion_sensor, build_dataset_sensor
from sora_dagster.settings import Settings

REPORTS_JOB = "make_reports"
_POLL_AFTER_SECONDS = 5.0
# Dagster looks every 5 s for sensors that are due; with 5 s here, every second look would come a
# moment too early.
_COMPLETION_INTERVAL_SECONDS = 4


def build_definitions(
    settings: Settings,
    *,
    runware: RunwareResource | None = None,
    checks: ClipChecks | None = None,
) -> dg.Definitions:
    """Everything for one dataset: assets, jobs, sensors and resources.

    Arguments:
        settings: the prompt file, the storage root and the API.
        runware: the API resource. Default: one from `settings`; pass your own for settings that
            have no environment variable.
        checks: checks of stored clips; see :func:`build_clip_checks`. Default: all, with their
            default thresholds.

    A storyboard that cannot be read is replaced by one asset with the error, so that the other
    assets load and everything paid for is still collected.

    Raises:
        ValueError: if the file of catalogue entries or a setting is wrong.

    Example:
        >>> defs = build_definitions(Settings(prompts_path="prompts.yaml"))
        >>> sorted(job.name for job in defs.jobs)
        ['collect_clips', 'make_reports', 'prune_storage', 'request_clips', 'verify_storage']
    """
    dataset = replace(settings.dataset(), checks=checks or ClipChecks())
    runware, storage = runware or settings.runware(), settings.storage()
    boards = [
        build_board_or_problem(board, dataset.catalogue, dataset.checks)
        for board in settings.board_paths()
    ]
    shots = [key for board in boards for key in board.keys]
    board_names = sorted({key.path[0] for key in shots})
    request_job, collect_job = build_request_job(dataset), build_collect_job(dataset, board_names)
    reports = [
        *build_cost_assets(dataset, boards=board_names, also_refresh_on=shots),
        build_gallery_asset(dataset, boards=board_names, also_refresh_on=shots),
    ]
    with without_beta_warnings():
        report_automation = dg.AutomationConditionSensorDefinition(
            dataset.definition_name("report_automation"),
            target=dg.AssetSelection.assets(*(report.key for report in reports)),
            default_status=dg.DefaultSensorStatus.RUNNING,
            minimum_interval_seconds=60,
            description="Refreshes the gallery and the cost report after changes.",
        )
    return dg.Definitions(
        assets=[*build_clip_assets(dataset), *build_remix_assets(dataset), *boards, *reports],
        jobs=[
            request_job,
            collect_job,
            build_prune_job(dataset),
            build_verify_job(dataset),
            dg.define_asset_job(
                dataset.definition_name(REPORTS_JOB),
                dg.AssetSelection.assets(*(report.key for report in reports)),
                description="Refreshes the gallery and the cost report.",
            ),
        ],
        sensors=[
            build_dataset_sensor(dataset),
            build_completion_sensor(
                dataset,
                collect_job,
                boards=board_names,
                poll_after_seconds=_POLL_AFTER_SECONDS
                if settings.webhook_url is None
                else settings.webhook_wait_seconds,
                minimum_interval_seconds=_COMPLETION_INTERVAL_SECONDS,
            ),
            report_automation,
        ],
        resources={
            "runware": runware,
            "clip_storage": storage,
            CLIP_IO_MANAGER_KEY: ClipIOManager(storage=storage),
        },
    )
