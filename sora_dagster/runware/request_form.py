"""What pydantic finds wrong with the form of a request, in the words of the wire."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sora_dagster.runware.errors import Problem
from sora_dagster.runware.redaction import shown


def problems_of_form(error: ValidationError, models: Iterable[type[BaseModel]]) -> list[Problem]:
    """The findings, each field once.

    Arguments:
        error: what pydantic raised.
        models: the request's model and those nested in it; a field's description tells what is
            allowed there.
    """
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    fields |= {field.alias: field for field in fields.values() if field.alias}
    problems: dict[str, Problem] = {}
    for detail in error.errors(include_url=False):
        unknown = detail["type"] == "extra_forbidden"
        # Of a union, pydantic names each branch it tried; those are not fields.
        path = [
            part for part in detail["loc"] if unknown or isinstance(part, int) or part in fields
        ]
        name = ".".join(
            (fields[part].alias or part) if part in fields else str(part) for part in map(str, path)
        )
        known = [fields[part] for part in map(str, path) if part in fields]
        allowed = (known[-1].description if known and not unknown else None) or "a known field"
        problems.setdefault(name, Problem(name, _value_shown(detail), allowed, _told(detail)))
    return list(problems.values())


def _value_shown(detail: ErrorDetails) -> str:
    return "not given" if detail["type"] == "missing" else shown(detail["input"])


def _told(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return (
            "there is no such field; a parameter that only one model has goes into "
            "extra_parameters and into the model's catalogue entry"
        )
    if detail["type"] == "missing":
        return "it is required"
    return detail["msg"].removeprefix("Value error, ")
