"""Which tasks the costs list: those that may have been charged."""

from __future__ import annotations

import logging

import pytest

from sora_dagster.generation.library.costs import CostRow, cost_rows
from sora_dagster.generation.library.library_scan import scan_library
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import OutcomeRecord
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import claim, end, stored_take


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(StorageRoot("memory://"))
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    return ledger


def costs(ledger: Ledger) -> list[CostRow]:
    return cost_rows(scan_library(ledger.root, "default"))


def listed(ledger: Ledger) -> list[str]:
    return sorted(row.partition or "" for row in costs(ledger))


def test_a_claim_that_was_never_sent_has_no_row(ledger: Ledger) -> None:
    stored_take(ledger, "fox")
    unsent = claim(ledger, "owl", send=False)
    ledger.take_right_to_void(unsent.task_uuid)
    end(ledger, unsent, "void")
    assert listed(ledger) == ["fox"]


def test_a_task_that_was_not_accepted_has_no_row(ledger: Ledger) -> None:
    refused = claim(ledger, "owl")
    ledger.settle(
        refused.task_uuid,
        OutcomeRecord(
            state="failed", cost_usd=0, was_accepted=False, at=ledger.clock(), nonce="nonce"
        ),
    )
    assert listed(ledger) == []


def test_what_was_sent_has_a_row_however_it_ended(ledger: Ledger) -> None:
    stored_take(ledger, "fox")
    claim(ledger, "eel")
    end(ledger, claim(ledger, "owl"), "failed")
    end(ledger, claim(ledger, "ant"), "lost")
    assert listed(ledger) == ["ant", "eel", "fox", "owl"]


def test_the_end_of_the_newest_reopening_counts(ledger: Ledger) -> None:
    lost = claim(ledger, "owl")
    end(ledger, lost, "lost")
    reopening = ledger.reopen(lost)
    [row] = costs(ledger)
    assert row.outcome == "outstanding"
    ledger.settle(
        lost.task_uuid,
        OutcomeRecord(state="done", cost_usd=0.9, at=ledger.clock(), nonce="nonce"),
        reopening=reopening,
    )
    [row] = costs(ledger)
    assert (row.outcome, row.cost_usd) == ("done", 0.9)


def test_a_record_that_cannot_be_read_is_left_out_with_a_warning(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    stored_take(ledger, "fox")
    broken = stored_take(ledger, "owl")
    key = layout.task_key(broken.task_uuid, "outcome-0")
    ledger.root.write(key, b"{")
    with caplog.at_level(logging.WARNING):
        assert listed(ledger) == ["fox"]
    assert key in caplog.text
