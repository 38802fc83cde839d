"""The assets of a prompt dataset: rows, submissions, stored clips, and the same for remixes."""

import warnings
from typing import Any

import dagster as dg

from sora_dagster.assets.prompts import build_prompt_rows_asset, build_prompts_asset
from sora_dagster.assets.requests import build_requests_asset
from sora_dagster.assets.videos import build_videos_asset
from sora_dagster.dataset import VideoDataset, split_remix_partition, without_beta_warnings
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.prompts.retired_models import RetiredModelWarning, default_model_warning
from sora_dagster.prompts.table_sources import AssetPrompts


def build_clip_assets(
    dataset: VideoDataset, *, request_condition: dg.AutomationCondition[Any] | None = None
) -> list[dg.AssetsDefinition]:
    """The assets `prompts`, `clip_requests` and `clips` of a dataset.

    Arguments:
        dataset: the dataset.
        request_condition: when clips are requested automatically, such as
            ``dg.AutomationCondition.on_missing()`` for each new row. Each run observes its spending
            limit, and buys no new take of a changed row. Default: never.

    The assets need the resources `runware` and `clip_storage`, and an IO manager
    `clip_io_manager`.

    Example:
        >>> [asset.key.to_user_string() for asset in build_clip_assets(VideoDataset("p.yaml"))]
        ['prompts', 'clip_requests', 'clips']
    """

    # The rows are not read when definitions load, so this is about those that name no model.
    if warning := default_model_warning(dataset.catalogue):
        warnings.warn(warning, RetiredModelWarning, stacklevel=2)

    def request_of(prompts: PromptDataset, partition: str, _ledger: Ledger) -> ClipRequest:
        return dataset.clip_request(prompts, partition)

    source = dataset.prompt_source
    rows = [build_prompt_rows_asset(dataset, source)] if isinstance(source, AssetPrompts) else []
    return [
        *rows,
        build_prompts_asset(
            dataset,
            dataset.prompts,
            deps=[dataset.prompt_rows] if rows else [],
            partitions_def=dataset.clip_partitions,
            description="The rows of the prompt dataset, kept in step by the dataset sensor.",
        ),
        build_requests_asset(
            dataset,
            dataset.clip_requests,
            deps=[dataset.prompts],
            partitions_def=dataset.clip_partitions,
            description="Submissions to Runware: each clip is requested and paid for once.",
            request_of=request_of,
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

    The collecting run requests the remixes of each clip once it is stored. The assets need the same
    resources as the clips.

    Example:
        >>> [asset.key.to_user_string() for asset in build_remix_assets(VideoDataset("p.yaml"))]
        ['remix_prompts', 'remix_requests', 'remixes']
    """

    def request_of(prompts: PromptDataset, partition: str, ledger: Ledger) -> ClipRequest:
        clip_id, recipe = split_remix_partition(partition)
        if recipe not in prompts.recipes_of(clip_id):
            stored = ledger.latest_manifest(dataset.remixes.to_user_string(), partition)
            if stored is not None:
                # Its row no longer lists it. Requesting what is stored is free, and keeps it.
                return stored.request
        parent = ledger.latest_manifest(dataset.clips.to_user_string(), clip_id)
        return dataset.remix_request(prompts, clip_id, recipe, parent, ledger.root)

    with without_beta_warnings():
        clip_mapping = dg.MultiToSingleDimensionPartitionMapping("clip")
    return [
        build_prompts_asset(
            dataset,
            dataset.remix_prompts,
            deps=[dg.AssetDep(dataset.prompts, partition_mapping=clip_mapping)],
            partitions_def=dataset.remix_partitions,
            description="The remixes that the rows of the dataset list.",
        ),
        build_requests_asset(
            dataset,
            dataset.remix_requests,
            deps=[
                dataset.remix_prompts,
                dg.AssetDep(dataset.clips, partition_mapping=clip_mapping),
            ],
            partitions_def=dataset.remix_partitions,
            description="Submissions of remixes, each made from the video of its clip.",
            request_of=request_of,
        ),
        build_videos_asset(
            dataset,
            dataset.remixes,
            deps=[
                dataset.remix_requests,
                dataset.remix_prompts,
                dg.AssetDep(dataset.clips, partition_mapping=clip_mapping),
            ],
            partitions_def=dataset.remix_partitions,
            description="Generated remixes, in the storage root with cost, seed and provenance.",
        ),
    ]
