"""The assets of a prompt dataset: rows, submissions, stored clips, and the same for remixes."""

from typing import Any

import dagster as dg

from sora_dagster.assets.prompts import build_prompts_asset
from sora_dagster.assets.requests import build_requests_asset
from sora_dagster.assets.videos import build_videos_asset
from sora_dagster.dataset import VideoDataset, split_remix_partition, without_beta_warnings
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset


def build_clip_assets(
    dataset: VideoDataset, *, request_condition: dg.AutomationCondition[Any] | None = None
) -> list[dg.AssetsDefinition]:
    """The assets `prompts`, `clip_requests` and `clips` of a dataset.

    Arguments:
        dataset: the dataset.
        request_condition: when clips are asked for by themselves, such as
            ``dg.AutomationCondition.on_missing()`` for each new row; each run keeps to its spending
            limit, and buys no new take of a changed row. None for never.

    They need the resources `runware` and `clip_storage`, and an IO manager `clip_io_manager`.

    Example:
        >>> [asset.key.to_user_string() for asset in build_clip_assets(VideoDataset("p.yaml"))]
        ['prompts', 'clip_requests', 'clips']
    """

    def ask(prompts: PromptDataset, partition: str, _ledger: Ledger) -> ClipRequest:
        return dataset.clip_request(prompts, partition)

    return [
        build_prompts_asset(
            dataset,
            dataset.prompts,
            partitions_def=dataset.clip_partitions,
            description="The rows of the prompt dataset, kept in step by the dataset sensor.",
        ),
        build_requests_asset(
            dataset,
            dataset.clip_requests,
            deps=[dataset.prompts],
            partitions_def=dataset.clip_partitions,
            description="Submissions to Runware: each clip is asked and paid for once.",
            ask=ask,
            automation_condition=request_condition,
        ),
        build_videos_asset(
            dataset,
            dataset.clips,
            deps=[dataset.clip_requests, dataset.prompts],
            partitions_def=dataset.clip_partitions,
            description="Generated clips, in the storage root with cost, seed and provenance.",
        ),
    ]


def build_remix_assets(dataset: VideoDataset) -> list[dg.AssetsDefinition]:
    """The assets `remix_prompts`, `remix_requests` and `remixes` of a dataset.

    Arguments:
        dataset: the dataset.

    The collecting run asks for the remixes that the dataset wants of each clip, once it is stored.
    They need the same resources as the clips.

    Example:
        >>> [asset.key.to_user_string() for asset in build_remix_assets(VideoDataset("p.yaml"))]
        ['remix_prompts', 'remix_requests', 'remixes']
    """

    def ask(prompts: PromptDataset, partition: str, ledger: Ledger) -> ClipRequest:
        clip_id, recipe = split_remix_partition(partition)
        parent = ledger.latest_manifest(dataset.clips.to_user_string(), clip_id)
        return dataset.remix_request(prompts, clip_id, recipe, parent, ledger.root)

    with without_beta_warnings():
        of_the_clip = dg.MultiToSingleDimensionPartitionMapping("clip")
    return [
        build_prompts_asset(
            dataset,
            dataset.remix_prompts,
            partitions_def=dataset.remix_partitions,
            description="The remixes that the rows of the dataset ask for.",
        ),
        build_requests_asset(
            dataset,
            dataset.remix_requests,
            deps=[
                dataset.remix_prompts,
                dg.AssetDep(dataset.clips, partition_mapping=of_the_clip),
            ],
            partitions_def=dataset.remix_partitions,
            description="Submissions of remixes: each is made from its clip's video.",
            ask=ask,
        ),
        build_videos_asset(
            dataset,
            dataset.remixes,
            deps=[
                dataset.remix_requests,
                dataset.remix_prompts,
                dg.AssetDep(dataset.clips, partition_mapping=of_the_clip),
            ],
            partitions_def=dataset.remix_partitions,
            description="Generated remixes, in the storage root with cost, seed and provenance.",
        ),
    ]
