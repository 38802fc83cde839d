"""The cost of a storyboard's shots, including remixes of shots that are not stored yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.requesting.estimates import Estimate
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.payloads import remix_price
from sora_dagster.generation.storyboards.shot_requests import asset_of, shot_request
from sora_dagster.prompts.boards import Board, Shot
from sora_dagster.prompts.recipes import planned_length, planned_size
from sora_dagster.runware.catalogue import Catalogue, FrameSize
from sora_dagster.runware.pricing import Price


def estimate_board(
    generator: Generator, board: Board, shot_ids: Collection[str], options: RequestOptions
) -> Iterator[Estimate]:
    """Estimate what requesting shots would cost now; sends nothing, pays nothing.

    Remixes of a shot that would be generated (again) are priced by the catalogue, since the API
    prices only what it could generate now.

    Arguments:
        generator: the generator.
        board: the storyboard.
        shot_ids: ids of the shots.
        options: how the shots would be requested.

    Raises:
        InvalidRequestError: if the API would refuse a shot.
        StorageError: if the storage root cannot be read.
        ValueError: if a stored parent cannot be remixed.
    """
    changing: set[str] = set()
    for level in range(max((shot.level for shot in board.shots), default=-1) + 1):
        at_once = []
        for shot in board.shots:
            if shot.level != level or shot.id not in shot_ids:
                continue
            stored = shot.parent and generator.ledger.latest_manifest(
                asset_of(board, shot.parent), shot.parent
            )
            if shot.parent is None or (stored and shot.parent not in changing):
                parent = parent_video(stored) if stored else None
                at_once.append(shot_request(board, shot, parent))
                continue
            request = shot_request(board, shot, None)
            if shot.parent in shot_ids:
                changing.add(shot.id)
                price = _catalogue_price(board, shot, generator.client.catalogue)
                yield Estimate(request, price, f"after {shot.parent}")
            else:
                detail = f"nothing would be sent: {shot.parent} is not stored"
                yield Estimate(request, None, detail)
        for item in generator.estimate(at_once, options):
            if item.price is not None:
                changing.add(item.request.clip)
            yield item


def _catalogue_price(board: Board, shot: Shot, catalogue: Catalogue) -> Price:
    """The price of a remix whose parent is not generated yet."""
    size, seconds = _planned_video(board, board.shot(shot.parent or ""), catalogue)
    return remix_price(shot.spec, size, seconds, catalogue)


def _planned_video(
    board: Board, shot: Shot, catalogue: Catalogue
) -> tuple[FrameSize | None, float | None]:
    """Size and length in seconds of a shot's video, as far as they are known before."""
    spec = shot.spec
    if shot.parent is None:
        return spec.size, spec.seconds
    size, seconds = _planned_video(board, board.shot(shot.parent), catalogue)
    entry = catalogue.get(spec.model)
    return planned_size(spec, entry, size), planned_length(spec, entry, seconds)
