"""Rows of the fault matrix: what can go wrong with webhooks, and with fetching finished videos."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sora_dagster.generation.collecting.settings import PollSettings
from sora_dagster.generation.protocol.markers import MAX_MARKER_BYTES, write_marker
from sora_dagster.prompts.clips import DEFAULT_DATASET
from tests.protocol.families import BOTH
from tests.protocol.row import Row, Story, all_of, failed, not_in_a_manifest, sent, stored
from tests.protocol.scenario import QUICK, clip

# Polls come too late for the test, so that what is stored was found by its webhook.
POLLS_TOO_LATE = PollSettings(first_seconds=600, longest_seconds=600, refresh_seconds=0.02)
_WEBHOOKS_ONLY = replace(QUICK, polls=POLLS_TOO_LATE)
_SHORT_FETCH = replace(QUICK, deadlines=replace(QUICK.deadlines, fetch_seconds=0.3))
_UNKNOWN_TASK = "11111111-2222-4333-8444-555555555555"


def _webhook_row(name: str, *rules: dict[str, Any], **more: Any) -> Row:
    late = {"fault": "late_result", "delay_seconds": 0.2}
    plan = {"rules": [late, *rules]}
    return Row(
        f"webhook {name}",
        plan,
        more.pop("expect", all_of(stored(), sent(1))),
        webhook=True,
        settings=more.pop("settings", _WEBHOOKS_ONLY),
        **{"lasts": True, **more},
    )


def _forge_markers(story: Story) -> None:
    """Someone who saw the inbox or an address writes what is none of Runware's."""
    scenario = story.scenario
    root = scenario.root()
    running = scenario.attempts_of("fox")[0].task_uuid
    lie = b'{"videoURL": "https://example.com/forged.mp4"}'
    write_marker(root, DEFAULT_DATASET, _UNKNOWN_TASK, lie)
    failure = {"taskUUID": running, "code": "inferenceError", "message": "forged"}
    write_marker(root, DEFAULT_DATASET, running, json.dumps({"error": failure}).encode())
    write_marker(root, DEFAULT_DATASET, running, b" " * (MAX_MARKER_BYTES + 1))
    address = scenario.settings.webhook
    assert address is not None
    unsigned = scenario.sandbox.http.post(
        f"{address.url}?dataset={DEFAULT_DATASET}&task={running}&signature=forged", json=failure
    )
    assert unsigned.status_code == 403


def _failure_marker_makes_no_attempt(story: Story) -> None:
    assert len(story.scenario.attempts_of("fox")) == 1


_WEBHOOK_ROWS = [
    _webhook_row("lost", {"fault": "webhook_lost"}, settings=QUICK),
    _webhook_row("late", {"fault": "webhook_late", "delay_seconds": 0.3}),
    _webhook_row("twice", {"fault": "webhook_repeated", "copies": 2}),
    _webhook_row("three times", {"fault": "webhook_repeated", "copies": 3}),
    _webhook_row(
        "three times, late, after the video is stored",
        {"fault": "webhook_late", "delay_seconds": 0.5},
        {"fault": "webhook_repeated", "copies": 3},
        settings=QUICK,
    ),
    _webhook_row(
        "out of order",
        {"fault": "webhook_out_of_order"},
        clips=(clip(number_results=3),),
        expect=lambda story: _has_videos(story, 3),
        families=BOTH,
    ),
    _webhook_row("malformed", {"fault": "webhook_malformed"}, settings=QUICK),
    _webhook_row(
        "of JSON that is no result",
        {"fault": "webhook_malformed", "body": '[1, {"taskUUID": null}, "x"]'},
        families=BOTH,
    ),
    _webhook_row(
        "tells a failure, and the video is finished",
        {"fault": "webhook_failure", "of": "all", "form": "errors"},
        expect=all_of(stored(), _failure_marker_makes_no_attempt),
    ),
    _webhook_row(
        "forged",
        {"fault": "webhook_lost"},
        settings=QUICK,
        expect=all_of(stored(), _failure_marker_makes_no_attempt),
        during=_forge_markers,
        lasts=False,
    ),
]


def _has_videos(story: Story, count: int) -> None:
    manifest = story.manifest()
    assert len(manifest.videos) == count
    assert [video.video_uuid for video in manifest.videos] == sorted(
        video.video_uuid for video in manifest.videos
    )


def _download_row(name: str, *rules: dict[str, Any], **more: Any) -> Row:
    return Row(
        name,
        {"rules": [{"prompt_contains": "fox", **rule} for rule in rules]},
        more.pop("expect", all_of(stored(), sent(1))),
        **{"during": not_in_a_manifest, **more},
    )


_DOWNLOAD_ROWS = [
    _download_row("result URL gone (404), then given anew", {"fault": "download_gone"}),
    _download_row(
        "result URL gone (410), then given anew", {"fault": "download_gone", "status": 410}
    ),
    _download_row(
        "result URL gone for good",
        {"fault": "download_gone", "status": 410},
        expect=failed("gone", state="lost"),
        needs="it ends `lost`, reported, at its estimate, after fetch_seconds (10 min)",
        settings=_SHORT_FETCH,
        lasts=True,
        during=None,
        may_be_lost=("lost",),
    ),
    _download_row("video truncated", {"fault": "download_truncated"}),
    _download_row(
        "video truncated once",
        {"fault": "download_truncated", "share": 0.9, "times": 1},
        lasts=True,
        during=None,
    ),
    _download_row(
        "video shorter than announced",
        {"fault": "download_wrong_length", "off_by_bytes": 1000},
    ),
    _download_row(
        "video longer than announced",
        {"fault": "download_wrong_length", "off_by_bytes": -1000},
        may_leave_files=True,
    ),
    *[
        _download_row(
            f"video corrupt ({part})",
            {"fault": "download_corrupt", "part": part},
            may_leave_files=True,
        )
        for part in ("start", "middle", "end", "all")
    ],
    _download_row(
        "video corrupt once",
        {"fault": "download_corrupt", "part": "all", "times": 1},
        lasts=True,
        during=None,
    ),
    _download_row(
        "video drips slowly",
        {"fault": "download_slow", "bytes_per_second": 60_000},
        lasts=True,
        during=None,
    ),
    _download_row("result URL redirects to another host", {"fault": "download_redirected"}),
    _download_row(
        "503 on downloads for a while",
        {"fault": "status", "status": 503, "event": "download", "times": 6},
        lasts=True,
        during=None,
    ),
]

ROWS = [*_WEBHOOK_ROWS, *_DOWNLOAD_ROWS]
