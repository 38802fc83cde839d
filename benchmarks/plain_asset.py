"""What benchmarks/scale.py compares with: an asset that posts, and polls until it has a video.

It is what a user writes without a package: a run for each partition. It keeps no record of what it
requested, has no spending limit, and does not look at the video. The rows, the API and the folder
for the videos are those of the environment variables that sora-dagster uses.
"""

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import httpx

# The official SDK's longest interval is 10 s, for generations of minutes; these take 10 s.
_POLL_SECONDS = 2.0

_rows = {
    row["id"]: row
    for row in map(json.loads, Path(os.environ["SORA_PROMPTS"]).read_text().splitlines())
}


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(list(_rows)))
def plain_clips(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    row = _rows[context.partition_key]
    task_uuid = str(uuid.uuid4())
    task = {
        "taskType": "videoInference",
        "taskUUID": task_uuid,
        "model": row["model"],
        "positivePrompt": row["prompt"],
        "duration": 1,
        "width": 160,
        "height": 90,
        "deliveryMethod": "async",
        "outputType": "URL",
        "includeCost": True,
    }
    headers = {"Authorization": f"Bearer {os.environ['RUNWARE_API_KEY']}"}
    with httpx.Client(headers=headers, timeout=60) as client:
        video = _post(client, task)
        while video.get("status") != "success":
            time.sleep(_POLL_SECONDS)
            video = _post(client, {"taskType": "getResponse", "taskUUID": task_uuid})
        path = Path(os.environ["SORA_STORAGE"]) / f"{context.partition_key}.mp4"
        part = path.with_suffix(".part")
        with client.stream("GET", video["videoURL"]) as response, part.open("wb") as file:
            response.raise_for_status()
            for block in response.iter_bytes():
                file.write(block)
        part.replace(path)
    return dg.MaterializeResult(
        metadata={"path": dg.MetadataValue.path(path), "cost_usd": video["cost"]}
    )


def _post(client: httpx.Client, task: dict[str, Any]) -> dict[str, Any]:
    """Send one task; gives its newest row. Raises if it failed."""
    answer = client.post(os.environ["RUNWARE_BASE_URL"], json=[task]).json()
    if answer.get("errors"):
        raise dg.Failure(description=json.dumps(answer["errors"]))
    rows: list[dict[str, Any]] = answer["data"]
    return rows[-1] if rows else {}


defs = dg.Definitions(
    assets=[plain_clips],
    # Dagster's default starts one more process for each step.
    executor=dg.in_process_executor if os.environ.get("PLAIN_IN_PROCESS") else None,
)
