"""The settings of a code location in the runs that it launches.

A worker imports the code again and reads its own environment. Without a variable that the code
location has, it would use a default in silence: poll instead of using webhooks, or apply another
spending limit. So each op and asset has a tag with the variables of the code location, and the
snapshot of the job, which the run refers to, keeps it. A worker that lacks one gets it from there.
Secrets, and paths of the code location's machine, do not travel: without them, the run stops.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping

import dagster as dg

from sora_dagster.environment.declarations import (
    secret_variables,
    setting_variable,
    settings_table,
)
from sora_dagster.environment.values import SettingsError

SETTINGS_TAG = "sora_dagster/settings"

_PATHS = ("prompts_path", "boards", "models_path", "schemas_path", "dagster_home")
# A URL with one of these may contain a secret.
_SECRET_SIGNS = ("@", "?")


def settings_tag(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The tag of an op or asset with the settings that the code location has.

    Arguments:
        environ: the environment variables. Default: those of the process.
    """
    values = {
        variable.name: environ[variable.name] if _travels(variable.name, environ) else None
        for variable in settings_table()
        if _is_set(variable.name, environ)
    }
    return {SETTINGS_TAG: json.dumps(values)} if values else {}


def take_settings(context: dg.InitResourceContext, needed: Iterable[str]) -> None:
    """Give the process of a run the variables that it lacks, and its code location has.

    Arguments:
        context: the context of a resource; outside of runs, nothing is done.
        needed: variables that the process would read.

    Raises:
        SettingsError: naming the variables that do not travel with a run.
    """
    absent = {name for name in needed if not _is_set(name, os.environ)}
    if context.run is None or context.instance is None or not absent:
        return
    defined = _defined(context.instance, context.run)
    missing = sorted(name for name in absent if name in defined and defined[name] is None)
    if missing:
        raise SettingsError(
            f"the process of this run has no {', '.join(missing)}, and the code location has. "
            f"Nothing was sent. Set the same variables where runs are executed: in the run "
            f"launcher's env_vars or the image of run workers"
        )
    for name in sorted(absent & defined.keys()):
        os.environ[name] = defined[name] or ""
        if context.log is not None:
            context.log.info(f"{name} is not set here; the value of the code location is used")


def _defined(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str | None]:
    """The variables that the code location has. None: one that does not travel."""
    if run.job_snapshot_id is None or not instance.has_job_snapshot(run.job_snapshot_id):
        return {}
    found: dict[str, str | None] = {}
    for op in instance.get_job_snapshot(run.job_snapshot_id).node_defs_snapshot.op_def_snaps:
        found |= json.loads(op.tags.get(SETTINGS_TAG, "{}"))
    return found


def _travels(name: str, environ: Mapping[str, str]) -> bool:
    value = environ[name]
    if name in secret_variables() or any(sign in value for sign in _SECRET_SIGNS):
        return False
    if name == setting_variable("storage_url").name:
        return "://" in value and not value.startswith("file:")
    return name not in {setting_variable(field).name for field in _PATHS}


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(name, "").strip())
