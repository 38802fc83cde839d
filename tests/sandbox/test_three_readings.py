"""The client's rules, the sandbox and the published schema read a catalogue entry alike.

The three share the entries and no code of their checks, so a mistake in one of them shows.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sora_dagster.runware.catalogue import Catalogue, FrameSize, VideoModel
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import InputLimits, Setting
from sora_dagster.runware.pricing import price_of
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import broken_rules
from sora_dagster.sandbox.calls import Caller
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.input_files import (
    InputFiles,
    InputImage,
    InputSlot,
    InputVideo,
    input_videos,
)
from sora_dagster.sandbox.published.documents import capabilities
from sora_dagster.sandbox.published.schema import request_schema
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.request_resolver import RequestResolver
from sora_dagster.sandbox.validation import read_video_request
from tests.sandbox.images import data_uri, image_bytes
from tests.sandbox.models import MODELS

IMAGE = data_uri(image_bytes(320, 320))
UUID = "aac49721-1964-481a-ae78-8a4e29b91402"
OTHER_SIZE = (100, 50)


@functools.cache
def validator(air: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(request_schema(MODELS.get(air)))


def numbers(rule: NumberRule | None, *, wrong: bool) -> st.SearchStrategy[Any]:
    """Allowed numbers, or some that are not."""
    if rule is None:
        return st.just(1)
    values = [rule.highest + 1, rule.lowest - 1]
    if not wrong:
        values = [rule.lowest, rule.highest, rule.nearest((rule.lowest + rule.highest) / 2)]
    return st.sampled_from([int(value) if float(value).is_integer() else value for value in values])


def setting_values(setting: Setting, *, wrong: bool) -> st.SearchStrategy[Any]:
    """Allowed values of a setting, or some that are not."""
    if wrong and setting.type != "any":
        return st.just([])
    values: list[Any] = list(setting.values)
    if setting.type == "boolean":
        values = [True, False]
    elif not values:
        is_number = setting.type in ("integer", "number")
        values = [1 if setting.min is None else setting.min] if is_number else ["a text"]
    return st.sampled_from(values)


@st.composite
def frame_images(draw: st.DrawFn, limits: InputLimits, *, wrong: bool) -> list[Any]:
    """Frame images at different places."""
    places: list[dict[str, Any]] = [{"frame": position} for position in limits.positions]
    places += [{"frame": 7}] * (limits.by_index or wrong)
    places += [{"timestamp": 0.5}] * (limits.by_time or wrong)
    plain: list[dict[str, Any]] = [{}]
    count = draw(st.integers(1, limits.max + wrong))
    chosen = draw(st.lists(st.sampled_from(places + plain), max_size=count, unique_by=str))
    return [{"image": IMAGE, **place} if place else IMAGE for place in chosen or plain]


@st.composite
def inputs(draw: st.DrawFn, entry: VideoModel, *, wrong: bool) -> dict[str, Any]:
    """Some of the inputs."""
    accepted = st.sampled_from([*entry.inputs])
    names = draw(st.lists(accepted, unique=True, min_size=1, max_size=3))
    found: dict[str, Any] = {}
    for name in names:
        limits = entry.inputs[name]
        if name == "frameImages":
            found[name] = draw(frame_images(limits, wrong=wrong))
        elif name in ("video", "videoId"):
            found[name] = UUID
        else:
            count = draw(st.integers(1, limits.max)) + limits.max * wrong
            found[name] = [IMAGE if name == "referenceImages" else UUID] * count
    return found


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    """A request to one of the models, with one wrong field at most; rules may be broken besides."""
    entry = draw(st.sampled_from(MODELS.entries))
    has_field = {
        "size": entry.takes_size,
        "resolution": bool(entry.resolutions),
        "duration": entry.durations is not None,
        "seed": entry.seed is not None,
        "fps": entry.fps is not None,
        "negativePrompt": entry.negative_prompt is not None,
        "inputs": bool(entry.inputs),
        "numberResults": True,
        "outputFormat": True,
        **dict.fromkeys(entry.settings, True),
    }
    wrong = draw(st.sampled_from([*has_field, *[None] * (2 * len(has_field))]))
    task: dict[str, Any] = {
        "taskType": "videoInference",
        "taskUUID": str(uuid4()),
        "model": entry.air,
        "positivePrompt": "ab" * draw(st.sampled_from([1, 10, entry.prompt.max // 2])),
        "deliveryMethod": "async",
    }
    sizes = [*entry.allowed_sizes, *filter(None, [entry.default_size])]
    duration = numbers(entry.durations, wrong=wrong == "duration")
    if entry.durations is not None and (entry.durations.auto or wrong == "duration"):
        duration = st.one_of(duration, st.just("auto"))
    results = {1, entry.max_results + (wrong == "numberResults")}
    values: dict[str, st.SearchStrategy[Any]] = {
        "size": st.just(OTHER_SIZE) if wrong == "size" or not sizes else st.sampled_from(sizes),
        "resolution": st.sampled_from(
            ["9999p"] if wrong == "resolution" else entry.resolutions or ["720p"]
        ),
        "duration": duration,
        "seed": numbers(entry.seed, wrong=wrong == "seed"),
        "fps": numbers(entry.fps, wrong=wrong == "fps"),
        "negativePrompt": st.just("" if wrong == "negativePrompt" else "blurred"),
        "numberResults": st.sampled_from(sorted(results)),
        "outputFormat": st.sampled_from(
            ["MP4", "WEBM"] if wrong == "outputFormat" else entry.output_formats
        ),
    }
    if entry.inputs:
        values["inputs"] = inputs(entry, wrong=wrong == "inputs")
    for name, strategy in values.items():
        is_sent = draw(st.booleans()) if has_field[name] else wrong == name
        if is_sent:
            value = draw(strategy)
            task |= {"width": value[0], "height": value[1]} if name == "size" else {name: value}
    for name, setting in entry.settings.items():
        if draw(st.integers(0, 2)) == 0:
            place = task
            if setting.at != "request":
                for part in setting.at.split("."):
                    place = place.setdefault(part, {})
            place[name] = draw(setting_values(setting, wrong=wrong == name))
    return task


def inference(task: dict[str, Any], entry: VideoModel) -> VideoInference:
    at_top = {name for name, setting in entry.settings.items() if setting.at == "request"}
    fields = {name: value for name, value in task.items() if name != "taskType"}
    own = {name: fields.pop(name) for name in at_top & fields.keys()}
    return VideoInference.build(**fields, extra_parameters=own)


def client_accepts(task: dict[str, Any], entry: VideoModel) -> bool:
    return not broken_rules(inference(task, entry), entry)


def sandbox_refusal(task: dict[str, Any]) -> RefusedTaskError | None:
    try:
        read_video_request(task, MODELS)
    except RefusedTaskError as error:
        return error
    return None


@settings(max_examples=400, deadline=None)
@given(task=tasks())
def test_the_three_readings_agree(task: dict[str, Any]) -> None:
    entry = MODELS.get(task["model"])
    refusal = sandbox_refusal(task)
    problems = [error.message[:300] for error in validator(entry.air).iter_errors(task)]
    accepted = client_accepts(task, entry)
    assert accepted == (refusal is None), refusal
    # What the schema cannot say: a size by rule has a maximum of pixels.
    if entry.size_rule is None:
        assert accepted == (not problems), problems


class AnyFiles(InputFiles):
    """Finds every file, all of one size and length."""

    def __init__(self, size: FrameSize, seconds: float) -> None:
        self._size = size
        self._seconds = seconds

    async def image(self, image: str, slot: InputSlot) -> InputImage:
        return InputImage(b"", self._size)

    async def video(self, address: str, slot: InputSlot, caller: Caller) -> InputVideo:
        return InputVideo(PictureSpec(Subject("", 0)), self._size, self._seconds)

    async def check_audio(self, address: str, slot: InputSlot) -> None:
        pass


@settings(max_examples=200, deadline=None)
@given(
    task=tasks(),
    size=st.sampled_from([FrameSize(1280, 720), FrameSize(3840, 2160), FrameSize(320, 320)]),
    seconds=st.sampled_from([4.0, 7.0, 10.0]),
)
def test_an_estimate_is_never_below_the_bill(
    task: dict[str, Any], size: FrameSize, seconds: float
) -> None:
    entry = MODELS.get(task["model"])
    assume(sandbox_refusal(task) is None)
    resolver = RequestResolver(AnyFiles(size, seconds))
    request = read_video_request(task, MODELS)
    order = asyncio.run(resolver.resolve(request, Caller("http://127.0.0.1")))
    videos = sum(1 for _ in input_videos(request))
    for facts in ({}, {"input_size": size, "input_seconds": seconds * videos}):
        price = price_of(inference(task, entry), entry, **facts)  # type: ignore[arg-type]
        if price.usd is not None:
            assert order.cost_usd <= price.usd + 1e-9
            assert not order.is_assumed_price


@pytest.mark.parametrize("entry", Catalogue.builtin().entries, ids=lambda entry: entry.short_name)
def test_the_default_of_a_model_is_accepted_by_all_three(entry: VideoModel) -> None:
    task: dict[str, Any] = {
        "taskType": "videoInference",
        "taskUUID": str(uuid4()),
        "model": entry.air,
        "positivePrompt": "A paper boat on a stream",
        "deliveryMethod": "async",
    }
    if entry.default_size is not None:
        task |= {"width": entry.default_size.width, "height": entry.default_size.height}
    elif "text-to-video" not in capabilities(entry):
        task["inputs"] = {"video": UUID}
    if entry.durations is not None:
        task["duration"] = entry.durations.default
    assert sandbox_refusal(task) is None
    assert client_accepts(task, entry)
    assert list(validator(entry.air).iter_errors(task)) == []
