"""From a clip that is asked for to the request that Runware gets, and what is kept of it."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from sora_dagster.generation.fetching.download import shown_url
from sora_dagster.generation.protocol.markers import WebhookAddress
from sora_dagster.generation.requesting.first_frame_store import hash_text
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.models import Catalogue
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import check_request


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
        request: the clip asked for.
        task_uuid: the task's UUID.
        catalogue: the models that may be used.
        webhook: where Runware calls back; None if results are polled for.
        hosted_seconds: how long Runware keeps the result's URL alive; None for its default.
        upload_url: presigned address that Runware puts the video to; None if it is downloaded.

    Raises:
        InvalidRequestError: where the API would refuse it; nothing was sent.
        UnknownModelError: where the model has no catalogue entry.
    """
    spec = request.spec
    fields: dict[str, Any] = {
        **spec.request_fields(),
        "task_uuid": task_uuid,
        "include_cost": True,
        "extra_parameters": catalogue.get(spec.model).extra_parameters,
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

    A remix has the size and length of its parent, where it is known.
    """
    spec, parent = request.spec, request.parent
    size, duration = spec.size, spec.duration_seconds
    if parent is not None:
        size = size or parent.size
        duration = duration or round(parent.duration_seconds)
    return catalogue.get(spec.model).price_usd(
        size=size, duration_seconds=duration, number_results=spec.number_results
    )


def redacted_payload(inference: VideoInference) -> dict[str, JsonValue]:
    """A request as records keep it: no signature, and image bytes as their hash."""
    wire = {key: value for key, value in inference.to_wire().items() if key != "webhookURL"}
    if (upload_url := wire.get("uploadEndpoint")) is not None:
        wire["uploadEndpoint"] = shown_url(upload_url)
    if isinstance(inputs := wire.get("inputs"), dict) and "frameImages" in inputs:
        wire["inputs"] = {**inputs, "frameImages": [_kept_image(i) for i in inputs["frameImages"]]}
    return wire


def _kept_image(image: Any) -> Any:
    if isinstance(image, dict):
        return {**image, "image": _kept_image(image["image"])}
    is_address = len(image) <= 2048 and not image.startswith("data:")
    return image if is_address else hash_text(image)
