"""Holds requests to the JSON Schema that Runware publishes for their model, before they are sent.

The catalogue's rules are checked in any case. A schema says more, such as rules between fields that
an entry does not have, and it is Runware's own. It is read from a folder of saved documents, or
fetched once per process.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sora_dagster.extras import require_extras
from sora_dagster.runware.address_guard import DownloadError
from sora_dagster.runware.catalogue.published.documents import (
    PublishedDocumentError,
    Schema,
    read_file,
)
from sora_dagster.runware.errors import InvalidRequestError, Problem
from sora_dagster.runware.published_catalogue import PublishedAddresses, PublishedCatalogue
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.requests import VideoInference

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

_log = logging.getLogger(__name__)

SchemaCheckSetting = Literal["off", "warn", "refuse"]

_MAX_PROBLEMS = 20
_MAX_SHOWN = 300


class SchemaCheck:
    """Checks requests against the published schema of their model.

    A request of a model whose schema is not at hand is not checked; the log says so once.

    Arguments:
        schema_of: returns the schema of a model by its AIR id; None if it is not at hand.
        is_refusing: whether requests that break their schema are refused; if not, the log has a
            warning.

    Raises:
        MissingExtraError: if the JSON Schema library is not installed.
    """

    def __init__(self, schema_of: Callable[[str], Schema | None], *, is_refusing: bool) -> None:
        require_extras("The check of requests against Runware's schemas", "schema")
        self._schema_of = schema_of
        self._is_refusing = is_refusing
        self._validators: dict[str, Validator | None] = {}

    def check(self, request: VideoInference) -> None:
        """Check a request.

        Raises:
            InvalidRequestError: if it breaks its schema and such requests are refused; it lists all
                problems.
        """
        problems = self.problems(request)
        if not problems:
            return
        if self._is_refusing:
            raise InvalidRequestError(problems, request.task_uuid)
        _log.warning(
            "request %s breaks Runware's schema of %s: %s",
            request.task_uuid,
            request.model,
            "; ".join(map(str, problems)),
        )

    def problems(self, request: VideoInference) -> list[Problem]:
        """What the schema of its model does not allow in a request; empty without a schema."""
        from referencing.exceptions import Unresolvable

        validator = self._validator(request.model)
        if validator is None:
            return []
        wire = request.to_wire()
        problems: dict[str, Problem] = {}
        try:
            for error in validator.iter_errors(wire):
                for problem in _problems(error, wire):
                    problems.setdefault(problem.field, problem)
                if len(problems) >= _MAX_PROBLEMS:
                    break
        except Unresolvable as error:
            # As for any other schema that is not valid.
            _log.warning("the schema of %s is not valid: %s", request.model, error)
            self._validators[request.model] = None
            return []
        return list(problems.values())

    def _validator(self, model: str) -> Validator | None:
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for

        if model not in self._validators:
            schema = self._schema_of(model)
            validator: Validator | None = None
            if schema is not None:
                kind = Draft202012Validator
                if isinstance(schema.get("$schema"), str):
                    kind = validator_for(schema, default=Draft202012Validator)
                try:
                    kind.check_schema(schema)
                    validator = kind(schema)
                except SchemaError as error:
                    _log.warning("the schema of %s is not valid: %s", model, error.message)
            self._validators[model] = validator
        return self._validators[model]


def schema_check(
    setting: SchemaCheckSetting,
    *,
    addresses: PublishedAddresses,
    folder: str | None = None,
    result_hosts: tuple[str, ...] = (),
    result_networks: tuple[str, ...] = (),
) -> SchemaCheck | None:
    """The check of requests that a setting selects. None: requests are not checked.

    Arguments:
        setting: ``off``, ``warn`` or ``refuse``.
        addresses: where schemas are fetched from.
        folder: a folder of saved schemas, which are used instead. Default: they are fetched.
        result_hosts, result_networks: what else may be read from, as for downloads.

    Raises:
        MissingExtraError: if the JSON Schema library is not installed.
        ValueError: if the folder does not exist, or has a document that cannot be read.
    """
    if setting == "off":
        return None
    schema_of = (
        _fetched(addresses, result_hosts, result_networks) if folder is None else _saved(folder).get
    )
    return SchemaCheck(schema_of, is_refusing=setting == "refuse")


def _saved(folder: str) -> Mapping[str, Schema]:
    """The schemas of a folder's JSON files, by AIR id."""
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(
            f"there is no folder {folder} with saved schemas. Correct SORA_SCHEMAS, or the "
            f"resource's `schemas_path`; without it they are fetched from Runware"
        )
    found: dict[str, Schema] = {}
    for file in sorted(path.glob("*.json")):
        model = read_file(file)
        if model.schema is not None:
            if not model.air:
                raise PublishedDocumentError(
                    f"{file}: it does not name the model's AIR id (info.x-air-id, or the const of "
                    f"properties.model)"
                )
            found[model.air] = model.schema
    return found


