"""The nested fields of the component `VideoDatasetComponent`, as they are written in YAML."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from typing import Any

from dagster_aws.s3 import S3Resource
from pydantic import BaseModel, ConfigDict, Field, create_model

from sora_dagster.media.checks import CheckThresholds
from sora_dagster.resources import ClipStorageResource, RunwareResource


class Variable(BaseModel):
    """A value of an environment variable, which is read when the value is needed."""

    model_config = ConfigDict(extra="forbid")

    env: str = Field(description="Name of the environment variable.")


def _settings_model(name: str, resource: type[BaseModel], **more: Any) -> type[BaseModel]:
    """A model with the fields of a resource, each a value or a variable."""
    fields: dict[str, Any] = {
        field_name: (
            field.annotation | Variable | None,
            Field(default=None, description=field.description),
        )
        for field_name, field in resource.model_fields.items()
        if field_name not in more
    }
    return create_model(
        name,
        __config__=ConfigDict(extra="forbid"),
        __doc__=f"Fields of {resource.__name__}.",
        **fields,
        **more,
    )


S3Settings = _settings_model("S3Settings", S3Resource)
RunwareSettings = _settings_model("RunwareSettings", RunwareResource)
StorageSettings = _settings_model(
    "StorageSettings",
    ClipStorageResource,
    s3=(S3Settings | None, Field(default=None, description="For s3://: see dagster-aws.")),
)


class Checks(BaseModel):
    """Checks of stored clips; see `build_clip_checks`."""

    model_config = ConfigDict(extra="forbid")

    exclude: list[str] = Field(default=[], description="Built-in checks that are not evaluated.")
    blocking: list[str] = Field(
        default=[], description="Checks that keep remixes of a clip from being requested."
    )
    thresholds: dict[str, float] = Field(
        default={},
        description="Limits of the built-in checks: "
        + ", ".join(field.name for field in dataclass_fields(CheckThresholds)),
    )


class Schedule(BaseModel):
    """A schedule that requests clips; see `build_generation_schedule`."""

    model_config = ConfigDict(extra="forbid")

    cron_schedule: str = Field(description="When it ticks, such as '0 6 * * *'.")
    max_clips: int | None = Field(default=None, description="Maximum number of clips per tick.")
    max_usd: float | None = Field(default=None, description="Maximum USD per tick.")
    name: str = Field(default="generation_schedule", description="Name of the schedule.")
    execution_timezone: str | None = Field(
        default=None, description="Time zone of cron_schedule. Default: UTC."
    )
    running: bool = Field(
        default=False, description="Whether it runs from the start; it spends money."
    )


class Sql(BaseModel):
    """Rows of a query; see `SqlPrompts`."""

    model_config = ConfigDict(extra="forbid")

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


class Source(BaseModel):
    """Where the rows are, if not in a file. Exactly one of the fields is set."""

    model_config = ConfigDict(extra="forbid")

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
