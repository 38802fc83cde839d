"""Requests are validated against the schema that Runware publishes for their model."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sora_dagster.extras import MissingExtraError
from sora_dagster.runware import InvalidRequestError, VideoInference
from sora_dagster.runware.published_catalogue import PublishedAddresses
from sora_dagster.runware.schema_check import SchemaCheck, SchemaCheckSetting, schema_check
from tests.runware.published.documents import AIR, EXAMPLE, EXAMPLE_PATH, resolved, with_schema
from tests.serving import serving

TASK_UUID = "5f0d9b9e-6ad3-4c52-9d1f-6a6b6a7a0c11"
VIDEO = "https://example.com/a.mp4?X-Amz-Signature=secret"
NOWHERE = PublishedAddresses("http://127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9")


def request(**fields: Any) -> VideoInference:
    return VideoInference.build(
        **{"task_uuid": TASK_UUID, "model": AIR, "positive_prompt": "a fox", **fields}
    )


def saved(
    folder: Path, document: dict[str, Any] = EXAMPLE, setting: SchemaCheckSetting = "refuse"
) -> SchemaCheck:
    """A check by a saved document."""
    (folder / "example.json").write_text(json.dumps(document), encoding="utf-8")
    check = schema_check(setting, addresses=NOWHERE, folder=str(folder))
    assert check is not None
    return check


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 1280, "height": 720, "duration": 5},
        {"resolution": "480p", "duration": "auto"},
        {"inputs": {"video": VIDEO}, "settings": {"operation": "edit"}, "duration": "auto"},
        {"webhook_url": "https://example.com/?token=secret", "ttl": 60, "include_cost": True},
    ],
)
def test_a_request_that_keeps_the_schema_passes(tmp_path: Path, fields: dict[str, Any]) -> None:
    saved(tmp_path).check(request(**fields))


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"seed": 7}, "seed", "the schema has no such field; remove it"),
        ({"duration": 3}, "duration", "the schema says oneOf"),
        ({"resolution": "4K"}, "resolution", 'the schema allows ["480p", "720p"]'),
        ({"positive_prompt": "x"}, "positivePrompt", "the schema says minLength: 2"),
        ({"settings": {"audio": "on"}}, "settings.audio", 'the schema says type: "boolean"'),
        ({"settings": {"other": 1}}, "settings.other", "the schema has no such field"),
        ({"number_results": 9}, "numberResults", "the schema says maximum: 4"),
        ({"width": 640, "height": 480}, "width, height", "the schema says oneOf"),
        (
            {"inputs": {"video": VIDEO}, "width": 1280, "height": 720},
            "width, height",
            "the schema says not",
        ),
        (
            {"inputs": {"video": VIDEO}, "settings": {"operation": "edit"}, "duration": 5},
            "duration",
            'the schema allows ["auto"]',
        ),
    ],
)
def test_a_request_that_breaks_the_schema_is_refused_with_its_field(
    tmp_path: Path, fields: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        saved(tmp_path).check(request(**fields))
    by_field = {problem.field: problem.message for problem in raised.value.problems}
    assert message in by_field[field]
    assert "secret" not in str(raised.value)


def test_with_warn_the_log_says_what_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        saved(tmp_path, setting="warn").check(request(seed=7))
    [record] = caplog.records
    assert f"{TASK_UUID} breaks Runware's schema of {AIR}: seed: 7: the schema" in record.message


def test_a_model_without_a_saved_schema_is_not_checked(tmp_path: Path) -> None:
    saved(tmp_path).check(request(model="other:a@1", seed=7))


def test_off_needs_no_folder_and_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert schema_check("off", addresses=NOWHERE, folder="/missing") is None


def test_without_the_library_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sora_dagster.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "sora-dagster\[schema\]"'):
        saved(tmp_path)


def test_a_missing_folder_and_a_bad_document_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder /missing with saved schemas"):
        schema_check("refuse", addresses=NOWHERE, folder="/missing")
    (tmp_path / "bad.json").write_text("<html>")
    with pytest.raises(ValueError, match=r"bad\.json: the document is not JSON"):
        schema_check("refuse", addresses=NOWHERE, folder=str(tmp_path))


@pytest.mark.parametrize("part", [{"type": "no such type"}, {"$dynamicRef": "#nowhere"}])
def test_a_schema_that_is_not_valid_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: dict[str, Any]
) -> None:
    document = with_schema(seed=part)
    with caplog.at_level(logging.WARNING):
        saved(tmp_path, document).check(request(seed=7))
    assert f"the schema of {AIR} is not valid" in caplog.text


def test_a_schema_whose_version_is_no_text_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        SchemaCheck(lambda _: {"$schema": 7}, is_refusing=True).check(request())
    assert f"the schema of {AIR} is not valid" in caplog.text


def test_references_to_other_documents_are_not_fetched(tmp_path: Path) -> None:
    document = with_schema(seed={"$ref": "https://example.com/seed.json"})
    with pytest.raises(ValueError, match="refers to another document"):
        saved(tmp_path, document)


def test_schemas_are_fetched_once_per_process(caplog: pytest.LogCaptureFixture) -> None:
    paths: list[str] = []

    async def answer(asked: Request) -> Response:
        paths.append(asked.url.path)
        if asked.url.path != f"/resolve/{AIR}":
            return Response(status_code=404)
        return JSONResponse(resolved())

    with serving(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        for _ in range(2):
            check = schema_check("refuse", addresses=PublishedAddresses(url, url, url))
            assert check is not None
            assert [problem.field for problem in check.problems(request(seed=7))] == ["seed"]
            with caplog.at_level(logging.WARNING):
                assert check.problems(request(model="other:a@1", seed=7)) == []
    assert paths == [f"/resolve/{AIR}", "/resolve/other:a@1"]
    [record] = caplog.records
    assert "requests of other:a@1 are not validated against a schema" in record.message


def test_an_unreachable_server_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    check = schema_check("refuse", addresses=NOWHERE)
    assert check is not None
    with caplog.at_level(logging.WARNING):
        check.check(request(seed=7))
    assert f"requests of {AIR} are not validated against a schema" in caplog.text


def test_the_saved_example_is_read() -> None:
    check = schema_check("refuse", addresses=NOWHERE, folder=str(EXAMPLE_PATH.parent))
    assert check is not None
    check.check(request())
