"""Assets of stored videos: a run waits for its partitions and stores each as it is finished."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.clip_stream import ClipStream
from sora_dagster.events import clip_event, is_of_the_current_row
from sora_dagster.generation.archive import content_hash
from sora_dagster.generation.records import ClipManifest
from sora_dagster.graph import CODE_VERSION, VideoGraph
from sora_dagster.metadata import clip_metadata
from sora_dagster.partition_runs import failure_of, log_exact_events, partitioned_asset
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
    @partitioned_asset(
        key=key,
        deps=deps,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.multi_run(_CLIPS_PER_RUN),
        group_name=graph.group_name,
        code_version=CODE_VERSION,
        io_manager_key=CLIP_IO_MANAGER_KEY,
        kinds={"mp4"},
        description=description,
    )
    def videos(
        context: dg.AssetExecutionContext,
        config: CollectConfig,
        runware: RunwareResource,
        clip_storage: ClipStorageResource,
    ) -> Iterator[dg.Output[ClipStream]]:
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
                    context.add_asset_metadata(clip_metadata(manifest, root))

            def on_end(failures: Mapping[str, str]) -> None:
                versions = [manifest.content_hash for manifest in stored]
                if versions and not failures:
                    context.set_data_version(key, dg.DataVersion(content_hash(versions)))
                if failures:
                    for manifest in stored:
                        context.log_event(clip_event(context.instance, graph, manifest, root))
                    for partition, reason in failures.items():
                        context.log_event(
                            dg.AssetObservation(
                                asset_key=key, partition=partition, metadata={"failure": reason}
                            )
                        )
                    stream.close()
                    raise failure_of(failures, done=len(stored), verb="stored")

            stream = ClipStream(
                generator,
                asset=key.to_user_string(),
                clips=partitions,
                timeout_seconds=config.max_wait_minutes * 60,
                on_stored=on_stored,
                on_end=on_end,
                on_warning=context.log.warning,
            )
            yield dg.Output(stream)
            of_current_rows = all(
                is_of_the_current_row(context.instance, graph, manifest) for manifest in stored
            )
            if len(partitions) > 1 or not of_current_rows:
                log_exact_events(
                    context,
                    [clip_event(context.instance, graph, manifest, root) for manifest in stored],
                )
            stream.close()
            add_post_counts(context, generator.client.posts)

    return videos
