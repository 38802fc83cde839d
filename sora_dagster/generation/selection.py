"""Which clips of a dataset a scheduled run requests: the oldest that were never requested."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.requesting.payloads import planned_remix_price, spec_price
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The clips that one scheduled run requests.

    Arguments:
        clip_ids: the clips, oldest first.
        usd: expected cost of them and their remixes, in USD.
        left: how many clips are left for later runs.
        over_budget: clips that cost more by themselves than a run may spend.
    """

    clip_ids: tuple[str, ...]
    usd: float
    left: int
    over_budget: tuple[str, ...]


def never_requested(ledger: Ledger, asset: str, clip_ids: Iterable[str]) -> Iterator[str]:
    """The clips that no task was ever sent for, in their order.

    Costs two listings of folder names, and a read of each requested clip that is not stored.

    Arguments:
        ledger: the ledger.
        asset: asset key of the clips.
        clip_ids: their partition keys.
    """
    place = layout.segment(asset)
    requested = set(ledger.root.folders(f"{layout.SLOTS_FOLDER}/{place}"))
    stored = set(ledger.root.folders(f"{layout.CLIPS_FOLDER}/{place}"))
    for clip_id in clip_ids:
        name = layout.segment(clip_id)
        if name not in requested or (name not in stored and _was_given_up(ledger, asset, clip_id)):
            yield clip_id


def _was_given_up(ledger: Ledger, asset: str, clip_id: str) -> bool:
    """Whether a clip's last attempt ended before anything was accepted, as over a limit."""
    try:
        takes = ledger.takes(asset, clip_id)
        if not takes:
            return True
        outcome = ledger.outcome(takes[-1].latest.task_uuid)
    except (UnreadableRecordError, AccessDeniedError) as error:
        # It may have been paid for, so it is not requested automatically.
        _log.warning("clip %s is not selected: %s", clip_id, error)
        return False
    return outcome is not None and outcome.state == "void"


def select_clips(
    dataset: PromptDataset,
    catalogue: Catalogue,
    waiting: Collection[str],
    *,
    max_clips: int | None,
    max_usd: float | None,
) -> Selection:
    """Select the first of the waiting clips, as many as fit.

    Arguments:
        dataset: the dataset.
        catalogue: prices.
        waiting: clips that may be requested, oldest first.
        max_clips: most clips; None for no limit.
        max_usd: highest expected cost of them and their remixes, in USD; None for no limit.
    """
    chosen: list[str] = []
    over_budget: list[str] = []
    spent = 0.0
    for clip_id in waiting:
        usd = clip_and_remixes_usd(dataset, catalogue, clip_id)
        if max_usd is not None and usd > max_usd:
            over_budget.append(clip_id)
            continue
        if max_clips is not None and len(chosen) >= max_clips:
            break
        if max_usd is not None and spent + usd > max_usd + 1e-9:
            break
        chosen.append(clip_id)
        spent += usd
    left = len(waiting) - len(chosen) - len(over_budget)
    return Selection(tuple(chosen), round(spent, 6), left, tuple(over_budget))


def clip_and_remixes_usd(dataset: PromptDataset, catalogue: Catalogue, clip_id: str) -> float:
    """Expected cost of a clip and its remixes by the catalogue, in USD."""
    spec = dataset.clip(clip_id)
    clip_usd = spec_price(spec, catalogue).usd or 0.0
    return clip_usd + sum(
        planned_remix_price(spec, dataset.recipe(name), catalogue).usd or 0.0
        for name in dataset.recipes_of(clip_id)
    )
