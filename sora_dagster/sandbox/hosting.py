"""Serves the finished videos until their URLs expire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.answers import answer_with_faults
from sora_dagster.sandbox.faults.downloads import REDIRECTED, download_with_faults
from sora_dagster.sandbox.faults.request_faults import AnswerFault
from sora_dagster.sandbox.faults.result_faults import DownloadFault
from sora_dagster.sandbox.faults.rules import Event, TaskFacts

VIDEO_FOLDER = "video"


@dataclass(frozen=True)
class HostedVideo:
    """A video that can be downloaded.

    Arguments:
        path: the file.
        media_type: its content type.
        expires_at: Unix time in seconds from which it is gone; None: never.
        task: the task that it is a result of.
        result: its index among the task's results.
    """

    path: Path
    media_type: str
    expires_at: float | None
    task: TaskFacts
    result: int


@dataclass
class HostedVideos:
    """All hosted videos.

    Arguments:
        clock: returns the Unix time in seconds.
        faults: decides which downloads go wrong.
    """

    clock: Callable[[], float]
    faults: ActiveFaults
    _videos: dict[str, HostedVideo] = field(default_factory=dict, init=False)

    def host(self, video: HostedVideo, *, name: str, base_url: str) -> str:
        """Make a video available, and return its URL.

        Arguments:
            video: the video.
            name: last part of the URL.
            base_url: address under which the client reached the sandbox.
        """
        self._videos[name] = video
        return f"{base_url.rstrip('/')}/{VIDEO_FOLDER}/{name}"

    def is_expired(self, name: str) -> bool:
        """Whether a video was hosted under a name, and its URL is no longer valid."""
        video = self._videos.get(name)
        return video is not None and self._has_expired(video)

    def _has_expired(self, video: HostedVideo) -> bool:
        return video.expires_at is not None and self.clock() >= video.expires_at

    async def serve(self, request: Request) -> Response:
        """Answer a GET or HEAD of a video, or of a range of it. Faults strike GETs only."""
        video = self._videos.get(request.path_params["name"])
        if video is None:
            return PlainTextResponse("There is no such video.", status_code=404)
        if self._has_expired(video):
            return PlainTextResponse("The URL of this video has expired.", status_code=410)
        if request.method != "GET":
            return FileResponse(video.path, media_type=video.media_type)
        event = Event(
            "download",
            (video.task,),
            result=video.result,
            is_redirected=REDIRECTED in request.query_params,
        )
        faults = self.faults.strikes(DownloadFault, event)

        async def answer() -> Response:
            return await download_with_faults(
                faults, request, video.path, media_type=video.media_type
            )

        return await answer_with_faults(self.faults.strikes(AnswerFault, event), answer)
