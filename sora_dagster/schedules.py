"""Schedules: so many clips, or so many dollars' worth of them, at a time."""

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.selection import Selection, never_requested, select_clips
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.resources import ClipStorageResource


def build_generation_schedule(
    dataset: VideoDataset,
    request_job: dg.JobDefinition,
    *,
    cron_schedule: str,
    max_clips: int | None = None,
    max_usd: float | None = None,
    name: str = "generation_schedule",
    execution_timezone: str | None = None,
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> dg.ScheduleDefinition:
    """A schedule that asks for the oldest clips of the dataset that were never asked for.

    Oldest are the rows that Dagster learned of first; rows that came together go in the order of
    the file. Each tick starts one run of `request_clips` with `max_usd` as its spending limit, from
    which the remixes that follow are paid too. Clips that failed, or whose row changed since, are
    left to people.

    Arguments:
        dataset: the dataset.
        request_job: the job `request_clips`.
        cron_schedule: when, such as ``0 6 * * *``.
        max_clips: most clips a tick; None for no limit.
        max_usd: most USD a tick, by the catalogue's prices, remixes included; None for the spending
            limit of any run.
        name: name of the schedule.
        execution_timezone: time zone of `cron_schedule`; UTC where None.
        default_status: whether it runs from the start. It spends money, so by default it does not.

    Raises:
        ValueError: where neither limit is given, or one is not above zero.

    Example:
        >>> from sora_dagster import build_request_job
        >>> dataset = VideoDataset("prompts.yaml")
        >>> build_generation_schedule(
        ...     dataset, build_request_job(dataset), cron_schedule="0 6 * * *", max_usd=40
        ... ).name
        'generation_schedule'
    """
    if max_clips is None and max_usd is None:
        raise ValueError(
            "a schedule spends money at every tick: give it max_clips, max_usd, or both"
        )
    if (max_clips is not None and max_clips < 1) or (max_usd is not None and max_usd <= 0):
        raise ValueError(
            f"max_clips is {max_clips} and max_usd {max_usd}; both must be above zero, or None"
        )

    @dg.schedule(
        name=dataset.definition_name(name),
        job=request_job,
        cron_schedule=cron_schedule,
        execution_timezone=execution_timezone,
        default_status=default_status,
        description=f"Asks for the oldest clips that were never asked for, at most "
        f"{_limits_in_words(max_clips, max_usd)} a tick.",
    )
    def generation_schedule(
        context: dg.ScheduleEvaluationContext, clip_storage: ClipStorageResource
    ) -> dg.RunRequest | dg.SkipReason:
        try:
            prompts = dataset.load_prompts()
        except DatasetError as error:
            raise dg.Failure(description=str(error)) from error
        waiting = list(
            never_requested(
                Ledger(clip_storage.root()),
                dataset.clips.to_user_string(),
                _oldest_first(context.instance, dataset, prompts),
            )
        )
        pick = select_clips(
            prompts, dataset.catalogue, waiting, max_clips=max_clips, max_usd=max_usd
        )
        for line in _account(pick, max_usd):
            context.log.info(line)
        if not pick.clip_ids:
            return dg.SkipReason(
                " ".join(_account(pick, max_usd))
                or f"all {len(prompts.clips)} clips of the dataset were asked for before"
            )
        config = {"clip_ids": list(pick.clip_ids), "max_usd": max_usd, "regenerate_changed": False}
        return dg.RunRequest(
            run_config={"ops": {dataset.definition_name("request"): {"config": config}}},
            tags={"sora_dagster/clips": str(len(pick.clip_ids))},
        )

    return generation_schedule


def _oldest_first(
    instance: dg.DagsterInstance, dataset: VideoDataset, prompts: PromptDataset
) -> list[str]:
    """Clip ids in the order in which Dagster learned of them, then those it does not know yet."""
    known = instance.get_dynamic_partitions(str(dataset.clip_partitions.name))
    place = {clip_id: number for number, clip_id in enumerate(known)}
    return sorted(prompts.clip_ids, key=lambda clip_id: place.get(clip_id, len(place)))


def _account(pick: Selection, max_usd: float | None) -> list[str]:
    """What a tick took and what it left, in sentences."""
    lines = []
    if pick.clip_ids:
        lines.append(
            f"asking for {len(pick.clip_ids)} clips, with their remixes about {pick.usd:.2f} USD: "
            f"{', '.join(pick.clip_ids)}."
        )
    if pick.left:
        lines.append(f"{pick.left} clips are left for later ticks.")
    if pick.over_budget:
        lines.append(
            f"{len(pick.over_budget)} cost more than a tick may spend ({max_usd:.2f} USD), "
            f"remixes included: {', '.join(pick.over_budget)}. Raise max_usd, or request them "
            f"with the job request_clips."
        )
    return lines


def _limits_in_words(max_clips: int | None, max_usd: float | None) -> str:
    limits = []
    if max_clips is not None:
        limits.append(f"{max_clips} clips")
    if max_usd is not None:
        limits.append(f"{max_usd:.2f} USD")
    return " and ".join(limits)
