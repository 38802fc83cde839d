"""Every setting: its environment variable, its default, and how its value is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sora_dagster.generation.protocol.budget import parse_limit
from sora_dagster.generation.requesting.direct_delivery import DeliverySetting, parse_delivery
from sora_dagster.prompts.dataset_files import file_location
from sora_dagster.runware.address_guard import parse_result_hosts, parse_result_networks
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.published_catalogue import PublishedAddresses
from sora_dagster.runware.schema_check import SchemaCheckSetting
from sora_dagster.runware.transport import DEFAULT_BASE_URL, is_local_api
from sora_dagster.storage import normalized_url

NO_STORAGE_ROOT = (
    "no storage root is set. Set SORA_STORAGE (or --storage, or the url of ClipStorageResource) to "
    "an absolute folder or a URL such as s3://bucket/prefix, the same for every process. Only a "
    "local sandbox has a default (beside the dataset or in DAGSTER_HOME): with an API that "
    "charges, a second root would pay for the same clips again"
)
# Context of a validation whose values are complete: nothing else is read from the environment.
COMPLETE = MappingProxyType({"is_complete": True})
_LOCAL_FOLDER = ".sora"


class SettingsError(ValueError):
    """A setting is missing or has a value that is not allowed."""


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


class SettingValues(BaseModel):
    """The value of each setting.

    Relative paths are made absolute, so that they mean the same in the processes that are started
    with these settings. Nothing else depends on the working directory. None means: not set.

    Raises:
        ValueError: if a value is not allowed.

    Example:
        >>> SettingValues.from_environment({"SORA_MAX_USD": "7.50"}).max_usd
        '7.50'
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
        None, description="spending limit of a run in USD, or `unlimited`"
    )
    max_usd_per_day: Annotated[_Limit | None, Variable("SORA_MAX_USD_PER_DAY", "none")] = Field(
        None, description="spending limit of a day (UTC) in USD, over all runs"
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
        description="whether requests are held to Runware's schema of their model as well: `warn` "
        "logs what is wrong, `refuse` does not send it; needs the extra `schema`",
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

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. An empty variable counts as not set.

        Raises:
            SettingsError: naming a variable whose value is not allowed.
        """
        return cls.from_values(values_in(environ))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Settings with these values, and the defaults for all others.

        Arguments:
            values: values or texts, by field.

        Raises:
            SettingsError: naming the variable of a value that is not allowed.
        """
        return cls._validated(values)

    @classmethod
    def value_of(cls, field: str, environ: Mapping[str, str] = os.environ) -> Any:
        """The value of one setting from the environment; its default if the variable is unset.

        Arguments:
            field: name of the setting.
            environ: the environment variables. Default: those of the process.

        Raises:
            SettingsError: naming the variable, if its value is not allowed.
        """
        text = environ.get(_variables()[field].name, "").strip()
        return getattr(cls._validated({field: text} if text else {}), field)

    @classmethod
    def check(cls, field: str, value: Any) -> None:
        """Check a value of one setting.

        Arguments:
            field: name of the setting.
            value: the value, as in Python or as text.

        Raises:
            SettingsError: naming the setting, if the value is not allowed.
        """
        cls._validated({field: value}, {field: field})

    def updated(self, *, source_names: Mapping[str, str] | None = None, **changes: Any) -> Self:
        """The same settings with some changed; None leaves a setting as it is.

        Arguments:
            source_names: where the changes come from, for error messages, by field; such as
                ``--max-usd`` for `max_usd`. Default: the environment variables.
            changes: new values, by field.

        Raises:
            SettingsError: if a value is not allowed.
        """
        given = {field: value for field, value in changes.items() if value is not None}
        return self._validated({**dict(self), **given}, source_names or {})

    @classmethod
    def _validated(
        cls, values: Mapping[str, Any], source_names: Mapping[str, str] = MappingProxyType({})
    ) -> Self:
        try:
            return cls.model_validate(values, context=COMPLETE)
        except ValidationError as error:
            [problem, *_] = error.errors()
            field = str(problem["loc"][0])
            variable = _variables()[field]
            name = source_names.get(field, variable.name)
            if (cause := problem.get("ctx", {}).get("error")) is not None:
                # From our own parsers, whose messages have the value and what is allowed.
                raise SettingsError(f"{name}: {cause}") from error
            reason = problem["msg"][0].lower() + problem["msg"][1:]
            raise SettingsError(
                f"{name} is {values[field]!r}: {reason}. It sets: {variable.description}."
            ) from error

    def to_environment(self) -> dict[str, str]:
        """The same settings as environment variables, for processes that are started."""
        texts = {}
        for field, variable in _variables().items():
            value = getattr(self, field)
            if value is not None and value != ():
                texts[variable.name] = ",".join(value) if isinstance(value, tuple) else str(value)
        return texts

    def catalogue(self) -> Catalogue:
        """The models that may be used, with the default model of rows.

        Raises:
            SettingsError: if the default model is not among them, or makes only remixes.
            ValueError: if the file of entries is wrong.
        """
        path = self.models_path
        catalogue = Catalogue.from_yaml(path) if path else Catalogue.builtin()
        if self.model is None:
            return catalogue
        allowed = ", ".join(
            entry.short_name for entry in catalogue.entries if not entry.needs_video
        )
        entry = catalogue.find(self.model)
        if entry is None:
            raise SettingsError(
                f"SORA_MODEL is {self.model!r}, which is not in the catalogue; allowed: {allowed}, "
                f"and the models of the file that SORA_MODELS names"
            )
        if entry.needs_video:
            raise SettingsError(
                f"SORA_MODEL is {self.model!r}, but {entry.name} makes a video only from an "
                f"earlier one; allowed: {allowed}"
            )
        return catalogue.with_default(entry.air)

    def published_addresses(self) -> PublishedAddresses:
        """Where Runware's schemas and prices of models are read.

        Default: Runware's addresses; with a local sandbox, that sandbox.
        """
        return PublishedAddresses.for_api(self.base_url, self.schemas_url)

    def dataset_path(self) -> str | None:
        """The prompt dataset.

        Default: the example dataset with a local sandbox; with an API that may cost money, None.
        """
        if self.prompts_path is None and is_local_api(self.base_url):
            return str(example_prompts())
        return self.prompts_path

    def board_paths(self) -> tuple[str, ...]:
        """The storyboards. Default: the example's, if the example dataset is the default too."""
        if self.boards is None and self.prompts_path is None and is_local_api(self.base_url):
            return example_boards()
        return self.boards or ()

    def local_folder(self) -> Path | None:
        """The default folder for the storage root and the local Dagster instance.

        `.sora` beside the dataset, or else in the Dagster instance's folder, so that it is the same
        for every process and in every working directory. None if neither is set.
        """
        if self.prompts_path is not None and "://" not in self.prompts_path:
            return folder_beside(self.prompts_path)
        if self.dagster_home is not None:
            return Path(self.dagster_home).resolve() / _LOCAL_FOLDER
        return None

    def storage_root_url(self) -> str:
        """The storage root. Default, with a local sandbox only: a folder of `local_folder`.

        Raises:
            SettingsError: if it is unset and has no default, so that nothing is paid for twice
                because two processes found different roots.
        """
        if self.storage_url is not None:
            return self.storage_url
        folder = self.local_folder()
        if folder is None or not is_local_api(self.base_url):
            raise SettingsError(NO_STORAGE_ROOT)
        return (folder / "storage").as_uri()


def folder_beside(prompts_path: str | Path) -> Path:
    """The folder beside a dataset file for its storage root and Dagster instance by default."""
    # The folder is resolved and not the file, which may be a link to one of many versions.
    return Path(prompts_path).parent.resolve() / _LOCAL_FOLDER


def example_prompts() -> Path:
    """The prompt dataset that comes with the package, or with the repository."""
    package = Path(__file__).parent
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / "prompts.yaml").exists():
            return folder / "prompts.yaml"
    raise FileNotFoundError(
        "the example dataset is not installed; name a dataset of your own in SORA_PROMPTS"
    )


