"""The two sensors: one watches the dataset, one watches what is outstanding."""

import base64
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from sora_dagster.dataset_sync import Row, is_logged, missing_partitions, rows_of
from sora_dagster.generation.lease import is_live
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.markers import list_markers
from sora_dagster.generation.prompts import DatasetError
from sora_dagster.graph import VideoGraph
from sora_dagster.resources import NO_STORAGE_ROOT, ClipStorageResource

# A tick must end within 60 s; an event costs about 13 ms.
_EVENTS_PER_TICK = 500
# A run that has not taken the lease yet counts as alive only while it is young: one that died
# without saying so must not keep the next from starting. It takes the lease soon after its start.
_YOUNG_BEFORE_START = timedelta(minutes=3)
_YOUNG_AFTER_START = timedelta(minutes=1)
_BEFORE_START = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]


def build_dataset_sensor(
    graph: VideoGraph,
    *,
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that keeps partitions and data versions in step with the dataset.

    Arguments:
        graph: names, partitions and the dataset.
        minimum_interval_seconds: shortest time between two looks.
        default_status: whether it runs from the start.

    It logs a materialization of a row only when the row is new or changed, so that exactly the
    clips of those rows show as stale. It generates nothing. Rows that were removed keep their
    partitions and clips.

    Example:
        >>> build_dataset_sensor(VideoGraph("prompts.yaml")).name
        'dataset_sensor'
    """

    @dg.sensor(
        name=graph.name("dataset_sensor"),
        description="Keeps partitions and data versions in step with the prompt dataset.",
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def dataset_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            dataset = graph.load_dataset()
        except DatasetError as error:
            if graph.prompts_path is None:
                return dg.SkipReason(str(error))
            raise dg.Failure(description=str(error)) from error
        known = _read_cursor(context.cursor)
        rows = list(rows_of(graph, dataset))
        changed: list[Row] = []
        for row in rows:
            name = _cursor_name(row.asset, row.partition)
            if known.get(name) == row.data_version:
                continue
            if len(changed) >= _EVENTS_PER_TICK:
                break
            known[name] = row.data_version
            if not is_logged(context.instance, row):
                changed.append(row)
        present = {_cursor_name(row.asset, row.partition) for row in rows}
        removed = sorted(set(known) - present)
        for name in removed:
            context.log.info(
                f"{name} is no longer in the dataset; its partition and what was generated stay"
            )
            del known[name]
        requests = [
            dg.DynamicPartitionsDefinition(name=definition).build_add_request(keys)
            for definition, keys in missing_partitions(graph, context.instance, dataset).items()
        ]
        return dg.SensorResult(
            skip_reason=None
            if changed or requests
            else dg.SkipReason(f"the {len(rows)} rows of the dataset are as they were"),
            cursor=_write_cursor(known),
            dynamic_partitions_requests=requests,
            asset_events=[row.event() for row in changed],
        )

    return dataset_sensor


def build_completion_sensor(
    graph: VideoGraph,
    collect_job: dg.JobDefinition,
    *,
    poll_after_seconds: float = 10.0,
    minimum_interval_seconds: int = 10,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor that starts the collecting run when something is finished or overdue.

    Arguments:
        graph: names and partitions.
        collect_job: the job to start.
        poll_after_seconds: age of an outstanding clip at which it is polled for, marker or not;
            short where there is no webhook.
        minimum_interval_seconds: shortest time between two looks.
        default_status: whether it runs from the start.

    A tick costs one listing where nothing is outstanding. While a run collects, which its lease in
    the storage root tells, no other is started.

    Example:
        >>> graph = VideoGraph("prompts.yaml")
        >>> from sora_dagster.jobs import build_collect_job
        >>> build_completion_sensor(graph, build_collect_job(graph)).name
        'completion_sensor'
    """

    @dg.sensor(
        name=graph.name("completion_sensor"),
        description="Starts a collecting run when clips are finished or overdue.",
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        job=collect_job,
    )
    def completion_sensor(
        context: dg.SensorEvaluationContext, clip_storage: ClipStorageResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not clip_storage.url:
            yield dg.SkipReason(NO_STORAGE_ROOT)
            return
        ledger = Ledger(clip_storage.root())
        pending = ledger.pending()
        markers = list(list_markers(ledger.root))
        if not pending and not markers:
            yield dg.SkipReason("no clip is outstanding")
            return
        if is_live(ledger):
            yield dg.SkipReason(f"{len(pending)} clips are outstanding, and a run collects them")
            return
        if _is_about_to_collect(context.instance, collect_job.name):
            yield dg.SkipReason("a collecting run is about to start")
            return
        if not markers:
            age = (ledger.root.store_time() - min(pending.values())).total_seconds()
            if age < poll_after_seconds:
                yield dg.SkipReason(
                    f"{len(pending)} clips are outstanding, the oldest for {age:.0f} s; they are "
                    f"polled for after {poll_after_seconds:.0f} s"
                )
                return
        context.log.info(f"{len(pending)} clips are outstanding, {len(markers)} markers arrived")
        yield dg.RunRequest()

    return completion_sensor


def _is_about_to_collect(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a collecting run was launched that has not taken the lease yet."""
    now = datetime.now(UTC)
    return any(
        instance.get_run_records(
            dg.RunsFilter(job_name=job_name, statuses=statuses, created_after=now - young), limit=1
        )
        for statuses, young in (
            (_BEFORE_START, _YOUNG_BEFORE_START),
            ([dg.DagsterRunStatus.STARTED], _YOUNG_AFTER_START),
        )
    )


def _cursor_name(asset: dg.AssetKey, partition: str) -> str:
    return f"{asset.to_user_string()}/{partition}"


def _read_cursor(cursor: str | None) -> dict[str, str]:
    """Data versions by row, as the last tick left them."""
    if not cursor:
        return {}
    known: dict[str, str] = json.loads(zlib.decompress(base64.b64decode(cursor)))
    return known


def _write_cursor(known: dict[str, str]) -> str:
    text = json.dumps(known, separators=(",", ":"), sort_keys=True)
    return base64.b64encode(zlib.compress(text.encode())).decode()
