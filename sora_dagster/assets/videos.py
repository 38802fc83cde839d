"""Assets of stored videos: a run waits for its partitions, and reports each once stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.dataset import CODE_VERSION, VideoDataset, split_remix_partition
from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.library.clip_checks import QUALITY
from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.reporting.checks import RunChecks, check_specs
from sora_dagster.reporting.clip_reporter import ClipReporter, batches, failure_sentence
from sora_dagster.reporting.events import failure_event, not_requested_events
from sora_dagster.reporting.runs import (
    add_post_counts,
    combined_result,
    exact_result,
    failure_of,
    is_of_a_backfill,
    is_used_later,
    partitioned_asset,
    warn_of_missing_rows,
)
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.storage import AccessDeniedError


class CollectConfig(dg.Config):
    """How long a run waits for its clips."""

    max_wait_minutes: float = Field(
        default=60.0,
        ge=0,
        description="Maximum wait for the clips, in minutes; unfinished ones stay outstanding.",
    )


def build_videos_asset(
    dataset: VideoDataset,
    key: dg.AssetKey,
    *,
    deps: Sequence[dg.AssetKey | dg.AssetDep],
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
) -> dg.AssetsDefinition:
    """The asset of a dataset's clips, or of its remixes, with their checks.

    Arguments:
        dataset: the dataset.
        key: `dataset.clips` or `dataset.remixes`.
        deps: its upstream assets.
        partitions_def: its partitions.
        description: its description in the UI.
    """
    keys = dataset.resource_keys
    spec = dg.AssetSpec(
        key,
        deps=deps,
        partitions_def=partitions_def,
        skippable=True,
        **dataset.labels,
        code_version=CODE_VERSION,
        kinds={"mp4"},
        description=description,
    ).with_io_manager_key(keys.clip_io_manager)

    @partitioned_asset(
        spec,
        check_specs=check_specs(dataset.checks, key, partitions_def),
        # So that checks can be run again without the asset.
        can_subset=True,
        required_resource_keys={keys.runware, keys.clip_storage, keys.clip_io_manager},
    )
    def videos(
        context: dg.AssetExecutionContext,
        config: CollectConfig,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        runware = resource_of(context, keys.runware, RunwareResource)
        clip_storage = resource_of(context, keys.clip_storage, ClipStorageResource)
        clip_io_manager = resource_of(context, keys.clip_io_manager, ClipIOManager)
        if key not in context.selected_asset_keys:
            _evaluate_checks(context, dataset, key, clip_storage)
            return
        with runware.generator(clip_storage, dataset.day_limits_usd) as generator:
            try:
                run = _VideosRun(
                    context, dataset, key, generator.ledger, clip_io_manager, clip_storage
                )
                with generator.collection(
                    CollectionLimits(
                        max_wait_seconds=config.max_wait_minutes * 60,
                        parallel_clips=clip_io_manager.parallel_clips,
                    ),
                    holder=context.run.run_id,
                    on_warning=context.log.warning,
                    on_retry=lambda requested: run.reporter.report_request([requested]),
                ) as collection:
                    yield from run.results(collection)
                run.end(collection, max_wait_seconds=config.max_wait_minutes * 60)
            finally:
                add_post_counts(context, generator.client.posts)

    return videos


class _VideosRun:
    """One run of an asset of videos.

    For a run of one partition Dagster logs the event, so that later steps of the run have the clip.
    A run of several partitions logs each event itself, as soon as the clip is stored; see
    :func:`sora_dagster.reporting.runs.report_partitions`.

    Arguments:
        context: the run's context.
        dataset: the dataset.
        key: the asset.
        ledger: the ledger.
        io_manager: records the stored clips.
        storage: opens the source of the rows, if it is in an object store.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        dataset: VideoDataset,
        key: dg.AssetKey,
        ledger: Ledger,
        io_manager: ClipIOManager,
        storage: ClipStorageResource,
    ) -> None:
        self._context = context
        self._storage = storage
        self._dataset = dataset
        self._prompts: PromptDataset | None = None
        self._key = key
        self._request_asset = dataset.request_key(key.to_user_string()).to_user_string()
        self._ledger = ledger
        self._io_manager = io_manager
        self._partitions = list(context.partition_keys)
        self._is_used_later = is_used_later(context)
        self._failures: dict[str, str] = {}
        self._not_requested: dict[str, str] = {}
        self.reporter = ClipReporter(
            context,
            dataset,
            ledger.root,
            checks=dataset.checks,
            catalogue=dataset.catalogue,
            reports_elsewhere=self._is_used_later or is_of_a_backfill(context.run),
            metadata_of=self._no_metadata if self._is_for_one else self._recorded,
        )

    @property
    def _is_for_one(self) -> bool:
        return len(self._partitions) == 1

    def results(self, collection: Collection) -> Iterator[dg.MaterializeResult[Any]]:
        """Wait for the newest attempts of the partitions, and report each clip once stored."""
        collection.add(*self._newest_attempts())
        later: list[FinishedTask] = []
        for ended in batches(collection):
            self._note_failures(ended)
            if self._is_for_one or self._is_used_later:
                later += ended
            else:
                self._report(collection, ended)
        if self._is_for_one:
            for finished in later:
                for event in self.reporter.events([finished]):
                    assert finished.manifest is not None
                    clip = StoredClip(finished.manifest, self._ledger.root)
                    yield exact_result(event, value=clip)
                self._close(collection, finished)
            self._log_not_requested()
            return
        is_whole = not (self._failures or collection.outstanding)
        if is_whole and (hashes := _hashes(later)):
            yield combined_result(self._key, hashes)
        self._report(collection, later)
        self._log_not_requested()

    def end(self, collection: Collection, *, max_wait_seconds: float) -> None:
        """Log the summary of the run.

        Raises:
            Failure: naming the clips that are not stored, or failed a blocking check.
        """
        stuck = collection.report.stuck
        self._failures |= {name: stuck[name] for name in self._partitions if name in stuck}
        for attempt in collection.outstanding.values():
            reason = collection.report.left.get(attempt.task_uuid) or "it is still being generated"
            self._fail(
                attempt.clip,
                f"take {attempt.take} was not finished within {max_wait_seconds:.0f} s: {reason}. "
                f"It is not lost: the completion sensor collects it later. You can also "
                f"materialize this asset again. Nothing is paid twice",
            )
        self.reporter.sum_up()
        failures = self.reporter.failures | self._failures | self.reporter.blocked
        if failures:
            raise failure_of(failures, done=len(self.reporter.stored), verb="stored")

    def _newest_attempts(self) -> Iterable[AttemptRecord]:
        without_row: list[str] = []
        found = in_parallel(self._partitions, self._newest_attempt)
        for partition, newest in zip(self._partitions, found, strict=True):
            if isinstance(newest, AttemptRecord):
                yield newest
            elif newest is None and self._key == self._dataset.clips:
                without_row.append(partition)
            elif newest is None:
                self._not_requested[partition] = f"no row of the dataset lists {partition}"
            else:
                self._fail(partition, newest)
        if self._prompts is not None:
            warn_of_missing_rows(self._context, self._prompts.label, without_row)

    def _newest_attempt(self, partition: str) -> AttemptRecord | str | None:
        """The attempt to wait for, or why there is none; None if no row asks for it."""
        try:
            takes = self._ledger.takes(self._key.to_user_string(), partition)
        except (UnreadableRecordError, AccessDeniedError) as error:
            return str(error)
        if not takes:
            if self._is_unlisted(partition):
                return None
            return (
                f"it was never requested; materialize {self._request_asset} for this partition "
                "first"
            )
        return takes[-1].latest

    def _is_unlisted(self, partition: str) -> bool:
        """Whether no row lists a remix, or a clip of a range has no row."""
        try:
            self._prompts = self._prompts or self._dataset.load_prompts(self._storage)
        except DatasetError:
            return False
        if self._key == self._dataset.remixes:
            clip_id, recipe = split_remix_partition(partition)
            return recipe not in self._prompts.recipes_of(clip_id)
        return not self._is_for_one and partition not in self._prompts.clip_ids

    def _log_not_requested(self) -> None:
        for event in not_requested_events(
            self._context.instance, self._dataset, self._key, self._not_requested
        ):
            self._context.log_event(event)

    def _note_failures(self, ended: Sequence[FinishedTask]) -> None:
        """Note clips without a video that the reporter does not count as failed."""
        for finished in ended:
            if (reason := failure_sentence(finished)) is not None:
                self._failures[finished.attempt.clip] = reason
            elif finished.manifest is None:
                self._fail(
                    finished.attempt.clip,
                    f"take {finished.attempt.take} was never sent, and nothing was paid; "
                    f"materialize {self._request_asset} for this partition again",
                )

    def _fail(self, partition: str, reason: str) -> None:
        self._failures[partition] = reason
        self._context.log_event(failure_event(self._key, partition, reason))

    def _report(self, collection: Collection, ended: Sequence[FinishedTask]) -> None:
        self.reporter.report(ended, outstanding=collection.outstanding.values())
        for finished in ended:
            self._close(collection, finished)

    def _close(self, collection: Collection, finished: FinishedTask) -> None:
        """Remove a reported clip from the index, after noting that its remixes are due.

        A run of the assets requests no remixes; a collecting run requests those of its clips.
        """
        is_new = not finished.ended_before and finished.manifest is not None
        if is_new and self._has_remixes(finished.attempt):
            self._ledger.remixes.mark_due(finished.attempt)
        collection.close(finished)

    def _has_remixes(self, attempt: AttemptRecord) -> bool:
        if attempt.asset != self._dataset.clips.to_user_string():
            return False
        try:
            self._prompts = self._prompts or self._dataset.load_prompts(self._storage)
            return bool(self._prompts.recipes_of(attempt.clip))
        except DatasetError:
            # The collecting run reports it, and requests the remixes once the file can be read.
            return True

    def _recorded(self, manifest: ClipManifest) -> Mapping[str, Any]:
        """The metadata that the IO manager records for a clip."""
        context = dg.build_output_context(asset_key=self._key, partition_key=manifest.clip)
        self._io_manager.handle_output(context, StoredClip(manifest, self._ledger.root))
        return context.get_logged_metadata()

    @staticmethod
    def _no_metadata(_manifest: ClipManifest) -> Mapping[str, Any]:
        """Nothing: Dagster has the IO manager record the clip itself."""
        return {}


def _evaluate_checks(
    context: dg.AssetExecutionContext,
    dataset: VideoDataset,
    key: dg.AssetKey,
    clip_storage: ClipStorageResource,
) -> None:
    """Run the selected checks of stored clips again, without storing anything."""
    only = {check.name for check in context.selected_asset_check_keys}
    has_partitions = context.has_partition_key or context.has_partition_key_range
    checks = RunChecks(context, dataset.checks, dataset.catalogue, clip_storage.root())
    checks.evaluate_stored(
        key.to_user_string(), context.partition_keys if has_partitions else None, only=only
    )
    if QUALITY in only:
        checks.sum_up()


def _hashes(ended: Sequence[FinishedTask]) -> list[str]:
    return [finished.manifest.content_hash for finished in ended if finished.manifest is not None]
