"""The component `VideoDatasetComponent`: a video dataset in YAML, for `dg`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from dagster_aws.s3 import S3Resource
from pydantic import BaseModel, ConfigDict, Field

from sora_dagster.component_fields import (
    Checks,
    RunwareSettings,
    Schedule,
    Source,
    StorageSettings,
    Variable,
)
from sora_dagster.dataset import ResourceKeys, VideoDataset
from sora_dagster.definitions import build_definitions
from sora_dagster.environment import default_catalogue
from sora_dagster.generation.library.clip_checks import build_clip_checks
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.media.checks import CheckThresholds
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.prompts.sources import AssetPrompts, FunctionPrompts, PromptSource
from sora_dagster.prompts.sql_source import SqlPrompts
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.schedules import build_generation_schedule

_STARTER_PROMPTS = """\
# Each row becomes a clip. See the documentation of sora-dagster for all columns.
clips:
  - id: paper-boat
    prompt: A paper boat drifts down a rain-filled street, low camera, soft evening light.
    model: veo-3.1
    duration: 4
"""


def _unresolved(model: type[Any], description: str) -> Any:
    """A field that is taken as it is in the YAML file, and built with the definitions."""
    return dg.Resolver(
        lambda context, value: context.resolve_value(value),
        model_field_type=model,
        description=description,
    )


Translation: TypeAlias = Annotated[
    TranslationFn[str],
    TranslationFnResolver[str](lambda name: {"asset": name}),
]


class VideoDatasetScaffolder(dg.Scaffolder):
    """Writes a component that loads as it is, and a prompt dataset of one clip."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the files.

        Arguments:
            request: where, and in which format.
        """
        name = re.sub(r"[^A-Za-z0-9_]+", "_", request.target_path.name)
        dg.scaffold_component(request, {"source": "prompts.yaml", "name": name})
        prompts = request.target_path / "prompts.yaml"
        if not prompts.exists():
            prompts.write_text(_STARTER_PROMPTS)


@dg.scaffold_with(VideoDatasetScaffolder)
class VideoDatasetComponent(dg.Component, dg.Resolvable, dg.Model):
    """Generative video: each row of a prompt dataset becomes a clip, and each clip an asset.

    Makes everything that `build_definitions` makes: assets, checks, jobs, sensors, reports and
    resources. Paths are relative to the folder of the YAML file. A setting that is left out has the
    value of its environment variable.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    source: Annotated[
        Any,
        _unresolved(
            str | Source,
            "Path of the prompt dataset, its URL in an object store, or a query, function or "
            "upstream asset.",
        ),
    ]
    name: Annotated[
        str, dg.Resolver.default(description="Name of the dataset; see `VideoDataset`.")
    ] = DEFAULT_DATASET
    key_prefix: Annotated[
        str | list[str] | None,
        dg.Resolver.default(description="Put before the asset keys. Default: the name."),
    ] = None
    group_name: Annotated[str, dg.Resolver.default(description="Group of all assets.")] = (
        "generative_video"
    )
    owners: Annotated[list[str], dg.Resolver.default(description="Owners of all assets.")] = Field(
        default_factory=list
    )
    tags: Annotated[dict[str, str], dg.Resolver.default(description="Tags of all assets.")] = Field(
        default_factory=dict
    )
    models: Annotated[
        str | None,
        dg.Resolver.default(
            description="File or folder of catalogue entries. Default: SORA_MODELS."
        ),
    ] = None
    default_model: Annotated[
        str | None,
        dg.Resolver.default(description="Model of rows that name none. Default: SORA_MODEL."),
    ] = None
    boards: Annotated[list[str], dg.Resolver.default(description="Files of storyboards.")] = Field(
        default_factory=list
    )
    checks: Annotated[Any, _unresolved(Checks | None, "Checks of stored clips.")] = None
    schedules: Annotated[Any, _unresolved(list[Schedule], "Schedules that request clips.")] = Field(
        default_factory=list
    )
    request_new_rows: Annotated[
        bool,
        dg.Resolver.default(
            description="Whether each new row is requested automatically; it spends money."
        ),
    ] = False
    delete_removed_partitions: Annotated[
        bool,
        dg.Resolver.default(description="Whether the partition of a removed row is deleted."),
    ] = False
    runware: Annotated[
        Any,
        _unresolved(RunwareSettings | None, "The API and the limits; see `RunwareResource`."),
    ] = None
    storage: Annotated[
        Any,
        _unresolved(StorageSettings | None, "The storage root; see `ClipStorageResource`."),
    ] = None
    parallel_clips: Annotated[
        int | None,
        dg.Resolver.default(description="Number of clips fetched and stored at once. Default: 4."),
    ] = None
    resource_prefix: Annotated[
        str | None,
        dg.Resolver.default(
            description="Put before the resource keys, for a dataset with resources of its own."
        ),
    ] = None
    translation: Annotated[
        Translation | None,
        dg.Resolver.default(
            description="Changes of keys, groups, tags and descriptions of the assets; `asset` is "
            "the name of the asset, such as clips, and `spec` its specification."
        ),
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the dataset.

        Arguments:
            context: Dagster's context, with the folder of the YAML file.

        Raises:
            ValueError: naming a value that is not allowed.
        """
        folder = context.path
        dataset = VideoDataset(
            self._source(context),
            self.name,
            key_prefix=self.key_prefix,
            catalogue=self._catalogue(folder),
            group_name=self.group_name,
            owners=self.owners,
            tags=self.tags,
            checks=_checks(self.checks),
            delete_removed_partitions=self.delete_removed_partitions,
            resource_keys=ResourceKeys()
            if self.resource_prefix is None
            else ResourceKeys.with_prefix(self.resource_prefix),
            translation=self.translation,
        )
        runware, storage = self._runware(folder), _storage(self.storage)
        io_manager = None
        if self.parallel_clips is not None:
            io_manager = ClipIOManager(
                storage=storage or ClipStorageResource(), parallel_clips=self.parallel_clips
            )
        return build_definitions(
            dataset,
            boards=[folder / board for board in self.boards],
            runware=runware,
            storage=storage,
            io_manager=io_manager,
            request_condition=dg.AutomationCondition.on_missing()
            if self.request_new_rows
            else None,
            schedules=[_schedule(dataset, schedule) for schedule in self.schedules],
        )

    def _source(self, context: dg.ComponentLoadContext) -> str | Path | PromptSource:
        source = self.source
        if isinstance(source, str):
            return source if "://" in source else context.path / source
        given = [name for name in ("sql", "asset", "function") if getattr(source, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"source has {', '.join(given) or 'none of its fields'}; set exactly one of sql, "
                f"asset and function, or write the path of a file"
            )
        recipes = source.recipes
        if isinstance(recipes, str):
            recipes = context.path / recipes
        if source.sql is not None:
            return SqlPrompts(
                _value(source.sql.url),
                source.sql.query,
                recipes=recipes,
                version_query=source.sql.version_query,
                read_again_seconds=source.sql.read_again_seconds,
            )
        if source.asset is not None:
            return AssetPrompts(source.asset, recipes=recipes)
        module, _, function = str(source.function).rpartition(".")
        if module.startswith("."):
            module = f"{context.defs_relative_module_name(context.path)}{module}"
        return FunctionPrompts(getattr(importlib.import_module(module), function), recipes=recipes)

    def _catalogue(self, folder: Path) -> Catalogue:
        if self.models is None:
            catalogue = default_catalogue()
        else:
            catalogue = Catalogue.from_yaml(folder / self.models)
        if self.default_model is None:
            return catalogue
        return catalogue.with_default(catalogue.get(self.default_model).air)

    def _runware(self, folder: Path) -> RunwareResource | None:
        fields = _fields(self.runware)
        if self.models is not None:
            fields["models_path"] = str((folder / self.models).absolute())
        return RunwareResource(**fields) if fields else None


def _checks(checks: Checks | None) -> Any:
    if checks is None:
        return build_clip_checks()
    allowed = [field.name for field in dataclass_fields(CheckThresholds)]
    if unknown := sorted(set(checks.thresholds) - set(allowed)):
        raise ValueError(
            f"checks.thresholds has {', '.join(unknown)}; allowed: {', '.join(allowed)}"
        )
    return build_clip_checks(
        thresholds=CheckThresholds(**checks.thresholds),
        exclude=checks.exclude,
        blocking=checks.blocking,
    )


def _schedule(dataset: VideoDataset, schedule: Schedule) -> dg.ScheduleDefinition:
    fields = schedule.model_dump(exclude={"running"})
    status = dg.DefaultScheduleStatus.RUNNING if schedule.running else None
    return build_generation_schedule(
        dataset, **fields, default_status=status or dg.DefaultScheduleStatus.STOPPED
    )


def _storage(settings: Any) -> ClipStorageResource | None:
    fields = _fields(settings)
    if "s3" in fields:
        fields["s3"] = S3Resource(**_fields(settings.s3))
    return ClipStorageResource(**fields) if fields else None


def _fields(settings: BaseModel | None) -> dict[str, Any]:
    """The fields that are set, with variables as Dagster's."""
    if settings is None:
        return {}
    return {
        name: _value(value)
        for name in type(settings).model_fields
        if (value := getattr(settings, name)) is not None
    }


def _value(value: Any) -> Any:
    return dg.EnvVar(value.env) if isinstance(value, Variable) else value


__all__: Sequence[str] = ["VideoDatasetComponent"]
