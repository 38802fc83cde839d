"""Records that a newer version wrote: what it added is ignored, what is unknown says to upgrade."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, get_args

import pytest
from pydantic import BaseModel, JsonValue

import sora_dagster.generation
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.claims import ClaimRecord
from sora_dagster.generation.protocol.collection_record import CollectionRecord
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import NewerFormatError, parse_record
from sora_dagster.generation.protocol.records import (
    DatasetRecord,
    NoteRecord,
    OutcomeRecord,
    PendingRecord,
    PrunedRecord,
    Record,
    RemixRecord,
    ReopenedRecord,
    RootRecord,
    SeenRecord,
    SentRecord,
    StuckRecord,
)
from sora_dagster.generation.protocol.spending_log import BudgetEntry, Spending
from sora_dagster.generation.resolve import ManualDecision
from sora_dagster.media.meter import VideoMeasures
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import claim, stored_take

NOW = datetime(2026, 11, 28, tzinfo=UTC)
NEW = {"of a newer version": [1]}


def samples() -> dict[type[Record], Record]:
    """A record of each model, with as many of its fields as possible."""
    ledger = Ledger(StorageRoot("memory://"))
    ledger.bind(api_base_url="https://api.example.com/v1", account="account-1")
    parent = stored_take(ledger, "fox")
    attempt = claim(ledger, "fox|snow", asset="remixes", parent=parent)
    root = ledger.root.read(layout.ROOT_KEY)
    error = ErrorRecord(kind="unknown", message="no")
    measures = VideoMeasures(0.5, 0.0, 0.0, 0.0, None, None)
    video = parent.videos[0].model_copy(update={"measures": measures})
    manifest = parent.model_copy(
        update={"request": attempt.request, "videos": (video,), "errors": (error,)}
    )
    pending = PendingRecord(
        dataset="default", asset="clips", clip="fox", take=1, attempt=1, task_uuid="t"
    )
    records: list[Record] = [
        RootRecord.model_validate_json(root),
        attempt,
        DatasetRecord(name="default", assets=("clips",), nonce="n"),
        pending,
        SentRecord(purpose="submit", at=NOW, nonce="n"),
        ReopenedRecord(at=NOW, nonce="n"),
        StuckRecord(task_uuid="t", reopening=0, pending=pending, reason="r", at=NOW),
        NoteRecord(asset="clips", clip="fox", reason="r", at=NOW),
        RemixRecord(asset="clips", clip="fox", fingerprint="f", answer="stored", at=NOW),
        SeenRecord(how="polled", at=NOW),
        OutcomeRecord(state="failed", cost_usd=1, errors=(error,), at=NOW, nonce="n"),
        video,
        manifest,
        PrunedRecord(manifest=manifest, pruned_at=NOW),
        BudgetEntry(root_run="r", day=date(2026, 11, 28), estimates_usd={"t": 1.0}, nonce="n"),
        Spending.none(),
        ClaimRecord(process="p", holder="h", tasks=("t",), at=NOW),
        ManualDecision(decision="resend", at=NOW),
        CollectionRecord(holder="run", started_at=NOW, updated_at=NOW, is_running=True),
    ]
    return {type(record): record for record in records}


SAMPLES = samples()


def all_models() -> set[type[Record]]:
    for module in pkgutil.walk_packages(
        sora_dagster.generation.__path__, f"{sora_dagster.generation.__name__}."
    ):
        importlib.import_module(module.name)
    found, new = set(), [Record]
    while new:
        model = new.pop()
        subclasses = [
            item for item in model.__subclasses__() if item.__module__.startswith("sora_dagster.")
        ]
        found.update(subclasses)
        new.extend(subclasses)
    return found


def with_unknown_fields(record: object) -> JsonValue:
    """A record as JSON, with one more field in it and in each record that it contains."""
    if isinstance(record, BaseModel):
        content: Any = record.model_dump(mode="json")
        fields = {name: with_unknown_fields(getattr(record, name)) for name in content}
        return {**{name: fields[name] for name in content}, **NEW}
    if isinstance(record, VideoMeasures):
        return {**vars(record), **NEW}
    if isinstance(record, tuple):
        return [with_unknown_fields(item) for item in record]
    if isinstance(record, dict):
        return {str(name): with_unknown_fields(item) for name, item in record.items()}
    if isinstance(record, datetime | date):
        return record.isoformat()
    return record  # type: ignore[return-value]


def test_there_is_a_sample_of_every_model_of_a_record() -> None:
    assert set(SAMPLES) == all_models()


@pytest.mark.parametrize("model", SAMPLES, ids=lambda model: model.__name__)
def test_fields_that_a_newer_version_added_are_ignored_at_any_depth(model: type[Record]) -> None:
    record = SAMPLES[model]
    body = _json(with_unknown_fields(record))
    assert body.count(b"of a newer version") >= 1
    assert parse_record(body, model, uri="memory:///record") == record


def fixed_values() -> Iterator[tuple[type[Record], str]]:
    for model in SAMPLES:
        for name, field in model.model_fields.items():
            options = get_args(field.annotation)
            if options and all(isinstance(option, str) for option in options):
                yield model, name


@pytest.mark.parametrize(
    ("model", "field"), list(fixed_values()), ids=lambda part: getattr(part, "__name__", part)
)
def test_an_unknown_value_of_a_fixed_field_says_to_upgrade(model: type[Record], field: str) -> None:
    content = SAMPLES[model].model_dump(mode="json")
    body = _json({**content, field: "newer"})
    with pytest.raises(NewerFormatError, match=rf"record cannot be read.*{field}.*upgrade"):
        parse_record(body, model, uri="memory:///record")


def test_the_fixed_fields_are_those_that_decide() -> None:
    found = {f"{model.__name__}.{name}" for model, name in fixed_values()}
    assert {"SentRecord.purpose", "OutcomeRecord.state", "ClipManifest.state"} <= found


def _json(content: JsonValue) -> bytes:
    return json.dumps(content).encode()
