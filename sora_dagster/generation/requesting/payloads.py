"""The API request of a clip, and the form in which records keep it.

Records hold no signature and no image data. The bytes of images are stored once, below a hash. What
may grant access to a URL is stored nowhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import JsonValue

from sora_dagster.generation.fetching.download import shown_url
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.prompts.clips import ClipRequest, ClipSpec, with_urls
from sora_dagster.prompts.recipes import Recipe, remix_fields, remix_spec
from sora_dagster.runware.catalogue import Catalogue, FrameSize, VideoModel
from sora_dagster.runware.errors import InvalidRequestError, Problem
from sora_dagster.runware.image_files import ImageFileError, image_file_of
from sora_dagster.runware.images import (
    data_uri,
    image_file_format,
    image_identity,
    is_address,
    public_address,
)
from sora_dagster.runware.pricing import Price, price_of
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.requests import FrameImage, VideoInference
from sora_dagster.runware.rules import audio_problem, check_request
from sora_dagster.storage import StorageRoot

_IMAGE_INPUTS = ("frameImages", "referenceImages")
_HASH_PREFIX = "sha256:"
# Alone, or as the fragment of a URL.
_HASH = re.compile(r"(?<![^#])sha256:[0-9a-f]{64}$")


def build_inference(
    request: ClipRequest,
    *,
    task_uuid: str,
    catalogue: Catalogue,
    webhook: WebhookUrl | None,
    hosted_seconds: int | None,
    upload_url: str | None = None,
    parent_video: str | None = None,
) -> VideoInference:
    """The API request for a clip, checked against the model's catalogue entry.

    Its image files are read now.

    Arguments:
        request: the requested clip.
        task_uuid: the task's UUID.
        catalogue: the models that may be used.
        webhook: where Runware calls back; None if results are polled for.
        hosted_seconds: how long Runware keeps the result's URL alive; None for its default.
        upload_url: presigned URL that Runware puts the video to; None if it is downloaded.
        parent_video: for a remix, the video of its parent as it is sent (see `ParentVideos`).

    Raises:
        InvalidRequestError: if the API would refuse it, or an image file changed after the dataset
            was read; nothing was sent.
        UnknownModelError: if the model has no catalogue entry.
    """
    request = _with_image_data(request, task_uuid)
    spec, entry = request.spec, catalogue.get(request.spec.model)
    if (problem := audio_problem(spec.audio, entry)) is not None:
        raise InvalidRequestError([problem], task_uuid)
    fields: dict[str, Any] = {
        **_clip_fields(request, entry, parent_video),
        "task_uuid": task_uuid,
        "include_cost": True,
    }
    if webhook is not None:
        fields["webhook_url"] = webhook.for_task(request.dataset, task_uuid)
    if hosted_seconds is not None:
        fields["ttl"] = hosted_seconds
    if upload_url is not None:
        fields["upload_endpoint"] = upload_url
    inference = VideoInference.build(**fields)
    check_request(inference, catalogue)
    return inference


def _with_image_data(request: ClipRequest, task_uuid: str) -> ClipRequest:
    """A request with the bytes of its image files, as data URIs."""

    def loaded(image: str) -> str:
        file = image_file_of(image)
        if file is None:
            return image
        try:
            data = file.read()
        except ImageFileError as error:
            problem = Problem("inputs", shown(str(file.path)), str(error))
            raise InvalidRequestError([problem], task_uuid) from error
        return data_uri(data, image_file_format(file))

    return request.model_copy(update={"spec": request.spec.with_files(loaded)})


def _clip_fields(
    request: ClipRequest, entry: VideoModel, parent_video: str | None
) -> dict[str, Any]:
    if request.parent is None:
        return request.spec.request_fields(entry)
    return remix_fields(
        request.spec,
        entry,
        parent_video or request.parent.video_uuid,
        size=request.parent.size,
        seconds=request.parent.duration_seconds,
    )


def request_price(request: ClipRequest, catalogue: Catalogue) -> Price:
    """The price of a clip by the catalogue.

    A remix has the size and length of its parent, if they are known.
    """
    spec, parent = request.spec, request.parent
    if parent is None:
        return spec_price(spec, catalogue)
    return remix_price(spec, parent.size, parent.duration_seconds, catalogue)


def spec_price(spec: ClipSpec, catalogue: Catalogue) -> Price:
    """The price of a row by the catalogue."""
    entry = catalogue.get(spec.model)
    return price_of(_draft(spec.request_fields(entry)), entry)


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
    entry = catalogue.get(spec.model)
    fields = remix_fields(spec, entry, "parent", size=size, seconds=seconds)
    return price_of(_draft(fields), entry, input_size=size, input_seconds=seconds)


def planned_remix_price(parent: ClipSpec, recipe: Recipe, catalogue: Catalogue) -> Price:
    """The price of a remix whose parent is not generated yet, by the catalogue.

    Arguments:
        parent: the row of the parent.
        recipe: the recipe.
        catalogue: the models that may be used.
    """
    spec = remix_spec(parent, recipe, catalogue)
    return remix_price(spec, parent.size, parent.seconds, catalogue)


def _draft(fields: dict[str, Any]) -> VideoInference:
    """A request for its price only. It is not checked."""
    return VideoInference.model_construct(None, **fields)


def redacted_payload(inference: VideoInference) -> dict[str, JsonValue]:
    """A request as records keep it: without signatures, and with hashes instead of image data."""
    wire = {key: value for key, value in inference.to_wire().items() if key != "webhookURL"}
    if (upload_url := wire.get("uploadEndpoint")) is not None:
        wire["uploadEndpoint"] = shown_url(upload_url)
    if isinstance(inputs := wire.get("inputs"), dict):
        wire["inputs"] = {
            name: _redacted_input(
                value, redacted_image if name in _IMAGE_INPUTS else public_address
            )
            for name, value in inputs.items()
        }
    for name in ("settings", "providerSettings", *inference.extra_parameters):
        if name in wire:
            wire[name] = with_urls(wire[name], redacted_image)
    return wire


def _redacted_input(value: Any, redacted: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_redacted_input(item, redacted) for item in value]
    if isinstance(value, dict):
        return {**value, "image": redacted(value["image"])}
    return redacted(value)


def redacted_spec(spec: ClipSpec) -> ClipSpec:
    """A spec as records keep it: with hashes instead of the bytes and secrets of its files."""
    return spec.with_files(redacted_image)


def redacted_image(image: str) -> str:
    """An image as records keep it.

    Bytes become their hash, the same for a file and for its data URI. A URL loses its query, user
    and password, which may grant access, and gets the hash of its text as its fragment.
    """
    if not is_address(image):
        identity = image_identity(image)
        return identity if identity.startswith(_HASH_PREFIX) else _hash_text(image)
    address = public_address(image)
    return image if address == image else f"{address}#{_hash_text(image)}"


def keep_images(root: StorageRoot, spec: ClipSpec, inference: VideoInference) -> None:
    """Store the bytes of images that records keep as a hash, unless they are stored already.

    Arguments:
        root: the storage root.
        spec: the clip.
        inference: its API request, which has the bytes of image files.
    """
    sent = {redacted_image(image): image for image in _sent_images(inference)}

    def keep(image: str) -> str:
        if not is_address(image) and (redacted := redacted_image(image)) != image:
            root.create(_key(redacted), sent.get(redacted, image).encode())
        return image

    spec.with_files(keep)


def _sent_images(inference: VideoInference) -> Iterator[str]:
    inputs = inference.inputs
    if inputs is not None:
        for item in (*(inputs.frame_images or ()), *(inputs.reference_images or ())):
            yield item.image if isinstance(item, FrameImage) else item


def with_images(
    root: StorageRoot, request: ClipRequest, full_url: Callable[[str, str], str]
) -> ClipRequest:
    """A request from a record, with its images and URLs as they can be sent.

    Arguments:
        root: the storage root that has the bytes of images.
        request: the request of the record.
        full_url: gives the full URL of a clip id and a URL as records keep it.

    Raises:
        ObjectMissingError: if an image is not in the root, or a URL is not known.
    """

    def restored(image: str) -> str:
        hashed = _HASH.search(image)
        if hashed is None:
            return image
        if hashed[0] != image:
            return full_url(request.spec.clip_id, image)
        return root.read(_key(hashed[0])).decode()

    return request.model_copy(update={"spec": request.spec.with_files(restored)})


def _hash_text(text: str) -> str:
    """The hash that replaces a long text in records."""
    return f"{_HASH_PREFIX}{hashlib.sha256(text.encode()).hexdigest()}"


def _key(hashed: str) -> str:
    return f"{layout.IMAGES_FOLDER}/{hashed.removeprefix(_HASH_PREFIX)}"
