"""A task from its acceptance to its archive, and its ledger."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from uuid import uuid4

from sora_dagster.runware.catalogue import Catalogue, FrameSize
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Order
from sora_dagster.sandbox.validation import read_video_request
from tests.sandbox.api import SandboxApi, until, video_task
from tests.sandbox.images import data_uri, framed, image_bytes


def test_a_submission_is_answered_by_an_acknowledgement(api: SandboxApi) -> None:
    task = video_task()
    assert api.post(task).json() == {
        "data": [{"taskType": "videoInference", "taskUUID": task["taskUUID"]}]
    }


def test_a_running_task_is_polled_as_processing(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=1000)
    task = video_task(numberResults=2)
    api.post(task)
    rows = api.rows(task["taskUUID"])
    assert len(rows) == 2
    assert rows[0] == {
        "taskType": "videoInference",
        "taskUUID": task["taskUUID"],
        "status": "processing",
        "progress": 0,
    }


def test_a_result_has_the_form_of_the_reference_page(api: SandboxApi) -> None:
    task = video_task(includeCost=True)
    api.post(task)
    (row,) = api.results(task["taskUUID"])
    assert set(row) == {
        "taskType",
        "taskUUID",
        "status",
        "videoUUID",
        "videoURL",
        "seed",
        "cost",
        "outputs",
    }
    assert row["taskType"] == "videoInference"
    assert row["outputs"]["videoId"].startswith("video_")
    assert row["cost"] == 1.2


def test_a_whole_cost_is_sent_without_a_fraction(start: Callable[..., SandboxApi]) -> None:
    api = start()
    task = video_task(model="openai:3@2", width=1792, height=1024, duration=4, includeCost=True)
    api.post(task)
    api.results(task["taskUUID"])
    answer = api.poll(task["taskUUID"]).text
    assert '"cost":2' in answer
    assert '"cost":2.0' not in answer


def test_the_cost_is_reported_only_if_it_was_requested(api: SandboxApi) -> None:
    assert "cost" not in api.video()


def test_checked_content_is_reported_as_safe(api: SandboxApi) -> None:
    assert api.video(safety={"checkContent": True})["NSFWContent"] is False
    assert api.video(safety={"mode": "fast"})["NSFWContent"] is False
    assert "NSFWContent" not in api.video()


def test_results_come_one_by_one_and_are_repeated(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=0.2, latency_step_seconds=1.0)
    # The reused rendering is made before, so that only the latency decides.
    api.video()
    task = video_task(numberResults=3)
    api.post(task)
    seen: list[list[str]] = []

    def is_over() -> bool:
        finished = [r["videoUUID"] for r in api.rows(task["taskUUID"]) if "videoUUID" in r]
        if not seen or finished != seen[-1]:
            seen.append(finished)
        return len(finished) == 3

    until(is_over, what="the third result")
    assert [len(finished) for finished in seen] == [0, 1, 2, 3]
    assert all(set(earlier) < set(later) for earlier, later in pairwise(seen))


def test_each_result_of_a_task_has_its_own_seed(api: SandboxApi) -> None:
    task = video_task(numberResults=4)
    api.post(task)
    results = api.results(task["taskUUID"], count=4)
    for name in ("seed", "videoUUID", "videoURL"):
        assert len({result[name] for result in results}) == 4
    assert len({result["outputs"]["videoId"] for result in results}) == 4


def test_an_unknown_task_is_an_error_to_a_poll(api: SandboxApi) -> None:
    response = api.poll(str(uuid4()))
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "taskFailedOrNotFound"


def test_an_unknown_task_can_be_answered_with_silence(start: Callable[..., SandboxApi]) -> None:
    response = start(unknown_polls="silent").poll(str(uuid4()))
    assert response.status_code == 200
    assert response.json() == {"data": []}


def test_many_tasks_are_polled_in_one_request(api: SandboxApi) -> None:
    tasks = [video_task() for _ in range(3)]
    api.post(*tasks)
    polls = [{"taskType": "getResponse", "taskUUID": task["taskUUID"]} for task in tasks]
    rows = api.post(*polls).json()["data"]
    assert [row["taskUUID"] for row in rows] == [task["taskUUID"] for task in tasks]


def test_the_archive_has_request_and_response_of_a_finished_task(api: SandboxApi) -> None:
    task = video_task()
    api.post(task)
    results = api.results(task["taskUUID"])
    details = {"taskType": "getTaskDetails", "taskUUID": task["taskUUID"]}
    (row,) = api.post(details).json()["data"]
    assert row == {**details, "request": [task], "response": {"data": results}}


def test_task_details_of_an_unknown_task_are_an_error(api: SandboxApi) -> None:
    error = api.refusal({"taskType": "getTaskDetails", "taskUUID": str(uuid4())})
    assert error["code"] == "taskFailedOrNotFound"


def test_a_known_uuid_is_refused_while_its_task_runs(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=1000)
    task = video_task()
    api.post(task)
    assert api.refusal(task)["code"] == "conflictTaskUUID"


def test_a_known_uuid_is_refused_after_its_task_ended(api: SandboxApi) -> None:
    task = video_task()
    api.post(task)
    api.results(task["taskUUID"])
    assert api.refusal(task)["code"] == "conflictTaskUUID"


def test_a_known_uuid_in_capitals_is_the_same_uuid(api: SandboxApi) -> None:
    task = video_task()
    api.post(task)
    assert api.refusal({**task, "taskUUID": task["taskUUID"].upper()})["code"] == "conflictTaskUUID"


def test_of_two_equal_uuids_in_one_request_the_first_is_accepted(
    start: Callable[..., SandboxApi],
) -> None:
    api = start()
    first = video_task(duration=4)
    second = {**first, "duration": 8}
    body = api.post(first, second).json()
    assert [row["taskUUID"] for row in body["data"]] == [first["taskUUID"]]
    assert [error["code"] for error in body["errors"]] == ["conflictTaskUUID"]
    assert [charge["seconds"] for charge in api.ledger()["charges"]] == [4]


def test_a_refused_replay_is_not_charged(start: Callable[..., SandboxApi]) -> None:
    api = start()
    task = video_task()
    api.post(task)
    api.post(task)
    ledger = api.ledger()
    assert [charge["taskUUID"] for charge in ledger["charges"]] == [task["taskUUID"]]
    assert ledger["tasks"] == {"submitted": 2, "accepted": 1, "refused": 1}


def test_every_accepted_task_is_charged_by_its_size_length_and_results(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(latency_seconds=1000)
    api.post(
        video_task(duration=8, numberResults=2),
        video_task(width=1792, height=1024, duration=8),
        video_task(model="openai:3@1", width=720, height=1280, duration=None),
    )
    ledger = api.ledger()
    charges = [
        (c["model"], c["size"], c["seconds"], c["results"], c["cost"]) for c in ledger["charges"]
    ]
    assert charges == [
        ("openai:3@2", "1280x720", 8, 2, 4.8),
        ("openai:3@2", "1792x1024", 8, 1, 4),
        ("openai:3@1", "720x1280", 4, 1, 0.4),
    ]
    assert ledger["total_usd"] == 9.2
    assert ledger["balance_usd"] == 990.8


def test_a_dry_run_returns_the_price_and_leaves_nothing_behind(
    start: Callable[..., SandboxApi],
) -> None:
    api = start()
    task = video_task(duration=8, numberResults=2)
    response = api.post(task, headers={"X-Runware-Dry-Run": "1"})
    assert response.json()["data"] == [
        {"taskType": "videoInference", "taskUUID": task["taskUUID"], "cost": 4.8}
    ]
    assert api.ledger()["charges"] == []
    assert api.poll(task["taskUUID"]).status_code == 400
    assert api.post(task).status_code == 200


def test_a_dry_run_is_validated(api: SandboxApi) -> None:
    response = api.post(video_task(duration=5), headers={"X-Runware-Dry-Run": "1"})
    assert response.status_code == 400


def test_a_task_that_the_balance_does_not_cover_is_refused_with_402(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(balance_usd=2)
    assert api.post(video_task()).status_code == 200
    response = api.post(video_task())
    assert response.status_code == 402
    assert response.json()["errors"][0]["code"] == "insufficientCredits"
    assert api.ledger()["total_usd"] == 1.2


def test_posts_are_counted_by_what_they_are(start: Callable[..., SandboxApi]) -> None:
    api = start()
    task = video_task()
    api.post(task)
    api.post(task, headers={"X-Runware-Dry-Run": "1"})
    api.poll(task["taskUUID"])
    api.poll(task["taskUUID"])
    api.post({"taskType": "ping"})
    assert api.ledger()["posts"] == {"submissions": 1, "polls": 2, "other": 2}


def test_a_first_frame_of_a_size_without_a_price_is_charged_at_the_dearest(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(latency_seconds=1000)
    api.post(framed(data_uri(image_bytes(401, 301)), duration=4))
    api.post(framed(data_uri(image_bytes(1280, 720)), duration=4))
    charges = [(charge["size"], charge["cost"]) for charge in api.ledger()["charges"]]
    assert charges == [("400x300", 2), ("1280x720", 1.2)]


def test_a_remix_is_charged_by_the_size_and_length_of_its_parent(
    start: Callable[..., SandboxApi],
) -> None:
    api = start()
    parent = api.video(width=720, height=1280, duration=8)
    inputs = {"videoId": parent["outputs"]["videoId"]}
    api.post(video_task(width=None, height=None, duration=None, inputs=inputs))
    charge = api.ledger()["charges"][-1]
    assert (charge["size"], charge["seconds"], charge["cost"]) == ("720x1280", 8, 2.4)


def test_a_video_that_is_not_finished_cannot_be_remixed() -> None:
    book = TaskRegistry(latency_seconds=3, latency_step_seconds=1)
    request = read_video_request(video_task(), Catalogue.builtin())
    video = VideoSpec(PictureSpec(Subject("boat", 0)), FrameSize(1280, 720), 4, "MP4", 95)
    task = book.accept(Order(request, video, cost_usd=1.2, base_url="http://x/"), now=0)
    (generation,) = task.generations
    assert book.find_video(generation.video_id) is None
    generation.succeed(video_url="http://x/video/1.mp4", at=3)
    assert book.find_video(generation.video_id) is generation


def test_the_ledger_adds_many_small_charges_exactly(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=1000)
    tasks = [video_task(model="openai:3@1") for _ in range(30)]
    api.post(*tasks)
    ledger = api.ledger()
    assert len(ledger["charges"]) == 30
    assert ledger["total_usd"] == 12
