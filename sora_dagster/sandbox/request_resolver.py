"""Finds the inputs of a valid request, and decides what its videos show and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.sandbox.bills import bill_of
from sora_dagster.sandbox.calls import Caller
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.input_files import (
    InputFiles,
    InputImage,
    InputSlot,
    InputVideo,
    input_videos,
)
from sora_dagster.sandbox.input_layers import Still
from sora_dagster.sandbox.rendering import FRAMES_PER_SECOND, VideoSpec
from sora_dagster.sandbox.request_form import FrameImage, VideoRequest
from sora_dagster.sandbox.tasks import Order
from sora_dagster.sandbox.video_sizes import video_size

# How a model chooses a length is not documented; 5 s is the default of most of them.
_AUTO_SECONDS = 5.0
# The shape of an extended video is not documented where its length is the requested one.
_OPENING_SHARE = 1 / 3

_Use = Literal["edit", "extend", "guide"]


@dataclass(frozen=True)
class _Inputs:
    """The loaded inputs of a request.

    Arguments:
        videos: the input videos; the first one is edited or extended.
        frames: the frame images with their places.
        references: the reference images.
    """

    videos: tuple[InputVideo, ...]
    frames: tuple[tuple[FrameImage, InputImage], ...]
    references: tuple[InputImage, ...]

    @property
    def size(self) -> FrameSize | None:
        """Size of the first video, or else of the first frame image."""
        if self.videos:
            return self.videos[0].size
        return self.frames[0][1].size if self.frames else None

    @property
    def video_seconds(self) -> float | None:
        """Length of all videos together."""
        return sum(video.duration_seconds for video in self.videos) if self.videos else None


@dataclass
class RequestResolver:
    """Turns requests into orders.

    Arguments:
        files: loads the files that requests name.
    """

    files: InputFiles

    async def resolve(
        self, request: VideoRequest, caller: Caller, *, is_restored: bool = False
    ) -> Order:
        """Find a request's inputs, and price it.

        Arguments:
            request: the request.
            caller: who sent it.
            is_restored: whether it was accepted before a restart. Then the video that it is made
                from was finished, even if it has to be rendered again now.

        Raises:
            RefusedTaskError: an image, a video or a sound does not exist or does not fit.
        """
        inputs = await self._load(request, caller, is_restored=is_restored)
        size = video_size(request, inputs.size)
        use = _use_of_video(request) if inputs.videos else None
        new_seconds = _new_seconds(request, inputs, use)
        bill = bill_of(request, size=size, seconds=new_seconds, input_seconds=inputs.video_seconds)
        return Order(
            request=request,
            video=_video(request, inputs, use, size, new_seconds),
            cost_usd=bill.usd,
            is_assumed_price=bill.is_assumed,
            base_url=caller.base_url,
            account=caller.account,
        )

    async def _load(self, request: VideoRequest, caller: Caller, *, is_restored: bool) -> _Inputs:
        given = request.inputs

        def slot(name: str) -> InputSlot:
            return InputSlot(name, request.entry, is_restored)

        for address in given.reference_audios:
            await self.files.check_audio(address, slot("referenceAudios"))
        videos = [
            await self.files.video(address, video_slot, caller)
            for video_slot, address in input_videos(request, is_restored=is_restored)
        ]
        frames = [
            (frame, await self.files.image(frame.image, slot("frameImages")))
            for frame in given.frame_images
        ]
        references = [
            await self.files.image(image, slot("referenceImages"))
            for image in given.reference_images
        ]
        return _Inputs(tuple(videos), tuple(frames), tuple(references))


def _use_of_video(request: VideoRequest) -> _Use:
    """What a request does with its first input video.

    The way of the entry whose input and most settings the request has decides. Without any, which
    leaves it to the prompt, a video is edited and a reference video only guides.
    """
    given = {name for name, _ in request.inputs.given()}
    settings = dict(request.own_settings())
    entry = request.entry
    fitting = [
        (len(way.settings), mode)
        for mode, way in entry.remix.items()
        if way.input in given
        and all(
            settings.get(entry.setting_field(name)) == value for name, value in way.settings.items()
        )
    ]
    if not fitting:
        return "edit" if given & {"video", "videoId"} else "guide"
    most = max(count for count, _ in fitting)
    modes = {mode for count, mode in fitting if count == most}
    return "extend" if modes == {"extend"} else "edit"


def _new_seconds(request: VideoRequest, inputs: _Inputs, use: _Use | None) -> float:
    """Length of what is generated, in seconds; an extended video has its parent's besides."""
    if isinstance(request.duration, float):
        return request.duration
    # Not documented; assumed: an edit is as long as its input, and so is any video from videos
    # whose request has no duration.
    if inputs.videos and (use == "edit" or (request.duration is None and use == "guide")):
        return inputs.videos[0].duration_seconds
    return _default_seconds(request.entry) if request.duration is None else _AUTO_SECONDS


