"""The two sensors: one for the prompt file, one for outstanding clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.environment.values import NO_STORAGE_ROOT, SettingValues
from sora_dagster.generation.collecting.due import DueReader, DueWork, uncollected_folders
from sora_dagster.generation.protocol.clocks import StoreClock
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.prompts.counts import counted
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.prompts.files import NoRowsYetError
from sora_dagster.reporting.collect_run_history import reason_to_wait
from sora_dagster.reporting.dataset_sync import (
    DatasetSync,
    SyncState,
    missing_partitions,
    sync_lines,
)
from sora_dagster.reporting.partition_owner import SharedPartitionsError, require_own_partitions
from sora_dagster.resources import ClipStorageResource, resource_of
from sora_dagster.storage import StorageError

# A tick must end within 60 s; an event costs about 13 ms.
_EVENTS_PER_TICK = 500
_ROWS_PER_TICK = 5000
# Other code locations may collect a dataset of the same root; by then they would have done so.
_UNCOLLECTED_AGE = timedelta(minutes=30)
# Metadata of a completion sensor: names of the datasets that it collects.
_DATASETS = "sora_dagster/datasets"


@dataclass
class _LastRead:
    """The rows that this process read last, so that they are read again only when they changed.

    Arguments:
        version: version of the source. None: nothing was read.
        cursor: the cursor that was written then.
        prompts: the rows, if not all of them are in step yet.
    """

    version: str | None = None
    cursor: str | None = None
    prompts: PromptDataset | None = None


def build_dataset_sensor(
    dataset: VideoDataset,
    *,
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that updates partitions and data versions from the prompt dataset.

    Arguments:
        dataset: the dataset.
        minimum_interval_seconds: shortest time between two ticks.
        default_status: whether the sensor runs from the start.

    It logs a materialization only for a new or changed row, so that exactly the clips of those rows
    show as stale. It generates nothing. Rows are read again only when their source changed. Removed
    rows are marked, and keep their clips, and their partitions unless the dataset deletes them. The
    job `sync_dataset` does the same at once.

    Example:
        >>> build_dataset_sensor(VideoDataset("prompts.yaml")).name
        'dataset_sensor'
    """
    storage_key = dataset.resource_keys.clip_storage
    last = _LastRead()

    @dg.sensor(
        name=dataset.definition_name("dataset_sensor"),
        description="Updates partitions and data versions from the prompt dataset.",
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        required_resource_keys={storage_key},
    )
    def dataset_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        origin = context.code_location_origin
        try:
            require_own_partitions(
                context.instance,
                dataset,
                None if origin is None else origin.location_name,
                is_renewing=True,
            )
            version = dataset.prompt_source.version(clip_storage)
            is_same = version is not None and version == last.version
            if is_same and last.prompts is None and last.cursor == context.cursor:
                return dg.SkipReason("the source of the dataset has not changed")
            prompts = last.prompts if is_same else None
            if prompts is None:
                prompts = dataset.load_prompts(clip_storage)
        except NoRowsYetError as error:
            return dg.SkipReason(str(error))
        except (DatasetError, SharedPartitionsError, StorageError) as error:
            raise dg.Failure(description=str(error)) from error
        requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = [
            dg.DynamicPartitionsDefinition(name=definition).build_add_request(keys)
            for definition, keys in missing_partitions(dataset, context.instance, prompts).items()
        ]
        root = None if clip_storage.root_url() is None else clip_storage.root()
        sync = DatasetSync(context.instance, dataset, prompts, root)
        state = SyncState.from_cursor(context.cursor)
        report = sync.update(state, max_events=_EVENTS_PER_TICK, max_rows=_ROWS_PER_TICK)
        if deleted := sync.partitions_to_delete:
            requests.append(dataset.clip_partitions.build_delete_request(deleted))
        for line in sync_lines(report):
            context.log.info(line)
        last.version = prompts.version or version
        last.cursor = state.to_cursor()
        last.prompts = prompts if report.left else None
        return dg.SensorResult(
            skip_reason=None
            if report.events or requests
            else dg.SkipReason(f"the {report.rows} rows and remixes of the dataset are unchanged"),
            cursor=last.cursor,
            dynamic_partitions_requests=requests,
            asset_events=report.events,
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
            return dg.SkipReason(f"{_outstanding(work)}; {wait}")
        context.log.info(
            f"{_outstanding(work)}, {counted(work.markers, 'webhook has', 'webhooks have')} "
            f"arrived, and the remixes of {counted(work.remixes, 'clip', 'clips')} are due"
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
                f"build_completion_sensor, or add a build_collect_job and a "
                f"build_completion_sensor for that dataset"
            )
        return dg.RunRequest()

    return completion_sensor


def _default_poll_after_seconds() -> float:
    if SettingValues.value_of("webhook_url") is None:
        return 5.0
    wait: float = SettingValues.value_of("webhook_wait_seconds")
    return wait


def _outstanding(work: DueWork) -> str:
    return counted(work.outstanding, "clip is outstanding", "clips are outstanding")


def _why_nothing_is_due(work: DueWork, poll_after_seconds: float) -> str:
    if work.is_idle:
        return "no clip is outstanding"
    count = _outstanding(work)
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
