"""Documents about models in the forms that Runware publishes, and small changes to them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from sora_dagster.runware.catalogue.published.documents import read_document
from sora_dagster.runware.catalogue.published.draft import DraftEntry, draft_entry

EXAMPLE_PATH = Path(__file__).parent / "example.json"
EXAMPLE: dict[str, Any] = json.loads(EXAMPLE_PATH.read_text(encoding="utf-8"))
AIR = "example:video@1"
TODAY = date(2026, 11, 28)


def openapi(**info: Any) -> dict[str, Any]:
    """The example, with other fields of `info`."""
    document = copy.deepcopy(EXAMPLE)
    document["info"] |= info
    return document


def task_schema(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of a task in the example, which may be changed."""
    schema: dict[str, Any] = document["components"]["schemas"]["RequestBody"]["items"]
    return schema


def with_schema(*, rules: list[Any] | None = None, **properties: Any) -> dict[str, Any]:
    """The example with other properties of a task, and other rules between them."""
    document = openapi()
    schema = task_schema(document)
    schema["properties"] |= properties
    if rules is not None:
        schema["allOf"] = rules
    return document


def resolved(document: dict[str, Any] = EXAMPLE) -> dict[str, Any]:
    """The same schema as an answer of schemas.runware.ai/resolve."""
    return {
        "requestSchema": document["components"]["schemas"]["RequestBody"],
        "responseSchema": {},
        "documentation": "https://runware.ai/docs/models/example-video-1",
    }


def pricing(**fields: Any) -> dict[str, Any]:
    """An answer of content.runware.ai/models/<AIR>/pricing."""
    return {
        "model": "example-video-1",
        "air": AIR,
        "name": "Example Video 1",
        "status": "live",
        "pricingOverview": "",
        **fields,
    }


def drafted(document: Mapping[str, Any]) -> DraftEntry:
    """The entry made from a document."""
    return draft_entry(read_document(json.dumps(document), "a document"), today=TODAY)
