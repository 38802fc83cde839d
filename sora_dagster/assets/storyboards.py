"""Storyboards as assets: one asset for each shot, remixes downstream of their parents."""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.dataset import ResourceKeys, VideoDataset
from sora_dagster.environment.values import default_catalogue
from sora_dagster.generation.library.clip_checks import ClipChecks
from sora_dagster.generation.storyboards.board_estimate import estimate_board
from sora_dagster.generation.storyboards.board_run import BoardLimits, BoardRun, ShotResult
from sora_dagster.prompts.boards import Board, Shot, load_board
from sora_dagster.prompts.files import DatasetError
from sora_dagster.prompts.retired_models import RetiredModelWarning, retired_model_warnings
from sora_dagster.reporting.checks import RunChecks, check_specs
from sora_dagster.reporting.clip_reporter import ClipReporter
from sora_dagster.reporting.events import failure_event, row_data_version
from sora_dagster.reporting.metadata import spec_metadata
from sora_dagster.reporting.runs import (
    add_post_counts,
    exact_result,
    failure_of,
    is_of_a_backfill,
    is_used_later,
)
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.resources.run_settings import settings_tag
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.submission import RequestConfig, log_estimates, request_options_of

_log = logging.getLogger(__name__)

_TAG_PATTERN = re.compile(r"[A-Za-z0-9_.\-]{1,63}")


class StoryboardConfig(RequestConfig):
    """How shots are requested, and how long a run waits for them."""

    max_wait_minutes: float = Field(
        default=60.0,
        ge=0,
        description="Maximum wait for the shots, in minutes; unfinished ones stay outstanding.",
    )
    remix_linger_seconds: float = Field(
        default=10.0,
        ge=0,
        description="Maximum wait for more stored shots before remixes are requested, in seconds.",
    )
    parallel_clips: int = Field(
        default=4, ge=1, description="Number of shots fetched and stored at once."
    )


