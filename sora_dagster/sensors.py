"""The two sensors: one for the prompt file, one for outstanding clips."""

import base64
import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.environment import NO_STORAGE_ROOT, SettingValues
from sora_dagster.generation.collecting.due import DueReader, DueWork, uncollected_folders
from sora_dagster.generation.protocol.clocks import StoreClock
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.prompts.dataset import DatasetError
from sora_dagster.reporting.collect_runs import reason_to_wait
from sora_dagster.reporting.dataset_sync import Row, missing_partitions, rows_of, unlogged_rows
from sora_dagster.reporting.partition_owner import SharedPartitionsError, require_own_partitions
from sora_dagster.resources import ClipStorageResource, resource_of

# A tick must end within 60 s; an event costs about 13 ms.
_EVENTS_PER_TICK = 500
# Other code locations may collect a dataset of the same root; by then they would have done so.
_UNCOLLECTED_AGE = timedelta(minutes=30)
# Metadata of a completion sensor: names of the datasets that it collects.
_DATASETS = "sora_dagster/datasets"


def build_dataset_sensor(
    dataset: VideoDataset,
    *,
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that updates partitions and data versions from the prompt file.

    Arguments:
        dataset: the dataset.
        minimum_interval_seconds: shortest time between two ticks.
        default_status: whether the sensor runs from the start.

    It logs a materialization only for a new or changed row, so that exactly the clips of those rows
    show as stale. It generates nothing. Removed rows keep their partitions and clips.

    Example:
        >>> build_dataset_sensor(VideoDataset("prompts.yaml")).name
        'dataset_sensor'
    """

    @dg.sensor(
        name=dataset.definition_name("dataset_sensor"),
        description="Updates partitions and data versions from the prompt file.",
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def dataset_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        origin = context.code_location_origin
        try:
            require_own_partitions(
                context.instance,
                dataset,
                None if origin is None else origin.location_name,
                is_renewing=True,
            )
        except SharedPartitionsError as error:
            raise dg.Failure(description=str(error)) from error
        try:
            prompts = dataset.load_prompts()
        except DatasetError as error:
            if dataset.prompts_path is None:
                return dg.SkipReason(str(error))
            raise dg.Failure(description=str(error)) from error
        known = _read_cursor(context.cursor)
        rows = list(rows_of(dataset, prompts))
        new = [row for row in rows if known.get(_cursor_name(row)) != row.data_version]
        new = new[:_EVENTS_PER_TICK]
        known |= {_cursor_name(row): row.data_version for row in new}
        changed: list[Row] = unlogged_rows(context.instance, new)
        present = {_cursor_name(row) for row in rows}
        removed = sorted(set(known) - present)
        for name in removed:
            context.log.info(
                f"{name} is no longer in the dataset; its partition and clips are kept"
            )
            del known[name]
        requests = [
            dg.DynamicPartitionsDefinition(name=definition).build_add_request(keys)
            for definition, keys in missing_partitions(dataset, context.instance, prompts).items()
        ]
        return dg.SensorResult(
            skip_reason=None
            if changed or requests
            else dg.SkipReason(f"the {len(rows)} rows of the dataset have not changed"),
            cursor=_write_cursor(known),
            dynamic_partitions_requests=requests,
            asset_events=[row.event() for row in changed],
        )

    return dataset_sensor


def build_completion_sensor(
    dataset: VideoDataset,
    collect_job: dg.JobDefinition,
    *,
    boards: Sequence[str] = (),
    poll_after_seconds: float | None = None,
    minimum_interval_seconds: int = 10,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that starts the collecting run when clips are finished or due to be polled.

    Arguments:
        dataset: the dataset.
        collect_job: the job to start.
        boards: names of the storyboards whose shots the job also collects.
        poll_after_seconds: age in seconds from which an outstanding clip is polled, with or without
            a marker. Default: the variable SORA_WEBHOOK_WAIT if SORA_WEBHOOK_URL is set, else 5.
        minimum_interval_seconds: shortest time between two ticks.
        default_status: whether the sensor runs from the start.

    A tick costs two listings per dataset if nothing is outstanding. While a run collects a dataset,
    no other is started for it. After a run that failed without progress, the next one starts 30
    seconds later; the wait doubles with each further failure, up to 30 minutes.

    Example:
        >>> dataset = VideoDataset("prompts.yaml")
        >>> from sora_dagster import build_collect_job
        >>> build_completion_sensor(dataset, build_collect_job(dataset)).name
        'completion_sensor'
    """
    datasets = (dataset.name, *boards)
    storage_key = dataset.resource_keys.clip_storage

    @dg.sensor(
        name=dataset.definition_name("completion_sensor"),
        description="Starts a collecting run when clips are finished or due to be polled.",
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        job=collect_job,
        required_resource_keys={storage_key},
        metadata={_DATASETS: dg.MetadataValue.json(list(datasets))},
    )
    def completion_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        if clip_storage.root_url() is None:
            return dg.SkipReason(NO_STORAGE_ROOT)
        ledger = Ledger(clip_storage.root())
        store_time = StoreClock(ledger.root.store_time)
        poll_after = (
            _default_poll_after_seconds() if poll_after_seconds is None else poll_after_seconds
        )
        reader = DueReader(ledger, datasets, poll_after_seconds=poll_after, store_time=store_time)
        work = reader.read(int(context.cursor or 0))
        # Written only if changed: each update is a write to Dagster's database.
        if str(work.next_read) != (context.cursor or "0"):
            context.update_cursor(str(work.next_read))
        if not work.is_due:
            return dg.SkipReason(_why_nothing_is_due(work, poll_after))
        wait = reason_to_wait(context.instance, collect_job.name, now=datetime.now(UTC))
        if wait is not None:
            return dg.SkipReason(f"{work.outstanding} clips are outstanding; {wait}")
        context.log.info(
            f"{work.outstanding} clips are outstanding, {work.markers} markers have arrived, and "
            f"the remixes of {work.remixes} clips are due"
        )
        for folder in uncollected_folders(
            ledger,
            _datasets_collected_here(context, datasets),
            age=_UNCOLLECTED_AGE,
            store_time=store_time,
        ):
            context.log.warning(
                f"{ledger.root.uri(folder)} holds outstanding clips of a dataset or storyboard "
                f"that no sensor of this code location collects. If no other code location does, "
                f"name the storyboard in `boards` of build_collect_job and "
                f"build_completion_sensor, or build both for that dataset"
            )
        return dg.RunRequest()

    return completion_sensor


def _default_poll_after_seconds() -> float:
    if SettingValues.value_of("webhook_url") is None:
        return 5.0
    wait: float = SettingValues.value_of("webhook_wait_seconds")
    return wait


def _why_nothing_is_due(work: DueWork, poll_after_seconds: float) -> str:
    if work.is_idle:
        return "no clip is outstanding"
    count = f"{work.outstanding} clips are outstanding"
    if work.collected:
        return f"{count}, and a run collects {', '.join(work.collected)}"
    return (
        f"{count}, the oldest for {work.oldest_seconds or 0.0:.0f} s; they are polled after "
        f"{poll_after_seconds:.0f} s, or later if they are slow or claimed by another run"
    )


def _datasets_collected_here(
    context: dg.SensorEvaluationContext, own: Sequence[str]
) -> tuple[str, ...]:
    """Names of all datasets that sensors of the same code location collect."""
    found = list(own)
    repository = context.repository_def
    for sensor in () if repository is None else repository.sensor_defs:
        datasets = sensor.metadata.get(_DATASETS)
        if isinstance(datasets, dg.JsonMetadataValue) and isinstance(datasets.data, list):
            found += [str(name) for name in datasets.data]
    return tuple(dict.fromkeys(found))


def _cursor_name(row: Row) -> str:
    return f"{row.asset.to_user_string()}/{row.partition}"


def _read_cursor(cursor: str | None) -> dict[str, str]:
    """Data versions by row, as of the last tick."""
    if not cursor:
        return {}
    known: dict[str, str] = json.loads(zlib.decompress(base64.b64decode(cursor)))
    return known


def _write_cursor(known: dict[str, str]) -> str:
    text = json.dumps(known, separators=(",", ":"), sort_keys=True)
    return base64.b64encode(zlib.compress(text.encode())).decode()
