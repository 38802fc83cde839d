"""The finished videos under their URLs, until these expire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.answer_faults import AnswerFault
from sora_dagster.sandbox.faults.answering import answered
from sora_dagster.sandbox.faults.downloads import REDIRECTED, spoiled_download
from sora_dagster.sandbox.faults.events import Event, TaskFacts
from sora_dagster.sandbox.faults.transfer_faults import DownloadFault

_FOLDER = "video"


@dataclass(frozen=True)
class HostedVideo:
    """A video that can be downloaded.

    Arguments:
        path: the file.
        media_type: what it is served as.
        expires_at: Unix time in seconds from which it is gone; none for never.
        task: the task that it is a result of.
        result: its index among the task's results.
    """

    path: Path
    media_type: str
    expires_at: float | None
    task: TaskFacts
    result: int


class HostedVideos:
    """All videos that were ever hosted.

    Arguments:
        clock: tells the Unix time in seconds.
        faults: tells which downloads go wrong.
    """

    def __init__(self, clock: Callable[[], float], faults: ActiveFaults) -> None:
        self._clock = clock
        self._faults = faults
        self._videos: dict[str, HostedVideo] = {}

    def host(self, video: HostedVideo, *, name: str, base_url: str) -> str:
        """Make a video available, and return its URL.

        Arguments:
            video: the video.
            name: last part of the URL.
            base_url: address of the sandbox as the client knows it.
        """
        self._videos[name] = video
        return f"{base_url.rstrip('/')}/{_FOLDER}/{name}"

    async def serve(self, request: Request) -> Response:
        """Answer a GET or HEAD of a video, whole or a range of it. Faults strike GETs only."""
        video = self._videos.get(request.path_params["name"])
        if video is None:
            return PlainTextResponse("There is no such video.", status_code=404)
        if video.expires_at is not None and self._clock() >= video.expires_at:
            return PlainTextResponse("The URL of this video has expired.", status_code=410)
        if request.method != "GET":
            return FileResponse(video.path, media_type=video.media_type)
        event = Event(
            "download",
            (video.task,),
            result=video.result,
            is_redirected=REDIRECTED in request.query_params,
        )
        faults = self._faults.strikes(DownloadFault, event)

        async def answer() -> Response:
            return await spoiled_download(faults, request, video.path, media_type=video.media_type)

        return await answered(self._faults.strikes(AnswerFault, event), answer)