@cache
def _fetched(
    addresses: PublishedAddresses,
    result_hosts: tuple[str, ...],
    result_networks: tuple[str, ...],
) -> Callable[[str], Schema | None]:
    """Fetches schemas, each once per process."""
    lock = threading.Lock()
    schemas: dict[str, Schema | None] = {}

    def schema_of(model: str) -> Schema | None:
        with lock:
            if model not in schemas:
                schemas[model] = _fetch(model)
            return schemas[model]

    def _fetch(model: str) -> Schema | None:
        try:
            with PublishedCatalogue(
                addresses, result_hosts=result_hosts, result_networks=result_networks
            ) as published:
                return published.schema(model).schema
        except (DownloadError, PublishedDocumentError) as error:
            # A request that keeps the catalogue's rules is not held up by a server of documents.
            _log.warning("requests of %s are not validated against a schema: %s", model, error)
            return None

    return schema_of


def _problems(error: ValidationError, wire: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong, by the fields of the request."""
    path = ".".join(map(str, error.absolute_path))
    rule = error.validator_value
    match error.validator:
        case "additionalProperties":
            known = error.schema.get("properties", {})
            for name in error.instance:
                if name not in known:
                    field = _joined(path, name)
                    yield _problem(
                        field, error.instance[name], "the schema has no such field; remove it"
                    )
        case "required":
            for name in rule:
                if name not in error.instance:
                    field = _joined(path, name)
                    yield Problem(field, "not given", f"{field} is required by the schema")
        case "const" | "enum":
            allowed = [rule] if error.validator == "const" else rule
            yield _problem(path, error.instance, f"the schema allows {_json(allowed)}")
        case _ if path:
            yield _problem(
                path, error.instance, f"the schema says {error.validator}: {_json(rule)}"
            )
        case _:
            # A rule between fields: the fields that it names and the request has.
            named = [name for name in dict.fromkeys(_fields_of(rule)) if _is_given(name, wire)]
            field = ", ".join(named) or "the request"
            yield Problem(field, "given", f"the schema says {error.validator}: {_json(rule)}")


def _problem(field: str, value: object, message: str) -> Problem:
    text = "given" if isinstance(value, (dict, list)) else shown(value)
    return Problem(field, text, f"{text}: {message}" if text != "given" else message)


def _fields_of(rule: Any, path: str = "") -> Iterator[str]:
    """The fields that a part of a schema names, without objects that have named parts."""
    if isinstance(rule, list):
        for item in rule:
            yield from _fields_of(item, path)
    elif isinstance(rule, dict):
        properties = rule.get("properties", {})
        for name in rule.get("required", ()):
            if name not in properties:
                yield _joined(path, name)
        for name, sub in properties.items():
            inner = list(_fields_of(sub, _joined(path, name)))
            yield from inner or [_joined(path, name)]
        for key in ("allOf", "anyOf", "oneOf", "not"):
            yield from _fields_of(rule.get(key), path)


def _is_given(field: str, wire: Mapping[str, Any]) -> bool:
    value: Any = wire
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
