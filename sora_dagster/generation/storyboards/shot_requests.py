"""The request of a storyboard's shot, and the stored video that a remix is made from."""

from __future__ import annotations

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.prompts.boards import Board, Shot
from sora_dagster.prompts.clips import ClipRequest, ParentVideo


def asset_of(board: Board, shot_id: str) -> str:
    """The asset key of a shot in the storage root."""
    return f"{board.name}/{shot_id}"


def shot_request(board: Board, shot: Shot, parent: ParentVideo | None) -> ClipRequest:
    """The request of a shot.

    Arguments:
        board: the storyboard.
        shot: the shot.
        parent: the video it is made from, for a remix.
    """
    return ClipRequest(
        asset=asset_of(board, shot.id),
        clip=shot.id,
        spec=shot.spec,
        parent=parent,
        board=board.name,
        dataset=board.name,
    )


def stored_parent(ledger: Ledger, board: Board, parent: str) -> ClipManifest:
    """The newest stored take of a shot that has remixes.

    Raises:
        LookupError: if none is stored; the message says what to do.
    """
    asset = asset_of(board, parent)
    stored = ledger.latest_manifest(asset, parent)
    if stored is not None:
        return stored
    takes = ledger.takes(asset, parent)
    if takes and ledger.outcome(takes[-1].latest.task_uuid) is None:
        raise LookupError(
            f"it is a remix of {parent!r}, which is being generated; nothing was sent. "
            f"Materialize it once {asset} is stored, or both together"
        )
    raise LookupError(
        f"it is a remix of {parent!r}, which is neither stored nor among the chosen shots; "
        f"nothing was sent. Materialize {asset} with it, or first"
    )


def is_of_an_earlier_version(shot: Shot, stored: ClipManifest) -> bool:
    """Whether a stored shot differs from what the board says now."""
    return stored.fingerprint != shot.spec.fingerprint or stored.take < shot.spec.take
