"""Making room in a storage root: what goes, what stays, and that nothing is paid for again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.housekeeping.prune import RemovedObject, prune
from sora_dagster.generation.housekeeping.verify import verify
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.root_binding import RootMismatchError
from sora_dagster.generation.protocol.scan import stored_manifests
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.storage import StorageError, StorageRoot
from tests.generation.requesting import clip, collect, request_clips
from tests.generation.stored_takes import claim, end, keys, store, stored_take
from tests.sandbox_server import Sandbox

API = "https://api.example.com/v1"


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """The ledger of a folder, or of a bucket where a test asks for one."""
    in_bucket = getattr(request, "param", "file") == "s3"
    url = request.getfixturevalue("s3_url") if in_bucket else tmp_path / "storage"
    ledger = Ledger(StorageRoot(url))
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    return ledger


on_file_and_s3 = pytest.mark.parametrize("ledger", ["file", "s3"], indirect=True)


def pass_days(ledger: Ledger, days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the store's clock on, so that all that is stored is so much older."""
    monkeypatch.setattr(ledger.root, "store_time", lambda: datetime.now(UTC) + timedelta(days=days))


def records(ledger: Ledger) -> set[str]:
    return keys(ledger, "root.json", "slots", "tasks", "budget")


@on_file_and_s3
def test_older_takes_go_and_leave_their_record(ledger: Ledger) -> None:
    manifests = [stored_take(ledger, "fox", take) for take in (1, 2, 10)]
    stored_take(ledger, "owl", 1)
    before = records(ledger)
    report = prune(ledger, keep_takes=2, dry_run=False)
    assert [info.key for info in ledger.root.list("clips/clips/fox/take-1")] == [
        "clips/clips/fox/take-1/pruned.json"
    ]
    assert ledger.latest_manifest("clips", "fox") == manifests[2]
    assert ledger.manifest("clips", "fox", 2) == manifests[1]
    assert ledger.manifest("clips", "owl", 1) is not None
    pruned = ledger.pruned("clips", "fox", 1)
    assert pruned is not None
    assert pruned.manifest == manifests[0]
    assert report.objects == {"older take": 6}
    assert report.kept["complete takes"] == 3
    assert records(ledger) == before
    assert verify(ledger).is_complete


def test_all_takes_stay_where_no_number_is_given(ledger: Ledger) -> None:
    for take in (1, 2):
        stored_take(ledger, "fox", take)
    before = keys(ledger)
    assert prune(ledger, dry_run=False).objects == {}
    assert keys(ledger) == before


@on_file_and_s3
def test_a_dry_run_says_what_would_go_and_removes_nothing(ledger: Ledger) -> None:
    for take in (1, 2, 3):
        stored_take(ledger, "fox", take)
    before = keys(ledger)
    reported: list[RemovedObject] = []
    dry = prune(ledger, keep_takes=1, on_removed=reported.append)
    assert keys(ledger) == before
    real: list[RemovedObject] = []
    report = prune(ledger, keep_takes=1, dry_run=False, on_removed=real.append)
    assert {removed.key for removed in reported} == before - keys(ledger)
    assert sorted(reported) == sorted(real)
    assert (dry.objects, dry.size_bytes) == (report.objects, report.size_bytes)


def test_the_newest_whole_take_stays_while_a_newer_one_is_outstanding(ledger: Ledger) -> None:
    stored_take(ledger, "fox", 1)
    claim(ledger, "fox", 2)
    assert prune(ledger, keep_takes=1, dry_run=False).objects == {}
    assert ledger.manifest("clips", "fox", 1) is not None


def test_a_take_whose_end_is_not_logged_yet_stays(ledger: Ledger) -> None:
    store(ledger, claim(ledger, "fox", 1))
    stored_take(ledger, "fox", 2)
    report = prune(ledger, keep_takes=1, dry_run=False)
    assert ledger.manifest("clips", "fox", 1) is not None
    assert report.kept["older takes that are being stored"] == 1


def test_a_take_that_remixes_were_made_of_stays_and_so_do_its_own_parents(ledger: Ledger) -> None:
    first = stored_take(ledger, "fox", 1)
    of_first = stored_take(ledger, "fox|snow", 1, asset="remixes", parent=first)
    stored_take(ledger, "fox|snow", 2, asset="remixes", parent=first)
    second = stored_take(ledger, "fox", 2)
    claim(ledger, "fox|rain", 1, asset="remixes", parent=second)
    stored_take(ledger, "fox", 3)
    stored_take(ledger, "fox", 4)
    stored_take(ledger, "deep", 1, asset="remixes", parent=of_first)
    report = prune(ledger, keep_takes=1, dry_run=False)
    left = {(manifest.clip, manifest.take) for manifest in stored_manifests(ledger.root)}
    assert left == {
        ("fox", 1),
        ("fox", 2),
        ("fox", 4),
        ("fox|snow", 1),
        ("fox|snow", 2),
        ("deep", 1),
    }
    assert report.kept["older takes that remixes were made from"] == 3
    prune(ledger, keep_takes=1, keep_parents=False, dry_run=False)
    left = {(manifest.clip, manifest.take) for manifest in stored_manifests(ledger.root)}
    assert left == {("fox", 4), ("fox|snow", 2), ("deep", 1)}


