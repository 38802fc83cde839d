"""Renders videos in threads, a few at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from sora_dagster.sandbox.rendering import CONTAINERS, FRAMES_PER_SECOND, VideoSpec, render


class RenderQueue:
    """A queue of renderings.

    It uses threads, not processes: numpy and the encoders release the interpreter lock, and threads
    cannot outlive a sandbox that is killed.

    Arguments:
        folder: where the files are written.
        workers: how many videos are rendered at the same time.
        reuse: use one file for all videos of one size, length, format, quality and frame rate,
            with or without sound.
        cache: folder that shares reused files with other queues and processes. Default: `folder`.
    """

    def __init__(
        self, folder: Path, *, workers: int, reuse: bool, cache: Path | None = None
    ) -> None:
        self._folder = folder
        self._reuse = reuse
        self._cache = cache or folder
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="render")
        self._reused: dict[Hashable, asyncio.Future[Path]] = {}

    async def render(self, video: VideoSpec, *, name: str) -> Path:
        """The file of a video.

        Arguments:
            video: what to render.
            name: name of the file, without extension.

        Raises:
            RenderingStoppedError: the queue was closed.
        """
        path = self._folder / f"{name}.{CONTAINERS[video.output_format].name}"
        if not self._reuse:
            return await self._start(self._render, video, path)
        key = (_cache_name(video), video.output_format)
        if key not in self._reused:
            self._reused[key] = self._start(self._render_cached, video, path)
        # One waiting task may be cancelled; the rendering continues for the others.
        return await asyncio.shield(self._reused[key])

    def close(self) -> None:
        """Stop rendering, and wait for the threads: at most the time of a frame."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(
        self, render: Callable[[VideoSpec, Path], Path], video: VideoSpec, path: Path
    ) -> asyncio.Future[Path]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, render, video, path)

    def _render(self, video: VideoSpec, path: Path) -> Path:
        # It may have been finished before a restart: a name always belongs to one video.
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{path.name}")
            render(video, unfinished, stop=self._stop)
            unfinished.replace(path)
        return path

    def _render_cached(self, video: VideoSpec, path: Path) -> Path:
        if path.exists():
            return path
        self._cache.mkdir(parents=True, exist_ok=True)
        cached = self._cache / f"{_cache_name(video)}{path.suffix}"
        if not cached.exists():
            # A unique name: another process may be rendering the same video.
            unfinished = self._cache / f"unfinished-{uuid4()}{path.suffix}"
            try:
                render(video, unfinished, stop=self._stop)
                unfinished.replace(cached)
            finally:
                unfinished.unlink(missing_ok=True)
        try:
            os.link(cached, path)
        except OSError:
            # The cache is on another disk, or the disk does not support links.
            shutil.copyfile(cached, path)
        return path


def _cache_name(video: VideoSpec) -> str:
    name = f"{video.size}-{video.duration_seconds:g}s-q{video.output_quality}"
    rate = (
        "" if video.frames_per_second == FRAMES_PER_SECOND else f"-{video.frames_per_second:g}fps"
    )
    return f"{name}{rate}{'' if video.has_sound else '-silent'}"
