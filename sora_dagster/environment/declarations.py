"""Every setting, declared once: its environment variable, type, default and description."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sora_dagster.environment.limits import parse_limit
from sora_dagster.prompts.dataset_files import file_location
from sora_dagster.runware.address_guard import parse_result_hosts, parse_result_networks
from sora_dagster.runware.delivery import DeliverySetting, parse_delivery
from sora_dagster.runware.schema_check import SchemaCheckSetting
from sora_dagster.runware.transport import DEFAULT_BASE_URL
from sora_dagster.storage import normalized_url


class Variable(NamedTuple):
    """The environment variable of a setting.

    Arguments:
        name: the variable.
        default: the default, as documented.
        description: what it sets, with the unit.
    """

    name: str
    default: str
    description: str = ""


# Read where they are needed, by the names that the resources give, so that they show nowhere.
_SECRETS = (
    Variable("RUNWARE_API_KEY", "required", "the API key; never shown or stored"),
    Variable(
        "SORA_WEBHOOK_SECRET",
        "required with `SORA_WEBHOOK_URL`",
        "secret that webhook URLs are signed with; at least 16 random characters",
    ),
    Variable(
        "SORA_VIEWER_PASSWORD",
        "no login",
        "password of the viewer's login; at least 16 characters",
    ),
)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _absolute_root(url: str) -> str:
    # What is wrong with a URL is reported when it is opened, so that definitions load.
    return url if "://" in url else normalized_url(url)


def _absolute_source(path: str) -> str:
    location = file_location(path)
    return location if "://" in location else _absolute(location)


def _split(value: object) -> object:
    """The entries of a comma-separated text."""
    if not isinstance(value, str):
        return value
    return tuple(entry for part in value.split(",") if (entry := part.strip()))


def _checked_limit(text: str) -> str:
    parse_limit(text)
    return text


_Limit = Annotated[str, AfterValidator(_checked_limit)]
_AbsolutePath = Annotated[str, AfterValidator(_absolute)]
_CommaSeparated = BeforeValidator(_split)


class SettingDeclarations(BaseModel):
    """The fields of the settings. None means: not set.

    Relative paths are made absolute, so that they mean the same in the processes that are started
    with these settings. Nothing else depends on the working directory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: Annotated[str, Variable("RUNWARE_BASE_URL", "Runware's")] = Field(
        DEFAULT_BASE_URL, description="URL of another API, such as a sandbox"
    )
    prompts_path: Annotated[
        Annotated[str, AfterValidator(_absolute_source)] | None,
        Variable("SORA_PROMPTS", "required; with a local sandbox, the example dataset"),
    ] = Field(
        None,
        description="the prompt dataset: a file, or its URL in an object store (`s3://`, `gs://`, "
        "`az://`)",
    )
    boards: Annotated[
        tuple[_AbsolutePath, ...] | None,
        _CommaSeparated,
        Variable("SORA_BOARDS", "the example's, with the example dataset"),
    ] = Field(None, description="files of storyboards, comma-separated")
    storage_url: Annotated[
        Annotated[str, AfterValidator(_absolute_root)] | None,
        Variable(
            "SORA_STORAGE",
            "required; with a local sandbox, `.sora/storage` beside the dataset, or else in "
            "`DAGSTER_HOME`",
        ),
    ] = Field(None, description="storage root: a folder, `s3://`, `gs://` or `az://`")
    delivery: Annotated[
        DeliverySetting,
        BeforeValidator(parse_delivery),
        Variable("SORA_DELIVERY", "`auto`: direct if possible"),
    ] = Field(
        "auto",
        description="`direct`: Runware puts each video into the bucket; `download`: videos are "
        "downloaded from Runware",
    )
    result_hosts: Annotated[
        tuple[str, ...],
        AfterValidator(parse_result_hosts),
        _CommaSeparated,
        Variable("SORA_RESULT_HOSTS", "only runware.ai and the API's host"),
    ] = Field(
        (), description="additional domains that videos may be downloaded from, comma-separated"
    )
    result_networks: Annotated[
        tuple[str, ...],
        AfterValidator(parse_result_networks),
        _CommaSeparated,
        Variable("SORA_RESULT_NETWORKS", "only public addresses"),
    ] = Field(
        (),
        description="networks (CIDR) that are accepted although their addresses are not public, "
        "comma-separated; not needed behind a proxy",
    )
    max_usd: Annotated[_Limit | None, Variable("SORA_MAX_USD", "25")] = Field(
        None, description="spending limit per run in USD, or `unlimited`"
    )
    max_usd_per_day: Annotated[_Limit | None, Variable("SORA_MAX_USD_PER_DAY", "none")] = Field(
        None, description="daily spending limit (UTC) in USD, over all runs"
    )
    webhook_url: Annotated[str | None, Variable("SORA_WEBHOOK_URL", "polling")] = Field(
        None, description="public URL of the webhook receiver"
    )
    webhook_wait_seconds: Annotated[float, Variable("SORA_WEBHOOK_WAIT", "30")] = Field(
        30.0,
        ge=1,
        allow_inf_nan=False,
        description="seconds to wait for a webhook before polling Runware",
    )
    viewer_url: Annotated[str | None, Variable("SORA_VIEWER_URL", "no links")] = Field(
        None, description="URL of the viewer in browsers"
    )
    viewer_hosts: Annotated[
        tuple[str, ...],
        _CommaSeparated,
        Variable("SORA_VIEWER_HOSTS", "the host of `SORA_VIEWER_URL`, localhost and IP addresses"),
    ] = Field((), description="additional host names that the viewer answers to, comma-separated")
    models_path: Annotated[_AbsolutePath | None, Variable("SORA_MODELS", "the built-in models")] = (
        Field(
            None,
            description="YAML or JSON file with additional models, or a folder of such files",
        )
    )
    schema_check: Annotated[SchemaCheckSetting, Variable("SORA_SCHEMA_CHECK", "`off`")] = Field(
        "off",
        description="whether requests are also validated against the JSON Schema that Runware "
        "publishes for their model: `warn` logs what is wrong, `refuse` does not send it; needs "
        "the extra `schema`",
    )
    schemas_path: Annotated[
        _AbsolutePath | None, Variable("SORA_SCHEMAS", "fetched, once per process")
    ] = Field(None, description="folder with saved schemas of models, for `SORA_SCHEMA_CHECK`")
    schemas_url: Annotated[
        str | None, Variable("SORA_SCHEMAS_URL", "Runware's; with a local sandbox, the sandbox's")
    ] = Field(None, description="URL of a server with the models' published schemas and prices")
    model: Annotated[str | None, Variable("SORA_MODEL", "Sora 2 Pro")] = Field(
        None,
        description="model of rows that name none: its short name, such as `veo-3.1`, or its id",
    )
    dagster_home: Annotated[str | None, Variable("DAGSTER_HOME", "Dagster's")] = Field(
        None, description="folder of the Dagster instance"
    )


def setting_variable(field: str) -> Variable:
    """The environment variable of a setting.

    Arguments:
        field: name of the setting.
    """
    return setting_variables()[field]


def settings_table() -> list[Variable]:
    """Every setting: its environment variable, its default and what it sets."""
    key, webhook_secret, viewer_password = _SECRETS
    after = {"SORA_WEBHOOK_URL": webhook_secret, "SORA_VIEWER_HOSTS": viewer_password}
    table = [key]
    for variable in setting_variables().values():
        table.append(variable)
        if variable.name in after:
            table.append(after[variable.name])
    return table


def secret_variables() -> tuple[str, ...]:
    """The environment variables whose values must not be shown."""
    return tuple(variable.name for variable in _SECRETS)


@cache
def setting_variables() -> dict[str, Variable]:
    """The environment variable of each setting, by the name of its field."""
    return {
        name: variable._replace(description=field.description or "")
        for name, field in SettingDeclarations.model_fields.items()
        for variable in field.metadata
        if isinstance(variable, Variable)
    }
