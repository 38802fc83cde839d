"""The book of all tasks that were accepted, and which may be accepted again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from uuid import UUID

from sora_dagster.sandbox.faults.plan import KnownUuids
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.tasks import MAIN_ACCOUNT, Generation, Order, Task


class TaskRegistry:
    """All tasks that were ever accepted.

    Arguments:
        latency_seconds: from acceptance to the first result.
        latency_step_seconds: further time to each next one.
    """

    def __init__(
        self,
        *,
        latency_seconds: float,
        latency_step_seconds: float,
    ) -> None:
        self._latency_seconds = latency_seconds
        self._latency_step_seconds = latency_step_seconds
        self._tasks: dict[tuple[str, str], Task] = {}
        self._videos: dict[tuple[str, str], Generation] = {}

    @property
    def running(self) -> int:
        """How many tasks are not over."""
        return sum(not task.is_over for task in self._tasks.values())

    def find(self, task_uuid: str, *, account: str = MAIN_ACCOUNT) -> Task | None:
        """The task of a UUID; the latest one where the UUID was accepted again."""
        return self._tasks.get((account, task_uuid.lower()))

    def find_video(
        self, video_id: str, *, account: str = MAIN_ACCOUNT, only_finished: bool = True
    ) -> Generation | None:
        """The video of an `outputs.videoId`."""
        generation = self._videos.get((account, video_id))
        if generation is not None and only_finished and generation.state != "success":
            return None
        return generation

    def refuse_known(
        self,
        task_uuid: str,
        *,
        account: str = MAIN_ACCOUNT,
        known_uuids: KnownUuids = "refused_always",
    ) -> None:
        """Make sure that a UUID may be accepted.

        Arguments:
            task_uuid: the UUID.
            account: whose task it is.
            known_uuids: what becomes of a UUID that was accepted before.

        Raises:
            RefusedTaskError: `conflictTaskUUID`, where it may not.
        """
        task = self.find(task_uuid, account=account)
        if task is None or known_uuids == "charged_again":
            return
        if known_uuids == "refused_while_running" and task.is_over:
            return
        task.refused_replay = RefusedTaskError(
            "conflictTaskUUID",
            f"A task with the taskUUID {task_uuid} was accepted already; every task needs a "
            f"taskUUID of its own.",
            parameter="taskUUID",
        )
        raise task.refused_replay

    def accept(
        self, order: Order, *, now: float, known_uuids: KnownUuids = "refused_always"
    ) -> Task:
        """Take a task in.

        Arguments:
            order: what was asked for.
            now: Unix time in seconds.
            known_uuids: what becomes of a UUID that was accepted before.

        Raises:
            RefusedTaskError: `conflictTaskUUID`, where its UUID may not be accepted again.
        """
        request, account = order.request, order.account
        self.refuse_known(request.task_uuid, account=account, known_uuids=known_uuids)
        former = self.find(request.task_uuid, account=account)
        task = Task(order=order, accepted_at=now, attempt=former.attempt + 1 if former else 1)
        name = _run_name(task)
        for index in range(request.number_results):
            seed = _seed(name, index)
            video_uuid = _video_uuid(name, index)
            generation = Generation(
                seed=seed,
                video_uuid=video_uuid,
                video_id="video_" + hashlib.sha256(video_uuid.encode()).hexdigest()[:48],
                video=_with_seed(order.video, seed),
                due_at=now + self._latency_seconds + index * self._latency_step_seconds,
            )
            task.generations.append(generation)
            self._videos[account, generation.video_id] = generation
        self._tasks[account, request.task_uuid.lower()] = task
        return task


def _run_name(task: Task) -> str:
    """What seeds and ids of a task's results are made from: of no other run, and the same when the
    sandbox is started again."""
    name = task.task_uuid.lower()
    if task.attempt > 1:
        name += f"/attempt-{task.attempt}"
    if task.order.account != MAIN_ACCOUNT:
        name += f"/{task.order.account}"
    return name


def _seed(run_name: str, index: int) -> int:
    digest = hashlib.sha256(f"{run_name}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _video_uuid(run_name: str, index: int) -> str:
    digest = hashlib.sha256(f"{run_name}/{index}/video".encode()).digest()
    return str(UUID(bytes=digest[:16], version=4))


def _with_seed(video: VideoSpec, seed: int) -> VideoSpec:
    picture = video.picture
    if picture.remixes:
        *older, newest = picture.remixes
        picture = replace(picture, remixes=(*older, replace(newest, seed=seed)))
    else:
        picture = replace(picture, subject=replace(picture.subject, seed=seed))
    return replace(video, picture=picture)
