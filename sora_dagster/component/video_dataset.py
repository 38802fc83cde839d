"""The component `VideoDatasetComponent`: a video dataset in YAML, for `dg`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import ConfigDict, Field, TypeAdapter

from sora_dagster.component.fields import (
    Checks,
    RunwareSettings,
    Schedule,
    Source,
    StorageSettings,
)
from sora_dagster.component.resources import (
    ComponentResources,
    absolute_path,
    absolute_path_or_url,
    value_of,
)
from sora_dagster.dataset import ResourceKeys, VideoDataset
from sora_dagster.definitions import build_definitions
from sora_dagster.environment.values import default_catalogue
from sora_dagster.generation.library.clip_checks import CustomCheck, build_clip_checks
from sora_dagster.media.checks import CheckThresholds
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.prompts.prompt_source import PromptSource
from sora_dagster.prompts.sql_source import SqlPrompts
from sora_dagster.prompts.table_sources import AssetPrompts, FunctionPrompts
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


_STARTER_PYTHON = """\
import dagster as dg
from sora_dagster import VideoDatasetComponent


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> VideoDatasetComponent:
    return VideoDatasetComponent(source="prompts.yaml", name="{name}")
"""


def _nested(model: Any, description: str) -> Any:
    """A field with fields of its own, which may hold templates."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    def resolve(context: dg.ResolutionContext, value: Any) -> Any:
        given = adapter.dump_python(value, exclude_unset=True, warnings=False)
        return adapter.validate_python(_render(context, given))

    return dg.Resolver(resolve, model_field_type=model, description=description)


