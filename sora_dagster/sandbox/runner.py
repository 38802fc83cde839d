"""Runs accepted tasks: generates, delivers and reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sora_dagster.sandbox.delivery import Deliverer
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.outcomes import failure_of, planned_outcome
from sora_dagster.sandbox.faults.result_faults import (
    GenerationFault,
    UploadAlone,
    UploadFault,
    UploadLate,
    UploadLost,
    UploadTruncated,
)
from sora_dagster.sandbox.faults.rules import Event
from sora_dagster.sandbox.hosting import HostedVideo, HostedVideos
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.render_queue import RenderQueue
from sora_dagster.sandbox.rendering import CONTAINERS, RenderingStoppedError
from sora_dagster.sandbox.tasks import Generation, Task
from sora_dagster.sandbox.webhooks import Webhooks

_log = logging.getLogger(__name__)


@dataclass
class TaskRunner:
    """Runs the generations of accepted tasks, each independently.

    Arguments:
        renders: makes the files.
        hosting: gives them URLs.
        deliverer: sends uploads.
        webhooks: reports results.
        faults: decides which results go wrong.
        refund: refunds the price of a failed result.
        clock: returns the Unix time in seconds.
        sleep: waits for a number of seconds.
    """

    renders: RenderQueue
    hosting: HostedVideos
    deliverer: Deliverer
    webhooks: Webhooks
    faults: ActiveFaults
    refund: Callable[[Task, Generation], None]
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _background: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def start(self, task: Task) -> None:
        """Begin the generations of a task, and return at once."""
        for index, generation in enumerate(task.generations):
            event = Event("generation", (task.facts,), result=index)
            generation.planned = planned_outcome(self.faults.strikes(GenerationFault, event))
            generation.due_at += generation.planned.delay_seconds
            if generation.planned.ends:
                self._spawn(self._run(task, index))

    async def close(self) -> None:
        """Cancel everything that is running."""
        for running in list(self._background):
            running.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _run(self, task: Task, index: int) -> None:
        request, generation = task.order.request, task.generations[index]
        try:
            path = await self._generate(generation)
        except RenderingStoppedError:
            return
        except RefusedTaskError as error:
            self._fail(task, generation, error)
        except Exception:  # noqa: BLE001 - to the client, any problem is a failed generation
            _log.exception("rendering %s failed", generation.video_uuid)
            self._fail(task, generation, failure_of("provider"))
        else:
            await self._publish(task, index, path)
        if request.webhook_url is not None:
            self._spawn(self.webhooks.report(request.webhook_url, task, index))

    async def _generate(self, generation: Generation) -> Path:
        """The file of a generation, when it is due.

        Raises:
            RefusedTaskError: the fault plan makes it fail.
        """
        failure = generation.planned.failure
        path = None
        if failure is None:
            path = await self.renders.render(generation.video, name=generation.video_uuid)
        if (wait_seconds := generation.due_at - self.clock()) > 0:
            await self.sleep(wait_seconds)
        if path is None:
            raise failure or AssertionError("a generation without failure has no file")
        return path

    def _fail(self, task: Task, generation: Generation, error: RefusedTaskError) -> None:
        generation.fail(error, at=self.clock())
        if not self.faults.plan.failed_are_charged:
            self.refund(task, generation)

    async def _publish(self, task: Task, index: int, path: Path) -> None:
        request, generation = task.order.request, task.generations[index]
        container = CONTAINERS[generation.video.output_format]
        has_url = True
        if request.upload_endpoint is not None:
            # Before the result is reported, so that a client that sees it finds the upload done. A
            # failed upload does not fail the result: the video is still hosted (not documented).
            has_url = await self._upload(request.upload_endpoint, task, index, path)
        ttl_seconds = request.ttl_seconds
        video_url = self.hosting.host(
            HostedVideo(
                path,
                media_type=container.media_type,
                expires_at=None if ttl_seconds is None else self.clock() + ttl_seconds,
                task=task.facts,
                result=index,
            ),
            name=f"{generation.video_uuid}.{container.name}",
            base_url=task.order.base_url,
        )
        generation.succeed(video_url=video_url if has_url else None, at=self.clock())

    async def _upload(self, url: str, task: Task, index: int, path: Path) -> bool:
        """Upload a finished video; return whether its result is also reported with a URL."""
        media_type = CONTAINERS[task.generations[index].video.output_format].media_type
        size_bytes = path.stat().st_size
        delay_seconds, has_url = 0.0, True
        event = Event("upload", (task.facts,), result=index)
        for fault in self.faults.strikes(UploadFault, event):
            match fault:
                case UploadLost():
                    return has_url
                case UploadLate():
                    delay_seconds = fault.delay_seconds
                case UploadAlone():
                    has_url = False
                case UploadTruncated():
                    size_bytes = int(size_bytes * fault.share)

        async def upload() -> None:
            await self.sleep(delay_seconds)
            await self.deliverer.upload(url, path, media_type=media_type, size_bytes=size_bytes)

        if delay_seconds:
            self._spawn(upload())
        else:
            await upload()
        return has_url

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)
