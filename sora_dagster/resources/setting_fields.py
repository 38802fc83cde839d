"""Fields of resources that default to a setting of the environment, which is read in the run.

A field cannot have the value as its default: Dagster reads definitions in another process than the
one that runs them, and a run config that names one field of a resource resets the others.
"""

from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.environment.declarations import setting_variable
from sora_dagster.environment.values import SettingValues


def setting_field(description: str, setting: str, **constraints: Any) -> Any:
    """A field that is unset by default, and then has the value of a setting.

    Arguments:
        description: its description in the UI.
        setting: name of the setting.
        constraints: further arguments of the field.
    """
    variable = setting_variable(setting)
    return Field(
        default=None,
        description=(
            f"{description} Default: the variable {variable.name}; if that is unset: "
            f"{variable.default}."
        ),
        **constraints,
    )


def unset_variables(resource: dg.ConfigurableResource[Any]) -> list[str]:
    """The variables that a resource reads, since its fields of their settings are unset.

    Arguments:
        resource: a resource with fields that have the names of settings.
    """
    return [
        setting_variable(name).name
        for name in type(resource).model_fields
        if name in SettingValues.model_fields and getattr(resource, name) is None
    ]


def setting_value(value: Any, setting: str) -> Any:
    """The value of a field, or that of the setting if the field is unset.

    Arguments:
        value: value of the field.
        setting: name of the setting.

    Raises:
        SettingsError: naming the variable, if its value is not allowed.
    """
    if isinstance(value, dg.EnvVar):
        # The resource is used outside Dagster, which would have resolved it.
        value = value.get_value()
    return SettingValues.value_of(setting) if value is None else value
