"""Asking for the remixes of stored clips, once for each parent video and recipe."""

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
    """A stored clip whose remixes are to be asked for.

    Arguments:
        attempt: the attempt that it came from; its run pays for the remixes.
        manifest: the stored clip.
    """

    attempt: AttemptRecord
    manifest: ClipManifest


@dataclass(frozen=True)
class RemixAnswers:
    """What became of asking for remixes.

    Arguments:
        requested: the answers.
        failures: why others were not asked for, by name.
    """

    requested: Sequence[RequestResult] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DueRemixes:
    """What the index says of stored clips whose remixes no run has asked for.

    Arguments:
        parents: the clips.
        failures: why the remixes of others cannot be asked for, by task.
    """

    parents: Sequence[RemixParent] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """The remixes of one clip that no run has asked for.

    Arguments:
        parent: the clip.
        asking: on whose behalf they are asked for; None if there is nothing to ask for.
        remixes: the remixes.
        failures: why others cannot be asked for, by partition key.
    """

    parent: RemixParent
    asking: RequestOptions | None
    remixes: Sequence[ClipRequest]
    failures: Mapping[str, str]


def request_remixes(
    dataset: VideoDataset,
    generator: Generator,
    prompts: PromptDataset,
    parents: Iterable[RemixParent],
) -> Iterator[RemixAnswers]:
    """Ask for the remixes that a dataset wants of stored clips and that no run has asked for.

    They are paid for by the run that paid for their clip, within its limit. Whatever the answer,
    no later run asks for them by itself. A changed remix is listed and not bought.

    Yields:
        What became of them, once for each run that pays.

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
        if plan.asking is not None:
            task_uuid = plan.parent.attempt.task_uuid
            by_payer.setdefault(plan.asking, []).extend(
                (task_uuid, remix) for remix in plan.remixes
            )
    if failures:
        yield RemixAnswers(failures=failures)
    for asking, asked in by_payer.items():
        requested = generator.request([remix for _, remix in asked], asking)
        for (task_uuid, remix), answer in zip(asked, requested, strict=True):
            generator.ledger.remixes.add(task_uuid, remix, answer=answer.state.value)
        yield RemixAnswers(requested)


def _plan(
    dataset: VideoDataset, generator: Generator, prompts: PromptDataset, parent: RemixParent
) -> _Plan:
    ledger, clip = generator.ledger, parent.attempt.clip
    remixes: list[ClipRequest] = []
    failures: dict[str, str] = {}
    for recipe in prompts.recipes_of(clip):
        try:
            remixes.append(
                dataset.remix_request(prompts, clip, recipe, parent.manifest, ledger.root)
            )
        except ValueError as error:
            failures[remix_partition(clip, recipe)] = str(error)
    remixes = ledger.remixes.never_requested(parent.attempt.task_uuid, remixes)
    asking = None
    if remixes:
        try:
            asking = options_after(ledger, parent.attempt)
        except (UnreadableRecordError, AccessDeniedError) as error:
            failures |= {
                remix.name: f"it is not known which run pays for it: {error}" for remix in remixes
            }
    return _Plan(parent, asking, remixes, failures)


def read_due_remixes(ledger: Ledger, dataset: str, task_uuids: Iterable[str]) -> DueRemixes:
    """The stored clips whose remixes are due; entries that are of no use are removed.

    Arguments:
        ledger: the ledger.
        dataset: name of the dataset.
        task_uuids: the tasks that the index names.
    """
    parents = []
    failures = {}
    for task_uuid in task_uuids:
        try:
            parent = _due_parent(ledger, dataset, task_uuid)
        except (UnreadableRecordError, AccessDeniedError) as error:
            failures[task_uuid] = (
                f"the remixes of its clip are not asked for, since a record cannot be read: "
                f"{error} Correct that, then ask for them with the job request_clips"
            )
            parent = None
        if parent is None:
            ledger.remixes.clear_due(dataset, task_uuid)
        else:
            parents.append(parent)
    return DueRemixes(parents, failures)


def _due_parent(ledger: Ledger, dataset: str, task_uuid: str) -> RemixParent | None:
    """A clip whose remixes are due; None if it is not stored, or a newer take of it is."""
    attempt = ledger.remixes.due_attempt(dataset, task_uuid)
    if attempt is None:
        return None
    manifest = ledger.latest_manifest(attempt.asset, attempt.clip)
    if manifest is None or manifest.task_uuid != task_uuid:
        return None
    return RemixParent(attempt, manifest)
