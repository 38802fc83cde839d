"""Reads the raw JSON of a `videoInference` task by the documented rules.

It shares no code with the client's own checks, so that each of them finds the other's mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sora_dagster.runware.models import Catalogue, FrameSize, OutputFormat, VideoModel
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.task_fields import TaskFields

UUID_V4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)

# fmt: off
_FIELDS = frozenset({
    "taskType", "taskUUID", "model", "positivePrompt", "width", "height", "duration", "inputs",
    "numberResults", "outputType", "outputFormat", "outputQuality", "deliveryMethod", "webhookURL",
    "uploadEndpoint", "ttl", "includeCost", "safety",
})
# fmt: on


@dataclass(frozen=True)
class VideoRequest:
    """A valid `videoInference` task.

    Arguments:
        task_uuid: the client's id of it.
        entry: the model.
        prompt: what the video shows.
        size: width and height in pixels; None if an image or a video decides it.
        duration_seconds: its length; None if unset.
        image: the first frame as it was sent: UUID, URL, data URI or base64.
        video_id: the video that it is a remix of.
        number_results: how many videos.
        output_format: container.
        output_quality: 20 to 99.
        webhook_url: where each result is sent.
        upload_endpoint: where each video is uploaded.
        ttl_seconds: lifetime of the hosted URL; None: no limit.
        include_cost: whether results report their cost.
        checks_content: whether results report that their content was checked.
        raw: the task as it was sent, for `getTaskDetails`.
    """

    task_uuid: str
    entry: VideoModel
    prompt: str
    size: FrameSize | None
    duration_seconds: float | None
    image: str | None
    video_id: str | None
    number_results: int
    output_format: OutputFormat
    output_quality: int
    webhook_url: str | None
    upload_endpoint: str | None
    ttl_seconds: int | None
    include_cost: bool
    checks_content: bool
    raw: Mapping[str, Any]


def task_uuid_of(task: Mapping[str, Any]) -> str:
    """The UUID of a task.

    Raises:
        RefusedTaskError: it is missing or not a UUID v4.
    """
    value = task.get("taskUUID")
    if value is None:
        raise RefusedTaskError(
            "missingTaskUUID", "taskUUID is required: a UUID v4.", parameter="taskUUID"
        )
    if not isinstance(value, str) or not UUID_V4.fullmatch(value):
        raise RefusedTaskError(
            "invalidTaskUUID", "taskUUID must be a UUID v4.", parameter="taskUUID"
        )
    return value


def read_video_request(task: Mapping[str, Any], catalogue: Catalogue) -> VideoRequest:
    """Check a task and read it.

    Raises:
        RefusedTaskError: the task breaks a rule; it names the first one.
    """
    task_uuid = task_uuid_of(task)
    entry = _model(task, catalogue)
    fields = TaskFields(task, entry)
    fields.refuse_unknown(_FIELDS | set(entry.extra_parameters))
    prompt = fields.text("positivePrompt", required=True) or ""
    if not entry.prompt_min_characters <= len(prompt) <= entry.prompt_max_characters:
        fields.refuse(
            "invalidPositivePromptLength",
            "positivePrompt",
            f"has {len(prompt)} characters; it must have {entry.prompt_min_characters} to "
            f"{entry.prompt_max_characters}",
        )
    image, video_id = _inputs(fields, entry)
    safety = fields.child("safety", {"checkContent", "mode"})
    mode = safety.choice("mode", ("none", "fast", "full"))
    checks_content = safety.boolean("checkContent")
    fields.choice("outputType", ("URL",))
    fields.choice("deliveryMethod", ("async",))
    return VideoRequest(
        task_uuid=task_uuid,
        entry=entry,
        prompt=prompt,
        size=_size(fields, entry, image=image, video_id=video_id),
        duration_seconds=_duration(fields, entry),
        image=image,
        video_id=video_id,
        number_results=fields.integer("numberResults", at_least=1, at_most=entry.max_results) or 1,
        output_format=cast(
            OutputFormat,
            fields.choice("outputFormat", entry.output_formats) or entry.output_formats[0],
        ),
        output_quality=fields.integer("outputQuality", at_least=20, at_most=99) or 95,
        webhook_url=fields.url("webhookURL"),
        upload_endpoint=fields.url("uploadEndpoint"),
        ttl_seconds=fields.integer("ttl", at_least=60),
        include_cost=fields.boolean("includeCost"),
        checks_content=checks_content if mode is None else mode != "none",
        raw=dict(task),
    )


def _model(task: Mapping[str, Any], catalogue: Catalogue) -> VideoModel:
    air = task.get("model")
    if air is None:
        raise RefusedTaskError("missingModel", "model is required.", parameter="model")
    for entry in catalogue.entries:
        if entry.air == air:
            return entry
    known = ", ".join(entry.air for entry in catalogue.entries)
    raise RefusedTaskError(
        "invalidModel", f"model {air!r} is not available; available: {known}.", parameter="model"
    )


def _inputs(fields: TaskFields, entry: VideoModel) -> tuple[str | None, str | None]:
    inputs = fields.child("inputs", {"frameImages", "videoId"})
    images = inputs.items("frameImages")
    video_id = inputs.text("videoId")
    if images is not None and not entry.accepts_first_frame:
        inputs.refuse("unsupportedParameter", "frameImages", f"is not supported by {entry.name}")
    if video_id is not None and not entry.accepts_video_id:
        inputs.refuse("unsupportedParameter", "videoId", f"is not supported by {entry.name}")
    if images is not None and video_id is not None:
        inputs.refuse("incompatibleParameters", "videoId", "cannot be given with frameImages")
    if images is None:
        return None, video_id
    if len(images) != 1:
        code = "arrayTooLarge" if images else "arrayTooSmall"
        inputs.refuse(code, "frameImages", f"has {len(images)} items; exactly 1 is allowed")
    return _image(inputs, images[0]), None


def _image(inputs: TaskFields, item: object) -> str:
    if isinstance(item, Mapping):
        unknown = sorted(set(item) - {"image", "frame"})
        if unknown:
            inputs.refuse("unsupportedParameter", f"frameImages.0.{unknown[0]}", "is not supported")
        if item.get("frame", "first") != "first":
            inputs.refuse("unsupportedFrame", "frameImages.0.frame", "must be 'first'")
        item = item.get("image")
    if not isinstance(item, str) or not item:
        inputs.refuse(
            "invalidFrameImage",
            "frameImages.0",
            "must be an image (UUID, URL, data URI or base64), or an object with one in 'image'",
        )
    return item


def _size(
    fields: TaskFields, entry: VideoModel, *, image: str | None, video_id: str | None
) -> FrameSize | None:
    given = {name: fields.integer(name, at_least=1) for name in ("width", "height")}
    for decider, value in (("inputs.frameImages", image), ("inputs.videoId", video_id)):
        if value is not None:
            for name, side in given.items():
                if side is not None:
                    what = f"cannot be given with {decider}, which decides the size"
                    fields.refuse("incompatibleParameters", name, what)
            return None
    sizes = ", ".join(map(str, entry.sizes))
    width, height = given["width"], given["height"]
    if width is None or height is None:
        name = "width" if width is None else "height"
        fields.refuse(f"missing{name.capitalize()}", name, f"is required; sizes: {sizes}")
    size = FrameSize(width, height)
    if size not in entry.sizes:
        what = f"and height are {size}; they must be one of {sizes}"
        fields.refuse("unsupportedDimensions", "width", what)
    return size


def _duration(fields: TaskFields, entry: VideoModel) -> float | None:
    duration = fields.number("duration")
    if duration is not None and duration not in entry.durations_seconds:
        allowed = ", ".join(f"{seconds:g}" for seconds in entry.durations_seconds)
        fields.refuse(
            "unsupportedDuration", "duration", f"is {duration:g}; it must be one of {allowed}"
        )
    return duration
