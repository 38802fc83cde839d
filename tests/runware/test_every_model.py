"""What every built-in entry allows is accepted, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_dagster.runware import Catalogue, InvalidRequestError, VideoInference, VideoModel
from sora_dagster.runware.pricing import price_of
from sora_dagster.runware.rules import broken_rules, check_request
from tests.runware.examples import FIRST, SECOND
from tests.runware.model_requests import (
    ENTRIES,
    Addresses,
    add_setting,
    allowed_requests,
    allowed_shapes,
    entry_named,
    forbidden_requests,
    forbidden_shapes,
    request_fields,
)

CATALOGUE = Catalogue.builtin()
every_model = pytest.mark.parametrize("name", [entry.short_name for entry in ENTRIES])
models_with_rules = pytest.mark.parametrize(
    "name", [entry.short_name for entry in ENTRIES if entry.rules]
)


@every_model
@settings(max_examples=60)
@given(data=st.data())
def test_every_combination_that_an_entry_allows_is_accepted(name: str, data: st.DataObject) -> None:
    entry = entry_named(name)
    request = data.draw(allowed_requests(entry))
    assert broken_rules(request, entry) == []


@every_model
def test_each_part_of_an_entry_is_part_of_a_combination(name: str) -> None:
    """Otherwise, the entry has a part that its own rules forbid."""
    entry = entry_named(name)
    shapes = allowed_shapes(entry)
    for field, values in {
        **{f"inputs.{input_name}": [True] for input_name in entry.inputs},
        "size": [*entry.sizes],
        "resolution": entry.resolutions,
        "duration": [] if entry.durations is None else [entry.durations.default],
        **{entry.setting_field(setting): s.values for setting, s in entry.settings.items()},
    }.items():
        for value in values:
            assert any(shape[field] == value for shape in shapes), (field, value)


@models_with_rules
@settings(max_examples=60)
@given(data=st.data())
def test_every_combination_that_an_entry_forbids_is_refused_and_named(
    name: str, data: st.DataObject
) -> None:
    request, clauses = data.draw(forbidden_requests(entry_named(name)))
    with pytest.raises(InvalidRequestError) as refusal:
        check_request(request, CATALOGUE)
    named = {problem.field for problem in refusal.value.problems}
    for clause in clauses:
        assert named & set(clause)


@models_with_rules
def test_each_model_with_rules_forbids_a_combination(name: str) -> None:
    assert forbidden_shapes(entry_named(name))


@every_model
@settings(max_examples=40)
@given(data=st.data())
def test_every_single_violation_is_refused_and_named_with_the_nearest_value(
    name: str, data: st.DataObject
) -> None:
    entry = entry_named(name)
    shape = data.draw(st.sampled_from(allowed_shapes(entry)))
    fields = data.draw(request_fields(entry, shape, Addresses()))
    field, change, nearest = data.draw(st.sampled_from(list(_violations(entry, fields))))
    request = VideoInference.build(**{**fields, **change})
    with pytest.raises(InvalidRequestError) as refusal:
        check_request(request, CATALOGUE)
    [problem] = [problem for problem in refusal.value.problems if problem.field == field]
    assert entry.name in problem.message
    if nearest is not None:
        assert f"nearest: {nearest}" in problem.message


def _violations(
    entry: VideoModel, fields: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Changes that break one limit each: the field, the change, and the nearest allowed value."""
    yield "positivePrompt", {"positive_prompt": "a" * (entry.prompt.max + 1)}, None
    yield "positivePrompt", {"positive_prompt": "a" * (entry.prompt.min - 1)}, None
    limits = entry.negative_prompt
    length = 5 if limits is None else limits.max + 1
    yield "negativePrompt", {"negative_prompt": "a" * length}, None
    yield from _wrong_sizes(entry, fields)
    yield from _wrong_numbers(entry)
    most = entry.max_results
    yield "numberResults", {"number_results": most + 1}, str(most)
    yield "numberResults", {"number_results": 0}, "1"
    yield from _wrong_inputs(entry, fields)
    yield from _wrong_settings(entry, fields)


