"""Which settings a run's process must have, since the code location that launched it has them.

A worker imports the code again and reads its own environment. Without a variable that the code
location has, it would use a default in silence: poll instead of using webhooks, or apply another
spending limit. Only the names of variables travel with the run, not their values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import dagster as dg

from sora_dagster.environment import SettingsError
from sora_dagster.setting_declarations import settings_table

SETTINGS_TAG = "sora_dagster/settings"


def settings_tag(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The tag of a job's runs that names the settings which the code location has.

    Arguments:
        environ: the environment variables. Default: those of the process.
    """
    names = [variable.name for variable in settings_table() if _is_set(variable.name, environ)]
    return {SETTINGS_TAG: ",".join(names)} if names else {}


def require_settings(run: dg.DagsterRun | None, needed: Iterable[str]) -> None:
    """Stop a run whose process lacks a variable that its code location has.

    Arguments:
        run: the run. None: the resource is used outside of runs.
        needed: variables that the process would read.

    Raises:
        SettingsError: naming the variables.
    """
    if run is None:
        return
    defined = set(run.tags.get(SETTINGS_TAG, "").split(","))
    missing = sorted(name for name in needed if name in defined and not _is_set(name, os.environ))
    if missing:
        raise SettingsError(
            f"the process of this run has no {', '.join(missing)}, and the code location has. "
            f"Nothing was sent. Set the same variables where runs are executed: in the run "
            f"launcher's env_vars or the image of run workers"
        )


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(name, "").strip())
