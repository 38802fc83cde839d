"""Finds the inputs of a valid request, and its price."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.pricing import price_of
from sora_dagster.runware.requests import VideoInference
from sora_dagster.sandbox.calls import Caller
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.first_frames import load_first_frame
from sora_dagster.sandbox.refusals import RefusedTaskError, parameter_page
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Order
from sora_dagster.sandbox.validation import VideoRequest


@dataclass
class RequestResolver:
    """Turns requests into orders.

    Arguments:
        registry: the accepted tasks, for the videos that remixes are made from.
        client: fetches first-frame images.
    """

    registry: TaskRegistry
    client: httpx.AsyncClient

    async def resolve(
        self, request: VideoRequest, caller: Caller, *, is_restored: bool = False
    ) -> Order:
        """Find a request's inputs, and price it.

        Arguments:
            request: the request.
            caller: who sent it.
            is_restored: whether it was accepted before a restart. Then the video that it is a
                remix of was finished, even if it has to be rendered again now.

        Raises:
            RefusedTaskError: the image or the video does not exist or does not fit.
        """
        subject = Subject(request.prompt, seed=0)
        duration_seconds = request.duration_seconds or default_seconds(request.entry)
        size = request.size
        picture = PictureSpec(subject)
        if request.image is not None:
            frame = await load_first_frame(request.image, request.entry, self.client)
            picture, size = PictureSpec(subject, first_frame=frame.encoded), frame.size
        if request.inputs.video_id is not None:
            video_id = request.inputs.video_id
            parent = self.registry.find_video(
                video_id, account=caller.account, only_finished=not is_restored
            )
            if parent is None:
                parameter = "inputs.videoId"
                raise RefusedTaskError(
                    "invalidVideoId",
                    f"{parameter} is {video_id!r}, which is not a finished video.",
                    parameter=parameter,
                    documentation=parameter_page(request.entry, parameter),
                )
            picture, size = parent.video.picture.remixed(subject), parent.video.size
            # Not documented; assumed: without a duration, a remix is as long as its parent.
            duration_seconds = request.duration_seconds or parent.video.duration_seconds
        if size is None:
            raise AssertionError("a valid request has a size, an image or a video")
        return Order(
            request=request,
            video=VideoSpec(
                picture=picture,
                size=size,
                duration_seconds=duration_seconds,
                output_format=request.output_format or request.entry.output_formats[0],
                output_quality=request.output_quality,
            ),
            cost_usd=_price_usd(request, size, duration_seconds),
            base_url=caller.base_url,
            account=caller.account,
        )


def default_seconds(entry: VideoModel) -> float:
    """Length of a video whose request sets none, in seconds."""
    default = "auto" if entry.durations is None else entry.durations.default
    # How a model chooses a length is not documented; 5 s is the default of most of them.
    return 5.0 if isinstance(default, str) else default


def _price_usd(request: VideoRequest, size: FrameSize, seconds: float) -> float:
    inference = VideoInference.model_validate(
        {name: value for name, value in request.raw.items() if name != "taskType"}
    )
    if inference.inputs is not None and inference.inputs.frame_images is not None:
        inference = inference.model_copy(update={"width": size.width, "height": size.height})
    inference = inference.model_copy(update={"duration": seconds})
    price = price_of(inference, request.entry, input_size=size, input_seconds=seconds)
    if price.usd is None:
        return 0.0
    return round(price.usd - price.margin, 6)
