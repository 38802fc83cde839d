"""The official SDK against the sandbox: it holds the sandbox to the real wire."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import av
import pytest
from runware import RuntimeDependencies, Runware, RunwareError

from tests.sandbox.api import SandboxApi, video_task


def test_the_official_sdk_generates_and_downloads_a_video(api: SandboxApi) -> None:
    hosts: set[str | None] = set()

    async def note(_: object, __: object, request: aiohttp.TraceRequestStartParams) -> None:
        hosts.add(request.url.host)

    async def generate() -> tuple[list[dict[str, Any]], bytes]:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(note)
        async with (
            aiohttp.ClientSession(trace_configs=[trace]) as session,
            Runware(
                api_key="sandbox-key",
                transport="rest",
                http_base_url=api.base_url,
                dependencies=RuntimeDependencies(session=session),
            ) as client,
        ):
            results = await client.run(video_task(numberResults=2, includeCost=True))
            async with session.get(results[0]["videoURL"]) as response:
                return results, await response.read()

    results, video = asyncio.run(generate())
    assert len({result["videoUUID"] for result in results}) == 2
    assert [result["cost"] for result in results] == [1.2, 1.2]
    with av.open(io.BytesIO(video)) as container:
        assert container.streams.video[0].codec_context.width == 1280
    assert hosts == {"127.0.0.1"}


def test_the_official_sdk_understands_a_refusal(api: SandboxApi) -> None:
    async def generate() -> None:
        async with Runware(
            api_key="sandbox-key", transport="rest", http_base_url=api.base_url
        ) as client:
            await client.run(video_task(duration=5))

    with pytest.raises(RunwareError) as caught:
        asyncio.run(generate())
    assert caught.value.code == "validation"
    assert caught.value.parameter == "duration"
    assert caught.value.status_code == 400


def test_the_official_sdk_understands_a_wrong_key(api: SandboxApi) -> None:
    async def generate() -> None:
        async with Runware(api_key="wrong", transport="rest", http_base_url=api.base_url) as client:
            await client.run(video_task())

    with pytest.raises(RunwareError) as caught:
        asyncio.run(generate())
    assert caught.value.code == "auth"


def test_the_official_sdk_reads_the_archive(api: SandboxApi) -> None:
    task = video_task()
    api.post(task)
    results = api.results(task["taskUUID"])

    async def read() -> list[Any]:
        async with Runware(
            api_key="sandbox-key", transport="rest", http_base_url=api.base_url
        ) as client:
            return await client.get_task_details({"taskUUID": task["taskUUID"]})

    (details,) = asyncio.run(read())
    assert details["request"] == [task]
    assert details["response"]["data"] == results
