"""Which code location a dataset's partitions belong to.

Dynamic partitions belong to the whole Dagster instance, by name. Two datasets of the same name in
two code locations would share them, and each would see the other's rows as removed. Within one code
location Dagster refuses two such datasets itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import BaseModel

from sora_dagster.dataset import VideoDataset

_KEY = "sora_dagster/partitions/{name}"
_RENEWED_AFTER = timedelta(minutes=2)
# A code location that was renamed or removed no longer renews its entry.
_VALID_FOR = timedelta(minutes=5)


class SharedPartitionsError(ValueError):
    """Another code location has a dataset with the same partitions."""


class _Owner(BaseModel):
    location: str
    assets: tuple[str, ...]
    source: str
    at: datetime


def require_own_partitions(
    instance: dg.DagsterInstance,
    dataset: VideoDataset,
    location: str | None,
    *,
    is_renewing: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Refuse a dataset whose partitions belong to another dataset, of another code location.

    The same assets with rows of the same source are the same dataset, such as in a code location
    that was given another name.

    Arguments:
        instance: the Dagster instance.
        dataset: the dataset.
        location: name of the code location. None: unknown, as for definitions that are run without
            a workspace; then nothing is refused.
        is_renewing: whether the partitions become those of this code location if no other has
            them; for the dataset sensor.
        now: a clock.

    Raises:
        SharedPartitionsError: naming the other code location, and what to do.
    """
    if location is None:
        return
    partitions = str(dataset.clip_partitions.name)
    key = _KEY.format(name=partitions)
    text = instance.run_storage.get_cursor_values({key}).get(key)
    owner = None if text is None else _Owner.model_validate_json(text)
    age = timedelta.max if owner is None else now() - owner.at
    own = _Owner(
        location=location,
        assets=(dataset.clips.to_user_string(), dataset.remixes.to_user_string()),
        source=dataset.prompt_source.identity,
        at=now(),
    )
    is_other = owner is not None and (
        owner.location != location and (owner.assets, owner.source) != (own.assets, own.source)
    )
    if owner is not None and is_other and age < _VALID_FOR:
        raise SharedPartitionsError(
            f"the partitions {partitions!r} belong to the dataset of the assets "
            f"{', '.join(owner.assets)} in the code location {owner.location!r}. All "
            f"code locations of a Dagster instance share partitions. That dataset and dataset "
            f"{dataset.name!r} of {location!r} need different names: set another "
            f"VideoDataset(name=…) in one of them. If {owner.location!r} was renamed or removed, "
            f"this error disappears within {_VALID_FOR.seconds // 60} minutes"
        )
    if is_renewing and age >= _RENEWED_AFTER:
        instance.run_storage.set_cursor_values({key: own.model_dump_json()})


def location_of(run: dg.DagsterRun) -> str | None:
    """Name of the code location of a run; None for a run that was started without a workspace."""
    origin = run.remote_job_origin
    return None if origin is None else str(origin.location_name)
