"""Claims in the ledger: one wins, everyone reads what stands."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, OutcomeRecord
from sora_dagster.generation.protocol.root_binding import RootMismatchError
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.runware.pricing import Price
from sora_dagster.storage import StorageRoot

API = "https://api.example.com/v1"


def attempt(ledger: Ledger, clip: str = "fox", take: int = 1, number: int = 1) -> AttemptRecord:
    spec = ClipSpec(clip_id=clip, prompt="a fox in snow")
    return AttemptRecord(
        request=ClipRequest(asset="clips", clip=clip, spec=spec),
        take=take,
        attempt=number,
        fingerprint=spec.fingerprint,
        task_uuid=ledger.task_uuid("clips", clip, take, number),
        wire={},
        estimate=Price(usd=1.2, certainty="published"),
        root_run="run-1",
        run_limit_usd=25.0,
        created_at=datetime.now(UTC),
        nonce=ledger.new_nonce(),
    )


def outcome(ledger: Ledger, state: str) -> OutcomeRecord:
    return OutcomeRecord.model_validate(
        {"state": state, "cost_usd": 0, "at": datetime.now(UTC), "nonce": ledger.new_nonce()}
    )


def test_a_task_uuid_is_a_v4_and_the_same_for_whoever_asks(root: StorageRoot) -> None:
    first, second = Ledger(root), Ledger(root)
    first.bind(api_base_url=API, account=None)
    made = first.task_uuid("clips", "fox", 1, 1)
    assert uuid.UUID(made).version == 4
    assert second.task_uuid("clips", "fox", 1, 1) == made


def test_every_attempt_take_clip_and_asset_has_a_task_uuid_of_its_own(ledger: Ledger) -> None:
    identities = [
        (asset, clip, take, number)
        for asset in ("clips", "remixes")
        for clip in ("a", "A")
        for take in (1, 2)
        for number in (1, 2)
    ]
    assert len({ledger.task_uuid(*identity) for identity in identities}) == len(identities)


def test_two_roots_never_share_a_task_uuid() -> None:
    made = set()
    for _ in range(2):
        ledger = Ledger(StorageRoot("memory://"))
        ledger.bind(api_base_url=API, account=None)
        made.add(ledger.task_uuid("clips", "fox", 1, 1))
    assert len(made) == 2


def test_of_many_who_claim_an_attempt_one_wins_and_all_read_its_record(root: StorageRoot) -> None:
    Ledger(root).bind(api_base_url=API, account=None)
    start = threading.Barrier(6)

    def claim(_: int) -> tuple[bool, str, str]:
        ledger = Ledger(root)
        mine = attempt(ledger)
        start.wait()
        won, standing = ledger.claim_attempt(mine)
        return won, mine.nonce, standing.nonce

    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(claim, range(6)))
    winners = [mine for won, mine, _ in claims if won]
    assert len(winners) == 1
    assert {standing for _, _, standing in claims} == set(winners)


def test_a_claim_whose_first_answer_was_lost_is_known_for_ones_own(
    root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(root)
    ledger.bind(api_base_url=API, account=None)
    mine = attempt(ledger)
    put = root.create

    def put_whose_answer_is_lost(key: str, body: bytes) -> bool:
        put(key, body)
        return False

    monkeypatch.setattr(root, "create", put_whose_answer_is_lost)
    won, _ = ledger.claim_attempt(mine)
    assert won


def test_the_right_to_send_is_given_once(ledger: Ledger) -> None:
    task = attempt(ledger).task_uuid
    assert ledger.take_right_to_send(task)
    assert not ledger.take_right_to_send(task)
    assert not ledger.take_right_to_void(task)


def test_what_was_voided_can_never_be_sent(ledger: Ledger) -> None:
    task = attempt(ledger).task_uuid
    assert ledger.take_right_to_void(task)
    assert not ledger.take_right_to_send(task)


def test_the_first_outcome_stands(ledger: Ledger) -> None:
    task = attempt(ledger).task_uuid
    ledger.settle(task, outcome(ledger, "done"))
    assert ledger.settle(task, outcome(ledger, "failed")).state == "done"


def test_a_claimed_attempt_is_in_the_index_until_it_is_forgotten(ledger: Ledger) -> None:
    made = attempt(ledger)
    ledger.claim_attempt(made)
    pending = ledger.pending.tasks(made.dataset)
    assert list(pending) == [made.task_uuid]
    assert ledger.pending.attempt(pending[made.task_uuid]) == made
    ledger.pending.remove(made.dataset, made.task_uuid)
    assert not ledger.pending.tasks(made.dataset)


def test_takes_and_attempts_are_read_in_order(ledger: Ledger) -> None:
    for take, number in [(2, 1), (1, 2), (10, 1), (1, 1)]:
        ledger.claim_attempt(attempt(ledger, take=take, number=number))
    takes = ledger.takes("clips", "fox")
    assert [take.number for take in takes] == [1, 2, 10]
    assert [made.attempt for made in takes[0].attempts] == [1, 2]


def test_clips_whose_ids_differ_in_case_stay_apart(ledger: Ledger) -> None:
    ledger.claim_attempt(attempt(ledger, clip="Fox"))
    assert ledger.takes("clips", "fox") == ()


def test_a_root_of_an_earlier_layout_is_refused(ledger: Ledger) -> None:
    content = json.loads(ledger.root.read("root.json"))
    ledger.root.write("root.json", json.dumps({**content, "format_version": 1}).encode())
    with pytest.raises(RootMismatchError, match=r"earlier version.*Use a new folder or prefix"):
        Ledger(ledger.root).bind(api_base_url=API, account="account-1")


def test_a_root_of_another_api_is_refused(ledger: Ledger) -> None:
    with pytest.raises(RootMismatchError, match="another storage root"):
        Ledger(ledger.root).bind(api_base_url="https://elsewhere.example.com/v1", account=None)


def test_a_root_of_another_account_is_refused(ledger: Ledger) -> None:
    with pytest.raises(RootMismatchError, match="account-2"):
        Ledger(ledger.root).bind(api_base_url=API.replace("api.", "api."), account="account-2")


def test_a_local_api_may_change_its_port(root: StorageRoot) -> None:
    Ledger(root).bind(api_base_url="http://127.0.0.1:1001/v1", account="sandbox")
    record = Ledger(root).bind(api_base_url="http://localhost:1002/v1", account="sandbox")
    assert record.account == "sandbox"


def test_a_folder_of_somebody_elses_is_refused(root: StorageRoot) -> None:
    root.write("holiday.jpg", b"")
    with pytest.raises(RootMismatchError, match=r"holiday\.jpg"):
        Ledger(root).bind(api_base_url=API, account=None)
