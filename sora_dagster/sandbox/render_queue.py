"""Renders videos beside the event loop, a few at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sora_dagster.sandbox.rendering import CONTAINERS, VideoSpec, render


class RenderQueue:
    """A queue of renderings, done by threads.

    Threads, not processes: numpy and the encoders let the interpreter go while they work, and
    threads cannot outlive the sandbox when it is killed.

    Arguments:
        folder: where the files go.
        workers: how many videos are rendered at a time.
        reuse: give all videos of one size, length, format and quality the same file.
    """

    def __init__(self, folder: Path, *, workers: int, reuse: bool) -> None:
        self._folder = folder
        self._reuse = reuse
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="render")
        self._reused: dict[Hashable, asyncio.Future[Path]] = {}

    async def render(self, video: VideoSpec, *, name: str) -> Path:
        """The file of a video.

        Arguments:
            video: what to render.
            name: name of the file, without extension.

        Raises:
            RenderingStoppedError: where the queue was closed meanwhile.
        """
        path = self._folder / f"{name}.{CONTAINERS[video.output_format].extension}"
        if not self._reuse:
            return await self._start(video, path)
        key = (video.size, video.duration_seconds, video.output_format, video.output_quality)
        if key not in self._reused:
            self._reused[key] = self._start(video, path)
        # One of those who wait may be cancelled; the rendering goes on for the others.
        return await asyncio.shield(self._reused[key])

    def close(self) -> None:
        """Give up what is under way, and wait for the threads: at most the time of a frame."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(self, video: VideoSpec, path: Path) -> asyncio.Future[Path]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, self._render, video, path)

    def _render(self, video: VideoSpec, path: Path) -> Path:
        # Finished in an earlier life of the sandbox: a name belongs to one video for ever.
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{path.name}")
            render(video, unfinished, stop=self._stop)
            unfinished.replace(path)
        return path
