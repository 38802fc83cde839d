"""Moves accepted tasks on: generate, deliver, tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from sora_dagster.sandbox.delivery import Deliverer
from sora_dagster.sandbox.hosting import HostedVideos
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.render_queue import RenderQueue
from sora_dagster.sandbox.rendering import CONTAINERS, RenderingStoppedError
from sora_dagster.sandbox.tasks import Generation, Task

_log = logging.getLogger(__name__)


class TaskRunner:
    """Runs the generations of accepted tasks, each for itself.

    Arguments:
        renders: makes the files.
        hosting: gives them URLs.
        deliverer: sends webhooks and uploads.
        clock: tells the Unix time in seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        *,
        renders: RenderQueue,
        hosting: HostedVideos,
        deliverer: Deliverer,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._renders = renders
        self._hosting = hosting
        self._deliverer = deliverer
        self._clock = clock
        self._sleep = sleep
        self._background: set[asyncio.Task[None]] = set()

    def start(self, task: Task) -> None:
        """Begin the generations of a task, and return at once."""
        for generation in task.generations:
            self._spawn(self._run(task, generation))

    async def close(self) -> None:
        """Give up everything that is under way."""
        for running in list(self._background):
            running.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _run(self, task: Task, generation: Generation) -> None:
        request = task.order.request
        try:
            path = await self._generate(generation)
        except RenderingStoppedError:
            return
        except Exception:  # noqa: BLE001 - whatever went wrong is a failed generation to the client
            _log.exception("rendering %s failed", generation.video_uuid)
            error = RefusedTaskError("inferenceError", "The video could not be generated.")
            generation.fail(error, at=self._clock())
        else:
            await self._publish(task, generation, path)
        if request.webhook_url is not None:
            self._spawn(self._tell(request.webhook_url, task, generation))

    async def _generate(self, generation: Generation) -> Path:
        path = await self._renders.render(generation.video, name=generation.video_uuid)
        await self._sleep(max(0.0, generation.due_at - self._clock()))
        return path

    async def _publish(self, task: Task, generation: Generation, path: Path) -> None:
        request = task.order.request
        container = CONTAINERS[generation.video.output_format]
        if request.upload_endpoint is not None:
            # Before the result is told, so that who reads it finds the upload done. A failed
            # upload does not fail the result: the video is hosted all the same (not documented).
            await self._deliverer.upload(
                request.upload_endpoint, path, media_type=container.media_type
            )
        video_url = self._hosting.host(
            path,
            name=f"{generation.video_uuid}.{container.extension}",
            media_type=container.media_type,
            ttl_seconds=request.ttl_seconds,
            base_url=task.order.base_url,
        )
        generation.succeed(video_url=video_url, at=self._clock())

    async def _tell(self, url: str, task: Task, generation: Generation) -> None:
        # The flat result, with nothing around it (documented). What a failure looks like is not
        # documented; assumed to be the flat error.
        if generation.error is not None:
            body: dict[str, Any] = generation.error.to_wire(
                task_type="videoInference", task_uuid=task.task_uuid
            )
        else:
            body = task.result(generation)
        await self._deliverer.post_webhook(url, body)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)
