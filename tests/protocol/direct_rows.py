"""Rows of the fault matrix: what can go wrong where Runware puts videos into the bucket."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sora_dagster.generation.collecting.settings import Deadlines
from sora_dagster.generation.housekeeping.incoming import old_uploads
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.claims import ClaimSettings
from tests.protocol.delivery_rows import POLLS_TOO_LATE
from tests.protocol.families import BOTH
from tests.protocol.row import Expectation, Row, Story, all_of, failed, not_in_a_manifest, sent
from tests.protocol.row import stored as stored_at_all
from tests.protocol.scenario import QUICK
from tests.protocol.submission_rows import lose_answer

# The store's clock shows whole seconds, so that it shows nothing shorter.
_DEADLINES = Deadlines(
    unknown_seconds=1.5,
    generation_seconds=60.0,
    unsent_seconds=1.5,
    fetch_seconds=60.0,
    upload_seconds=30.0,
)
_DIRECT = replace(
    QUICK,
    delivery="direct",
    deadlines=_DEADLINES,
    claims=ClaimSettings(beat_seconds=0.5, dead_seconds=5.0),
)


def _with(**deadlines: float) -> Any:
    return replace(_DIRECT, deadlines=replace(_DEADLINES, **deadlines))


_NO_GRACE = _with(upload_seconds=0.0)


def _row(fault: str, *rules: dict[str, Any], expect: Expectation, **more: Any) -> Row:
    aimed = [{"prompt_contains": "fox", **rule} for rule in rules]
    return Row(
        f"direct: {fault}",
        {"rules": aimed},
        expect,
        **{"on_s3": True, "settings": _DIRECT, "lasts": True, **more},
    )


def _stored(delivery: str, *, facts_from: str = "poll") -> Expectation:
    def check(story: Story) -> None:
        manifest = story.manifest()
        assert (manifest.delivery, manifest.facts_from) == (delivery, facts_from)
        [attempt] = story.scenario.attempts_of("fox")
        assert attempt.delivery == "direct"

    return all_of(stored_at_all(), check)


def _sweep_what_came_late(story: Story) -> None:
    """An upload that comes when its clip is stored stays until it is swept."""
    scenario = story.scenario
    [attempt] = scenario.attempts_of("fox")
    ledger, key = scenario.ledger(), layout.incoming_key(attempt.task_uuid)
    assert ledger.outcome(attempt.task_uuid) is not None
    # Written here, not by the sandbox after some seconds: on a slow machine those may end before
    # the collection does.
    ledger.root.create(key, b"a late video")
    later = ledger.root.store_time() + timedelta(days=8)
    [(upload, reason)] = old_uploads(ledger, now=later)
    assert (upload.key, reason) == (key, None)
    ledger.root.delete(key)


def _is_kept_from_the_upload(story: Story) -> None:
    assert story.states() == ["done"]
    manifest = story.manifest()
    assert (manifest.delivery, manifest.facts_from) == ("direct", "upload")
    assert manifest.cost_is_estimate


ROWS = [
    _row("upload lost", {"fault": "upload_lost"}, expect=_stored("download"), settings=_NO_GRACE),
    _row("upload truncated", {"fault": "upload_truncated"}, expect=_stored("download")),
    _row(
        "upload comes after its result",
        {"fault": "upload_late", "delay_seconds": 0.3},
        expect=_stored("direct"),
    ),
    _row(
        "upload comes after the clip was downloaded",
        {"fault": "upload_lost"},
        expect=_stored("download"),
        settings=_NO_GRACE,
        during=_sweep_what_came_late,
    ),
    _row(
        "result without a URL",
        {"fault": "upload_alone"},
        expect=_stored("direct"),
        families=BOTH,
    ),
    _row(
        "upload lost, result URL gone for a while",
        {"fault": "upload_lost"},
        {"fault": "download_gone"},
        expect=_stored("download"),
        settings=_NO_GRACE,
        lasts=False,
        during=not_in_a_manifest,
    ),
    _row(
        "upload lost, result URL gone for good",
        {"fault": "upload_lost"},
        {"fault": "download_gone", "status": 410},
        expect=failed("gone", state="lost"),
        needs="it ends `lost`, reported, at its estimate, after fetch_seconds (10 min)",
        settings=_with(upload_seconds=0.0, fetch_seconds=0.3),
        may_be_lost=("lost",),
    ),
    _row(
        "answer lost before accepting, replayed at once",
        lose_answer("before"),
        expect=all_of(_stored("direct"), sent(2, proof="acknowledged")),
    ),
    _row(
        "answer lost before accepting, replayed by another process",
        lose_answer("before"),
        expect=all_of(_stored("direct"), sent(2, proof="acknowledged")),
        settings=replace(
            _with(generation_seconds=2.0),
            sending=replace(_DIRECT.sending, replay_window_seconds=0.0),
        ),
    ),
    _row(
        "webhooks alone",
        {"fault": "late_result", "delay_seconds": 0.2},
        expect=all_of(_stored("direct"), sent(1)),
        settings=replace(_DIRECT, polls=POLLS_TOO_LATE),
        webhook=True,
    ),
    _row(
        "Runware forgets the task, upload there",
        {"fault": "forgotten", "polls": 0},
        expect=_is_kept_from_the_upload,
        settings=_with(generation_seconds=3.0),
        needs="it counts at its estimate, under the task's UUID, and cannot be remixed",
        families=BOTH,
    ),
]
