"""The definitions of a small dataset on a separate Dagster instance, against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from sora_dagster.definitions import build_definitions
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.library.clip_checks import CLIP_CHECKS, ClipChecks
from sora_dagster.generation.protocol.claims import Claims
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.reporting.runs import SUBMISSION_POSTS_TAG
from sora_dagster.resources import RunwareResource
from sora_dagster.settings import Settings
from sora_dagster.storage import StorageRoot
from tests.sandbox_server import KEY

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass
class Stack:
    """A dataset, its definitions, and the instance that they run on.

    Arguments:
        folder: where the dataset and the clips are.
        base_url: address of the API.
        instance: the Dagster instance.
        storage_url: the storage root; None for one in the folder.
        boards: the storyboards' files.
        checks: what clips are held to.
        delete_removed_partitions: whether partitions of removed rows are deleted.
    """

    folder: Path
    base_url: str
    instance: dg.DagsterInstance
    settings_changes: dict[str, Any] = field(default_factory=dict)
    storage_url: str | None = None
    cursor: str | None = None
    boards: tuple[str, ...] = ()
    checks: ClipChecks | None = None
    delete_removed_partitions: bool = False
    _loaded: tuple[object, dg.Definitions] | None = None

    @property
    def prompts_path(self) -> Path:
        return self.folder / "prompts.yaml"

    @property
    def root(self) -> StorageRoot:
        return StorageRoot(self.storage_url or self.folder / "storage")

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.root)

    @property
    def definitions(self) -> dg.Definitions:
        """The definitions; loaded again only after a change of what they are made from."""
        made_from = (
            self.base_url,
            self.root.url,
            dict(self.settings_changes),
            self.checks,
            [Path(board).read_bytes() for board in self.boards],
        )
        if self._loaded is None or self._loaded[0] != made_from:
            self._loaded = (made_from, self._load())
        return self._loaded[1]

    def _load(self) -> dg.Definitions:
        settings = Settings(
            base_url=self.base_url,
            storage_url=self.root.url,
            prompts_path=str(self.prompts_path),
            boards=self.boards,
            max_usd="unlimited",
        )
        return build_definitions(
            replace(
                settings.dataset(),
                checks=self.checks or ClipChecks(),
                delete_removed_partitions=self.delete_removed_partitions,
            ),
            boards=self.boards,
            storage=settings.storage(),
            runware=RunwareResource(
                base_url=self.base_url,
                unlimited=True,
                poll_first_seconds=0.3,
                poll_longest_seconds=0.5,
                **self.settings_changes,
            ),
        )

    def write(self, *clips: dict[str, Any], recipes: dict[str, Any] | None = None) -> None:
        """Write the dataset."""
        dataset = {"clips": [{"prompt": f"a {clip['id']}", **clip} for clip in clips]}
        if recipes:
            dataset["recipes"] = recipes  # type: ignore[assignment]
        self.prompts_path.write_text(yaml.safe_dump(dataset))

    def write_board(self, *shots: dict[str, Any], name: str = "glade") -> None:
        """Write a storyboard of small shots."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"defaults": {"size": "1280x720"}, "shots": list(shots)}))
        self.boards = tuple(dict.fromkeys([*self.boards, str(path)]))

    def materialize_shots(self, *shots: str, name: str = "glade", **config: Any) -> Any:
        """Materialize shots of a storyboard in one run; default: all of them."""
        definitions = self.definitions
        keys = [
            key
            for key in definitions.resolve_asset_graph().get_all_asset_keys()
            if key.path[0] == name and (not shots or key.path[-1] in shots)
        ]
        return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=keys,
            run_config={"ops": {f"storyboard_{name}": {"config": config}}},
            raise_on_error=False,
        )

    def shot_events(self, shot: str, name: str = "glade") -> list[dg.AssetMaterialization]:
        """Materializations of a shot, newest first."""
        records = self.instance.fetch_materializations(dg.AssetKey([name, shot]), limit=50).records
        return [event for record in records if (event := record.asset_materialization)]

    def stale_shots(self, name: str = "glade") -> set[str]:
        """Which shots of a storyboard Dagster shows as stale."""
        graph = self.definitions.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(
            self.instance, graph, LoadingContextForTest(self.instance)
        )
        return {
            key.path[-1]
            for key in graph.get_all_asset_keys()
            if key.path[0] == name and resolver.get_status(key).value == "STALE"
        }

    def tick_dataset_sensor(self) -> list[str]:
        """Evaluate the dataset sensor as the daemon does; returns the rows it logged."""
        definitions = self.definitions
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=definitions,
            resources={"clip_storage": definitions.resources["clip_storage"]},  # type: ignore[index]
        ) as context:
            try:
                result = definitions.get_sensor_def("dataset_sensor").evaluate_tick(context)
            except dg.DagsterError as error:
                # Dagster shows the error inside of its own.
                raise (error.__cause__ or error) from None
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(
                    request.partitions_def_name, list(request.partition_keys)
                )
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(request.partitions_def_name, key)
        for event in result.asset_events:
            assert isinstance(event, dg.AssetMaterialization)
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        return [str(event.partition) for event in result.asset_events]

    def tick_completion_sensor(self) -> list[dg.RunRequest]:
        """Evaluate the completion sensor; returns the runs it requests."""
        definitions = self.definitions
        with dg.build_sensor_context(
            instance=self.instance,
            definitions=definitions,
            resources={"clip_storage": definitions.resources["clip_storage"]},  # type: ignore[index]
        ) as context:
            data = definitions.get_sensor_def("completion_sensor").evaluate_tick(context)
        return list(data.run_requests or [])

    def materialize(
        self, assets: Sequence[str], partitions: Sequence[str], **options: Any
    ) -> dg.ExecuteInProcessResult:
        """Materialize a range of partitions in one run, as a backfill does."""
        tags = (
            {RANGE_START: partitions[0], RANGE_END: partitions[-1]} if len(partitions) > 1 else {}
        )
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            tags={**tags, **options.pop("tags", {})},
            partition_key=partitions[0] if len(partitions) == 1 else None,
            raise_on_error=False,
            **options,
        )

    def run_job(
        self, name: str, *, tags: dict[str, str] | None = None, **config: Any
    ) -> dg.ExecuteInProcessResult:
        """Run one of the two jobs; `request_clips` for all clips, if no ids are given."""
        op = {"request_clips": "request", "collect_clips": "collect"}[name]
        if name == "request_clips" and "clip_ids" not in config and not config.get("dry_run"):
            config = {"everything": True} | config
        return self.definitions.resolve_job_def(name).execute_in_process(
            instance=self.instance,
            run_config={"ops": {op: {"config": config}}},
            raise_on_error=False,
            tags=tags,
        )

    def generator(self) -> Generator:
        """The generator that the jobs have, to be closed."""
        resources = self.definitions.resources or {}
        generator: Generator = resources["runware"].generator(resources["clip_storage"])
        return generator

    def log_of(self, run_id: str) -> str:
        """All messages of a run's log."""
        return "\n".join(entry.user_message for entry in self.instance.all_logs(run_id))

    def events(self, asset: str, partition: str) -> list[dg.AssetMaterialization]:
        """Materializations of a partition, newest first."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(asset.split("/")), asset_partitions=[partition]
            ),
            limit=50,
        ).records
        return [event for record in records if (event := record.asset_materialization)]

    def stale(self, *assets: str) -> set[str]:
        """Which partitions of assets Dagster shows as stale, as ``asset/partition``."""
        graph = self.definitions.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(
            self.instance, graph, LoadingContextForTest(self.instance)
        )
        return {
            f"{asset}/{partition}"
            for asset in assets
            for partition in self.instance.get_materialized_partitions(dg.AssetKey(asset))
            if resolver.get_status(dg.AssetKey(asset), partition).value == "STALE"
        }

    def submission_posts(self, run_id: str) -> int:
        """How many submissions a run made, by its own account."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return int(run.tags[SUBMISSION_POSTS_TAG])