def _default_seconds(entry: VideoModel) -> float:
    default = "auto" if entry.durations is None else entry.durations.default
    return _AUTO_SECONDS if isinstance(default, str) else default


def _video(
    request: VideoRequest,
    inputs: _Inputs,
    use: _Use | None,
    size: FrameSize,
    new_seconds: float,
) -> VideoSpec:
    """What the request's videos show."""
    subject = Subject(request.prompt, seed=0)
    picture, seconds = PictureSpec(subject), new_seconds
    opening, opening_seconds = None, 0.0
    tiles = [image.encoded for image in inputs.references]
    if use == "guide":
        tiles += [still for video in inputs.videos if (still := video.picture.first_frame)]
    elif use is not None:
        parent = inputs.videos[0]
        picture = parent.picture.remixed(subject)
        if use == "extend":
            opening, opening_seconds = parent.picture, parent.duration_seconds
            if _has_requested_length(request):
                opening_seconds = new_seconds * _OPENING_SHARE
            else:
                seconds = opening_seconds + new_seconds
    stills = []
    for place, (frame, image) in enumerate(inputs.frames):
        moment = _moment(frame, place, len(inputs.frames), request, seconds)
        if moment == 0 and use in (None, "guide"):
            picture = PictureSpec(subject, first_frame=image.encoded)
        else:
            stills.append(Still(image.encoded, moment))
    return VideoSpec(
        picture=picture,
        size=size,
        duration_seconds=seconds,
        output_format=request.output_format or request.entry.output_formats[0],
        output_quality=request.output_quality,
        frames_per_second=_frames_per_second(request),
        has_sound=request.has_sound,
        opening=opening,
        opening_seconds=opening_seconds,
        stills=tuple(stills),
        tiles=tuple(tiles),
    )


def _has_requested_length(request: VideoRequest) -> bool:
    way = request.entry.remix.get("extend")
    return way is not None and way.result_length == "requested"


def _moment(
    frame: FrameImage, place: int, count: int, request: VideoRequest, seconds: float
) -> float:
    """When a frame image is shown, in seconds from the start.

    Images without a place are spread evenly: the first one at the start and the last one at the
    end (Runware's documentation of frame images).
    """
    if frame.timestamp is not None:
        return min(frame.timestamp, seconds)
    if frame.frame is None:
        return seconds * place / max(count - 1, 1)
    number: int = {"first": 0, "last": -1}.get(frame.frame, frame.frame)
    moment = number / _frames_per_second(request)
    # Negative numbers count from the end; -1 is the last frame.
    return min(max(moment + (seconds if number < 0 else 0), 0), seconds)


def _frames_per_second(request: VideoRequest) -> float:
    if request.fps is not None:
        return request.fps
    # The default of models with a choice is not documented.
    rates = request.entry.fps
    return FRAMES_PER_SECOND if rates is None else rates.nearest(FRAMES_PER_SECOND)
