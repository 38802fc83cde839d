"""The values of the settings, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import ValidationError

from sora_dagster.environment.declarations import SettingDeclarations, setting_variables
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.published_catalogue import PublishedAddresses
from sora_dagster.runware.transport import is_local_api

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


class SettingValues(SettingDeclarations):
    """The value of each setting.

    Raises:
        ValueError: if a value is not allowed.

    Example:
        >>> SettingValues.from_environment({"SORA_MAX_USD": "7.50"}).max_usd
        '7.50'
    """

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
        text = environ.get(setting_variables()[field].name, "").strip()
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
            variable = setting_variables()[field]
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
        for field, variable in setting_variables().items():
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
    package = Path(__file__).parent.parent
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
        for field, variable in setting_variables().items()
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
