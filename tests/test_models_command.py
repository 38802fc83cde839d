"""`sora-dagster models`: what the catalogue says, and what Runware publishes about models."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from sora_dagster.cli.main import cli
from sora_dagster.runware import Catalogue
from sora_dagster.runware.address_guard import DownloadError
from sora_dagster.runware.published_catalogue import PublishedAddresses, PublishedCatalogue
from tests.runware.published.documents import (
    AIR,
    EXAMPLE,
    EXAMPLE_PATH,
    openapi,
    pricing,
    resolved,
    task_schema,
    with_schema,
)
from tests.serving import serving

RESOLVE = f"/resolve/{AIR}"
PRICING = f"/models/{AIR}/pricing"
METADATA = f"/models/{AIR}"
PAGE = "/docs/models/example-video-1/schema.json"
EXAMPLES = EXAMPLE["info"]["x-pricing"]["examples"]


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SORA_MODELS", "SORA_MODEL", "RUNWARE_BASE_URL", "SORA_SCHEMAS_URL"):
        monkeypatch.delenv(name, raising=False)


def models(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["models", *map(str, arguments)], env=environment)


@contextmanager
def publishing(documents: dict[str, Any]) -> Iterator[str]:
    """A server with documents, by their paths; a function makes its answer itself."""

    async def answer(request: Request) -> Response:
        found = documents.get(request.url.path)
        if found is None:
            return JSONResponse({"error": "not found"}, status_code=404)
        return found() if callable(found) else JSONResponse(found)

    with serving(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        yield url


def published(**changes: Any) -> dict[str, Any]:
    """What is published about the example model, with changed prices or metadata."""
    return {
        RESOLVE: resolved(),
        PRICING: pricing(pricingExamples=EXAMPLES) | changes,
        METADATA: {"air": AIR, "status": "live", "capabilities": ["text-to-video", "edit"]},
        PAGE: EXAMPLE,
    }


@pytest.fixture
def own_models(tmp_path: Path) -> Path:
    """A file with the entry of the example model."""
    path = tmp_path / "models.yaml"
    assert models("add", EXAMPLE_PATH, "--output", path).exit_code == 0
    return path


def test_the_list_has_every_model_and_marks_retired_ones() -> None:
    result = models("list")
    assert result.exit_code == 0
    for entry in Catalogue.builtin().entries:
        [line] = [line for line in result.stdout.splitlines() if entry.air in line.split()]
        assert entry.short_name in line.split()
        assert ("retired" in line) == (entry.retired is not None)
    [veo] = [line for line in result.stdout.splitlines() if "google:3@2" in line]
    assert "0.20-0.60 (approximate)" in veo
    assert "continue, extend" in veo


def test_the_list_as_json() -> None:
    listed = {one["air"]: one for one in json.loads(models("list", "--json").stdout)}
    assert set(listed) == {entry.air for entry in Catalogue.builtin().entries}
    assert listed["openai:3@2"]["retired"] == "2026-09-24"
    assert listed["google:3@2"]["usd_per_second"] == {"lowest": 0.2, "highest": 0.6}
    assert listed["google:3@2"]["price_certainty"] == "approximate"


@pytest.mark.parametrize("entry", Catalogue.builtin().entries, ids=lambda entry: entry.short_name)
def test_every_model_is_shown_with_its_guesses_and_sources(entry: Any) -> None:
    result = models("show", entry.short_name)
    assert result.exit_code == 0
    for text in (entry.air, *entry.guesses, *map(str, entry.allowed_sizes)):
        assert text in result.stdout
    assert entry.source in result.stdout


def test_an_unknown_model_names_the_known_ones() -> None:
    result = models("show", "veo-9")
    assert result.exit_code == 1
    assert "model 'veo-9' has no catalogue entry" in result.stderr


def test_a_saved_document_is_printed_as_an_entry_with_what_is_not_known() -> None:
    result = models("add", EXAMPLE_PATH)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"- air: {AIR}\n")
    assert "not determined: prices: read from examples of prices" in result.stderr


def test_an_added_entry_can_be_used(own_models: Path) -> None:
    listed = json.loads(models("list", "--json", SORA_MODELS=str(own_models)).stdout)
    assert AIR in {one["air"] for one in listed}
    again = models("add", EXAMPLE_PATH, "--output", own_models)
    assert again.exit_code == 1
    assert f"has an entry of {AIR} already" in again.stderr


def test_an_entry_that_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "models.yaml"
    result = models("add", EXAMPLE_PATH, "--output", path)
    assert result.exit_code == 1
    assert f"{path} cannot be written: No such file or directory; choose another" in result.stderr


@pytest.mark.parametrize(
    "source", [AIR, "example-video-1", "{url}" + PAGE, "{url}/resolve/" + quote(AIR, safe="")]
)
def test_an_entry_is_made_from_an_address(source: str) -> None:
    with publishing(published()) as url:
        result = models("add", source.format(url=url), SORA_SCHEMAS_URL=url)
    assert result.exit_code == 0, result.stderr
    assert f"air: {AIR}" in result.stdout
    assert "durations: {min: 4, max: 30, auto: true, default: 5}" in result.stdout


def test_a_local_api_is_where_documents_are_read() -> None:
    with publishing(published()) as url:
        result = models("add", AIR, RUNWARE_BASE_URL=f"{url}/v1")
    assert result.exit_code == 0, result.stderr


def test_an_address_of_another_host_is_refused() -> None:
    with publishing(published()) as url, publishing(published()) as other:
        port = other.rpartition(":")[2]
        result = models("add", f"http://localhost:{port}{PAGE}", SORA_SCHEMAS_URL=url)
    assert result.exit_code == 1
    assert "nothing is downloaded from" in result.stderr
    assert "SORA_RESULT_HOSTS" in result.stderr


def test_a_setting_that_is_no_url_of_a_server_is_an_error() -> None:
    result = models("check", "veo-3.1", SORA_SCHEMAS_URL="schemas.example.com")
    assert result.exit_code == 1
    assert "'schemas.example.com' is not the URL of a server of schemas" in result.stderr
    assert "Correct SORA_SCHEMAS_URL" in result.stderr


def test_a_host_that_resolves_to_a_private_address_is_refused() -> None:
    result = models("add", f"https://localhost{PAGE}", SORA_RESULT_HOSTS="localhost")
    assert result.exit_code == 1
    assert "not a public address" in result.stderr


def endless() -> Response:
    return StreamingResponse(iter(lambda: b" " * 65536, b""), media_type="application/json")


def compressed() -> Response:
    body = gzip.compress(b" " * 50_000_000)
    return Response(body, headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: Response("<html>"), "the document is not JSON"),
        (lambda: Response("{}"), "this is not a document about a model"),
        (endless, "more than 2,000,000 bytes"),
        (compressed, "more than 2,000,000 bytes"),
        (lambda: RedirectResponse("https://example.com/"), "HTTP status 307"),
        (lambda: Response("", status_code=500), "HTTP status 500"),
        (lambda: JSONResponse(resolved(other_model())), "it is about other:a@1"),
        (
            lambda: JSONResponse({"requestSchema": {"$ref": "https://example.com/a"}}),
            "another document, 'https://example.com/a', which is not fetched",
        ),
    ],
)
def test_a_bad_answer_is_an_error_with_its_address(answer: Any, message: str) -> None:
    with publishing({RESOLVE: answer}) as url:
        result = models("add", AIR, SORA_SCHEMAS_URL=url)
    assert result.exit_code == 1
    assert message in result.stderr
    assert url in result.stderr


def other_model() -> dict[str, Any]:
    document = openapi()
    task_schema(document)["properties"]["model"] = {"const": "other:a@1"}
    return document


def test_a_model_that_is_not_published_is_an_error() -> None:
    with publishing({}) as url:
        result = models("add", AIR, SORA_SCHEMAS_URL=url)
    assert result.exit_code == 1
    assert "nothing is published there (404)" in result.stderr


def test_a_missing_file_is_an_error() -> None:
    result = models("add", "schemas/missing.json")
    assert result.exit_code == 1
    assert "there is no file schemas/missing.json" in result.stderr


def test_reading_stops_after_the_time_for_all_answers() -> None:
    clock = iter(range(0, 10_000, 2))
    with (
        publishing(published()) as url,
        PublishedCatalogue(
            PublishedAddresses(url, url, url), total_seconds=40, monotonic=lambda: next(clock)
        ) as source,
        pytest.raises(DownloadError, match="took longer than 40 s in all"),
    ):
        for _ in range(20):
            source.schema(AIR)


def test_a_slow_answer_is_given_up() -> None:
    def slow() -> Response:
        def drops() -> Iterator[bytes]:
            for _ in range(100):
                time.sleep(0.05)
                yield b" "

        return StreamingResponse(drops())

    with (
        publishing({RESOLVE: slow}) as url,
        PublishedCatalogue(PublishedAddresses(url, url, url), timeout_seconds=0.2) as source,
        pytest.raises(DownloadError, match=r"did not arrive within 0\.2 s"),
    ):
        source.schema(AIR)


def check(own_models: Path, documents: dict[str, Any], *arguments: str) -> Result:
    with publishing(documents) as url:
        return models("check", *arguments, SORA_MODELS=str(own_models), SORA_SCHEMAS_URL=url)


def test_a_check_without_differences_succeeds(own_models: Path) -> None:
    result = check(own_models, published(), "--own")
    assert result.exit_code == 0, result.output
    assert "1 model checked, no differences" in result.stdout


def differing(**properties: Any) -> dict[str, Any]:
    return {**published(), RESOLVE: resolved(with_schema(**properties))}


SIZES = EXAMPLE["components"]["schemas"]["RequestBody"]["items"]["allOf"][-1]


WITH_VIDEO = {"required": ["inputs"], "properties": {"inputs": {"required": ["video"]}}}


def differing_rules(*rules: Any) -> dict[str, Any]:
    if SIZES not in rules:
        rules = (*EXAMPLE["components"]["schemas"]["RequestBody"]["items"]["allOf"], *rules)
    return {**published(), RESOLVE: resolved(with_schema(rules=list(rules)))}


@pytest.mark.parametrize(
    ("documents", "line"),
    [
        (published(status="retired"), "retired: its status is 'retired' now"),
        (
            differing(duration={"enum": [4, 8], "default": 4}, settings={}),
            "durations: 4, 8, default 4 now; the entry says 4 to 30 seconds, or auto, default 5",
        ),
        (
            differing(resolution={"enum": ["480p", "720p", "1080p"], "default": "720p"}),
            "resolutions: 1080p, 480p, 720p now; the entry says 480p, 720p",
        ),
        (differing(seed={"minimum": 0, "maximum": 9}), "seed: 0 to 9 now; the entry says none"),
        (
            differing(positivePrompt={"minLength": 2, "maxLength": 500}),
            "prompt: at most 500 characters now; the entry says at most 10000 characters",
        ),
        (
            published(pricingExamples=[{**EXAMPLES[0], "price": "$2.34"}]),
            "prices: 720p with sound: 0.468 USD per second now; the entry says 0.234",
        ),
        (
            differing_rules({"not": {"allOf": [{"required": ["resolution"]}, WITH_VIDEO]}}),
            "rules: a request with resolution 480p and inputs.video is not allowed now; the entry "
            "allows it",
        ),
        (
            differing_rules(SIZES),
            "rules: a request with size 854x480 and resolution 480p is allowed now; the entry "
            "refuses it",
        ),
        ({}, "it is not published any more"),
    ],
)
def test_a_check_names_each_difference(
    own_models: Path, documents: dict[str, Any], line: str
) -> None:
    result = check(own_models, documents, "example-video-1")
    assert result.exit_code == 1, result.output
    assert f"Example Video 1 ({AIR}): {line}" in result.stdout


def test_a_check_that_cannot_read_has_a_status_of_its_own(own_models: Path) -> None:
    documents = {**published(), RESOLVE: lambda: Response("<html>")}
    result = check(own_models, documents, "--own")
    assert result.exit_code == 2
    assert "not checked: " in result.stdout


def test_a_retired_model_that_is_not_published_is_no_difference(own_models: Path) -> None:
    assert check(own_models, {}, "sora-2-pro").exit_code == 0
