"""Scanning a storage root: everything once, nothing left out silently, little held at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.scan import (
    in_parallel,
    stored_manifests,
)
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import claim, end, stored_take


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """The ledger of a folder, or of a bucket where a test asks for one."""
    in_bucket = getattr(request, "param", "file") == "s3"
    url = request.getfixturevalue("s3_url") if in_bucket else tmp_path / "storage"
    ledger = Ledger(StorageRoot(url))
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    return ledger


on_file_and_s3 = pytest.mark.parametrize("ledger", ["file", "s3"], indirect=True)


@on_file_and_s3
def test_every_whole_take_is_given_older_ones_too(ledger: Ledger) -> None:
    stored = [stored_take(ledger, "fox", take) for take in (1, 2)]
    stored += [stored_take(ledger, f"Clip {number}", 1) for number in range(40)]
    remix = stored_take(ledger, "fox|snow", 1, asset="remixes", parent=stored[0])
    claim(ledger, "outstanding", 1)
    by_task = {manifest.task_uuid: manifest for manifest in [*stored, remix]}
    found = {manifest.task_uuid: manifest for manifest in stored_manifests(ledger.root)}
    assert found == by_task
    assert list(stored_manifests(ledger.root, asset="remixes")) == [remix]


def test_what_cannot_be_read_is_reported_and_the_rest_given(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    stored_take(ledger, "fox", 1)
    stored_take(ledger, "owl", 1)
    broken = layout.manifest_key("clips", "fox", 1)
    ledger.root.write(broken, b"{")
    reported: list[tuple[str, UnreadableRecordError]] = []
    found = stored_manifests(
        ledger.root, on_unreadable=lambda key, error: reported.append((key, error))
    )
    assert [manifest.clip for manifest in found] == ["owl"]
    [(key, error)] = reported
    assert key == broken
    assert ledger.root.uri(broken) in str(error)
    assert len(list(stored_manifests(ledger.root))) == 1
    assert broken in caplog.text


@on_file_and_s3
def test_a_listing_of_the_tasks_shows_which_have_ended_and_when_they_were_sent(
    ledger: Ledger,
) -> None:
    done = stored_take(ledger, "fox", 1).task_uuid
    sent = claim(ledger, "owl", 1).task_uuid
    claim(ledger, "bee", 1, send=False)
    reopened = claim(ledger, "eel", 1)
    end(ledger, reopened, "lost")
    ledger.reopen(reopened)
    replayed = claim(ledger, "ant", 1)
    ledger.take_right_to_send(replayed.task_uuid, 2)
    end(ledger, replayed, "failed")
    files = ledger.all_task_files()
    assert {uuid: (task.has_ended, len(task.sent_times)) for uuid, task in files.items()} == {
        done: (True, 1),
        sent: (False, 1),
        reopened.task_uuid: (False, 1),
        replayed.task_uuid: (True, 2),
    }
    assert files == {uuid: ledger.task_files(uuid) for uuid in files}


def test_results_come_in_order_and_only_a_few_items_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = in_parallel(items(), lambda number: number * 2, parallel=4)
    assert [next(results) for _ in range(10)] == [number * 2 for number in range(10)]
    assert taken <= 10 + 2 * 4
    assert list(results) == [number * 2 for number in range(10, 1000)]


def test_work_is_done_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=20)
    assert len(list(in_parallel(range(4), lambda _: together.wait(), parallel=4))) == 4


def test_an_error_ends_the_scan_and_its_threads() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise OSError("the disk is gone")
        return number

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        list(in_parallel(range(100), work))
    assert threading.active_count() == before
