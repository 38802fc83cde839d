"""An entry made from what Runware publishes says what the document says, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sora_dagster.runware import Catalogue, VideoInference, broken_rules
from sora_dagster.runware.catalogue.published.documents import (
    PublishedDocumentError,
    read_document,
    read_file,
)
from sora_dagster.runware.catalogue.published.draft import draft_entry
from sora_dagster.runware.catalogue.published.entry_yaml import add_to_file, entry_yaml
from tests.runware.published.documents import (
    AIR,
    EXAMPLE,
    EXAMPLE_PATH,
    TODAY,
    drafted,
    openapi,
    pricing,
    resolved,
    with_schema,
)

TASK_UUID = "5f0d9b9e-6ad3-4c52-9d1f-6a6b6a7a0c11"
PICTURE = "https://example.com/a.png"
VIDEO = "https://example.com/a.mp4"


def problems(**fields: Any) -> list[str]:
    """The fields that a request to the example model breaks a rule with."""
    request = VideoInference.build(
        task_uuid=TASK_UUID, model=AIR, **{"positive_prompt": "a fox", **fields}
    )
    return [problem.field for problem in broken_rules(request, drafted(EXAMPLE).entry)]


def test_the_example_gives_an_entry_with_its_limits() -> None:
    entry = drafted(EXAMPLE).entry
    assert (entry.air, entry.name, entry.short_name) == (AIR, "Example Video 1", "example-video-1")
    assert {tier: [str(size) for size in sizes] for tier, sizes in entry.sizes.items()} == {
        "480p": ["854x480"],
        "720p": ["1280x720", "720x1280"],
    }
    assert str(entry.durations) == "4 to 30 seconds, or auto"
    assert entry.durations is not None
    assert entry.durations.default == 5
    assert entry.resolutions == ("480p", "720p")
    assert entry.default_resolution == "720p"
    assert (entry.prompt.min, entry.prompt.max) == (2, 10000)
    assert {name: limits.max for name, limits in entry.inputs.items()} == {
        "frameImages": 2,
        "referenceImages": 30,
        "referenceVideos": 10,
        "video": 1,
    }
    assert entry.inputs["frameImages"].positions == ("first", "last")
    assert entry.settings["operation"].values == ("edit", "extend")
    assert entry.makes_sound()
    assert not entry.makes_sound(audio=False)
    assert entry.remix_modes == ("edit", "continue", "extend")
    assert entry.output_formats == ("MP4", "WEBM", "MOV")
    assert entry.retired is None


def test_the_rules_of_the_example_are_kept() -> None:
    assert problems(width=1280, height=720) == []
    assert problems(resolution="480p") == []
    assert problems(width=1280, height=720, resolution="720p") == ["width"]
    assert problems(inputs={"video": VIDEO}) == []
    assert problems(inputs={"video": VIDEO}, width=1280, height=720) == ["width"]
    assert problems(inputs={"frame_images": (PICTURE,)}, width=1280, height=720) == ["width"]
    assert problems(inputs={"frame_images": (PICTURE,), "video": VIDEO}) == ["inputs.video"]
    edit = {"operation": "edit"}
    assert problems(inputs={"video": VIDEO}, settings=edit, duration=5) == ["duration"]
    assert problems(inputs={"video": VIDEO}, settings=edit, duration="auto") == []


def test_prices_of_examples_are_approximate_and_said_to_be() -> None:
    draft = drafted(EXAMPLE)
    assert draft.entry.prices.certainty == "approximate"
    rates = {rate.if_["tier"]: rate.usd_per_second for rate in draft.entry.prices.rates}
    assert rates == {("720p",): 0.234, ("480p",): 0.234}
    notes = "\n".join(draft.notes)
    assert "read from examples of prices" in notes
    assert "for 480p none is published; that of 720p is assumed" in notes
    assert "video-edit · 720p · autos: 1.78 USD" in notes
    assert "with an input video no price is published" in notes
    assert draft.entry.guesses == draft.notes


def test_the_price_of_a_larger_tier_follows_its_pixels() -> None:
    draft = drafted(with_schema(resolution={"enum": ["720p", "1080P"]}))
    rates = {rate.if_["tier"]: rate.usd_per_second for rate in draft.entry.prices.rates}
    assert rates["720p",] == 0.234
    assert rates["1080P",] == 0.5265
    assert "for 1080P none is published; that of 720p times 2.25" in "\n".join(draft.notes)


@pytest.mark.parametrize("tier", ["ultra", False, "p", "K"])
def test_a_tier_whose_size_is_not_known_has_no_price(tier: object) -> None:
    draft = drafted(with_schema(resolution={"enum": ["720p", tier]}))
    assert draft.entry.prices.certainty == "unknown"
    assert any(f"prices: for {tier} none is published" in note for note in draft.notes)


def test_without_prices_they_are_unknown() -> None:
    draft = drafted(openapi(**{"x-pricing": {"overview": "$2 per million tokens"}}))
    assert draft.entry.prices.certainty == "unknown"
    assert any("$2 per million tokens" in note for note in draft.notes)


def test_rates_say_more_than_examples() -> None:
    rates = [
        {"amount": 0.4, "unit": "durationSecond", "label": "720p with audio"},
        {"amount": 0.2, "unit": "durationSecond", "label": "720p without audio"},
        {"amount": "$0.10", "unit": "durationSecond", "label": "480p"},
        {"amount": 0.5, "unit": "durationSecond", "label": "720p video-to-video"},
        {"amount": 9, "unit": "token", "label": "720p"},
    ]
    model = read_document(json.dumps(resolved()), "resolve").completed(
        read_document(json.dumps(pricing(pricingRates=rates)), "pricing")
    )
    prices = draft_entry(model, today=TODAY).entry.prices
    by_condition = {
        tuple(sorted((name, *values) for name, values in rate.if_.items())): rate.usd_per_second
        for rate in prices.rates
    }
    assert by_condition == {
        (("inputs.video", "given"), ("tier", "720p")): 0.5,
        (("audio", True), ("tier", "720p")): 0.4,
        (("audio", False), ("tier", "720p")): 0.2,
        (("tier", "480p"),): 0.1,
    }
    assert list(prices.rates[0].if_) == ["tier", "inputs.video"]


def test_the_same_entry_comes_from_the_resolved_schema_and_the_prices() -> None:
    examples = EXAMPLE["info"]["x-pricing"]["examples"]
    model = read_document(json.dumps(resolved()), "a document").completed(
        read_document(
            json.dumps(pricing(pricingExamples=examples, capabilities=["edit"])), "pricing"
        )
    )
    ours = draft_entry(model, today=TODAY).entry.model_dump(exclude={"guesses"})
    assert ours == drafted(EXAMPLE).entry.model_dump(exclude={"guesses"})


@pytest.mark.parametrize(
    ("duration", "allowed"),
    [
        ({"type": "integer", "enum": [4, 6, 8], "default": 8}, "4, 6, 8 seconds"),
        ({"type": "integer", "minimum": 1, "maximum": 15, "default": 6}, "1 to 15 seconds"),
        ({"oneOf": [{"const": 5}, {"const": 10}], "default": 5}, "5, 10 seconds"),
        (
            {"anyOf": [{"minimum": 6, "maximum": 20, "multipleOf": 2}, {"const": "auto"}]},
            "6 to 20 in steps of 2 seconds, or auto",
        ),
        ({"const": 5}, "5 seconds"),
    ],
)
def test_durations_of_every_form(duration: dict[str, Any], allowed: str) -> None:
    rules: list[Any] = EXAMPLE["components"]["schemas"]["RequestBody"]["items"]["allOf"][:4]
    assert str(drafted(with_schema(duration=duration, rules=rules)).entry.durations) == allowed


SIZES = EXAMPLE["components"]["schemas"]["RequestBody"]["items"]["allOf"][-1]


def rule(document_rule: Any, **properties: Any) -> list[Any]:
    entry = drafted(with_schema(rules=[SIZES, document_rule], **properties)).entry
    return [
        {name: value for name, value in one.model_dump(by_alias=True, mode="json").items() if value}
        for one in entry.rules
    ]


WITH_FRAMES = {"required": ["inputs"], "properties": {"inputs": {"required": ["frameImages"]}}}
WITH_VIDEO = {"required": ["inputs"], "properties": {"inputs": {"required": ["video"]}}}


def test_exactly_one_of_some_fields() -> None:
    choice = {"oneOf": [WITH_FRAMES, WITH_VIDEO, {"required": ["width", "height"]}]}
    assert rule(choice) == [{"exactly_one_of": ["inputs.frameImages", "inputs.video", "size"]}]


def test_at_least_one_of_some_fields() -> None:
    choice = {"anyOf": [WITH_VIDEO, {"required": ["resolution"]}]}
    assert rule(choice) == [{"if": {"inputs.video": ["missing"]}, "require": ["resolution"]}]


def test_otherwise_is_the_opposite_condition() -> None:
    branch = {
        "if": WITH_VIDEO,
        "then": {"properties": {"duration": {"const": 7}, "seed": False}},
        "else": {"properties": {"duration": {"minimum": 4, "maximum": 8}}},
    }
    assert rule(branch, seed={"type": "integer"}) == [
        {"if": {"inputs.video": ["given"]}, "allow": {"duration": [7]}},
        {"if": {"inputs.video": ["given"]}, "forbid": ["seed"]},
        {
            "if": {"inputs.video": ["missing"]},
            "allow": {"duration": {"values": [], "min": 4.0, "max": 8.0, "step": 1.0}},
        },
    ]


def test_fewer_items_beside_a_video() -> None:
    branch = {
        "if": WITH_VIDEO,
        "then": {"properties": {"inputs": {"properties": {"referenceImages": {"maxItems": 4}}}}},
    }
    assert rule(branch) == [
        {"if": {"inputs.video": ["given"]}, "max_items": {"inputs.referenceImages": 4}}
    ]


def test_what_depends_on_a_value_keeps_the_value() -> None:
    branch = {
        "if": {"required": ["fps"], "properties": {"fps": {"enum": [48, 50]}}},
        "then": {"properties": {"duration": {"minimum": 6, "maximum": 10}}},
    }
    [found] = rule(branch, fps={"type": "integer", "enum": [24, 25, 48, 50]})
    assert found["if"] == {"fps": [48, 50]}


def sized(width: int, height: int) -> dict[str, Any]:
    return {
        "required": ["width", "height"],
        "properties": {"width": {"const": width}, "height": {"const": height}},
    }


def test_sizes_of_a_tier_are_the_tier() -> None:
    branch = {
        "if": {"anyOf": [sized(1280, 720), sized(720, 1280)]},
        "then": {"properties": {"duration": {"const": 5}}},
    }
    assert rule(branch) == [{"if": {"tier": ["720p"]}, "allow": {"duration": [5]}}]


def test_a_rule_about_one_size_of_a_tier_is_named() -> None:
    branch = {"if": sized(720, 1280), "then": {"properties": {"duration": {"const": 5}}}}
    draft = drafted(with_schema(rules=[SIZES, branch]))
    assert draft.entry.rules == ()
    assert any("could not be translated" in note and "1280" in note for note in draft.notes)


def test_rules_about_fields_that_are_never_sent_are_left_out() -> None:
    with_elements = {"required": ["inputs"], "properties": {"inputs": {"required": ["elements"]}}}
    assert rule({"not": {"allOf": [with_elements, {"required": ["resolution"]}]}}) == []


def test_a_rule_without_translation_is_named() -> None:
    odd = {"if": {"properties": {"seed": {"minimum": 3}}}, "then": {"required": ["fps"]}}
    draft = drafted(with_schema(rules=[odd], seed={"type": "integer"}, fps={"enum": [24]}))
    assert any("could not be translated" in note and "seed" in note for note in draft.notes)


def test_inputs_that_cannot_be_sent_are_named() -> None:
    document = with_schema()
    inputs = document["components"]["schemas"]["RequestBody"]["items"]["properties"]["inputs"]
    inputs["properties"]["elements"] = {"type": "array"}
    assert "inputs.elements: sora-dagster cannot send it" in drafted(document).notes


def test_a_switch_of_a_provider_and_sizes_by_rule() -> None:
    side = {"type": "integer", "minimum": 128, "maximum": 2048, "multipleOf": 64}
    switch = {"type": "boolean", "default": False}
    document = with_schema(
        width=side,
        height=side,
        settings={"type": "object", "properties": {}},
        providerSettings={"properties": {"maker": {"properties": {"sound": switch}}}},
        CFGScale={"type": "number", "minimum": 0, "maximum": 10},
        rules=[],
    )
    entry = drafted(document).entry
    assert str(entry.size_rule) == "128 to 2048 pixels per side, in steps of 64"
    assert entry.setting_field("sound") == "providerSettings.maker.sound"
    assert not entry.makes_sound()
    assert entry.setting_field("CFGScale") == "CFGScale"
    assert entry.settings["CFGScale"].allowed == "a number from 0 to 10"


def test_a_retired_model_is_marked() -> None:
    assert drafted(openapi(**{"x-status": "deprecated"})).entry.retired == TODAY


def test_references_inside_the_document_are_followed() -> None:
    document = with_schema(resolution={"$ref": "#/components/schemas/Tier", "default": "480p"})
    document["components"]["schemas"]["Tier"] = {"type": "string", "enum": ["480p", "720p"]}
    entry = drafted(document).entry
    assert entry.resolutions == ("480p", "720p")
    assert entry.default_resolution == "480p"


def nested(depth: int) -> str:
    return '{"requestSchema":' + '{"not":' * depth + "{}" + "}" * depth + "}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not JSON", "the document is not JSON"),
        ("[]", "a JSON object is expected"),
        ("{}", "this is not a document about a model"),
        ('{"pricingOverview": NaN}', "NaN is not a number"),
        ('{"pricingOverview": 1e999}', "1e999 is not a number"),
        ('{"openapi": "3.1.0"}', "components.schemas.RequestBody is missing"),
        (nested(100), "nested more than 64 levels deep"),
        (nested(100_000), "nested more than 64 levels deep"),
        ('{"requestSchema": {}} ' + " " * 2_000_000, "more than 2,000,000 bytes"),
        (
            json.dumps(
                {"requestSchema": {"properties": {"taskType": {"const": "imageInference"}}}}
            ),
            "tasks of the type imageInference; only videoInference",
        ),
        ('{"requestSchema": {"$ref": "#/requestSchema"}}', "refers to itself"),
        ('{"requestSchema": {"$ref": "#/nowhere"}}', "which is not in the document"),
        (
            '{"requestSchema": {"$ref": "https://example.com/schema.json"}}',
            "another document, 'https://example.com/schema.json', which is not fetched",
        ),
        ('{"requestSchema": {"properties": []}}', "'properties' of the schema has a wrong type"),
        ('{"requestSchema": {"required": [1]}}', "'required' of the schema must be a list"),
    ],
)
def test_a_bad_document_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(PublishedDocumentError, match="a document: ") as raised:
        read_document(text, "a document")
    assert message in str(raised.value)


def test_references_that_multiply_are_refused() -> None:
    steps = {
        f"s{index}": {"anyOf": [{"$ref": f"#/definitions/s{index + 1}"}] * 10} for index in range(8)
    }
    document = {
        "requestSchema": {"$ref": "#/definitions/s0"},
        "definitions": {**steps, "s8": {"title": "end"}},
    }
    with pytest.raises(PublishedDocumentError, match="more than 100,000 parts"):
        read_document(json.dumps(document), "a document")


def test_a_document_about_another_model_is_refused() -> None:
    with pytest.raises(PublishedDocumentError, match="about example:video@1, not about other:a@1"):
        read_document(json.dumps(EXAMPLE), "a document", air="other:a@1")


def test_prices_alone_make_no_entry() -> None:
    with pytest.raises(PublishedDocumentError, match="it has prices only"):
        drafted(pricing())


def test_a_contradictory_document_is_refused() -> None:
    with pytest.raises(PublishedDocumentError, match="default"):
        drafted(with_schema(duration={"enum": [4, 8], "default": 5}))


NAMES = (
    "properties oneOf anyOf allOf not if then else required const enum minimum maximum maxItems "
    "default type items inputs video width height frameImages seed audio title"
)
PROPERTIES = (
    "duration seed fps inputs settings providerSettings resolution width positivePrompt "
    "negativePrompt numberResults outputFormat"
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("720p"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4)
    ),
    max_leaves=20,
)


@example(properties={}, rules=["a\x85b\u2028c\u2029d"])
@example(properties={"resolution": {"enum": ["720p", False]}}, rules=[])
@given(
    properties=st.dictionaries(st.sampled_from(PROPERTIES.split()), _json, max_size=4),
    rules=st.lists(_json, max_size=3),
)
def test_any_schema_gives_an_entry_or_a_clear_error(
    properties: dict[str, Any], rules: list[Any]
) -> None:
    try:
        draft = drafted(with_schema(rules=rules, **properties))
    except PublishedDocumentError:
        return
    [again] = yaml.safe_load(entry_yaml(draft.data))
    assert type(draft.entry).model_validate(again) == draft.entry


def test_an_entry_is_added_to_a_file_once(tmp_path: Path) -> None:
    draft, path = drafted(EXAMPLE), tmp_path / "models.yaml"
    path.write_text(
        "- {air: 'a:b@1', name: A, prices: {certainty: unknown}}  # ours", encoding="utf-8"
    )
    add_to_file(path, draft.entry, entry_yaml(draft.data))
    assert "# ours" in path.read_text(encoding="utf-8")
    assert Catalogue.from_yaml(path).get("example-video-1") == draft.entry
    with pytest.raises(ValueError, match=f"has an entry of {AIR} already"):
        add_to_file(path, draft.entry, entry_yaml(draft.data))
    flow = tmp_path / "flow.yaml"
    flow.write_text("[{air: 'a:b@1', name: A, prices: {certainty: unknown}}]", encoding="utf-8")
    with pytest.raises(ValueError, match="write it to another file"):
        add_to_file(flow, draft.entry, entry_yaml(draft.data))
    assert sorted(tmp_path.iterdir()) == [flow, path]


def test_a_saved_file_is_read() -> None:
    assert read_file(EXAMPLE_PATH).air == AIR