@contextmanager
def stack_in(folder: Path, base_url: str) -> Iterator[Stack]:
    """A stack whose Dagster instance is in memory: on disk, each run has a database to create."""
    with pytest.MonkeyPatch.context() as environment, dg.DagsterInstance.ephemeral() as instance:
        environment.setenv("RUNWARE_API_KEY", KEY)
        environment.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
        yield Stack(folder, base_url, instance)


@contextmanager
def live_claim(ledger: Ledger, dataset: str, *tasks: str) -> Iterator[None]:
    """Another live process that collects a dataset, or some tasks of it."""
    claims = Claims(ledger, dataset, holder="another run", store_time=ledger.root.store_time)
    assert claims.claim(tasks) if tasks else claims.claim_rest()
    try:
        yield
    finally:
        claims.release()


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """The failure message of a failed run."""
    failures = [
        event.step_failure_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    return "\n".join(
        data.user_failure_data.description or ""
        if data.user_failure_data
        else str(data.error and data.error.to_string())
        for data in failures
    )


def failure_metadata(result: dg.ExecuteInProcessResult) -> Mapping[str, dg.MetadataValue[Any]]:
    """The metadata of the failure of a failed run."""
    [data] = [
        event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    assert data is not None
    return data.metadata


def definitions_of(settings: Settings) -> dg.Definitions:
    """The definitions that `definitions.py` makes from these settings."""
    return build_definitions(
        settings.dataset(),
        boards=settings.board_paths(),
        runware=settings.runware(),
        storage=settings.storage(),
    )


def shown_checks(stack: Stack, asset: str) -> dict[str | None, set[bool]]:
    """Whether each partition's newest checks count for its newest materialization."""
    keys = [dg.AssetCheckKey(dg.AssetKey(asset.split("/")), CLIP_CHECKS)]
    found: dict[str | None, set[bool]] = {}
    for info in stack.instance.event_log_storage.get_asset_check_partition_info(keys):
        found.setdefault(info.partition_key, set()).add(info.is_current)
    return found
