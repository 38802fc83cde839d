"""The nested fields of the component `VideoDatasetComponent`, as they are written in YAML."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from dagster_aws.s3 import S3Resource
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    create_model,
    model_validator,
)

from sora_dagster.media.checks import CheckThresholds
from sora_dagster.resources import ClipStorageResource, RunwareResource

# Of dagster-aws's S3Resource, which does not mark them.
S3_SECRETS = ("aws_secret_access_key", "aws_session_token")
# A field that is not a text may be a template, which gives its value once it is rendered.
Template: TypeAlias = Annotated[str, StringConstraints(pattern=r"\{\{.*\}\}")]


class Fields(BaseModel):
    """Fields of a part of the YAML; others are refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            unknown = [str(name) for name in values if name not in cls.model_fields]
            if unknown:
                raise ValueError(
                    f"unknown: {', '.join(unknown)}; allowed: {', '.join(cls.model_fields)}"
                )
        return values


class Variable(Fields):
    """A value of an environment variable, which is read when the value is needed."""

    env: str = Field(description="Name of the environment variable.")


def _settings_model(
    name: str, resource: type[BaseModel], *, exclude: tuple[str, ...] = (), **more: Any
) -> type[BaseModel]:
    """A model with the fields of a resource; a text may come from a variable."""
    fields: dict[str, Any] = {
        field_name: (
            field.annotation | (Variable if _is_text(field.annotation) else Template) | None,
            Field(default=None, description=_description(field_name, field.description or "")),
        )
        for field_name, field in resource.model_fields.items()
        if field_name not in (*more, *exclude)
    }
    return create_model(
        name, __base__=Fields, __doc__=f"Fields of {resource.__name__}.", **fields, **more
    )


def _description(name: str, text: str) -> str:
    if name in S3_SECRETS:
        text = f"{text} Pass a dg.EnvVar."
    return text.replace("Pass a dg.EnvVar.", "Must be given as {env: NAME}.")


def _is_text(annotation: Any) -> bool:
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return str in (get_args(annotation) if is_union else (annotation,))


S3Settings = _settings_model("S3Settings", S3Resource)
# The component's field `models` is the file of models for the dataset and for the resource.
RunwareSettings = _settings_model("RunwareSettings", RunwareResource, exclude=("models_path",))
StorageSettings = _settings_model(
    "StorageSettings",
    ClipStorageResource,
    s3=(S3Settings | None, Field(default=None, description="For s3://: see dagster-aws.")),
)


class Check(Fields):
    """A check of your own; see `CustomCheck`."""

    function: str = Field(
        description="A Python function of a stored clip, as module.function; .module.function is "
        "beside the YAML file."
    )
    severity: Literal["error", "warn"] = Field(
        default="error", description="Severity of a failure."
    )
    description: str = Field(default="", description="What it checks.")


class Checks(Fields):
    """Checks of stored clips; see `build_clip_checks`."""

    exclude: list[str] = Field(default=[], description="Built-in checks that are not evaluated.")
    blocking: list[str] = Field(
        default=[], description="Checks that keep remixes of a clip from being requested."
    )
    custom: dict[str, Check] = Field(default={}, description="Checks of your own, by name.")
    thresholds: dict[str, float | Template] = Field(
        default={},
        description="Limits of the built-in checks: "
        + ", ".join(field.name for field in dataclass_fields(CheckThresholds)),
    )


class Schedule(Fields):
    """A schedule that requests clips; see `build_generation_schedule`."""

    cron_schedule: str = Field(description="Cron expression, such as '0 6 * * *'.")
    max_clips: int | Template | None = Field(
        default=None, description="Maximum number of clips per tick."
    )
    max_usd: float | Template | None = Field(default=None, description="Maximum USD per tick.")
    name: str = Field(default="generation_schedule", description="Name of the schedule.")
    execution_timezone: str | None = Field(
        default=None, description="Time zone of cron_schedule. Default: UTC."
    )
    running: bool | Template = Field(
        default=False,
        description="Whether the schedule is on by default. Each tick can spend money.",
    )


class Sql(Fields):
    """Rows of a query; see `SqlPrompts`."""

    url: str | Variable = Field(
        description="URL of the database; {env: NAME} if it has a password."
    )
    query: str = Field(description="The query; its columns are those of a prompt dataset.")
    version_query: str | None = Field(
        default=None, description="A query of one value that changes when the rows change."
    )
    read_again_seconds: float = Field(
        default=300.0, gt=0, description="Without version_query: when rows are read again."
    )


class Source(Fields):
    """Where the rows are, if not in a file. Exactly one of the fields is set."""

    sql: Sql | None = Field(default=None, description="A query.")
    asset: str | None = Field(default=None, description="Key of an upstream asset.")
    function: str | None = Field(
        default=None,
        description="A Python function that returns rows, as module.function; .module.function "
        "is beside the YAML file.",
    )
    recipes: str | dict[str, Any] | None = Field(
        default=None, description="Recipes for remixes, or the path of a YAML file with them."
    )
