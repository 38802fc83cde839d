"""The JSON objects that the protocol keeps in the storage root, as models."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from sora_dagster.generation.protocol import layout
from sora_dagster.media.meter import VideoMeasures
from sora_dagster.prompts.clips import ClipRequest, ParentVideo
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price

# Version of the storage layout; roots of an older version are refused.
FORMAT_VERSION = 2
# Version 2 added the contact sheet, the thumbnail, the measures and the delivery; an older manifest
# reads without them.
MANIFEST_VERSION = 2

Delivery = Literal["download", "direct"]
FactsFrom = Literal["poll", "marker", "upload"]
# How the video of a remix's parent is sent: as its `videoId`, its `videoUUID`, a presigned URL
# of the stored video, or the image of its last frame.
Carrier = Literal["id", "uuid", "address", "frame"]


class Record(BaseModel):
    """An immutable JSON object; fields that a newer version added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_json(self) -> bytes:
        """The object's bytes."""
        return self.model_dump_json(indent=1).encode()


class RootRecord(Record):
    """`root.json`: the API and account that the root is bound to.

    Arguments:
        namespace: random; task UUIDs are derived from it, so two roots never share one.
        api_base_url: the API that its tasks were sent to.
        account: the account that pays; None if the API does not report it.
    """

    format_version: int = FORMAT_VERSION
    namespace: str
    api_base_url: str
    account: str | None
    created_at: datetime
    nonce: str


class AttemptRecord(Record):
    """`slots/…/attempt-k.json`: an attempt to generate a clip, recorded before it is sent.

    Arguments:
        request: the requested clip, with the hash of a first frame instead of its data.
        take: number of the deliberate generation.
        attempt: number of the attempt of that take.
        fingerprint: hash of all that decides what is generated.
        task_uuid: Runware's id of the task.
        wire: the request as sent, without webhook address, the upload URL's signature and
            image data.
        estimate: expected price, and how it was found.
        root_run: the run that requested it; for a retry, the first run.
        run_limit_usd: spending limit of the root run in USD; None for no limit.
        delivery: whether Runware puts the video into the store, or it is downloaded.
        carrier: how the video of its parent was sent; None if it has no parent.
    """

    request: ClipRequest
    take: int
    attempt: int
    fingerprint: str
    task_uuid: str
    wire: dict[str, JsonValue]
    estimate: Price
    root_run: str
    run_limit_usd: float | None
    delivery: Delivery = "download"
    carrier: Carrier | None = None
    created_at: datetime
    nonce: str

    @property
    def key(self) -> str:
        """Key of this record."""
        return layout.attempt_key(self.asset, self.clip, self.take, self.attempt)

    @property
    def dataset(self) -> str:
        """Name of the dataset that the clip belongs to."""
        return self.request.dataset

    @property
    def asset(self) -> str:
        """Asset key of the clip."""
        return self.request.asset

    @property
    def clip(self) -> str:
        """Partition key of the clip."""
        return self.request.clip

    @property
    def parent(self) -> ParentVideo | None:
        """The video a remix was made from."""
        return self.request.parent


class DatasetRecord(Record):
    """`datasets/<name>.json`: the assets of a dataset.

    Arguments:
        name: the dataset's name.
        assets: keys of its assets of videos; of a storyboard, its name for all its shots.
    """

    name: str
    assets: tuple[str, ...]
    nonce: str


class PendingRecord(Record):
    """`pending/<dataset>/<uuid>.<reopening>`: an entry of the index of outstanding tasks.

    The attempt that it names has the other facts.

    Arguments:
        reopening: 0, or the number of the reopening that this entry is for.
        times_left: how often a run has ended while this task was running at Runware.
    """

    dataset: str
    asset: str
    clip: str
    take: int
    attempt: int
    task_uuid: str
    reopening: int = 0
    times_left: int = 0


class SentRecord(Record):
    """`tasks/<uuid>/sent-<i>.json`: the right to POST this task, taken by one process.

    Arguments:
        purpose: to submit the task, or to void it so that it is never sent.
        root_run: the run that pays for the task; its limit counts retries and remixes too.
        run_limit_usd: that run's spending limit in USD; None for no limit.
        slot: key of the attempt, so that a task can be found by its UUID alone.
    """

    purpose: Literal["submit", "void"]
    root_run: str | None = None
    run_limit_usd: float | None = None
    slot: str | None = None
    at: datetime
    nonce: str


class ReopenedRecord(Record):
    """`tasks/<uuid>/reopened-<i>.json`: an ended task is collected again.

    It has its own deadline and its own `outcome-<i>.json`.
    """

    at: datetime
    nonce: str


class StuckRecord(Record):
    """`stuck/<dataset>/<uuid>.json`: a task that cannot be collected, with the reason.

    Arguments:
        pending: its entry in the index of what is outstanding; None if that cannot be read.
        reason: which record cannot be read, and what to do.
    """

    task_uuid: str
    reopening: int
    pending: PendingRecord | None
    reason: str
    at: datetime


class NoteRecord(Record):
    """`notes/<dataset>/<uuid>.json`: why an outstanding task is slow or cannot be stored yet.

    `undecided/<dataset>/<uuid>.json`: why an ended task may have been paid for and has no video.

    Arguments:
        asset: asset key of the clip.
        clip: its partition key.
        reason: human-readable reason.
    """

    asset: str
    clip: str
    reason: str
    at: datetime


class RemixRecord(Record):
    """`tasks/<uuid>/remix-<hash>.json`: a remix of this task's video that a run requested.

    Arguments:
        asset: asset key of the remix.
        clip: its partition key.
        fingerprint: hash of all that decides what it is.
        answer: state of the request's result.
    """

    asset: str
    clip: str
    fingerprint: str
    answer: str
    at: datetime


