"""Assets of stored videos: a run waits for its partitions and stores each as it is finished."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.checks import RunChecks, check_specs
from sora_dagster.clip_stream import ClipFailure, ClipStream
from sora_dagster.events import clip_event, failure_event, is_of_the_current_row
from sora_dagster.generation.archive import content_hash
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import ClipManifest
from sora_dagster.graph import CODE_VERSION, VideoGraph
from sora_dagster.metadata import clip_metadata
from sora_dagster.partition_runs import failure_of, log_exact_events, partitioned_multi_asset
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.run_facts import add_post_counts

CLIP_IO_MANAGER_KEY = "clip_io_manager"
# Collecting waits, so that many clips share one waiting run, and a backfill of both never has
# submitting queue behind waiting.
_CLIPS_PER_RUN = 1000


class CollectConfig(dg.Config):
    """How long a run waits for its clips.

    Arguments:
        max_wait_minutes: longest wait; what is not finished then stays outstanding.
    """

    max_wait_minutes: float = Field(
        default=60.0,
        description="Longest wait for the clips; what is not finished then stays outstanding.",
    )


def build_videos_asset(
    graph: VideoGraph,
    key: dg.AssetKey,
    *,
    deps: Sequence[dg.AssetKey | dg.AssetDep],
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
) -> dg.AssetsDefinition:
    """The asset of a dataset's clips, or of its remixes, with their checks.

    Arguments:
        graph: names, and the checks that clips are held to.
        key: `graph.clips` or `graph.remixes`.
        deps: what they are made from.
        partitions_def: their partitions.
        description: what the UI says of them.
    """
    name = key.path[-1]

    @partitioned_multi_asset(
        name=name,
        outs={
            name: dg.AssetOut(
                key=key,
                io_manager_key=CLIP_IO_MANAGER_KEY,
                is_required=False,
                **graph.labels,
                code_version=CODE_VERSION,
                kinds={"mp4"},
                description=description,
            )
        },
        deps=deps,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.multi_run(_CLIPS_PER_RUN),
        check_specs=check_specs(graph.checks, key, partitions_def),
        # So that the checks can be made again by themselves.
        can_subset=True,
    )
    def videos(
        context: dg.AssetExecutionContext,
        config: CollectConfig,
        runware: RunwareResource,
        clip_storage: ClipStorageResource,
    ) -> Iterator[dg.Output[ClipStream]]:
        run_checks = RunChecks(context, graph.checks, graph.catalogue)
        if key not in context.selected_asset_keys:
            clips = _chosen_partitions(context)
            run_checks.judge_stored(Ledger(clip_storage.root()), key.to_user_string(), clips)
            return
        partitions = list(context.partition_keys)
        stored: list[ClipManifest] = []
        with runware.generator(clip_storage) as generator:
            root = generator.ledger.root

            def on_stored(manifest: ClipManifest) -> None:
                stored.append(manifest)
                context.log.info(
                    f"{manifest.clip}: take {manifest.take} stored, {manifest.cost_usd:.2f} USD"
                )
                if len(partitions) == 1:
                    context.add_asset_metadata(clip_metadata(manifest, root), asset_key=key)

            def on_end(failures: Mapping[str, ClipFailure]) -> None:
                versions = [manifest.content_hash for manifest in stored]
                if versions and not failures:
                    context.set_data_version(key, dg.DataVersion(content_hash(versions)))
                if failures:
                    for manifest in stored:
                        context.log_event(clip_event(context.instance, graph, manifest, root))
                        run_checks.judge(manifest, root)
                    run_checks.sum_up()
                    for partition, failure in failures.items():
                        context.log_event(
                            failure_event(key, partition, failure.reason, failure.finished)
                        )
                    stream.close()
                    reasons = {clip: failure.reason for clip, failure in failures.items()}
                    raise failure_of(reasons, done=len(stored), verb="stored")

            stream = ClipStream(
                generator,
                asset=key.to_user_string(),
                clips=partitions,
                timeout_seconds=config.max_wait_minutes * 60,
                on_stored=on_stored,
                on_end=on_end,
                on_warning=context.log.warning,
            )
            yield dg.Output(stream, output_name=name)
            of_current_rows = all(
                is_of_the_current_row(context.instance, graph, manifest) for manifest in stored
            )
            if len(partitions) > 1 or not of_current_rows:
                log_exact_events(
                    context,
                    [clip_event(context.instance, graph, manifest, root) for manifest in stored],
                )
            for manifest in stored:
                run_checks.judge(manifest, root)
            run_checks.sum_up()
            stream.close()
            add_post_counts(context, generator.client.posts)
            if run_checks.blocked:
                raise failure_of(run_checks.blocked, done=len(stored), verb="stored")

    return videos


def _chosen_partitions(context: dg.AssetExecutionContext) -> Sequence[str] | None:
    has_partitions = context.has_partition_key or context.has_partition_key_range
    return context.partition_keys if has_partitions else None
