"""The rules of a request's inputs: which a model accepts, how many, where, and in which form."""

from __future__ import annotations

from collections.abc import Iterator

from sora_dagster.runware.catalogue import VideoModel
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.errors import Problem
from sora_dagster.runware.images import image_problem, is_address
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.request_fields import input_items
from sora_dagster.runware.requests import FrameImage, Inputs, VideoInference


def input_limits(inputs: Inputs, entry: VideoModel) -> Iterator[Problem]:
    """The inputs that a model does not accept."""
    for field, count in input_items(inputs):
        limits = entry.inputs.get(field.removeprefix("inputs."))  # type: ignore[call-overload]
        if limits is None:
            accepted = ", ".join(f"inputs.{name}" for name in entry.inputs) or "none"
            yield Problem(
                field,
                "given",
                f"{entry.name} ({entry.air}) accepts no {_INPUT_WORDS[field]}; accepted: "
                f"{accepted}. Remove it or choose another model",
            )
        elif not 1 <= count <= limits.max:
            yield Problem(
                field,
                f"{count} items",
                f"{count} {_INPUT_WORDS[field]}s are given; allowed: 1 to {limits.max} for "
                f"{entry.name}",
            )
        elif field == "inputs.frameImages":
            yield from _frame_images(inputs.frame_images or (), entry, limits)
        elif field == "inputs.referenceImages":
            for index, image in enumerate(inputs.reference_images or ()):
                name = f"{field}.{index}"
                if problem := image_problem(image, field=name, entry=entry, limits=limits):
                    yield problem


_INPUT_WORDS = {
    "inputs.frameImages": "frame image",
    "inputs.referenceImages": "reference image",
    "inputs.referenceVideos": "reference video",
    "inputs.referenceAudios": "reference audio",
    "inputs.video": "input video",
    "inputs.videoId": "video id",
}


def _frame_images(
    images: tuple[str | FrameImage, ...], entry: VideoModel, limits: InputLimits
) -> Iterator[Problem]:
    places: set[object] = set()
    for index, item in enumerate(images):
        field = f"inputs.frameImages.{index}"
        frame = item if isinstance(item, FrameImage) else FrameImage.model_construct(image=item)
        image_field = f"{field}.image" if isinstance(item, FrameImage) else field
        yield from _frame_place(frame, field, entry, limits)
        place = frame.timestamp if frame.frame is None else _frame_number(frame.frame)
        if place is not None and place in places:
            yield Problem(
                f"{field}.frame", str(place), "two images are at the same place; move one of them"
            )
        places.add(place)
        problem = image_problem(frame.image, field=image_field, entry=entry, limits=limits)
        if problem is not None:
            yield problem


def _frame_number(frame: str | int) -> int:
    return {"first": 0, "last": -1}[frame] if isinstance(frame, str) else frame


def _frame_place(
    frame: FrameImage, field: str, entry: VideoModel, limits: InputLimits
) -> Iterator[Problem]:
    allowed = ", ".join(
        [*limits.positions]
        + ["the number of a frame"] * limits.by_index
        + ["a timestamp"] * limits.by_time
    )
    if frame.timestamp is not None and (not limits.by_time or frame.frame is not None):
        message = (
            "a frame and a timestamp are given; remove one"
            if limits.by_time
            else f"{entry.name} accepts no timestamp of an image; allowed: {allowed}"
        )
        yield Problem(f"{field}.timestamp", str(frame.timestamp), message)
    elif frame.timestamp is not None and frame.timestamp < 0:
        yield Problem(
            f"{field}.timestamp", str(frame.timestamp), "the timestamp is below 0 seconds"
        )
    number = frame.frame
    named = {0: "first", -1: "last"}.get(number, "") if isinstance(number, int) else number
    if number is None or named in limits.positions or (isinstance(number, int) and limits.by_index):
        return
    yield Problem(
        f"{field}.frame",
        shown(number),
        f"{shown(number)} is not a place of an image that {entry.name} accepts; allowed: {allowed}",
    )


def common_input_rules(request: VideoInference) -> Iterator[Problem]:
    """The inputs that no model accepts."""
    inputs = request.inputs
    if inputs is None:
        return
    if not any(True for _ in input_items(inputs)):
        yield Problem("inputs", "empty", "inputs is empty; set one of them, or remove it")
    for field, address in (
        ("inputs.video", inputs.video),
        *(("inputs.referenceVideos", item) for item in inputs.reference_videos or ()),
        *(("inputs.referenceAudios", item) for item in inputs.reference_audios or ()),
    ):
        if address is not None and not is_address(address):
            yield Problem(
                field,
                shown(address),
                f"{shown(address)} is neither the UUID of a file at Runware nor an http(s) URL",
            )
    video_id = inputs.video_id
    if video_id is not None and (not video_id.strip() or not video_id.isprintable()):
        yield Problem(
            "inputs.videoId",
            shown(video_id),
            f"{shown(video_id)} is not the videoId of an earlier video",
        )