def build_storyboard_assets(
    path: str | Path,
    *,
    catalogue: Catalogue | None = None,
    checks: ClipChecks | None = None,
    group_name: str | None = None,
    owners: Sequence[str] | None = None,
    resource_keys: ResourceKeys | None = None,
) -> dg.AssetsDefinition:
    """The shots of a storyboard, each an asset without partitions, remixes downstream of parents.

    Arguments:
        path: the storyboard, a YAML file; see :func:`sora_dagster.prompts.boards.load_board`. It is
            read when definitions load, since it defines the assets.
        catalogue: the models that shots may use, as for :class:`VideoDataset`.
        checks: checks of stored shots; see :func:`build_clip_checks`. Default: all, with their
            default thresholds. For a shot that `collect_clips` stores, the checks of its dataset
            are used.
        group_name: asset group of the shots. Default: the board's name.
        owners: owners of the shots: email addresses, or ``team:`` and a name. Default: none.
        resource_keys: keys of the resources that the shots use, as for :class:`VideoDataset`.

    A run requests the selected shots, level by level, and stores each once finished. Parents that
    are not selected come from storage. Requesting a stored shot is free. A shot is stale if its
    prompt or settings changed, or its parent has a new take. A run of that one shot that a person
    launched buys a new take of it, and so does a run with `regenerate_changed`.

    The shots need the resources `runware` and `clip_storage`, and an IO manager `clip_io_manager`
    for downstream assets, or those of `resource_keys`.

    Raises:
        DatasetError: if the file is wrong; it names all its problems.

    Example:
        >>> board = build_storyboard_assets("examples/boards/mangrove.yaml")
        >>> sorted(key.to_user_string() for key in board.keys)[:2]
        ['mangrove/dawn', 'mangrove/dawn_close_up']
    """
    catalogue, checks = catalogue or default_catalogue(), checks or ClipChecks()
    resources = resource_keys or ResourceKeys()
    board = load_board(path, catalogue=catalogue)
    for warning in retired_model_warnings(
        [shot.spec for shot in board.shots], catalogue, noun="shot"
    ):
        warnings.warn(f"storyboard {board.name}: {warning}", RetiredModelWarning, stacklevel=2)
    keys = {shot.id: dg.AssetKey([board.name, shot.id]) for shot in board.shots}
    specs = [
        dg.AssetSpec(
            keys[shot.id],
            deps=[keys[shot.parent]] if shot.parent is not None else [],
            skippable=True,
            description=_description(shot),
            code_version=row_data_version(shot.spec.fingerprint, shot.spec.take),
            group_name=group_name or board.name,
            kinds={"mp4"},
            owners=owners,
            tags={tag: "" for tag in shot.spec.tags if _TAG_PATTERN.fullmatch(tag)},
            metadata=_metadata(board, shot),
        ).with_io_manager_key(resources.clip_io_manager)
        for shot in board.shots
    ]

    @dg.multi_asset(
        name=f"storyboard_{board.name}",
        description=f"Generates the shots of {board.name}, parents first.",
        specs=specs,
        check_specs=[spec for key in keys.values() for spec in check_specs(checks, key, None)],
        can_subset=True,
        required_resource_keys={resources.runware, resources.clip_storage},
        op_tags=settings_tag(),
    )
    def storyboard(
        context: dg.AssetExecutionContext,
        config: StoryboardConfig,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        runware = resource_of(context, resources.runware, RunwareResource)
        clip_storage = resource_of(context, resources.clip_storage, ClipStorageResource)
        if not context.selected_asset_keys:
            _evaluate_checks(context, checks, catalogue, clip_storage)
            return
        selected = [shot.id for shot in board.shots if keys[shot.id] in context.selected_asset_keys]
        options = request_options_of(
            config, context.run, runware.run_limit_usd(), is_for_one=len(selected) == 1
        )
        with runware.generator(clip_storage) as generator:
            if config.dry_run:
                log_estimates(
                    context, None, list(estimate_board(generator, board, selected, options))
                )
                return
            root = generator.ledger.root
            run = BoardRun(
                generator,
                board,
                selected,
                options,
                BoardLimits(
                    max_wait_seconds=config.max_wait_minutes * 60,
                    linger_seconds=config.remix_linger_seconds,
                    parallel_clips=config.parallel_clips,
                ),
                holder=context.run.run_id,
                on_progress=context.log.info,
                on_warning=context.log.warning,
                blocked=lambda manifest: checks.reason_to_block(manifest, catalogue, root),
            )
            reporter = ClipReporter(
                context,
                None,
                root,
                checks=checks,
                catalogue=catalogue,
                reports_elsewhere=is_used_later(context) or is_of_a_backfill(context.run),
            )
            try:
                yield from _results(context, board, run.results(), reporter)
            finally:
                add_post_counts(context, generator.client.posts)

    return storyboard


def build_board_or_problem(path: str | Path, dataset: VideoDataset) -> dg.AssetsDefinition:
    """The shots of a dataset's storyboard; if it cannot be read, one asset with the error.

    For code locations with other assets: one that does not load neither requests clips nor stores
    paid ones.
    """
    try:
        return build_storyboard_assets(
            path,
            catalogue=dataset.catalogue,
            checks=dataset.checks,
            owners=dataset.owners,
            resource_keys=dataset.resource_keys,
        )
    except DatasetError as error:
        _log.error("%s", error)
        problem = str(error)

    group_name = re.sub(r"[^A-Za-z0-9_]+", "_", Path(path).stem)

    @dg.asset(
        name="unreadable",
        key_prefix=group_name,
        group_name=group_name,
        description=f"The storyboard cannot be read, so its shots are missing.\n\n{problem}",
    )
    def unreadable() -> None:
        raise dg.Failure(
            description=f"{problem}\nCorrect the file, then reload the definitions.",
            allow_retries=False,
        )

    return unreadable


def _results(
    context: dg.AssetExecutionContext,
    board: Board,
    ends: Iterator[ShotResult],
    reporter: ClipReporter,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Report each shot to Dagster once it ends, and all failures at the end."""
    failures: dict[str, str] = {}
    for end in ends:
        if end.finished is not None:
            for event in reporter.events([end.finished]):
                yield exact_result(event)
        elif end.failure is not None:
            key = dg.AssetKey([board.name, end.shot.id])
            failures[key.to_user_string()] = end.failure
            context.log.error(f"{key.to_user_string()}: {end.failure}")
            context.log_event(failure_event(key, None, end.failure, end.last_failure, end.error))
    failures |= reporter.failures | reporter.blocked
    if failures:
        # Dagster considers a selected asset without an event a success.
        raise failure_of(failures, done=len(reporter.stored), verb="stored")


def _evaluate_checks(
    context: dg.AssetExecutionContext,
    checks: ClipChecks,
    catalogue: Catalogue,
    clip_storage: ClipStorageResource,
) -> None:
    """Run the selected checks of stored shots again, without generating anything."""
    run_checks = RunChecks(context, checks, catalogue, clip_storage.root())
    selected: dict[dg.AssetKey, set[str]] = {}
    for check in context.selected_asset_check_keys:
        selected.setdefault(check.asset_key, set()).add(check.name)
    for key, names in selected.items():
        run_checks.evaluate_stored(key.to_user_string(), [key.path[-1]], only=names)


def _description(shot: Shot) -> str:
    if shot.parent is None:
        return shot.spec.prompt
    what = {"continue": "Continues", "extend": "Extends"}.get(shot.spec.mode or "", "Remix of")
    return f"{what} {shot.parent}: {shot.spec.prompt}"


def _metadata(board: Board, shot: Shot) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "storyboard": dg.MetadataValue.path(str(board.path)),
        "model": shot.spec.model,
        "fingerprint": shot.spec.fingerprint,
    }
    metadata |= spec_metadata(shot.spec)
    if shot.spec.tags:
        metadata["tags"] = list(shot.spec.tags)
    return metadata