def example_boards() -> tuple[str, ...]:
    """The storyboard that comes with the example dataset."""
    return (str(example_prompts().parent / "boards" / "mangrove.yaml"),)


def values_in(environ: Mapping[str, str]) -> dict[str, str]:
    """The texts of the settings whose variables are set, by field. An empty one counts as not set.

    Arguments:
        environ: the environment variables.
    """
    return {
        field: text
        for field, variable in _variables().items()
        if (text := environ.get(variable.name, "").strip())
    }


def default_prompts_path() -> str | None:
    """The prompt dataset of the environment; None if the variable is unset.

    Raises:
        SettingsError: if its value is not allowed.
    """
    path: str | None = SettingValues.value_of("prompts_path")
    return path


def default_catalogue() -> Catalogue:
    """The models of the environment, with its default model of rows.

    Raises:
        SettingsError: naming the variable, if the file of entries or the default model is wrong.
    """
    path, model = SettingValues.value_of("models_path"), SettingValues.value_of("model")
    try:
        return SettingValues(models_path=path, model=model).catalogue()
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"SORA_MODELS names models that cannot be used: {error}") from error


def setting_variable(field: str) -> Variable:
    """The environment variable of a setting.

    Arguments:
        field: name of the setting.
    """
    return _variables()[field]


def settings_table() -> list[Variable]:
    """Every setting: its environment variable, its default and what it sets."""
    key, webhook_secret, viewer_password = _SECRETS
    after = {"SORA_WEBHOOK_URL": webhook_secret, "SORA_VIEWER_HOSTS": viewer_password}
    table = [key]
    for variable in _variables().values():
        table.append(variable)
        if variable.name in after:
            table.append(after[variable.name])
    return table


def secret_variables() -> tuple[str, ...]:
    """The environment variables whose values must not be shown."""
    return tuple(variable.name for variable in _SECRETS)


@cache
def _variables() -> dict[str, Variable]:
    """The environment variable of each setting, by the name of its field."""
    return {
        name: variable._replace(description=field.description or "")
        for name, field in SettingValues.model_fields.items()
        for variable in field.metadata
        if isinstance(variable, Variable)
    }
