"""Requests the remixes of stored clips, once for each parent video and recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sora_dagster.dataset import VideoDataset, remix_partition
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.requesting.options import RequestOptions, options_after
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.storage import AccessDeniedError


@dataclass(frozen=True)
class RemixParent:
    """A stored clip whose remixes are not requested yet.

    Arguments:
        attempt: the attempt that it came from; its run pays for the remixes.
        manifest: the stored clip.
    """

    attempt: AttemptRecord
    manifest: ClipManifest


@dataclass(frozen=True)
class RemixResults:
    """Results of requesting remixes.

    Arguments:
        results: results of the requests.
        failures: why other remixes were not requested, by name.
    """

    results: Sequence[RequestResult] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """The remixes of one clip that no run has requested, and the run that pays for them."""

    parent: RemixParent
    options: RequestOptions | None
    remixes: Sequence[ClipRequest]
    failures: Mapping[str, str]


def request_remixes(
    dataset: VideoDataset,
    generator: Generator,
    prompts: PromptDataset,
    parents: Iterable[RemixParent],
) -> Iterator[RemixResults]:
    """Request the remixes of stored clips that the dataset lists and no run has requested.

    The run that paid for a clip pays for its remixes, within its limit. Whatever the result, no
    later run requests them automatically. A changed remix is listed and not bought.

    Yields:
        The results, once for each run that pays.

    Raises:
        RunwareError: if the API refuses the key or cannot be reached.
        StorageError: if the storage root fails.
    """
    newest: dict[str, RemixParent] = {}
    for parent in parents:
        known = newest.get(parent.attempt.clip)
        if known is None or known.attempt.take < parent.attempt.take:
            newest[parent.attempt.clip] = parent

    failures: dict[str, str] = {}
    by_payer: dict[RequestOptions, list[tuple[str, ClipRequest]]] = {}
    wanted = [parent for clip, parent in newest.items() if prompts.recipes_of(clip)]
    for plan in in_parallel(wanted, lambda parent: _plan(dataset, generator, prompts, parent)):
        failures |= plan.failures
        if plan.options is not None:
            task_uuid = plan.parent.attempt.task_uuid
            by_payer.setdefault(plan.options, []).extend(
                (task_uuid, remix) for remix in plan.remixes
            )
    if failures:
        yield RemixResults(failures=failures)
    for options, requests in by_payer.items():
        results = generator.request([remix for _, remix in requests], options)
        for (task_uuid, remix), result in zip(requests, results, strict=True):
            generator.ledger.remixes.add(task_uuid, remix, answer=result.state.value)
        yield RemixResults(results)


def _plan(
    dataset: VideoDataset, generator: Generator, prompts: PromptDataset, parent: RemixParent
) -> _Plan:
    ledger = generator.ledger
    remixes, failures = remix_requests(dataset, prompts, parent.manifest, ledger)
    remixes = ledger.remixes.never_requested(parent.attempt.task_uuid, remixes)
    options = None
    if remixes:
        try:
            options = options_after(ledger, parent.attempt)
        except (UnreadableRecordError, AccessDeniedError) as error:
            failures |= {
                remix.name: f"the run that pays for it is unknown: {error}" for remix in remixes
            }
    return _Plan(parent, options, remixes, failures)


def remix_requests(
    dataset: VideoDataset, prompts: PromptDataset, parent: ClipManifest, ledger: Ledger
) -> tuple[list[ClipRequest], dict[str, str]]:
    """The remixes that the dataset lists of a stored clip, and why others cannot be requested."""
    remixes: list[ClipRequest] = []
    failures: dict[str, str] = {}
    for recipe in prompts.recipes_of(parent.clip):
        try:
            remixes.append(dataset.remix_request(prompts, parent.clip, recipe, parent, ledger.root))
        except ValueError as error:
            failures[remix_partition(parent.clip, recipe)] = str(error)
    return remixes, failures


def read_due_remixes(
    ledger: Ledger, dataset: str, task_uuids: Iterable[str]
) -> tuple[list[RemixParent], dict[str, str]]:
    """The stored clips whose remixes are due, by the tasks in the index of a dataset.

    Obsolete entries are removed.

    Returns:
        The clips, and why the remixes of other clips cannot be requested, by task.
    """
    parents: list[RemixParent] = []
    failures: dict[str, str] = {}
    for task_uuid in task_uuids:
        try:
            parent = _due_parent(ledger, dataset, task_uuid)
        except (UnreadableRecordError, AccessDeniedError) as error:
            failures[task_uuid] = (
                f"the remixes of its clip are not requested, because a record cannot be read: "
                f"{error} Repair it, then request them with the job request_clips"
            )
            parent = None
        if parent is None:
            ledger.remixes.clear_due(dataset, task_uuid)
        else:
            parents.append(parent)
    return parents, failures


def _due_parent(ledger: Ledger, dataset: str, task_uuid: str) -> RemixParent | None:
    """A clip whose remixes are due; None if it is not stored, or has a newer take."""
    attempt = ledger.remixes.due_attempt(dataset, task_uuid)
    if attempt is None:
        return None
    manifest = ledger.latest_manifest(attempt.asset, attempt.clip)
    if manifest is None or manifest.task_uuid != task_uuid:
        return None
    return RemixParent(attempt, manifest)
