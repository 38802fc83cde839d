"""The resources of the component `VideoDatasetComponent`, from the fields of its YAML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import BaseModel

from sora_dagster.component.fields import S3_SECRETS, RunwareSettings, StorageSettings, Variable
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.resources import ClipStorageResource, RunwareResource


class ComponentResources:
    """The resources of a component, with absolute paths.

    Dagster merges definitions that have the same object under a resource key, so components with
    equal fields share their resources.

    Arguments:
        runware: fields of the API resource. None: all are unset.
        storage: fields of the storage resource. None: all are unset.
        folder: folder of the YAML file, which paths are relative to.
        models: path of the catalogue entries. None: it is unset.

    Raises:
        ValueError: if a secret of S3 is given as text.
    """

    def __init__(self, runware: Any, storage: Any, folder: Path, *, models: str | None) -> None:
        self._models_path = None if models is None else absolute_path(folder, models)
        if runware is None and models is not None:
            runware = RunwareSettings()
        _refuse_s3_secrets(storage)
        self._runware = _json(runware, ("schemas_path",), folder)
        self._storage = _json(storage, ("url", "gcs_service_account_path"), folder)

    def runware(self) -> RunwareResource | None:
        """The API resource. None: the default."""
        return None if self._runware is None else _runware(self._runware, self._models_path)

    def storage(self) -> ClipStorageResource | None:
        """The storage resource. None: the default."""
        return None if self._storage is None else _storage(self._storage)

    def io_manager(self, parallel_clips: int) -> ClipIOManager:
        """The IO manager of clips.

        Arguments:
            parallel_clips: number of clips fetched and stored at once.
        """
        return _io_manager(self._storage or "{}", parallel_clips)


@cache
def _runware(fields: str, models_path: str | None) -> RunwareResource:
    values = _fields(RunwareSettings.model_validate_json(fields))
    return RunwareResource(**values, models_path=models_path)


@cache
def _storage(fields: str) -> ClipStorageResource:
    settings: Any = StorageSettings.model_validate_json(fields)
    values = _fields(settings)
    if "s3" in values:
        values["s3"] = S3Resource(**_fields(settings.s3))
    return ClipStorageResource(**values)


@cache
def _io_manager(storage: str, parallel_clips: int) -> ClipIOManager:
    return ClipIOManager(storage=_storage(storage), parallel_clips=parallel_clips)


def _json(settings: BaseModel | None, paths: Sequence[str], folder: Path) -> str | None:
    if settings is None:
        return None
    absolute = {
        name: absolute_path_or_url(folder, value)
        for name in paths
        if isinstance(value := getattr(settings, name), str)
    }
    return settings.model_copy(update=absolute).model_dump_json()


def _refuse_s3_secrets(storage: Any) -> None:
    for name in S3_SECRETS if storage is not None and storage.s3 is not None else ():
        if isinstance(getattr(storage.s3, name), str):
            raise ValueError(  # noqa: TRY004 - as for other mistakes in the YAML
                f"storage.s3.{name} is given as text, which Dagster's UI would show; put it in an "
                f"environment variable, and write {{env: NAME}} with its name"
            )


def _fields(settings: BaseModel) -> dict[str, Any]:
    """The fields that are set, with variables as Dagster's."""
    return {
        name: value_of(value)
        for name in type(settings).model_fields
        if (value := getattr(settings, name)) is not None
    }


def value_of(value: Any) -> Any:
    """A value of the YAML, with a variable as Dagster's.

    Arguments:
        value: the value.
    """
    return dg.EnvVar(value.env) if isinstance(value, Variable) else value


def absolute_path(folder: Path, text: str) -> str:
    """A path of the YAML, which is relative to its folder.

    Arguments:
        folder: the folder of the YAML file.
        text: the path.
    """
    return os.path.abspath(folder / Path(text).expanduser())


def absolute_path_or_url(folder: Path, text: str) -> str:
    """A path of the YAML made absolute, or a URL as it is.

    Arguments:
        folder: the folder of the YAML file.
        text: the path or URL.
    """
    return text if "://" in text else absolute_path(folder, text)
