"""The API request of a clip, and the form in which records keep it.

Records hold no signature and no image data: a first frame's bytes are stored once, below a hash.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import JsonValue

from sora_dagster.generation.fetching.download import shown_url
from sora_dagster.generation.protocol.markers import WebhookAddress
from sora_dagster.prompts.clips import ClipRequest, ClipSpec, remix_spec
from sora_dagster.runware.catalogue import Catalogue, FrameSize
from sora_dagster.runware.images import is_address
from sora_dagster.runware.pricing import Price, price_of
from sora_dagster.runware.requests import Inputs, VideoInference
from sora_dagster.runware.rules import check_request
from sora_dagster.storage import StorageRoot

_FRAMES_FOLDER = "frames"
_HASH_PREFIX = "sha256:"


def build_inference(
    request: ClipRequest,
    *,
    task_uuid: str,
    catalogue: Catalogue,
    webhook: WebhookAddress | None,
    hosted_seconds: int | None,
    upload_url: str | None = None,
) -> VideoInference:
    """The API request for a clip, checked against the model's catalogue entry.

    Arguments:
        request: the requested clip.
        task_uuid: the task's UUID.
        catalogue: the models that may be used.
        webhook: where Runware calls back; None if results are polled for.
        hosted_seconds: how long Runware keeps the result's URL alive; None for its default.
        upload_url: presigned address that Runware puts the video to; None if it is downloaded.

    Raises:
        InvalidRequestError: if the API would refuse it; nothing was sent.
        UnknownModelError: if the model has no catalogue entry.
    """
    spec = request.spec
    fields: dict[str, Any] = {
        **spec.request_fields(),
        "task_uuid": task_uuid,
        "include_cost": True,
    }
    if request.parent is not None:
        fields["inputs"] = {"video_id": request.parent.video_id}
    if webhook is not None:
        fields["webhook_url"] = webhook.for_task(request.dataset, task_uuid)
    if hosted_seconds is not None:
        fields["ttl"] = hosted_seconds
    if upload_url is not None:
        fields["upload_endpoint"] = upload_url
    inference = VideoInference.build(**fields)
    check_request(inference, catalogue)
    return inference


def estimate_usd(request: ClipRequest, catalogue: Catalogue) -> float:
    """What a clip is expected to cost by the catalogue, in USD; never below the bill.

    A remix has the size and length of its parent, if they are known.
    """
    spec, parent = request.spec, request.parent
    if parent is None:
        return spec_price(spec, catalogue).usd or 0.0
    return remix_price(spec, parent.size, parent.duration_seconds, catalogue).usd or 0.0


def spec_price(spec: ClipSpec, catalogue: Catalogue) -> Price:
    """The price of a row by the catalogue."""
    return price_of(_draft(spec.request_fields()), catalogue.get(spec.model))


def remix_price(
    spec: ClipSpec, size: FrameSize | None, seconds: float | None, catalogue: Catalogue
) -> Price:
    """The price of a remix by the catalogue.

    Arguments:
        spec: the remix.
        size: size of its parent's video, in pixels. None: unknown.
        seconds: length of its parent's video, in seconds. None: unknown.
        catalogue: the models that may be used.
    """
    draft = _draft({**spec.request_fields(), "inputs": Inputs(video_id="parent")})
    return price_of(
        draft,
        catalogue.get(spec.model),
        input_size=size,
        # The bill is for the length that was requested; containers round it.
        input_seconds=None if seconds is None else float(round(seconds)),
    )


def planned_remix_price(parent: ClipSpec, prompt: str, catalogue: Catalogue) -> Price:
    """The price of a remix whose parent is not generated yet, by the catalogue.

    Arguments:
        parent: the row of the parent.
        prompt: the recipe's prompt.
        catalogue: the models that may be used.
    """
    return remix_price(
        remix_spec(parent, prompt=prompt), parent.size, parent.duration_seconds, catalogue
    )


def _draft(fields: dict[str, Any]) -> VideoInference:
    """A request for its price only. It is not checked."""
    return VideoInference.model_construct(None, **fields)


def redacted_payload(inference: VideoInference) -> dict[str, JsonValue]:
    """A request as records keep it: without signatures, and with hashes instead of image data."""
    wire = {key: value for key, value in inference.to_wire().items() if key != "webhookURL"}
    if (upload_url := wire.get("uploadEndpoint")) is not None:
        wire["uploadEndpoint"] = shown_url(upload_url)
    if isinstance(inputs := wire.get("inputs"), dict) and "frameImages" in inputs:
        images = [_redacted_image(image) for image in inputs["frameImages"]]
        wire["inputs"] = {**inputs, "frameImages": images}
    return wire


def _redacted_image(image: Any) -> Any:
    if isinstance(image, dict):
        return {**image, "image": _redacted_image(image["image"])}
    is_short_address = len(image) <= 2048 and not image.startswith("data:")
    return image if is_short_address else _hash_text(image)


def redacted_spec(spec: ClipSpec) -> ClipSpec:
    """A spec as records keep it: with the hash of a first frame instead of its bytes."""
    if spec.first_frame is None or not _is_bytes(spec.first_frame):
        return spec
    return spec.model_copy(update={"first_frame": _hash_text(spec.first_frame)})


def keep_first_frame(root: StorageRoot, spec: ClipSpec) -> None:
    """Store the bytes of a first frame, if the spec holds any and they are not stored yet."""
    if spec.first_frame is not None and _is_bytes(spec.first_frame):
        root.create(_key(_hash_text(spec.first_frame)), spec.first_frame.encode())


def with_first_frame(root: StorageRoot, request: ClipRequest) -> ClipRequest:
    """A request from a record, with its first frame's bytes.

    Raises:
        ObjectMissingError: if the bytes are not in the root.
    """
    first_frame = request.spec.first_frame
    if first_frame is None or not first_frame.startswith(_HASH_PREFIX):
        return request
    image = root.read(_key(first_frame)).decode()
    return request.model_copy(
        update={"spec": request.spec.model_copy(update={"first_frame": image})}
    )


def _hash_text(text: str) -> str:
    """The hash that replaces a long text in records."""
    return f"{_HASH_PREFIX}{hashlib.sha256(text.encode()).hexdigest()}"


def _is_bytes(image: str) -> bool:
    """Whether an image is a data URI or base64: not an address, not a hash from a record."""
    return not is_address(image) and not image.startswith(_HASH_PREFIX)


def _key(hashed: str) -> str:
    return f"{_FRAMES_FOLDER}/{hashed.removeprefix(_HASH_PREFIX)}"
