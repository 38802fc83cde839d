"""Resources of a run or a tick, by the keys that the definitions name."""

from typing import Any, TypeVar

import dagster as dg

Resource = TypeVar("Resource")


def resource_of(context: Any, key: str, kind: type[Resource]) -> Resource:
    """The resource of a run or a tick under a key.

    Arguments:
        context: Dagster's context of an op, an asset, a sensor or a schedule that requires the key.
        key: the key.
        kind: the class that the resource must have.

    Raises:
        DagsterInvalidDefinitionError: if it is of another class.
    """
    resource = getattr(context.resources, key)
    if not isinstance(resource, kind):
        raise dg.DagsterInvalidDefinitionError(
            f"the resource {key!r} is a {type(resource).__name__}, and must be a {kind.__name__}"
        )
    return resource
