"""All accepted tasks, and whether a UUID can be accepted again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from uuid import UUID

from sora_dagster.sandbox.faults.plan import KnownUuids
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.request_form import VideoRequest
from sora_dagster.sandbox.tasks import MAIN_ACCOUNT, Generation, Order, Task


class TaskRegistry:
    """All tasks that were accepted.

    Arguments:
        latency_seconds: time from acceptance to the first result.
        latency_step_seconds: additional time for each next result.
    """

    def __init__(self, *, latency_seconds: float, latency_step_seconds: float) -> None:
        self._latency_seconds = latency_seconds
        self._latency_step_seconds = latency_step_seconds
        self._tasks: dict[tuple[str, str], Task] = {}
        self._videos: dict[tuple[str, str], Generation] = {}
        self._videos_by_uuid: dict[tuple[str, str], Generation] = {}

    @property
    def running(self) -> int:
        """How many tasks have not ended."""
        return sum(not task.is_over for task in self._tasks.values())

    def find(self, task_uuid: str, *, account: str = MAIN_ACCOUNT) -> Task | None:
        """The latest task with a UUID."""
        return self._tasks.get((account, task_uuid.lower()))

    def find_video(
        self, video_id: str, *, account: str = MAIN_ACCOUNT, only_finished: bool = True
    ) -> Generation | None:
        """The video of an `outputs.videoId`."""
        return _finished(self._videos.get((account, video_id)), only_finished=only_finished)

    def find_video_by_uuid(
        self, video_uuid: str, *, account: str = MAIN_ACCOUNT, only_finished: bool = True
    ) -> Generation | None:
        """The video of a `videoUUID`."""
        generation = self._videos_by_uuid.get((account, video_uuid.lower()))
        return _finished(generation, only_finished=only_finished)

    def refuse_known(
        self,
        task_uuid: str,
        *,
        account: str = MAIN_ACCOUNT,
        known_uuids: KnownUuids = "refused_always",
    ) -> None:
        """Check that a UUID can be accepted.

        Arguments:
            task_uuid: the UUID.
            account: owner of the task.
            known_uuids: what happens to a UUID that was accepted before.

        Raises:
            RefusedTaskError: `conflictTaskUUID`: it was accepted before.
        """
        task = self.find(task_uuid, account=account)
        if task is None or known_uuids == "charged_again":
            return
        if known_uuids == "refused_while_running" and task.is_over:
            return
        task.refused_replay = RefusedTaskError(
            "conflictTaskUUID",
            f"A task with the taskUUID {task_uuid} was already accepted; every task needs its own "
            f"taskUUID.",
            parameter="taskUUID",
        )
        raise task.refused_replay

    def accept(
        self, order: Order, *, now: float, known_uuids: KnownUuids = "refused_always"
    ) -> Task:
        """Accept a task.

        Arguments:
            order: the request with its inputs and price.
            now: Unix time in seconds.
            known_uuids: what happens to a UUID that was accepted before.

        Raises:
            RefusedTaskError: `conflictTaskUUID`: its UUID cannot be accepted again.
        """
        request, account = order.request, order.account
        self.refuse_known(request.task_uuid, account=account, known_uuids=known_uuids)
        former = self.find(request.task_uuid, account=account)
        task = Task(order=order, accepted_at=now, attempt=former.attempt + 1 if former else 1)
        name = _run_name(task)
        for index in range(request.number_results):
            seed = _seed_of(request, index, name)
            video_uuid = str(UUID(bytes=_digest(f"{name}/{index}/video")[:16], version=4))
            generation = Generation(
                seed=seed,
                video_uuid=video_uuid,
                video_id=f"video_{_digest(video_uuid).hex()[:48]}",
                video=_with_seed(order.video, seed),
                due_at=now + self._latency_seconds + index * self._latency_step_seconds,
            )
            task.generations.append(generation)
            self._videos[account, generation.video_id] = generation
            self._videos_by_uuid[account, video_uuid] = generation
        self._tasks[account, request.task_uuid.lower()] = task
        return task


def _run_name(task: Task) -> str:
    """What seeds and ids of a task's results are derived from: unique to the run, and the same
    after a restart."""
    name = task.task_uuid.lower()
    if task.attempt > 1:
        name += f"/attempt-{task.attempt}"
    if task.order.account != MAIN_ACCOUNT:
        name += f"/{task.order.account}"
    return name


def _finished(generation: Generation | None, *, only_finished: bool) -> Generation | None:
    if generation is not None and only_finished and generation.state != "success":
        return None
    return generation


def _seed_of(request: VideoRequest, index: int, name: str) -> int:
    """The seed of a result: the requested one for the first, and the next ones for the others."""
    if request.seed is None or request.entry.seed is None:
        return int.from_bytes(_digest(f"{name}/{index}")[:4], "big") >> 1
    seeds = request.entry.seed
    seed = request.seed + index
    if seed > seeds.highest:
        seed = int(seeds.lowest) + index - 1
    return int(seeds.nearest(seed))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _with_seed(video: VideoSpec, seed: int) -> VideoSpec:
    picture = video.picture
    if picture.remixes:
        *older, newest = picture.remixes
        picture = replace(picture, remixes=(*older, replace(newest, seed=seed)))
    else:
        picture = replace(picture, subject=replace(picture.subject, seed=seed))
    return replace(video, picture=picture)
