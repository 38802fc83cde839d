"""The scan for gallery and costs reads what changed, and gives the same as reading everything."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.generation.library.clip_index import build_clip_index
from sora_dagster.generation.library.costs import cost_rows
from sora_dagster.generation.library.library_scan import LibraryScan, scan_library
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, OutcomeRecord, OutcomeState
from sora_dagster.storage import StorageRoot
from tests.generation.large_roots import CountingRoot
from tests.generation.stored_takes import claim, end, store, stored_take

CACHE = layout.scan_key("default")


@pytest.fixture
def root(tmp_path: Path) -> CountingRoot:
    return CountingRoot(str(tmp_path / "storage"))


def scanned(root: StorageRoot, dataset: str = "default", **options: object) -> LibraryScan:
    """A scan, in an order that two of them have in common."""
    found = scan_library(root, dataset, **options)  # type: ignore[arg-type]
    return LibraryScan(
        tuple(sorted(found.manifests, key=lambda manifest: manifest.task_uuid)),
        tuple(sorted(found.tasks, key=lambda task: task.attempt.task_uuid)),
    )


def scanned_in_full(root: StorageRoot) -> LibraryScan:
    """A scan without what the last one left, which stays as it is."""
    last = root.read_if_present(CACHE)
    root.delete(CACHE)
    found = scanned(root)
    root.delete(CACHE)
    if last is not None:
        root.write(CACHE, last)
    return found


def settle(
    ledger: Ledger, attempt: AttemptRecord, state: OutcomeState, *, reopening: int = 0
) -> None:
    outcome = OutcomeRecord(state=state, cost_usd=1.2, at=ledger.clock(), nonce=ledger.new_nonce())
    ledger.settle(attempt.task_uuid, outcome, reopening=reopening)


def clips_of(scan: LibraryScan) -> set[str]:
    return {manifest.clip for manifest in scan.manifests}


def test_a_second_scan_reads_only_what_the_first_left(root: CountingRoot, ledger: Ledger) -> None:
    for number in range(5):
        stored_take(ledger, f"clip {number}")
    claim(ledger, "outstanding")
    first = scanned(root)
    assert len(first.manifests) == 5
    assert len(first.tasks) == 6
    root.counts.clear()
    assert scanned(root) == first
    assert (root.counts["read"], root.counts["list"], root.counts["write"]) == (1, 3, 0)


def test_what_is_new_is_read_and_nothing_else(root: CountingRoot, ledger: Ledger) -> None:
    for number in range(5):
        stored_take(ledger, f"clip {number}")
    outstanding = claim(ledger, "owl")
    scanned(root)
    stored_take(ledger, "new")
    end(ledger, outstanding, "failed")
    root.counts.clear()
    found = scanned(root)
    # What the last scan left; manifest, attempt and outcome of the new clip; the other outcome.
    assert root.counts["read"] == 1 + 3 + 1
    assert found == scanned_in_full(root)
    assert "new" in clips_of(found)
    assert [take.attempt.clip for take in build_clip_index(found).failed] == ["owl"]


def test_a_record_that_was_written_again_is_read_again(root: CountingRoot, ledger: Ledger) -> None:
    manifest = stored_take(ledger)
    scanned(root)
    changed = manifest.model_copy(update={"cost_usd": 7.5})
    root.write(layout.manifest_key("clips", "fox", 1), changed.to_json())
    [found] = scanned(root).manifests
    assert found.cost_usd == 7.5


def test_a_take_that_was_removed_is_gone(root: CountingRoot, ledger: Ledger) -> None:
    stored_take(ledger, "fox")
    stored_take(ledger, "owl")
    scanned(root)
    root.delete(layout.manifest_key("clips", "fox", 1))
    assert clips_of(scanned(root)) == {"owl"}


def test_a_reopened_task_is_outstanding_until_that_reopening_ends(
    root: CountingRoot, ledger: Ledger
) -> None:
    attempt = claim(ledger)
    settle(ledger, attempt, "lost")
    ended = [task.outcome.state for task in scanned(root).tasks if task.outcome]
    assert ended == ["lost"]
    ledger.reopen(attempt)
    assert [task.outcome for task in scanned(root).tasks] == [None]
    settle(ledger, attempt, "done", reopening=1)
    assert [task.outcome.state for task in scanned(root).tasks if task.outcome] == ["done"]


def test_only_the_datasets_asked_for_are_counted(root: CountingRoot, ledger: Ledger) -> None:
    stored_take(ledger, "fox")
    stored_take(ledger, "owl", asset="trailers_clips", dataset="trailers")
    stored_take(ledger, "pond", asset="glade/pond", dataset="glade")
    stored_take(ledger, "Pond", asset="Glade/pond", dataset="Glade")
    assert clips_of(scanned(root)) == {"fox"}
    assert clips_of(scanned(root, "trailers")) == {"owl"}
    with_board = scanned(root, boards=["glade"])
    assert clips_of(with_board) == {"fox", "pond"}
    assert {row.dataset for row in cost_rows(with_board)} == {"default", "glade"}
    # Without the storyboard again: what was left by the scan with it does not count.
    assert clips_of(scanned(root)) == {"fox"}


def test_clips_of_other_datasets_are_not_read_again(root: CountingRoot, ledger: Ledger) -> None:
    for number in range(5):
        stored_take(ledger, f"clip {number}", asset="trailers_clips", dataset="trailers")
    scanned(root)
    root.counts.clear()
    assert scanned(root) == LibraryScan((), ())
    assert root.counts["read"] == 1


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"no gzip",
        gzip.compress(b"no JSON"),
        gzip.compress(b'{"version": 1, "datasets": ["default"]}\n["clips/x", "1"]'),
        gzip.compress(b'{"version": 0, "datasets": ["default"]}'),
        gzip.compress(b'{"version": 1, "datasets": ["default"]}\n' * 50)[:-20],
    ],
    # The bytes hold the time, and each process that runs tests must give them the same names.
    ids=["empty", "not gzip", "not JSON", "not a record", "another version", "truncated"],
)
def test_what_the_last_scan_left_may_be_damaged(
    root: CountingRoot, ledger: Ledger, left: bytes
) -> None:
    stored_take(ledger)
    whole = scanned(root)
    root.write(CACHE, left)
    assert scanned(root) == whole
    root.counts.clear()
    assert scanned(root) == whole
    assert root.counts["read"] == 1


def test_a_record_that_the_last_scan_left_damaged_is_read_from_its_object(
    root: CountingRoot, ledger: Ledger
) -> None:
    stored_take(ledger)
    whole = scanned(root)
    text = gzip.decompress(root.read(CACHE)).decode()
    root.write(CACHE, gzip.compress(text.replace("task_uuid", "task").encode()))
    assert scanned(root) == whole


def test_a_record_that_cannot_be_read_is_reported_by_each_scan(
    root: CountingRoot, ledger: Ledger
) -> None:
    stored_take(ledger, "fox")
    stored_take(ledger, "owl")
    damaged = layout.manifest_key("clips", "owl", 1)
    root.write(damaged, b"{")
    reported: list[str] = []
    for scans in (1, 2):
        found = scanned(root, on_unreadable=lambda key, _error: reported.append(key))
        assert clips_of(found) == {"fox"}
        assert reported == [damaged] * scans


def test_a_stored_take_is_not_shown_as_failed_whatever_its_outcome_says(
    root: CountingRoot, ledger: Ledger
) -> None:
    attempt = claim(ledger)
    store(ledger, attempt)
    settle(ledger, attempt, "lost")
    library = build_clip_index(scanned(root))
    assert [clip.clip for clip in library.clips] == ["fox"]
    assert library.failed == ()


@pytest.mark.parametrize("state", ["void", "failed"])
def test_a_task_that_was_never_accepted_has_no_costs(
    root: CountingRoot, ledger: Ledger, state: OutcomeState
) -> None:
    attempt = claim(ledger)
    outcome = OutcomeRecord(
        state=state, cost_usd=0, was_accepted=False, at=ledger.clock(), nonce="1"
    )
    ledger.settle(attempt.task_uuid, outcome)
    assert cost_rows(scanned(root)) == []


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["store", "claim", "fail", "reopen", "remove", "scan"]),
            st.integers(0, 2),
        ),
        max_size=12,
    )
)
def test_whatever_happens_between_scans_the_result_is_that_of_reading_all(
    steps: list[tuple[str, int]],
) -> None:
    root = StorageRoot("memory://")
    ledger = Ledger(root)
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    takes = [0, 0, 0]
    open_attempts: dict[int, AttemptRecord] = {}
    failed: dict[int, AttemptRecord] = {}
    for step, number in steps:
        clip = f"clip {number}"
        if step in ("store", "claim"):
            takes[number] += 1
            attempt = claim(ledger, clip, takes[number], dataset=("default", "other")[number % 2])
            if step == "store":
                store(ledger, attempt)
                settle(ledger, attempt, "done")
            else:
                open_attempts[number] = attempt
        elif step == "fail" and number in open_attempts:
            failed[number] = open_attempts.pop(number)
            settle(ledger, failed[number], "lost")
        elif step == "reopen" and number in failed:
            ledger.reopen(failed[number])
        elif step == "remove":
            root.delete(layout.manifest_key("clips", clip, takes[number]))
        elif step == "scan":
            assert scanned(root) == scanned_in_full(root)
    assert scanned(root) == scanned_in_full(root)
