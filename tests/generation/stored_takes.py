"""Takes in a storage root as generations leave them, without generating anything."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from sora_dagster.generation.generator import parent_video
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    OutcomeState,
    StoredVideo,
)
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, ClipSpec
from sora_dagster.runware.pricing import Price

VIDEO = b"a video"
NONCE = "5a1e"


def claim(
    ledger: Ledger,
    clip: str = "fox",
    take: int = 1,
    *,
    asset: str = "clips",
    dataset: str = DEFAULT_DATASET,
    parent: ClipManifest | None = None,
    send: bool = True,
) -> AttemptRecord:
    """An attempt that was claimed, and sent."""
    request = ClipRequest(
        asset=asset,
        clip=clip,
        spec=ClipSpec.model_validate(
            {
                "clip_id": "fox",
                "prompt": f"a fox, take {take}",
                "size": "1280x720",
                "duration_seconds": 4,
            }
        ),
        recipe=None if parent is None else "snow",
        parent=None if parent is None else parent_video(parent),
        dataset=dataset,
    )
    attempt = AttemptRecord(
        request=request,
        take=take,
        attempt=1,
        fingerprint=request.spec.fingerprint,
        task_uuid=ledger.task_uuid(asset, clip, take, 1),
        wire={"positivePrompt": request.spec.prompt},
        estimate=Price(usd=1.2, certainty="published"),
        root_run="run",
        run_limit_usd=None,
        created_at=datetime.now(UTC),
        nonce=ledger.new_nonce(),
    )
    ledger.claim_attempt(attempt)
    if send:
        ledger.take_right_to_send(attempt.task_uuid)
    return attempt


def end(ledger: Ledger, attempt: AttemptRecord, state: OutcomeState = "done") -> None:
    """Record how an attempt ended, and take it out of the index."""
    ledger.settle(
        attempt.task_uuid,
        OutcomeRecord(state=state, cost_usd=1.2, at=datetime.now(UTC), nonce=ledger.new_nonce()),
    )
    ledger.pending.remove(attempt.dataset, attempt.task_uuid)


def store(ledger: Ledger, attempt: AttemptRecord, body: bytes = VIDEO) -> ClipManifest:
    """Store a whole take of an attempt, its outcome apart."""
    place = (attempt.asset, attempt.clip, attempt.take)
    key = layout.video_key(*place, attempt.task_uuid, "mp4", NONCE)
    pictures = [
        layout.take_file_key(*place, name, NONCE)
        for name in ("poster.jpg", "sheet.jpg", "thumbnail.jpg")
    ]
    ledger.root.write(key, body)
    for picture in pictures:
        ledger.root.write(picture, b"a picture")
    sha256 = hashlib.sha256(body).hexdigest()
    video = StoredVideo(
        key=key,
        video_uuid=attempt.task_uuid,
        video_id=attempt.task_uuid,
        seed=1,
        cost_usd=1.2,
        nsfw=None,
        size_bytes=len(body),
        sha256=sha256,
        content_type="video/mp4",
        container="mp4",
        width=1280,
        height=720,
        duration_seconds=4,
        frame_count=96,
        frames_per_second=24,
        video_codec="h264",
        audio_codec="aac",
    )
    return ledger.write_manifest(
        ClipManifest(
            asset=attempt.asset,
            clip=attempt.clip,
            take=attempt.take,
            attempt=attempt.attempt,
            fingerprint=attempt.fingerprint,
            task_uuid=attempt.task_uuid,
            state="done",
            request=attempt.request,
            wire=attempt.wire,
            videos=(video,),
            poster_key=pictures[0],
            sheet_key=pictures[1],
            thumbnail_key=pictures[2],
            errors=(),
            cost_usd=1.2,
            cost_is_estimate=False,
            estimate=Price(usd=1.2, certainty="published"),
            requested_at=attempt.created_at,
            stored_at=attempt.created_at,
            generation_seconds=1,
            content_hash=sha256,
            root_run=attempt.root_run,
            nonce=ledger.new_nonce(),
        )
    )


def stored_take(
    ledger: Ledger,
    clip: str = "fox",
    take: int = 1,
    *,
    asset: str = "clips",
    dataset: str = DEFAULT_DATASET,
    parent: ClipManifest | None = None,
) -> ClipManifest:
    """A take that was asked for, stored and closed."""
    attempt = claim(ledger, clip, take, asset=asset, dataset=dataset, parent=parent)
    manifest = store(ledger, attempt)
    end(ledger, attempt)
    ledger.mark_stored(manifest)
    return manifest


def keys(ledger: Ledger, *folders: str) -> set[str]:
    """Keys of all objects below some folders, or below the root."""
    return {info.key for folder in folders or ("",) for info in ledger.root.list(folder)}
