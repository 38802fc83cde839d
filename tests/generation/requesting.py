"""Requesting clips and collecting them without Dagster, quickly."""

from __future__ import annotations

from typing import Any

import httpx

from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines, PollSettings
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.generator import GenerationSettings, Generator
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, ClipSpec
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import StorageRoot
from tests.sandbox_server import KEY

QUICK = PollSettings(first_seconds=0.2, factor=1.2, longest_seconds=0.5, refresh_seconds=0.05)


def clip(clip_id: str = "fox", prompt: str = "a fox in snow", **fields: object) -> ClipRequest:
    spec = ClipSpec.model_validate(
        {
            "clip_id": clip_id,
            "prompt": prompt,
            "size": "1280x720",
            "duration_seconds": 4,
            **fields,
        }
    )
    return ClipRequest(asset="clips", clip=clip_id, spec=spec)


def quick_generator(
    base_url: str,
    root: StorageRoot,
    *,
    key: str = KEY,
    catalogue: Catalogue | None = None,
    transport: httpx.BaseTransport | None = None,
    **settings: Any,
) -> Generator:
    """A generator that waits for tenths of seconds where others wait for minutes."""
    return Generator(
        RunwareClient(key, base_url=base_url, catalogue=catalogue, transport=transport),
        root,
        GenerationSettings(
            **{
                "polls": QUICK,
                "sending": SendSettings(confirm_seconds=0.1, replay_window_seconds=1.0),
                "deadlines": Deadlines(unknown_seconds=0.3, unsent_seconds=0.3),
                "claims": ClaimSettings(beat_seconds=0.1, dead_seconds=0.5),
                **settings,
            }
        ),
    )


def request_clips(
    generator: Generator, *requests: ClipRequest, **options: Any
) -> list[RequestResult]:
    settings: dict[str, Any] = {"root_run": "run", "run_limit_usd": None, **options}
    return generator.request(requests, RequestOptions(**settings))


def collect(generator: Generator, *, within_seconds: float = 60.0) -> list[FinishedTask]:
    """Collect until nothing is outstanding."""
    ended: list[FinishedTask] = []
    limits = CollectionLimits(max_wait_seconds=within_seconds)
    with generator.collection(limits, holder="a test", datasets=[DEFAULT_DATASET]) as collection:
        assert not collection.report.is_elsewhere
        while not collection.is_done:
            for finished in collection.wait():
                ended.append(finished)
                collection.close(finished)
    assert collection.report.left == {}
    return ended
