"""A schedule that requests a number of clips, or clips for an amount of money, per tick."""

import dagster as dg

from sora_dagster.dataset import REQUEST_JOB, VideoDataset
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.selection import Selection, never_requested, select_clips
from sora_dagster.prompts.counts import counted
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.resources import ClipStorageResource, resource_of


def build_generation_schedule(
    dataset: VideoDataset,
    *,
    cron_schedule: str,
    max_clips: int | None = None,
    max_usd: float | None = None,
    name: str = "generation_schedule",
    execution_timezone: str | None = None,
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> dg.ScheduleDefinition:
    """A schedule that requests the oldest clips of the dataset that were never requested.

    The oldest rows are those that Dagster registered first, then in the order of the file. Each
    tick starts one run of `request_clips` with `max_usd` as its spending limit, which also covers
    the remixes of its clips. Clips that failed or whose row changed are not requested.

    Arguments:
        dataset: the dataset.
        cron_schedule: when it ticks, such as ``0 6 * * *``.
        max_clips: maximum number of clips per tick. Default: no limit.
        max_usd: maximum USD per tick, by catalogue prices, remixes included. Clips whose price the
            catalogue does not know are left out. Default: the spending limit of the `runware`
            resource.
        name: name of the schedule.
        execution_timezone: time zone of `cron_schedule`. Default: UTC.
        default_status: whether the schedule runs from the start. Default: no; it spends money.

    Raises:
        ValueError: if neither limit is set, or one is not above zero.

    Example:
        >>> dataset = VideoDataset("prompts.yaml")
        >>> build_generation_schedule(dataset, cron_schedule="0 6 * * *", max_usd=40).name
        'generation_schedule'
    """
    if max_clips is None and max_usd is None:
        raise ValueError("a schedule spends money at every tick; set max_clips, max_usd, or both")
    if (max_clips is not None and max_clips < 1) or (max_usd is not None and max_usd <= 0):
        raise ValueError(
            f"max_clips is {max_clips} and max_usd is {max_usd}; each must be above zero or None"
        )

    storage_key = dataset.resource_keys.clip_storage

    @dg.schedule(
        name=dataset.definition_name(name),
        job_name=dataset.definition_name(REQUEST_JOB),
        cron_schedule=cron_schedule,
        execution_timezone=execution_timezone,
        default_status=default_status,
        required_resource_keys={storage_key},
        description=f"Requests the oldest clips that were never requested, at most "
        f"{_limits_in_words(max_clips, max_usd)} per tick.",
    )
    def generation_schedule(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        try:
            prompts = dataset.load_prompts(clip_storage)
        except DatasetError as error:
            raise dg.Failure(description=str(error)) from error
        waiting = list(
            never_requested(
                Ledger(clip_storage.root()),
                dataset.clips.to_user_string(),
                _oldest_first(context.instance, dataset, prompts),
            )
        )
        selection = select_clips(
            prompts, dataset.catalogue, waiting, max_clips=max_clips, max_usd=max_usd
        )
        for line in _summary(selection, max_usd):
            context.log.info(line)
        if not selection.clip_ids:
            return dg.SkipReason(
                " ".join(_summary(selection, max_usd))
                or f"all {len(prompts.clips)} clips of the dataset were requested before"
            )
        config = {
            "clip_ids": list(selection.clip_ids),
            "max_usd": max_usd,
            "regenerate_changed": False,
        }
        return dg.RunRequest(
            run_config={"ops": {dataset.definition_name("request"): {"config": config}}},
            tags={"sora_dagster/clips": str(len(selection.clip_ids))},
        )

    return generation_schedule


def _oldest_first(
    instance: dg.DagsterInstance, dataset: VideoDataset, prompts: PromptDataset
) -> list[str]:
    """Clip ids in the order in which Dagster registered them, then those not registered yet."""
    known = instance.get_dynamic_partitions(str(dataset.clip_partitions.name))
    place = {clip_id: number for number, clip_id in enumerate(known)}
    return sorted(prompts.clip_ids, key=lambda clip_id: place.get(clip_id, len(place)))


def _summary(selection: Selection, max_usd: float | None) -> list[str]:
    """Sentences on what a tick requested and what it left."""
    lines = []
    if selection.clip_ids:
        lines.append(
            f"requesting {counted(len(selection.clip_ids), 'clip', 'clips')}, price with their "
            "remixes: "
            f"{selection.price.text}: {', '.join(selection.clip_ids)}."
        )
    if selection.left:
        lines.append(f"{counted(selection.left, 'clip is', 'clips are')} left for later ticks.")
    if selection.over_budget:
        lines.append(
            f"{counted(len(selection.over_budget), 'clip costs', 'clips cost')} more than the "
            f"limit of a tick ({max_usd:.2f} USD), "
            f"remixes included: {', '.join(selection.over_budget)}. Raise max_usd, or request them "
            f"with the job request_clips."
        )
    if selection.unpriced:
        lines.append(
            f"skipped, since the price of the clip or of a remix is not known, so the limit of a "
            f"tick cannot be applied: {', '.join(selection.unpriced)}. "
            f"Set the prices in their models' catalogue entries (SORA_MODELS), or request them "
            f"with the job request_clips, which asks Runware for the price."
        )
    return lines


def _limits_in_words(max_clips: int | None, max_usd: float | None) -> str:
    limits = []
    if max_clips is not None:
        limits.append(f"{max_clips} clips")
    if max_usd is not None:
        limits.append(f"{max_usd:.2f} USD")
    return " and ".join(limits)
