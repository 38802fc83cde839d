"""Estimates of every built-in model, against what the local Runware bills, over HTTP."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from sora_dagster.generation.requesting.payloads import spec_price
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.pricing import Price, price_of
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import broken_rules
from tests.sandbox_server import KEY, Sandbox

CATALOGUE = Catalogue.builtin()
PRICED = [entry for entry in CATALOGUE.entries if entry.prices.certainty != "unknown"]


def picture(width: int, height: int) -> str:
    body = BytesIO()
    Image.new("RGB", (width, height), "navy").save(body, "PNG")
    return f"data:image/png;base64,{base64.b64encode(body.getvalue()).decode()}"


@pytest.fixture(scope="module")
def client(sandbox: Sandbox) -> Iterator[RunwareClient]:
    with RunwareClient(KEY, base_url=sandbox.base_url) as client:
        yield client


def rows(entry: VideoModel) -> Iterator[ClipSpec]:
    """Rows of a model that its entry allows: with each size tier, sound, length and image."""
    lengths: list[Any] = [None]
    if entry.durations is not None:
        lengths = [entry.durations.default, entry.durations.highest]
        lengths += ["auto"] * entry.durations.auto
    shapes: list[dict[str, Any]] = [{"size": sizes[0]} for sizes in entry.sizes.values()]
    if entry.default_size is not None and entry.size_rule is not None:
        shapes.append({"size": entry.default_size})
    shapes += [{"first_frame": picture(640, 360)}, {"first_frame": picture(1280, 720)}]
    frame = {"first_frame": picture(640, 360)}
    shapes += [{**frame, "resolution": tier} for tier in entry.resolutions[-1:]]
    for number, shape in enumerate(shapes):
        for length in lengths:
            for audio in (None, True, False) if entry.has_audio_switch else (None,):
                yield ClipSpec(
                    clip_id="a",
                    prompt="a lighthouse in fog",
                    model=entry.air,
                    duration_seconds=length,
                    audio=audio,
                    number_results=1 + number % 2,
                    **shape,
                )


def allowed(entry: VideoModel) -> Iterator[tuple[VideoInference, Price]]:
    """The requests of the rows that keep the rules of the entry, with their estimates."""
    for spec in rows(entry):
        request = VideoInference.build(**spec.request_fields(entry), task_uuid=str(uuid.uuid4()))
        if not broken_rules(request, entry):
            yield request, spec_price(spec, CATALOGUE)
    if "referenceImages" in entry.inputs:
        most = entry.inputs["referenceImages"].max
        images = (picture(640, 360),) * min(most, 7)
        spec = ClipSpec(
            clip_id="a",
            prompt="a lighthouse in fog",
            model=entry.air,
            size=entry.default_size,
            duration_seconds=None if entry.durations is None else entry.durations.default,
            reference_images=images,
        )
        request = VideoInference.build(**spec.request_fields(entry), task_uuid=str(uuid.uuid4()))
        if not broken_rules(request, entry):
            yield request, spec_price(spec, CATALOGUE)


def is_editor(entry: VideoModel) -> bool:
    """Whether a model generates only from a video."""
    return any("inputs.video" in rule.require for rule in entry.rules if not rule.if_)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in PRICED if not is_editor(entry)],
    ids=lambda entry: entry.short_name,
)
def test_no_bill_of_a_row_is_above_its_estimate(client: RunwareClient, entry: VideoModel) -> None:
    cases = list(allowed(entry))
    assert cases
    bills = client.price([request for request, _ in cases])
    for request, price in cases:
        bill = bills[request.task_uuid]
        assert bill is not None
        assert price.usd is not None
        assert bill <= price.usd - price.margin + 1e-9, request.to_wire()
        is_margin = entry.prices.certainty == "approximate"
        assert (price.margin > 0) == is_margin
        # What is known before is billed as estimated, so that the test would show a wrong bill.
        if request.size is not None and isinstance(request.duration, (int, float)):
            assert bill == pytest.approx(price.usd - price.margin, abs=2e-6)
            assert price.usd == price_of(request, entry).usd