SeenHow = Literal["acknowledged", "conflict", "polled"]


class SeenRecord(Record):
    """`tasks/<uuid>/seen.json`: proof that Runware has the task."""

    how: SeenHow
    at: datetime


OutcomeState = Literal["done", "partial", "failed", "lost", "unsure", "void"]
# Outcomes of tasks that Runware may have a video of after all.
UNDECIDED_STATES = ("lost", "unsure")


class OutcomeRecord(Record):
    """`tasks/<uuid>/outcome-<i>.json`: how a task, or its i-th reopening, ended.

    Arguments:
        state: `done`, all videos are stored; `partial`, some are; `failed`, none is; `lost`,
            Runware had the task and no longer knows it; `unsure`, it was sent and never confirmed;
            `void`, it was never accepted.
        cost_usd: cost in USD; the estimate if the API does not report it, 0 if nothing was
            accepted. None: unknown, since the API did not report it and there was no estimate.
        cost_is_estimate: whether a part of the cost is not what the API reported.
        errors: what failed, and why.
        was_accepted: whether Runware had the task, or may have had it, so that it may have been
            charged.
    """

    state: OutcomeState
    cost_usd: float | None
    cost_is_estimate: bool = False
    errors: tuple[ErrorRecord, ...] = ()
    was_accepted: bool = True
    at: datetime
    nonce: str

    @property
    def has_videos(self) -> bool:
        """Whether there is a manifest with at least one video."""
        return self.state in ("done", "partial")


class StoredVideo(Record):
    """One video in the root, as the manifest describes it.

    Arguments:
        key: the object's key below the root.
        video_uuid: its UUID at Runware.
        video_id: its id for `inputs.videoId` of a remix.
        seed: the seed Runware chose.
        cost_usd: cost of this video in USD; None if the API did not report it.
        nsfw: the content flag; None if content was not checked.
        size_bytes: length of the object in bytes.
        sha256: hash of the object's bytes, in hex.
        content_type: media type, such as `video/mp4`.
        container: container of the file, such as `mp4`.
        width: in pixels.
        height: in pixels.
        duration_seconds: length of the video in seconds.
        frame_count: number of frames.
        frames_per_second: mean frame rate.
        video_codec: such as `h264`.
        audio_codec: such as `aac`; None without sound.
        measures: brightness, movement and loudness, measured while it was decoded; None if it
            cannot be decoded to its end.
        decode_error: why it cannot be decoded to its end; size, length and codecs are then those
            of its header. None for a video that decodes.
    """

    key: str
    video_uuid: str
    video_id: str | None
    seed: int | None
    cost_usd: float | None
    nsfw: bool | None
    size_bytes: int
    sha256: str
    content_type: str
    container: str
    width: int
    height: int
    duration_seconds: float
    frame_count: int
    frames_per_second: float
    video_codec: str
    audio_codec: str | None
    measures: VideoMeasures | None = None
    decode_error: str | None = None


class ClipManifest(Record):
    """`clips/…/clip.json`: the full record of a stored clip, written after all its files.

    Arguments:
        format_version: version of this format.
        asset: asset key of the clip.
        clip: its partition key: a clip id, or `clip|recipe` for a remix; a shot's id.
        take: number of the deliberate generation, from 1.
        attempt: number of the attempt of this take that succeeded, from 1.
        fingerprint: hash of everything that decides what is generated.
        task_uuid: the task's UUID at Runware.
        state: `done`, or `partial` if some of several videos are missing.
        request: the row or remix that was requested.
        wire: the request as it was sent, without secrets and presigned URLs.
        videos: the stored videos.
        poster_key: a frame of the first video, as JPEG.
        sheet_key: its first, middle and last frame side by side, as JPEG.
        thumbnail_key: the sheet, small enough for an event's metadata.
        delivery: whether the video was downloaded, or put into the store by Runware.
        errors: why videos are missing, if the state is `partial`.
        cost_usd: cost of the task in USD. None: unknown, as in `OutcomeRecord`.
        cost_is_estimate: whether a part of the cost is not what the API reported.
        estimate: the price that was expected, and how it was found.
        requested_at: when it was requested, by the store's clock.
        stored_at: when it was stored, by the store's clock.
        generation_seconds: time from the submission until its last result was first seen finished,
            by the store's clock.
        content_hash: SHA-256 over the videos' hashes: the clip's data version.
        root_run: id of the root run that paid for it.
        facts_from: where its facts come from: a `poll`; a webhook's `marker`, if polls no longer
            know the task; or an `upload`, if there is only the video that Runware put into the
            store.
        nonce: random text of the process that wrote it.
    """

    format_version: int = MANIFEST_VERSION
    asset: str
    clip: str
    take: int
    attempt: int
    fingerprint: str
    task_uuid: str
    state: Literal["done", "partial"]
    request: ClipRequest
    wire: dict[str, JsonValue]
    videos: tuple[StoredVideo, ...]
    poster_key: str
    sheet_key: str | None = None
    thumbnail_key: str | None = None
    delivery: Delivery = "download"
    errors: tuple[ErrorRecord, ...]
    cost_usd: float | None
    cost_is_estimate: bool
    estimate: Price = Price(usd=None, certainty="unknown")
    requested_at: datetime
    stored_at: datetime
    generation_seconds: float
    content_hash: str
    root_run: str
    facts_from: FactsFrom = "poll"
    nonce: str


class PrunedRecord(Record):
    """`clips/…/pruned.json`: the record of a take whose videos were removed to save space.

    Arguments:
        manifest: the take's full record; the objects that it names are removed.
        pruned_at: when it was removed, by the store's clock.
    """

    manifest: ClipManifest
    pruned_at: datetime
