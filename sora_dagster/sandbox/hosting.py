"""The finished videos under their URLs, until these expire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

_FOLDER = "video"


@dataclass(frozen=True)
class HostedVideo:
    """A video that can be downloaded.

    Arguments:
        path: the file.
        media_type: what it is served as.
        expires_at: Unix time in seconds from which it is gone; none for never.
    """

    path: Path
    media_type: str
    expires_at: float | None


class HostedVideos:
    """All videos that were ever hosted.

    Arguments:
        clock: tells the Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._videos: dict[str, HostedVideo] = {}

    def host(
        self,
        path: Path,
        *,
        name: str,
        media_type: str,
        ttl_seconds: int | None,
        base_url: str,
    ) -> str:
        """Make a file available, and return its URL.

        Arguments:
            name: last part of the URL.
            ttl_seconds: how long from now it is available; none for ever.
            base_url: address of the sandbox as the client knows it.
        """
        expires_at = None if ttl_seconds is None else self._clock() + ttl_seconds
        self._videos[name] = HostedVideo(path, media_type, expires_at)
        return f"{base_url.rstrip('/')}/{_FOLDER}/{name}"

    async def serve(self, request: Request) -> Response:
        """Answer a GET or HEAD of a video, whole or a range of it."""
        video = self._videos.get(request.path_params["name"])
        if video is None:
            return PlainTextResponse("There is no such video.", status_code=404)
        if video.expires_at is not None and self._clock() >= video.expires_at:
            return PlainTextResponse("The URL of this video has expired.", status_code=410)
        return FileResponse(video.path, media_type=video.media_type)
