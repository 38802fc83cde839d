"""Asking for what is stored: listings for many clips, look-ups for few, never a wrong answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.requesting.stored_index import (
    FEW_CLIPS,
    stored_already,
    stored_results,
)
from sora_dagster.prompts.clips import ClipRequest
from tests.generation.large_roots import CountingRoot
from tests.generation.stored_takes import VIDEO, claim, keys, store, stored_take

MANY = FEW_CLIPS + 5
API = "https://api.example.com/v1"


@pytest.fixture
def root() -> CountingRoot:
    return CountingRoot("memory://")


@pytest.fixture
def ledger(root: CountingRoot) -> Ledger:
    ledger = Ledger(root)
    ledger.bind(api_base_url=API, account=None)
    return ledger


def store_many(ledger: Ledger, count: int = MANY, **where: str) -> list[ClipManifest]:
    return [stored_take(ledger, f"Clip {number}", **where) for number in range(count)]  # type: ignore[arg-type]


def requests_of(manifests: Sequence[ClipManifest]) -> list[ClipRequest]:
    return [manifest.request for manifest in manifests]


def changed(request: ClipRequest, **fields: object) -> ClipRequest:
    return request.model_copy(update={"spec": request.spec.model_copy(update=fields)})


def missing(ledger: Ledger, requests: Sequence[ClipRequest]) -> list[str]:
    """The clips that are not answered as stored."""
    found = stored_already(ledger, requests)
    return [request.clip for index, request in enumerate(requests) if index not in found]


def test_many_stored_clips_are_found_by_three_listings(ledger: Ledger, root: CountingRoot) -> None:
    requests = requests_of(store_many(ledger))
    root.counts.clear()
    found = stored_already(ledger, requests)
    assert set(found) == set(range(MANY))
    assert root.counts["list"] == 3
    assert root.counts.keys() == {"list", "listed"}
    assert found[0].manifest_key == layout.manifest_key("clips", "Clip 0", 1)


def test_a_few_stored_clips_are_looked_up_without_listing_the_others(
    ledger: Ledger, root: CountingRoot
) -> None:
    requests = requests_of(store_many(ledger))[:FEW_CLIPS]
    root.counts.clear()
    assert set(stored_already(ledger, requests)) == set(range(FEW_CLIPS))
    assert root.counts["listed"] == FEW_CLIPS


def test_a_part_of_a_much_larger_asset_is_looked_up(
    ledger: Ledger, root: CountingRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sora_dagster.generation.requesting.stored_index.MOST_SLOTS_LISTED_PER_CLIP", 2
    )
    requests = requests_of(store_many(ledger, 5 * MANY))[:MANY]
    root.counts.clear()
    assert missing(ledger, requests) == []
    assert root.counts["listed"] <= 3 * MANY + 1


def test_the_answer_names_the_take_and_its_task(ledger: Ledger) -> None:
    manifests = store_many(ledger)
    answers = stored_results(ledger, requests_of(manifests))
    assert answers[3].state is RequestState.STORED
    assert answers[3].task_uuid == manifests[3].task_uuid
    assert answers[3].detail == "take 1 is already generated, 0.00 USD"
    assert answers[3].price is None


@pytest.mark.parametrize("count", [1, MANY])
def test_what_was_never_asked_for_is_not_found(ledger: Ledger, count: int) -> None:
    requests = requests_of(store_many(ledger, count))
    new = [request.model_copy(update={"clip": f"new {request.clip}"}) for request in requests]
    assert stored_already(ledger, new) == {}


@pytest.mark.parametrize("count", [1, MANY])
def test_a_changed_row_or_a_raised_take_is_not_stored(ledger: Ledger, count: int) -> None:
    requests = requests_of(store_many(ledger, count))
    requests[0] = changed(requests[0], prompt="another fox")
    assert missing(ledger, requests) == ["Clip 0"]
    requests[0] = changed(requests_of(store_many(ledger, 1))[0], take=2)
    assert missing(ledger, requests) == ["Clip 0"]


@pytest.mark.parametrize("count", [1, MANY])
def test_a_clip_with_an_outstanding_newer_take_is_not_stored(ledger: Ledger, count: int) -> None:
    requests = requests_of(store_many(ledger, count))
    claim(ledger, "Clip 0", 2)
    assert missing(ledger, requests) == ["Clip 0"]


@pytest.mark.parametrize("count", [1, MANY])
def test_a_later_take_than_asked_for_counts(ledger: Ledger, count: int) -> None:
    store_many(ledger, count)
    second = stored_take(ledger, "Clip 0", 2)
    requests = [second.request, *requests_of(store_many(ledger, count))[1:]]
    assert stored_already(ledger, requests)[0].take == 2


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("damage", ["gone", "truncated", "no manifest", "unreadable manifest"])
def test_a_damaged_clip_is_not_stored(ledger: Ledger, count: int, damage: str) -> None:
    manifests = store_many(ledger, count)
    video, record = manifests[0].videos[0].key, layout.manifest_key("clips", "Clip 0", 1)
    if damage == "gone":
        ledger.root.delete(video)
    elif damage == "truncated":
        ledger.root.write(video, VIDEO[:-1])
    elif damage == "no manifest":
        ledger.root.delete(record)
    else:
        ledger.root.write(record, b"{")
        ledger.root.delete(video)
    assert missing(ledger, requests_of(manifests)) == ["Clip 0"]


def test_what_the_index_lacks_is_looked_up_once_and_added(
    ledger: Ledger, root: CountingRoot
) -> None:
    requests = requests_of(store_many(ledger))
    whole = keys(ledger, "stored")
    for key in whole:
        ledger.root.delete(key)
    assert missing(ledger, requests) == []
    assert keys(ledger, "stored") == whole
    root.counts.clear()
    assert missing(ledger, requests) == []
    assert root.counts["read"] == 0


def test_a_clip_without_an_outcome_is_stored_since_its_manifest_stands(ledger: Ledger) -> None:
    requests = requests_of(store_many(ledger))
    requests.append(store(ledger, claim(ledger, "just stored")).request)
    assert missing(ledger, requests) == []


def test_a_wrong_index_entry_buys_nothing_and_is_removed(ledger: Ledger) -> None:
    requests = requests_of(store_many(ledger))
    whole = keys(ledger, "stored")
    [right] = [key for key in whole if layout.segment("Clip 0") in key]
    ledger.root.delete(right)
    ledger.root.write(layout.stored_key("default", "Clip 0", 1, "0" * 32, len(VIDEO)), b"")
    assert missing(ledger, requests) == []
    assert keys(ledger, "stored") == whole


def test_files_of_another_writer_do_not_hide_a_stored_clip(ledger: Ledger) -> None:
    manifests = store_many(ledger)
    other = layout.video_key("clips", "Clip 0", 1, manifests[0].task_uuid, "mp4", "other")
    ledger.root.write(other, VIDEO)
    assert missing(ledger, requests_of(manifests)) == []


@pytest.mark.parametrize("count", [1, MANY])
def test_a_remix_counts_only_for_the_video_that_it_was_made_from(
    ledger: Ledger, count: int
) -> None:
    parent, other = stored_take(ledger, "fox"), stored_take(ledger, "owl")
    remixes = [
        stored_take(ledger, f"fox|{number}", asset="remixes", parent=parent)
        for number in range(count)
    ]
    requests = requests_of(remixes)
    assert missing(ledger, requests) == []
    of_other = claim(ledger, "owl|snow", asset="remixes", parent=other).parent
    requests[0] = requests[0].model_copy(update={"parent": of_other})
    assert missing(ledger, requests) == [requests[0].clip]


def test_clips_of_several_assets_and_datasets_are_kept_apart(ledger: Ledger) -> None:
    spring = store_many(ledger, asset="clips", dataset="spring")
    winter = store_many(ledger, asset="winter_clips", dataset="winter")
    ledger.root.delete(spring[0].videos[0].key)
    ledger.root.delete(winter[1].videos[0].key)
    assert missing(ledger, requests_of(spring)) == ["Clip 0"]
    assert missing(ledger, requests_of(winter)) == ["Clip 1"]
    requests = [*requests_of(spring), *requests_of(winter)]
    assert missing(ledger, requests) == ["Clip 0", "Clip 1"]


def test_names_that_differ_by_case_alone_are_kept_apart(ledger: Ledger) -> None:
    requests = requests_of(store_many(ledger))
    requests.append(requests[0].model_copy(update={"clip": "clip 0"}))
    assert missing(ledger, requests) == ["clip 0"]


def test_the_same_clip_may_be_asked_for_twice(ledger: Ledger) -> None:
    requests = requests_of(store_many(ledger))
    assert len(stored_already(ledger, [*requests, requests[0]])) == MANY + 1


def test_an_empty_root_or_question_has_no_answers(root: CountingRoot) -> None:
    ledger = Ledger(root)
    assert stored_results(ledger, []) == {}
    other = Ledger(CountingRoot("memory://"))
    other.bind(api_base_url=API, account=None)
    assert stored_results(ledger, requests_of(store_many(other))) == {}
