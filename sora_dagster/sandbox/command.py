"""The command that starts a sandbox."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sora_dagster.sandbox.settings import SandboxSettings


# The class is generic only in newer versions of click.
class _KeyAndOrganization(click.ParamType):  # type: ignore[type-arg]
    name = "KEY=ORGANIZATION"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, _, organization = value.partition("=")
        if not key or not organization:
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)
        return key, organization


def _options() -> Iterator[click.Option]:
    """An option for each field of the settings that names one."""
    for name, field in SandboxSettings.model_fields.items():
        for option in field.metadata:
            if isinstance(option, str):
                default = field.default
                if isinstance(default, SecretStr):
                    default = default.get_secret_value()
                elif isinstance(default, dict):
                    default = None
                yield click.Option(
                    [option, name],
                    type=_click_type(name, field),
                    default=default,
                    show_default=default is not None,
                    is_flag=field.annotation is bool,
                    multiple=name == "extra_keys",
                    help=field.description,
                    envvar="SORA_MODELS" if name == "models_path" else None,
                )


def _click_type(name: str, field: FieldInfo) -> Any:
    if name == "extra_keys":
        return _KeyAndOrganization()
    if get_origin(field.annotation) is Literal:
        return click.Choice(get_args(field.annotation))
    if Path in get_args(field.annotation):
        is_folder = name.endswith("_dir")
        may_be_folder = is_folder or name == "models_path"
        return click.Path(file_okay=not is_folder, dir_okay=may_be_folder, path_type=Path)
    if field.annotation not in (int, float):
        return field.annotation if field.annotation is bool else str
    limits = {
        limit: getattr(item, limit)
        for item in field.metadata
        for limit in ("ge", "gt", "le")
        if hasattr(item, limit)
    }
    bounded = click.IntRange if field.annotation is int else click.FloatRange
    return bounded(
        min=limits.get("ge", limits.get("gt")), max=limits.get("le"), min_open="gt" in limits
    )


def _start(extra_keys: tuple[tuple[str, str], ...], **values: object) -> None:
    """Start a local Runware that renders real videos and costs nothing.

    Prints "listening on http://HOST:PORT/v1" when it is ready, and ends on Ctrl-C.
    """
    # Imported late: the server imports the encoders, which --help does not need.
    from sora_dagster.sandbox.faults.plan import FaultPlanError
    from sora_dagster.sandbox.server import serve
    from sora_dagster.serving import ListenError

    settings = SandboxSettings.model_validate({**values, "extra_keys": dict(extra_keys)})
    try:
        settings.catalogue()
    except (OSError, ValueError) as error:
        click.echo(f"sandbox: {error}", err=True)
        sys.exit(2)
    try:
        serve(settings)
    except (ListenError, FaultPlanError) as error:
        click.echo(f"sandbox: {error}", err=True)
        sys.exit(2)


sandbox_command = click.Command(
    "sandbox",
    callback=_start,
    params=[*_options()],
    help=_start.__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)