def _wrong_sizes(
    entry: VideoModel, fields: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    if "width" in fields:
        # No model lists two sizes that are as near.
        near = f"{fields['width']}x{fields['height']}"
        yield "width", {"width": fields["width"] + 1}, near
        yield "width", {"width": None}, None
    if not entry.takes_size:
        yield "width", {"width": 1280, "height": 720}, None
    if entry.resolutions:
        tier = entry.resolutions[-1]
        yield "resolution", {"resolution": f"{tier}p"}, tier
    else:
        yield "resolution", {"resolution": "720p"}, None


def _wrong_numbers(entry: VideoModel) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    for field, numbers, unit in (
        ("duration", entry.durations, " seconds"),
        ("fps", entry.fps, ""),
        ("seed", entry.seed, ""),
    ):
        if numbers is None:
            yield field, {field: 5}, None
            continue
        low, high = int(numbers.lowest), int(numbers.highest)
        yield field, {field: low - 1}, f"{low}{unit}"
        yield field, {field: high + 1}, f"{high}{unit}"
        if field == "duration":
            yield field, {field: low + 0.25}, f"{low}{unit}"
    if entry.durations is not None and not entry.durations.auto:
        yield "duration", {"duration": "auto"}, None


def _wrong_inputs(
    entry: VideoModel, fields: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    given = fields.get("inputs", {})
    for name, attribute, value in (
        ("frameImages", "frame_images", (SECOND,)),
        ("referenceImages", "reference_images", (SECOND,)),
        ("referenceVideos", "reference_videos", (SECOND,)),
        ("referenceAudios", "reference_audios", (SECOND,)),
        ("video", "video", SECOND),
        ("videoId", "video_id", "video_0"),
    ):
        limits = entry.inputs.get(name)  # type: ignore[call-overload]
        if limits is None:
            yield f"inputs.{name}", {"inputs": {**given, attribute: value}}, None
        elif isinstance(value, tuple) and attribute in given:
            many = value * (limits.max + 1)
            yield f"inputs.{name}", {"inputs": {**given, attribute: many}}, None
    frames = entry.inputs.get("frameImages")
    if frames is not None and "frame_images" in given:
        places: list[tuple[str, Any]] = [
            ("frame", place) for place in ("first", "last") if place not in frames.positions
        ]
        places += [] if frames.by_index else [("frame", 17)]
        places += [] if frames.by_time else [("timestamp", 1.5)]
        for key, place in places:
            images = ({"image": SECOND, key: place},)
            change = {"inputs": {**given, "frame_images": images}}
            yield f"inputs.frameImages.0.{key}", change, None


def _wrong_settings(
    entry: VideoModel, fields: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    for at in ("settings", "request", "providerSettings.acme"):
        changed = dict(fields)
        add_setting(changed, at, "nonsense", 1)
        yield "nonsense" if at == "request" else f"{at}.nonsense", changed, None
    for name, setting in entry.settings.items():
        if setting.type == "any":
            continue
        changed = dict(fields)
        add_setting(changed, setting.at, name, ["no"])
        yield entry.setting_field(name), changed, None
        if setting.values:
            changed = dict(fields)
            add_setting(changed, setting.at, name, "nonsense")
            yield entry.setting_field(name), changed, None


def default_request(entry: VideoModel) -> VideoInference:
    """The request of a clip that sets nothing but its prompt."""
    fields: dict[str, Any] = {}
    if entry.default_size is not None:
        fields |= {"width": entry.default_size.width, "height": entry.default_size.height}
    if entry.durations is not None:
        fields["duration"] = entry.durations.default
    return VideoInference.build(
        task_uuid=FIRST, model=entry.air, positive_prompt="a lighthouse in fog", **fields
    )


@every_model
def test_the_default_request_is_accepted_or_lacks_only_the_video_of_an_editor(name: str) -> None:
    entry = entry_named(name)
    missing = [problem.field for problem in broken_rules(default_request(entry), entry)]
    edits_only = all(shape.get("inputs.video") for shape in allowed_shapes(entry))
    assert missing == (["inputs.video"] if edits_only else [])


@every_model
def test_the_default_request_is_priced_or_the_entry_says_that_its_price_is_unknown(
    name: str,
) -> None:
    entry = entry_named(name)
    request = default_request(entry)
    if broken_rules(request, entry):
        request = VideoInference.build(
            task_uuid=FIRST, model=entry.air, positive_prompt="night", inputs={"video": SECOND}
        )
    price = price_of(request, entry)
    assert (price.usd is None) == (entry.prices.certainty == "unknown")
    assert price.usd is None or price.usd > 0
    if entry.prices.certainty != "published":
        assert any("price" in guess or "rates" in guess for guess in entry.guesses)


@every_model
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_not_known_is_never_estimated_below_what_is(name: str, data: st.DataObject) -> None:
    entry = entry_named(name)
    request = data.draw(allowed_requests(entry))
    unknown = price_of(request, entry)
    sizes = entry.allowed_sizes or Catalogue.builtin().get("veo-3.1").allowed_sizes
    seconds = data.draw(st.none() | st.integers(1, 10))
    known = price_of(
        request,
        entry,
        input_size=data.draw(st.none() | st.sampled_from(sizes)),
        input_seconds=None if seconds is None else float(seconds),
    )
    if unknown.usd is not None:
        assert known.usd is not None
        assert unknown.usd >= known.usd - 1e-9


@every_model
def test_an_entry_says_where_its_facts_are_from(name: str) -> None:
    entry = entry_named(name)
    assert entry.source.startswith("https://runware.ai/docs/models/")
    assert entry.checked is not None
    if entry.prices.certainty != "unknown":
        assert entry.prices.as_of is not None
