"""Which settings a run's process must have, since the code location that launched it has them.

A worker imports the code again and reads its own environment. Without a variable that the code
location has, it would use a default in silence: poll instead of using webhooks, or apply another
spending limit. Only the names of variables travel with the run, not their values: as a tag of each
asset and job. The snapshot of the job, which the run refers to, has the tags of the code location.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import dagster as dg

from sora_dagster.environment import SettingsError
from sora_dagster.setting_declarations import settings_table

SETTINGS_TAG = "sora_dagster/settings"


def settings_tag(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The tag of an asset's op, or of a job, that names the settings which the code location has.

    Arguments:
        environ: the environment variables. Default: those of the process.
    """
    names = [variable.name for variable in settings_table() if _is_set(variable.name, environ)]
    return {SETTINGS_TAG: ",".join(names)} if names else {}


def require_settings(context: dg.InitResourceContext, needed: Iterable[str]) -> None:
    """Stop a run whose process lacks a variable that its code location has.

    Arguments:
        context: the context of a resource; outside of runs, nothing is checked.
        needed: variables that the process would read.

    Raises:
        SettingsError: naming the variables.
    """
    absent = {name for name in needed if not _is_set(name, os.environ)}
    if context.run is None or context.instance is None or not absent:
        return
    missing = sorted(absent & _defined(context.instance, context.run))
    if missing:
        raise SettingsError(
            f"the process of this run has no {', '.join(missing)}, and the code location has. "
            f"Nothing was sent. Set the same variables where runs are executed: in the run "
            f"launcher's env_vars or the image of run workers"
        )


def _defined(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The variables that the code location has."""
    if run.job_snapshot_id is None or not instance.has_job_snapshot(run.job_snapshot_id):
        return set()
    job = instance.get_job_snapshot(run.job_snapshot_id)
    tags = [job.tags, *(op.tags for op in job.node_defs_snapshot.op_def_snaps)]
    return {name for each in tags for name in each.get(SETTINGS_TAG, "").split(",")}


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(name, "").strip())
