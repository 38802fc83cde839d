"""Fields of resources for secrets, which come from environment variables and show nowhere."""

import os
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field

# Dagster's launchpad leaves such a field out.
_SECRET = {"dagster__is_secret": True}


def secret_field(description: str, variable: str) -> Any:
    """A field for a secret.

    Arguments:
        description: its description in the UI.
        variable: environment variable that is the default.
    """
    return Field(
        default=None,
        repr=False,
        json_schema_extra=_SECRET,  # type: ignore[arg-type]
        description=f"{description} Pass a dg.EnvVar. Default: the variable {variable}.",
    )


def secret_value(value: str | None, variable: str) -> str | None:
    """The secret of a field, or of its default variable; None if there is none.

    The variable is read here, since run config can replace the whole resource.

    Arguments:
        value: value of the field.
        variable: the default variable.
    """
    if isinstance(value, dg.EnvVar):
        # The resource is used outside Dagster, which would have resolved it.
        value = value.get_value()
    return (value or os.environ.get(variable, "")).strip() or None


def refuse_plain_secrets(resource: BaseModel) -> None:
    """Refuse secrets that are given as text.

    Raises:
        ValueError: naming the field.
    """
    for name, field in type(resource).model_fields.items():
        value = getattr(resource, name, None)
        if field.json_schema_extra == _SECRET and value and not isinstance(value, dg.EnvVar):
            raise ValueError(
                f"{name} of {type(resource).__name__} is given as text, which Dagster's UI would "
                f"show; put it in an environment variable, and pass dg.EnvVar with its name "
                f"(in YAML: {{env: NAME}})"
            )
