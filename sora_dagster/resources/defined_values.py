"""Values of a resource's definition, kept when the run config names only some of its fields."""

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import dagster as dg

Resource = TypeVar("Resource", bound="dg.ConfigurableResource[Any]")


def with_defined_values(
    resource: Resource,
    context: dg.InitResourceContext,
    *,
    exclusive: Iterable[tuple[str, str]] = (),
) -> Resource:
    """A resource with the values of its definition in fields that have their default.

    Dagster resets fields that a run config does not name, so a spending limit in Python would not
    count. A field that the run config sets to its default has the value of the definition, too.

    Arguments:
        resource: the resource, with the values of the run config.
        context: its context in the run.
        exclusive: pairs of fields of which only one may be set.
    """
    schema = None if context.resource_def is None else context.resource_def.config_schema.as_field()
    if schema is None or not schema.default_provided:
        return resource
    fields = type(resource).model_fields
    values = {name: getattr(resource, name) for name in fields}
    reset = {name for name, field in fields.items() if values[name] == field.default}
    defined = {name: value for name, value in schema.default_value.items() if name in reset}
    for one, other in exclusive:
        if {one, other} - reset:
            defined.pop(one, None)
            defined.pop(other, None)
    if not defined:
        return resource
    return type(resource)(**values | {name: _resolved(value) for name, value in defined.items()})


def _resolved(value: Any) -> Any:
    """A value of a definition, with environment variables as Dagster writes them replaced."""
    if isinstance(value, list):
        return [_resolved(entry) for entry in value]
    is_variable = isinstance(value, dict) and set(value) == {"env"}
    return os.environ.get(value["env"]) if is_variable else value
