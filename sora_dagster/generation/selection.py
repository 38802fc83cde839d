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
from sora_dagster.runware.pricing import Price, PriceTotal
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The clips that one scheduled run requests.

    Arguments:
        clip_ids: the clips, oldest first.
        price: expected price of them and their remixes.
        left: how many clips are left for later runs.
        over_budget: clips that cost more by themselves than a run may spend.
        unpriced: clips that a run with a limit cannot buy, since the catalogue has no price of
            them or of one of their remixes.
    """

    clip_ids: tuple[str, ...]
    price: PriceTotal
    left: int
    over_budget: tuple[str, ...]
    unpriced: tuple[str, ...] = ()


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

    With `max_usd`, a clip of unknown price is not selected.

    Arguments:
        dataset: the dataset.
        catalogue: prices.
        waiting: clips that may be requested, oldest first.
        max_clips: most clips; None for no limit.
        max_usd: highest expected cost of them and their remixes, in USD; None for no limit.
    """
    chosen: list[str] = []
    over_budget: list[str] = []
    unpriced: list[str] = []
    prices: list[Price] = []
    for clip_id in waiting:
        of_clip = clip_and_remix_prices(dataset, catalogue, clip_id)
        total = PriceTotal.of(of_clip)
        if max_usd is not None and total.unknown:
            unpriced.append(clip_id)
            continue
        if max_usd is not None and total.usd > max_usd:
            over_budget.append(clip_id)
            continue
        if max_clips is not None and len(chosen) >= max_clips:
            break
        if max_usd is not None and PriceTotal.of([*prices, *of_clip]).usd > max_usd + 1e-9:
            break
        chosen.append(clip_id)
        prices += of_clip
    left = len(waiting) - len(chosen) - len(over_budget) - len(unpriced)
    return Selection(
        tuple(chosen), PriceTotal.of(prices), left, tuple(over_budget), tuple(unpriced)
    )


def clip_and_remix_prices(
    dataset: PromptDataset, catalogue: Catalogue, clip_id: str
) -> list[Price]:
    """The prices of a clip and of its remixes by the catalogue."""
    return [
        spec_price(dataset.clip(clip_id), catalogue),
        *remix_prices(dataset, catalogue, clip_id),
    ]


def remix_prices(dataset: PromptDataset, catalogue: Catalogue, clip_id: str) -> list[Price]:
    """The prices of the remixes of a clip by the catalogue."""
    spec = dataset.clip(clip_id)
    remixes = (dataset.recipe(name) for name in dataset.recipes_of(clip_id))
    return [planned_remix_price(spec, recipe, catalogue) for recipe in remixes]