def test_a_take_whose_record_cannot_be_read_stays_and_older_ones_with_it(ledger: Ledger) -> None:
    for take in (1, 2):
        stored_take(ledger, "fox", take)
    ledger.root.write(layout.manifest_key("clips", "fox", 2), b"{}")
    before = keys(ledger)
    prune(ledger, keep_takes=1, dry_run=False)
    assert keys(ledger) == before


@pytest.mark.parametrize("crash_at", range(8))
def test_a_run_that_is_killed_leaves_no_record_of_what_is_gone(
    root: StorageRoot, crash_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(root)
    ledger.bind(api_base_url=API, account=None)
    for take in (1, 2):
        stored_take(ledger, "fox", take)
    writes = 0

    def dying(act: Callable[..., object]) -> Callable[..., object]:
        def call(key: str, *rest: object) -> object:
            nonlocal writes
            if key.startswith("clips/"):
                if writes == crash_at:
                    raise KeyboardInterrupt
                writes += 1
            return act(key, *rest)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(root, "delete", dying(root.delete))
        patch.setattr(root, "create", dying(root.create))
        try:
            prune(ledger, keep_takes=1, dry_run=False)
        except KeyboardInterrupt:
            assert crash_at < 6
        else:
            assert crash_at >= 6
    assert verify(ledger).is_complete
    pass_days(ledger, 2, monkeypatch)
    prune(ledger, keep_takes=1, dry_run=False)
    assert keys(ledger, "clips/clips/fox/take-1") == {"clips/clips/fox/take-1/pruned.json"}
    assert ledger.manifest("clips", "fox", 2) is not None


@on_file_and_s3
def test_files_of_a_writer_that_came_second_go_after_a_day(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = stored_take(ledger, "fox", 1)
    whole = keys(ledger)
    second = layout.video_key("clips", "fox", 1, manifest.task_uuid, "mp4", "other")
    ledger.root.write(second, b"the same video")
    assert prune(ledger, dry_run=False).kept == {
        "takes with other files that are younger than a day": 1,
        "complete takes": 1,
    }
    pass_days(ledger, 2, monkeypatch)
    assert prune(ledger, dry_run=False).objects == {"leftover": 1}
    assert keys(ledger) == whole


def test_files_stay_where_no_manifest_stands(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(clip: str) -> None:
        ledger.root.write(layout.video_key("clips", clip, 1, "video", "mp4", "5a1e"), b"half of it")

    claim(ledger, "fox", 1)
    leave("fox")
    stored_take(ledger, "owl", 1)
    ledger.root.delete(layout.manifest_key("clips", "owl", 1))
    ledger.root.write("clips/clips/bee/take-1/mine.mp4", b"put there by hand")
    again = claim(ledger, "eel", 1)
    end(ledger, again, "lost")
    ledger.reopen(again)
    leave("eel")
    end(ledger, claim(ledger, "ant", 1), "lost")
    leave("ant")
    damaged = claim(ledger, "yak", 1)
    end(ledger, damaged, "lost")
    ledger.root.write(layout.task_key(damaged.task_uuid, "outcome-0"), b"{")
    leave("yak")
    before = keys(ledger, "clips")
    pass_days(ledger, 2, monkeypatch)
    report = prune(ledger, keep_takes=1, dry_run=False)
    assert keys(ledger, "clips") == before
    assert report.kept == {
        "folders that no request names; check them": 1,
        "takes that are outstanding": 2,
        "takes whose manifest is missing; verify them": 1,
        "takes whose records cannot be read; verify them": 1,
        "takes without a video, whose files may be all that is left of it": 1,
    }


@pytest.mark.parametrize("is_damaged", ["pending", "stuck", "attempt"])
def test_no_take_goes_while_it_cannot_be_read_what_is_outstanding(
    ledger: Ledger, is_damaged: str
) -> None:
    for take in (1, 2):
        stored_take(ledger, "fox", take)
    attempt = claim(ledger, "owl", 1)
    [entry] = ledger.pending.tasks("default").values()
    if is_damaged == "attempt":
        ledger.root.write(layout.attempt_key("clips", "owl", 1, 1), b"{")
    else:
        ledger.root.write(entry.key, b"{")
    if is_damaged == "stuck":
        stuck = ledger.pending.mark_stuck(entry, "its index entry cannot be read")
        assert stuck.pending is None
        assert ledger.pending.stuck("default", attempt.task_uuid) == stuck
    report = prune(ledger, keep_takes=1, dry_run=False)
    assert report.objects == {}
    assert report.kept["older takes, since a record of an outstanding task cannot be read"] == 1


def test_a_stuck_take_stays(ledger: Ledger) -> None:
    store(ledger, claim(ledger, "fox", 1))
    [entry] = ledger.pending.tasks("default").values()
    ledger.pending.mark_stuck(entry, "its outcome cannot be read")
    stored_take(ledger, "fox", 2)
    assert prune(ledger, keep_takes=1, dry_run=False).objects == {}
    assert ledger.manifest("clips", "fox", 1) is not None


@on_file_and_s3
def test_a_removed_take_leaves_the_index_of_what_is_stored(ledger: Ledger) -> None:
    for take in (1, 2, 10):
        stored_take(ledger, "fox", take)
    stored_take(ledger, "owl", 1)
    before = keys(ledger, "stored")
    prune(ledger, keep_takes=2, dry_run=False)
    [gone] = before - keys(ledger, "stored")
    assert gone.startswith("stored/default/fox/1.")


@on_file_and_s3
def test_what_an_interrupted_restore_left_goes_after_a_day(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = layout.restore_key("5a1e")
    ledger.root.write(left, b"fetched again")
    assert prune(ledger, dry_run=False).objects == {}
    pass_days(ledger, 1.1, monkeypatch)
    assert prune(ledger).objects == {"incoming": 1}
    assert ledger.root.exists(left)
    assert prune(ledger, dry_run=False).objects == {"incoming": 1}
    assert not ledger.root.exists(left)


def test_an_upload_stays_while_the_end_of_its_task_cannot_be_read(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = stored_take(ledger, "fox", 1)
    ledger.root.write(layout.task_key(manifest.task_uuid, "outcome-0"), b"{")
    ledger.root.write(layout.incoming_key(manifest.task_uuid), b"came twice")
    pass_days(ledger, 8, monkeypatch)
    report = prune(ledger, dry_run=False)
    assert report.objects == {}
    assert any("cannot be read" in reason for reason in report.kept)


def test_uploads_that_never_ended_are_given_up(s3_url: str, s3_endpoint: str) -> None:
    ledger = Ledger(StorageRoot(s3_url))
    ledger.bind(api_base_url=API, account=None)
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    # This server says of every upload that it began in 2010.
    client.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/clips/clips/fox/take-1/a.mp4")
    assert prune(ledger).objects == {"unfinished upload": 1}
    assert len(client.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
    assert prune(ledger, dry_run=False).objects == {"unfinished upload": 1}
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_files_of_broken_writes_are_given_up_by_age(
    root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(root)
    ledger.bind(api_base_url=API, account=None)
    stored_take(ledger, "fox", 1)
    half = root.local_path("clips/clips/fox/take-1/a.mp4#1")
    assert half is not None
    half.write_bytes(b"half of it")
    assert prune(ledger, dry_run=False).objects == {}
    pass_days(ledger, 3, monkeypatch)
    assert prune(ledger, dry_run=False).objects == {"unfinished upload": 1}
    assert not half.exists()
    assert verify(ledger).is_complete


@on_file_and_s3
def test_uploads_that_nobody_waited_for_are_swept(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = stored_take(ledger, "fox", 1)
    late = layout.incoming_key(manifest.task_uuid)
    ledger.root.write(late, b"came twice")
    pass_days(ledger, 8, monkeypatch)
    assert prune(ledger).objects == {"incoming": 1}
    assert ledger.root.exists(late)
    assert prune(ledger, dry_run=False).objects == {"incoming": 1}
    assert not ledger.root.exists(late)


def test_a_folder_of_somebody_elses_is_left_alone(root: StorageRoot) -> None:
    root.write("clips/holiday/2019/take-1/clip.json", b"{}")
    root.write("clips/holiday/2019/take-2/clip.json", b"{}")
    with pytest.raises(RootMismatchError, match=r"root\.json"):
        prune(Ledger(root), keep_takes=1, dry_run=False)
    assert len(list(root.list("clips"))) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_takes": 0}, "newest take"),
        ({"upload_days": 0.5}, "still be running"),
    ],
)
def test_numbers_that_would_lose_something_are_refused(
    root: StorageRoot, settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prune(Ledger(root), dry_run=False, **settings)  # type: ignore[arg-type]


def test_a_store_that_fails_is_said_and_the_next_run_carries_on(
    root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(root)
    ledger.bind(api_base_url=API, account=None)
    for take in (1, 2, 3):
        stored_take(ledger, "fox", take)

    def refuse(key: str) -> None:
        raise StorageError(f"cannot delete {key}")

    with monkeypatch.context() as patch:
        patch.setattr(root, "delete", refuse)
        with pytest.raises(StorageError, match="cannot delete"):
            prune(ledger, keep_takes=1, dry_run=False)
    assert verify(ledger).is_complete
    prune(ledger, keep_takes=1, dry_run=False)
    assert [manifest.take for manifest in stored_manifests(root)] == [3]


def test_asking_for_a_clip_whose_older_takes_are_gone_costs_nothing(
    generate: Callable[..., Generator], sandbox: Sandbox
) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    request_clips(generator, clip(prompt="a fox in rain"), regenerate_changed=True)
    collect(generator)
    prune(generator.ledger, keep_takes=1, dry_run=False)
    before = sandbox.charged()
    [again] = request_clips(generator, clip(prompt="a fox in rain"))
    [as_it_was] = request_clips(generator, clip())
    assert again.state is RequestState.STORED
    assert as_it_was.state is RequestState.CHANGED
    assert collect(generator) == []
    assert sandbox.charged() == before
    assert verify(generator.ledger, deep=True).is_complete
