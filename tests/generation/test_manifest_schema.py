"""What a manifest looks like to others: its schema, and what other versions wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.housekeeping.verify import verify
from sora_dagster.generation.library.stored_clip import load_clip
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import NewerFormatError, UnreadableRecordError
from sora_dagster.generation.protocol.records import FORMAT_VERSION, MANIFEST_VERSION
from sora_dagster.storage import StorageRoot
from tests.generation.manifest_schema import SCHEMA_NAME, main, manifest_schema
from tests.generation.requesting import clip, collect, request_clips
from tests.generation.stored_takes import claim, stored_take

SCHEMA_PATH = Path(__file__).parents[2] / "docs" / "schemas" / SCHEMA_NAME
VERSION_1 = Path(__file__).parent / "manifests" / "clip.v1.json"


def schema_error(content: dict[str, Any]) -> str | None:
    validator = jsonschema.Draft202012Validator(
        json.loads(SCHEMA_PATH.read_text()), format_checker=jsonschema.FormatChecker()
    )
    error = next(iter(validator.iter_errors(content)), None)
    return None if error is None else error.message


def changed(ledger: Ledger, **fields: object) -> None:
    """Change fields of the fox's manifest in its object."""
    key = layout.manifest_key("clips", "fox", 1)
    ledger.root.write(key, json.dumps({**json.loads(ledger.root.read(key)), **fields}).encode())


def test_the_schema_in_the_repository_is_that_of_the_code(tmp_path: Path) -> None:
    main(tmp_path)
    assert SCHEMA_PATH.read_text() == (tmp_path / SCHEMA_NAME).read_text(), "run: make schema"


def test_the_schema_is_one_and_says_what_fields_are() -> None:
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "data version" in schema["properties"]["content_hash"]["description"]
    assert (
        "inputs.videoId" in schema["$defs"]["StoredVideo"]["properties"]["video_id"]["description"]
    )


def test_every_field_has_a_description() -> None:
    schema = manifest_schema()
    for part in [schema, *schema["$defs"].values()]:
        for name, field in part.get("properties", {}).items():
            assert field.get("description"), (part["title"], name)


def test_what_a_generation_writes_is_valid_and_what_lacks_a_field_is_not(
    generate: Callable[..., Generator],
) -> None:
    generator = generate()
    request_clips(generator, clip(tags=["vertical"]))
    collect(generator)
    content = json.loads(generator.ledger.root.read(layout.manifest_key("clips", "fox", 1)))
    assert schema_error(content) is None
    del content["videos"][0]["sha256"]
    assert "sha256" in (schema_error(content) or "")


def test_what_version_1_wrote_is_read_and_loaded(ledger: Ledger) -> None:
    content = json.loads(VERSION_1.read_text())
    assert content["format_version"] == 1
    claim(ledger, "fox", 1)
    ledger.root.write(layout.manifest_key("clips", "fox", 1), VERSION_1.read_bytes())
    ledger.root.write(content["poster_key"], b"a picture")
    stored = load_clip(ledger, "clips", "fox")
    assert stored.seed == content["videos"][0]["seed"]
    assert stored.cost_usd == 1.2
    assert stored.manifest.sheet_key is None
    assert stored.manifest.delivery == "download"
    assert stored.video.measures is None
    assert stored.poster() == b"a picture"


def test_what_a_newer_version_added_is_passed_over_at_any_depth(ledger: Ledger) -> None:
    manifest = stored_take(ledger, "fox", 1)
    request = {**manifest.request.model_dump(mode="json"), "added": 1}
    request["spec"]["added"] = [1]
    changed(ledger, added={"some": "thing"}, request=request)
    assert ledger.manifest("clips", "fox", 1) == manifest
    assert verify(ledger).is_complete


def test_a_manifest_of_a_higher_version_says_to_upgrade(ledger: Ledger) -> None:
    stored_take(ledger, "fox", 1)
    changed(ledger, format_version=MANIFEST_VERSION + 1)
    with pytest.raises(NewerFormatError, match=r"clip\.json has format version 3.*upgrade"):
        load_clip(ledger, "clips", "fox")


def test_a_root_of_a_higher_version_says_to_upgrade(root: StorageRoot) -> None:
    Ledger(root).bind(api_base_url="https://api.example.com/v1", account=None)
    content = json.loads(root.read("root.json"))
    root.write("root.json", json.dumps({**content, "format_version": FORMAT_VERSION + 1}).encode())
    with pytest.raises(NewerFormatError, match=r"root\.json has format version 3.*upgrade"):
        Ledger(root).bind(api_base_url="https://api.example.com/v1", account=None)


@pytest.mark.parametrize(
    ("body", "what"),
    [(b"", "JSON"), (b"[]", "object"), (b'{"format_version": 2}', "asset"), (b"\xff", "JSON")],
)
def test_a_broken_manifest_is_said_with_its_place(ledger: Ledger, body: bytes, what: str) -> None:
    stored_take(ledger, "fox", 1)
    key = layout.manifest_key("clips", "fox", 1)
    ledger.root.write(key, body)
    with pytest.raises(UnreadableRecordError, match=re.escape(ledger.root.uri(key))) as error:
        load_clip(ledger, "clips", "fox")
    assert what in str(error.value)
