"""Checking a storage root: each damage is found, named, and reported with its repair."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.housekeeping.verify import Finding, verify
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.root_binding import RootMismatchError
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip, collect, request_clips
from tests.generation.stored_takes import VIDEO, claim, end, keys, store, stored_take
from tests.sandbox_server import Sandbox


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """The ledger of a folder, or of a bucket where a test asks for one."""
    in_bucket = getattr(request, "param", "file") == "s3"
    url = request.getfixturevalue("s3_url") if in_bucket else tmp_path / "storage"
    ledger = Ledger(StorageRoot(url))
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    return ledger


on_file_and_s3 = pytest.mark.parametrize("ledger", ["file", "s3"], indirect=True)


@pytest.fixture
def manifest(ledger: Ledger) -> ClipManifest:
    """The clip that is damaged, among others that are not."""
    stored_take(ledger, "owl", 1)
    parent = stored_take(ledger, "fox", 1)
    stored_take(ledger, "fox|snow", 1, asset="remixes", parent=parent)
    return stored_take(ledger, "fox", 2)


def only_finding(ledger: Ledger, *, deep: bool = False) -> Finding:
    [finding] = verify(ledger, deep=deep).findings
    return finding


@on_file_and_s3
def test_a_root_where_everything_is_there_is_whole(ledger: Ledger, manifest: ClipManifest) -> None:
    before = keys(ledger)
    report = verify(ledger, deep=True)
    assert report.is_complete
    assert (report.takes, report.objects, report.size_bytes) == (4, 16, 4 * len(VIDEO))
    assert keys(ledger) == before


def test_a_video_that_is_gone_is_found(ledger: Ledger, manifest: ClipManifest) -> None:
    ledger.root.delete(manifest.videos[0].key)
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("missing", manifest.videos[0].key)
    assert (found.asset, found.partition) == ("clips", "fox")
    assert "Request the clip again" in found.detail


def test_a_video_that_is_cut_short_is_found(ledger: Ledger, manifest: ClipManifest) -> None:
    ledger.root.write(manifest.videos[0].key, VIDEO[:-1])
    found = only_finding(ledger)
    assert found.kind == "wrong size"
    assert f"{len(VIDEO) - 1} bytes" in found.detail


@on_file_and_s3
def test_a_video_of_the_same_length_with_other_bytes_is_found_by_a_deep_check_alone(
    ledger: Ledger, manifest: ClipManifest
) -> None:
    ledger.root.write(manifest.videos[0].key, VIDEO[::-1])
    assert verify(ledger).is_complete
    assert only_finding(ledger, deep=True).kind == "wrong hash"


@pytest.mark.parametrize("name", ["poster_key", "sheet_key", "thumbnail_key"])
def test_a_picture_that_is_gone_is_found(ledger: Ledger, manifest: ClipManifest, name: str) -> None:
    ledger.root.delete(getattr(manifest, name))
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("missing", getattr(manifest, name))
    assert "backup" in found.detail


def test_a_record_that_cannot_be_read_is_found(ledger: Ledger, manifest: ClipManifest) -> None:
    key = layout.manifest_key("clips", "fox", 2)
    ledger.root.write(key, ledger.root.read(key)[:100])
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("unreadable record", key)


def test_a_record_of_a_newer_version_is_found(ledger: Ledger, manifest: ClipManifest) -> None:
    key = layout.manifest_key("clips", "fox", 2)
    ledger.root.write(key, json.dumps({"format_version": 99, "what": "ever"}).encode())
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("newer record", key)
    assert "upgrade sora-dagster" in found.detail


def test_a_record_that_was_copied_to_another_clip_is_found(
    ledger: Ledger, manifest: ClipManifest
) -> None:
    copy = layout.manifest_key("clips", "bee", 1)
    ledger.root.write(copy, ledger.root.read(layout.manifest_key("clips", "fox", 2)))
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("misplaced record", copy)


def test_a_task_that_brought_videos_and_has_no_record_is_found(
    ledger: Ledger, manifest: ClipManifest
) -> None:
    for key in keys(ledger, "clips/clips/fox/take-2"):
        ledger.root.delete(key)
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("missing record", layout.manifest_key("clips", "fox", 2))
    assert manifest.task_uuid in found.detail


def test_a_clip_whose_task_has_no_end_is_found(ledger: Ledger, manifest: ClipManifest) -> None:
    key = layout.task_key(manifest.task_uuid, "outcome-0")
    ledger.root.delete(key)
    found = only_finding(ledger)
    assert (found.kind, found.key) == ("missing outcome", key)


def test_a_stored_clip_whose_reopened_task_has_no_end_is_found_unless_it_is_pending(
    ledger: Ledger,
) -> None:
    attempt = claim(ledger, "fox", 1)
    end(ledger, attempt, "lost")
    reopening = ledger.reopen(attempt)
    store(ledger, attempt)
    assert verify(ledger).is_complete
    ledger.pending.remove("default", attempt.task_uuid, reopening)
    found = only_finding(ledger)
    assert found.kind == "missing outcome"
    assert found.key == layout.task_key(attempt.task_uuid, "outcome-1")


def test_an_end_that_cannot_be_read_is_found_for_its_clip_alone(ledger: Ledger) -> None:
    attempt = claim(ledger, "fox", 1)
    end(ledger, attempt, "lost")
    stored_take(ledger, "owl", 1)
    key = layout.task_key(attempt.task_uuid, "outcome-0")
    ledger.root.write(key, b"{")
    assert only_finding(ledger).kind == "unreadable record"


def test_what_is_under_way_or_has_failed_is_no_finding(
    ledger: Ledger, manifest: ClipManifest
) -> None:
    claim(ledger, "outstanding", 1)
    store(ledger, claim(ledger, "just stored", 1))
    end(ledger, claim(ledger, "failed", 1), "failed")
    end(ledger, claim(ledger, "lost", 1), "lost")
    assert verify(ledger).is_complete


def test_every_finding_is_reported_as_soon_as_it_is_made(
    ledger: Ledger, manifest: ClipManifest
) -> None:
    ledger.root.delete(manifest.videos[0].key)
    ledger.root.delete(manifest.poster_key)
    reported: list[Finding] = []
    report = verify(ledger, on_finding=reported.append)
    assert tuple(reported) == report.findings
    assert len(reported) == 2
    assert "2 findings" in report.sentence


def test_a_folder_without_a_root_is_said(root: StorageRoot) -> None:
    with pytest.raises(RootMismatchError, match=r"root\.json"):
        verify(Ledger(root))


def test_a_video_that_is_gone_is_mended_by_asking_again_as_it_says(
    generate: Callable[..., Generator], sandbox: Sandbox
) -> None:
    generator = generate()
    request_clips(generator, clip())
    [finished] = collect(generator)
    assert finished.manifest is not None
    generator.ledger.root.delete(finished.manifest.videos[0].key)
    assert only_finding(generator.ledger).kind == "missing"
    before = sandbox.charged()
    request_clips(generator, clip())
    assert verify(generator.ledger, deep=True).is_complete
    assert sandbox.charged() == before