def _render(context: dg.ResolutionContext, value: Any) -> Any:
    """A value of the YAML with its templates rendered.

    Raises:
        ValueError: if a template gives nothing, so that a default would count instead.
    """
    if isinstance(value, Mapping):
        return {name: _render(context.at_path(name), part) for name, part in value.items()}
    if isinstance(value, list):
        return [_render(context.at_path(place), part) for place, part in enumerate(value)]
    rendered = context.resolve_value(value)
    if rendered is None and value is not None:
        where = ".".join(str(part) for part in context.path)
        raise ValueError(
            f"{where}: the template {value} gives no value; set the variable that it reads, or "
            f"remove the field"
        )
    return rendered


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
        # With `append`, the target is the YAML file.
        folder = request.target_path.parent if request.append else request.target_path
        name = re.sub(r"[^A-Za-z0-9_]+", "_", folder.name)
        if request.scaffold_format == "python":
            (folder / "component.py").write_text(_STARTER_PYTHON.format(name=name))
        else:
            dg.scaffold_component(request, {"source": "prompts.yaml", "name": name})
        prompts = folder / "prompts.yaml"
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
        _nested(
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
        dg.Resolver.default(description="Prefix of the asset keys. Default: the name."),
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
    max_usd_per_day: Annotated[
        float | None,
        dg.Resolver.default(
            description="Daily spending limit (UTC) of this dataset, in USD. Default: none."
        ),
    ] = Field(default=None, ge=0)
    checks: Annotated[Any, _nested(Checks | None, "Checks of stored clips.")] = None
    schedules: Annotated[Any, _nested(list[Schedule], "Schedules that request clips.")] = Field(
        default_factory=list
    )
    request_new_rows: Annotated[
        bool,
        dg.Resolver.default(
            description="Whether each new row is requested automatically, which spends money."
        ),
    ] = False
    delete_removed_partitions: Annotated[
        bool,
        dg.Resolver.default(description="Whether the partition of a removed row is deleted."),
    ] = False
    runware: Annotated[
        Any,
        _nested(RunwareSettings | None, "The API and the limits; see `RunwareResource`."),
    ] = None
    storage: Annotated[
        Any,
        _nested(StorageSettings | None, "The storage root; see `ClipStorageResource`."),
    ] = None
    dataset_interval_seconds: Annotated[
        int,
        dg.Resolver.default(
            description="Minimum interval between two checks for changed rows, in seconds."
        ),
    ] = Field(default=30, ge=1)
    completion_interval_seconds: Annotated[
        int,
        dg.Resolver.default(
            description="Minimum interval between two checks for finished clips, in seconds."
        ),
    ] = Field(default=4, ge=1)
    parallel_clips: Annotated[
        int | None,
        dg.Resolver.default(description="Number of clips fetched and stored at once. Default: 4."),
    ] = None
    resource_prefix: Annotated[
        str | None,
        dg.Resolver.default(
            description="Prefix of the resource keys, for a dataset with resources of its own."
        ),
    ] = None
    translation: Annotated[
        Translation | None,
        dg.Resolver.default(
            description="Changes to keys, groups, tags and descriptions of the assets; `asset` is "
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
            max_usd_per_day=self.max_usd_per_day,
            checks=_checks(self.checks, context),
            delete_removed_partitions=self.delete_removed_partitions,
            resource_keys=ResourceKeys()
            if self.resource_prefix is None
            else ResourceKeys.with_prefix(self.resource_prefix),
            translation=self.translation,
        )
        resources = ComponentResources(self.runware, self.storage, folder, models=self.models)
        return build_definitions(
            dataset,
            boards=[absolute_path(folder, board) for board in self.boards],
            runware=resources.runware(),
            storage=resources.storage(),
            io_manager=None
            if self.parallel_clips is None
            else resources.io_manager(self.parallel_clips),
            request_condition=dg.AutomationCondition.on_missing()
            if self.request_new_rows
            else None,
            schedules=[_schedule(dataset, schedule) for schedule in self.schedules],
            dataset_interval_seconds=self.dataset_interval_seconds,
            completion_interval_seconds=self.completion_interval_seconds,
        )

    def _source(self, context: dg.ComponentLoadContext) -> str | Path | PromptSource:
        source = self.source
        if isinstance(source, str):
            if not source.strip():
                raise ValueError("source is empty; write the path of a prompt dataset")
            return absolute_path_or_url(context.path, source)
        given = [name for name in ("sql", "asset", "function") if getattr(source, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"source has {', '.join(given) or 'none of its fields'}; set exactly one of sql, "
                f"asset and function, or write the path of a file"
            )
        recipes = source.recipes
        if isinstance(recipes, str):
            recipes = absolute_path(context.path, recipes)
        if source.sql is not None:
            return SqlPrompts(
                value_of(source.sql.url),
                source.sql.query,
                recipes=recipes,
                version_query=source.sql.version_query,
                read_again_seconds=source.sql.read_again_seconds,
            )
        if source.asset is not None:
            if not source.asset.strip("/"):
                raise ValueError("source.asset is empty; write an asset key, such as sales/briefs")
            return AssetPrompts(source.asset, recipes=recipes)
        return FunctionPrompts(
            _function("source.function", str(source.function), context), recipes=recipes
        )

    def _catalogue(self, folder: Path) -> Catalogue:
        if self.models is None:
            catalogue = default_catalogue()
        else:
            catalogue = Catalogue.from_yaml(absolute_path(folder, self.models))
        if self.default_model is None:
            return catalogue
        return catalogue.with_default(catalogue.get(self.default_model).air)


def _checks(checks: Checks | None, context: dg.ComponentLoadContext) -> Any:
    if checks is None:
        return build_clip_checks()
    allowed = [field.name for field in dataclass_fields(CheckThresholds)]
    if unknown := sorted(set(checks.thresholds) - set(allowed)):
        raise ValueError(
            f"checks.thresholds has {', '.join(unknown)}; allowed: {', '.join(allowed)}"
        )
    thresholds: dict[str, Any] = dict(checks.thresholds)
    return build_clip_checks(
        thresholds=CheckThresholds(**thresholds),
        exclude=checks.exclude,
        blocking=checks.blocking,
        custom={
            name: CustomCheck(
                _function(f"checks.custom.{name}.function", check.function, context),
                severity=check.severity,
                description=check.description,
            )
            for name, check in checks.custom.items()
        },
    )


def _function(field: str, name: str, context: dg.ComponentLoadContext) -> Callable[..., Any]:
    """The Python function that a field of the YAML names."""
    module, _, function = name.rpartition(".")
    if not module.strip(".") or not function:
        raise ValueError(
            f"{field} is {name!r}; write module.function, or .module.function for a module beside "
            f"the YAML file"
        )
    if module.startswith("."):
        module = f"{context.defs_relative_module_name(context.path)}{module}"
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        # A module that this one imports may be missing, too.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"{field} is {name!r}, and there is no module {error.name}; start with a dot for a "
            f"module beside the YAML file"
        ) from error
    if not callable(found):
        raise ValueError(  # noqa: TRY004 - as for other mistakes in the YAML
            f"{field} is {name!r}, and {module} has no function {function!r}"
        )
    return found  # type: ignore[no-any-return]


def _schedule(dataset: VideoDataset, schedule: Schedule) -> dg.ScheduleDefinition:
    fields = schedule.model_dump(exclude={"running"})
    status = dg.DefaultScheduleStatus.RUNNING if schedule.running else None
    return build_generation_schedule(
        dataset, **fields, default_status=status or dg.DefaultScheduleStatus.STOPPED
    )


__all__: Sequence[str] = ["VideoDatasetComponent"]
