"""Writes the page of the component's fields: `python -m tests.component_reference`."""

from __future__ import annotations

from pathlib import Path

from dagster_aws.s3 import S3Resource
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sora_dagster import ClipStorageResource, RunwareResource, VideoDatasetComponent
from sora_dagster.component.fields import (
    Check,
    Checks,
    RunwareSettings,
    S3Settings,
    Schedule,
    Source,
    Sql,
    StorageSettings,
)

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "component.md"
HEAD = """\
# Fields of the component

The fields of `sora_dagster.VideoDatasetComponent`, under `attributes` in its YAML. For a start, see
[As a component of dg](../how-to/component.md).

- Paths are relative to the folder of the YAML file.
- Texts may contain templates such as `{{ env.DEPLOYMENT }}`, which are rendered when definitions
  load. A template in a nested field that gives no value is an error.
- `{env: NAME}` stands for an environment variable that is read in the run. Fields of `runware` and
  `storage` that are texts, and `source.sql.url`, take it; secrets must be given in this way.
"""
# Each part of the YAML, and the class that has its defaults.
PARTS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "source": (Source, Source),
    "source.sql": (Sql, Sql),
    "checks": (Checks, Checks),
    "checks.custom.NAME": (Check, Check),
    "schedules[]": (Schedule, Schedule),
    "runware": (RunwareSettings, RunwareResource),
    "storage": (StorageSettings, ClipStorageResource),
    "storage.s3": (S3Settings, S3Resource),
}


def page() -> str:
    """The page."""
    tables = [table(VideoDatasetComponent.get_model_cls(), VideoDatasetComponent)]
    tables += [f"## `{name}`\n\n{table(*models)}" for name, models in PARTS.items()]
    return "\n".join([HEAD, *tables])


def table(model: type[BaseModel], with_defaults: type[BaseModel]) -> str:
    """The fields of a part of the YAML."""
    rows = ["| field | default | description |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        text = " ".join((field.description or "").replace("|", r"\|").split())
        default = default_text(with_defaults.model_fields[name])
        rows.append(f"| `{name}` | {'required' if field.is_required() else default} | {text} |")
    return "\n".join(rows) + "\n"


def default_text(field: FieldInfo) -> str:
    """A default as it is written in YAML; nothing for an unset field."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if value in (None, "", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
