"""What the sandbox publishes about models without a key: schemas, prices, pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import jsonschema
import pytest
from runware import validate as sdk_validate
from runware.errors import RunwareError
from runware.logger import create_logger
from runware.registry import create_registry

from sora_dagster.sandbox.published.schema import request_schema
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import video_task
from tests.sandbox.models import EDITOR, FULL, GUIDED, MODELS, RULED, full_task
from tests.sandbox.test_model_rules import ACCEPTED, REFUSED, filled

UUID = "aac49721-1964-481a-ae78-8a4e29b91402"

# Refused for what a file is, or for what JSON Schema cannot say.
BEYOND_THE_SCHEMA = {
    "a reference that is no image",
    "an unknown video",
    "a video of another machine",
    "a video that is a sound",
    "a video as base64",
    "an unknown reference video",
    "an unknown sound",
    "two images at one place",
    "a frame of 400 digits",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a sandbox whose clock is in November 2026."""
    settings = SandboxSettings(latency_seconds=0)
    with running_sandbox(settings, catalogue=MODELS, clock=lambda: 1_795_000_000.0) as base_url:
        yield base_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as client:
        yield client


def errors(fields: dict[str, Any]) -> list[str]:
    """What the schema of its model does not accept of a task."""
    task = video_task(**filled(fields, UUID, UUID))
    entry = MODELS.get(task["model"])
    validator = jsonschema.Draft202012Validator(request_schema(entry))
    return [error.message for error in validator.iter_errors(task)]


@pytest.mark.parametrize("entry", MODELS.entries, ids=lambda entry: entry.short_name)
def test_every_model_has_a_schema_and_a_page(http: httpx.Client, entry: Any) -> None:
    resolved = http.get(f"/resolve/{quote(entry.air, safe='')}").json()
    assert resolved == http.get(f"/resolve/{entry.air}").json()
    slug = resolved["documentation"].rpartition("/")[2]
    page = http.get(f"/docs/models/{slug}/schema.json").json()
    body = page["components"]["schemas"]["RequestBody"]
    jsonschema.Draft202012Validator.check_schema(body)
    assert body["items"] == resolved["requestSchema"]
    assert page["info"]["x-air-id"] == entry.air
    assert page["info"]["x-status"] == ("retired" if entry.retired else "live")
    model = http.get(f"/models/{slug}").json()
    assert model == http.get(f"/models/{quote(entry.air, safe='')}").json()
    assert (model["air"], model["name"]) == (entry.air, entry.name)
    assert model["capabilities"] == page["info"]["x-capabilities"]


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_the_schema_accepts_what_the_sandbox_accepts(fields: dict[str, Any]) -> None:
    assert errors(fields) == []


@pytest.mark.parametrize(
    "fields",
    [fields for name, (fields, _, _) in REFUSED.items() if name not in BEYOND_THE_SCHEMA],
    ids=[name for name in REFUSED if name not in BEYOND_THE_SCHEMA],
)
def test_the_schema_refuses_what_the_sandbox_refuses(fields: dict[str, Any]) -> None:
    assert errors(fields)


def test_the_registry_lists_live_models(http: httpx.Client) -> None:
    models = http.get("/registry.json").json()["models"]
    assert set(models) == {entry.air for entry in MODELS.entries if entry.retired is None}
    assert models[FULL.air] == {"taskType": "videoInference", "id": "maker-full-1"}


def test_a_document_that_is_known_is_not_sent_again(http: httpx.Client) -> None:
    first = http.get("/registry.json")
    again = http.get("/registry.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = http.get(f"/resolve/{FULL.air}", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/resolve/maker:other@1",
        "/models/maker:other@1",
        "/models/other/pricing",
        "/docs/models/other/schema.json",
    ],
)
def test_an_unknown_model_is_not_found(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_prices_are_published_in_words_as_examples_and_as_rates(http: httpx.Client) -> None:
    pricing = http.get(f"/models/{FULL.air}/pricing").json()
    assert pricing["pricingRates"][:2] == [
        {"amount": 0.1, "unit": "durationSecond", "label": "240p no audio"},
        {"amount": 0.2, "unit": "durationSecond", "label": "240p"},
    ]
    assert pricing["pricingExamples"][2] == {
        "configuration": "text-to-video · 360p · 5s",
        "price": "$2",
    }
    assert pricing["pricingOverview"] == (
        "$0.1 per second 240p no audio; $0.2 per second 240p; $0.4 per second 360p; "
        "$0.01 per input image; $0.05 per second of input video"
    )


def test_a_model_without_prices_has_no_pricing(http: httpx.Client) -> None:
    response = http.get(f"/models/{RULED.air}/pricing")
    assert (response.status_code, response.json()) == (200, None)


def test_the_list_of_models_can_be_filtered_and_paged(http: httpx.Client) -> None:
    def airs(**query: str) -> list[str]:
        return [model["air"] for model in http.get("/models", params=query).json()]

    own = [entry.air for entry in (FULL, RULED, EDITOR, GUIDED)]
    assert airs(category="video", creator="maker") == own
    assert airs(category="image") == []
    assert set(airs(status="retired")) == {"openai:3@2", "openai:3@1"}
    assert airs(creator="maker", capability="edit") == [FULL.air, EDITOR.air]
    assert airs(search="ruled") == [RULED.air]
    query = {"creator": "maker", "paginate": "true", "limit": "2", "offset": "1"}
    page = http.get("/models", params=query).json()
    assert (page["total"], [model["air"] for model in page["items"]]) == (4, own[1:3])


def test_the_index_of_pages_lists_every_model(http: httpx.Client) -> None:
    index = http.get("/docs/models/index.json").json()
    assert {page["air"] for page in index} == {entry.air for entry in MODELS.entries}


def test_the_official_sdk_reads_the_registry(server: str) -> None:
    async def read() -> tuple[str | None, str | None]:
        registry = create_registry(
            url=f"{server}/registry.json",
            log=create_logger(enabled=False),
            initial_fetch_timeout_seconds=30,
        )
        try:
            return (
                await registry.resolve_model_air("maker-full-1"),
                await registry.get_model_task_type(FULL.air),
            )
        finally:
            await registry.close()

    assert asyncio.run(read()) == (FULL.air, "videoInference")


def test_the_official_sdk_validates_requests_by_the_schemas(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk_validate, "SCHEMAS_BASE_URL", server)
    sdk_validate.clear_validator_cache()

    async def validate(task: dict[str, Any]) -> None:
        async with aiohttp.ClientSession() as session:
            await sdk_validate.validate_tasks(
                [task], log=create_logger(enabled=False), session=session
            )

    try:
        asyncio.run(validate(video_task(**full_task(seed=1))))
        with pytest.raises(RunwareError) as caught:
            asyncio.run(validate(video_task(**full_task(resolution="360p"))))
        assert caught.value.code == "validation"
    finally:
        sdk_validate.clear_validator_cache()
