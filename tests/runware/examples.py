"""Requests and rows that the tests share."""

from __future__ import annotations

from typing import Any

from sora_dagster.runware import Catalogue, VideoInference

SORA_2_PRO = Catalogue.builtin().get("openai:3@2")
SORA_2 = Catalogue.builtin().get("openai:3@1")

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"
THIRD = "33333333-3333-4333-8333-333333333333"
FOURTH = "44444444-4444-4444-8444-444444444444"


def request(task_uuid: str = FIRST, **fields: Any) -> VideoInference:
    """A request that keeps all rules, but for what is given."""
    return VideoInference.build(
        **{
            "task_uuid": task_uuid,
            "positive_prompt": "a lighthouse in fog",
            "width": 1280,
            "height": 720,
            **fields,
        }
    )


def remix(task_uuid: str = FIRST, **fields: Any) -> VideoInference:
    """A request for a remix, without a size."""
    return VideoInference.build(
        **{
            "task_uuid": task_uuid,
            "positive_prompt": "the same at night",
            "inputs": {"video_id": "video_0"},
            **fields,
        }
    )


def video_row(task_uuid: str = FIRST, video: str = "a", **fields: Any) -> dict[str, Any]:
    """A finished video as the reference page shows it."""
    video_uuid = f"{video * 8}-0000-4000-8000-000000000000"
    return {
        "taskType": "videoInference",
        "taskUUID": task_uuid,
        "status": "success",
        "videoUUID": video_uuid,
        "videoURL": f"https://vm.runware.ai/video/{video_uuid}.mp4",
        "seed": 443404476,
        "cost": 4,
        "outputs": {"videoId": f"video_{video}"},
        **fields,
    }


def running_row(task_uuid: str = FIRST, **fields: Any) -> dict[str, Any]:
    """A generation that is running."""
    return {
        "taskType": "videoInference",
        "taskUUID": task_uuid,
        "status": "processing",
        **fields,
    }
