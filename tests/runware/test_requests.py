from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.runware import (
    Catalogue,
    FrameImage,
    InvalidRequestError,
    VideoInference,
    VideoModel,
    broken_rules,
    check_request,
)
from sora_dagster.runware.catalogue.parts import REQUEST_FIELDS
from sora_dagster.runware.requests import (
    account_details,
    get_response,
    get_task_details,
    ping,
)
from tests.runware.examples import FIRST, SORA_2, SORA_2_PRO, remix, request

PAGE_EXAMPLE = {
    "taskType": "videoInference",
    "taskUUID": "982c01aa-813a-4434-aa42-3e512808fd94",
    "model": "openai:3@2",
    "positivePrompt": (
        "A cinematic wide shot drifting slowly through a flooded mangrove forest at twilight "
        "during a warm monsoon rain. The tangled roots rise from mirror-dark water, and every "
        "raindrop disturbs glowing turquoise bioluminescent algae that ripple outward in delicate "
        "rings."
    ),
    "width": 1792,
    "height": 1024,
    "duration": 8,
}

KNOWN_FIELDS = {
    "taskType",
    "taskUUID",
    "model",
    "positivePrompt",
    "deliveryMethod",
    "width",
    "height",
    "duration",
    "inputs",
    "numberResults",
    "outputType",
    "outputFormat",
    "outputQuality",
    "webhookURL",
    "uploadEndpoint",
    "ttl",
    "includeCost",
    "safety",
}


def test_the_reference_pages_example_goes_to_the_wire_as_the_page_shows_it() -> None:
    request = VideoInference(
        task_uuid="982c01aa-813a-4434-aa42-3e512808fd94",
        positive_prompt=str(PAGE_EXAMPLE["positivePrompt"]),
        width=1792,
        height=1024,
        duration=8.0,
    )
    check_request(request, Catalogue.builtin())
    assert request.to_wire() == {**PAGE_EXAMPLE, "deliveryMethod": "async"}


def test_whole_numbers_are_sent_as_integers() -> None:
    assert '"duration": 8}' in json.dumps({"duration": request(duration=8.0).to_wire()["duration"]})


def test_a_default_is_sent_only_where_it_was_given() -> None:
    assert "outputQuality" not in request().to_wire()
    assert request(output_quality=95).to_wire()["outputQuality"] == 95


def test_none_is_the_same_as_not_given() -> None:
    given_none = request(ttl=None, safety=None, webhook_url=None, inputs=None)
    assert given_none.to_wire() == request().to_wire()


def test_every_field_has_its_name_on_the_wire() -> None:
    wire = request(
        duration=4,
        number_results=2,
        output_type="URL",
        output_format="WEBM",
        output_quality=80,
        delivery_method="async",
        webhook_url="https://example.com/hook?token=1",
        upload_endpoint="https://example.com/put?signature=1",
        ttl=60,
        include_cost=True,
        safety={"mode": "full"},
    ).to_wire()
    assert wire == {
        "taskType": "videoInference",
        "taskUUID": FIRST,
        "model": "openai:3@2",
        "positivePrompt": "a lighthouse in fog",
        "width": 1280,
        "height": 720,
        "duration": 4,
        "numberResults": 2,
        "outputType": "URL",
        "outputFormat": "WEBM",
        "outputQuality": 80,
        "deliveryMethod": "async",
        "webhookURL": "https://example.com/hook?token=1",
        "uploadEndpoint": "https://example.com/put?signature=1",
        "ttl": 60,
        "includeCost": True,
        "safety": {"mode": "full", "checkContent": True},
    }


def test_a_first_frame_may_be_given_plain() -> None:
    image = "aac49721-1964-481a-ae78-8a4e29b91402"
    wire = request(width=None, height=None, inputs={"frame_images": [image]}).to_wire()
    assert wire["inputs"] == {"frameImages": [image]}


def test_a_first_frame_may_be_given_with_its_frame_named() -> None:
    image = FrameImage(image="https://example.com/a.png", frame="first")
    wire = request(width=None, height=None, inputs={"frame_images": [image]}).to_wire()
    assert wire["inputs"] == {
        "frameImages": [{"image": "https://example.com/a.png", "frame": "first"}]
    }


def test_a_remix_names_its_video_and_no_size() -> None:
    wire = remix(number_results=3).to_wire()
    assert wire["inputs"] == {"videoId": "video_0"}
    assert {"width", "height"}.isdisjoint(wire)


@pytest.mark.parametrize(
    ("safety", "wire"),
    [
        ({"check_content": True}, {"checkContent": True}),
        ({"mode": "none"}, {"checkContent": False}),
        ({"mode": "fast"}, {"mode": "fast", "checkContent": True}),
        ({"mode": "full", "check_content": True}, {"mode": "full", "checkContent": True}),
        ({"mode": "none", "check_content": False}, {"checkContent": False}),
    ],
)
def test_a_mode_that_checks_turns_the_check_on_and_none_is_never_sent(
    safety: dict[str, Any], wire: Any
) -> None:
    assert request(safety=safety).to_wire()["safety"] == wire


def test_fields_may_be_given_by_their_wire_names() -> None:
    by_wire = VideoInference.build(
        taskUUID=FIRST, positivePrompt="a lighthouse in fog", width=1280, height=720
    )
    assert by_wire.to_wire() == request().to_wire()


def test_a_task_uuid_is_kept_in_lower_case() -> None:
    upper = "ABCDEFAB-CDEF-4BCD-8FAB-CDEFABCDEFAB"
    assert request(upper).task_uuid == upper.lower()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"task_uuid": "1"}, "taskUUID"),
        ({"task_uuid": "11111111-1111-1111-8111-111111111111"}, "taskUUID"),
        ({"task_uuid": 7}, "taskUUID"),
        ({"positive_prompt": None}, "positivePrompt"),
        ({"width": "1280"}, "width"),
        ({"width": 1280.5}, "width"),
        ({"height": True}, "height"),
        ({"duration": "8"}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"duration": float("inf")}, "duration"),
        ({"number_results": 1.5}, "numberResults"),
        ({"output_type": "base64Data"}, "outputType"),
        ({"output_format": "AVI"}, "outputFormat"),
        ({"output_quality": "high"}, "outputQuality"),
        ({"delivery_method": "sync"}, "deliveryMethod"),
        ({"webhook_url": 1}, "webhookURL"),
        ({"ttl": "1h"}, "ttl"),
        ({"include_cost": "yes"}, "includeCost"),
        ({"safety": {"mode": "strict"}}, "safety.mode"),
        ({"safety": {"checkContent": 1}}, "safety.checkContent"),
        ({"inputs": {"frame_images": "image"}}, "inputs.frameImages"),
        ({"inputs": {"frame_images": [{"image": "a", "frame": "middle"}]}}, "inputs.frameImages.0"),
        ({"inputs": {"video_id": 3}}, "inputs.videoId"),
        ({"seed": "1"}, "seed"),
        ({"sead": 1}, "sead"),
        ({"inputs": {"referenceImages": "a"}}, "inputs.referenceImages"),
        ({"extra_parameters": {"a": object()}}, "extra_parameters"),
    ],
)
def test_a_wrong_form_is_refused_naming_the_field_as_on_the_wire(
    fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        request(**fields)
    assert any(problem.field.startswith(field) for problem in refusal.value.problems)


def test_all_wrong_forms_are_reported_at_once_each_with_what_is_allowed() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        VideoInference.build(task_uuid="x", width="wide", output_format="AVI")
    assert {problem.field: problem.message for problem in refusal.value.problems} == {
        "taskUUID": "'x' is not allowed: Input should be a UUID of version 4",
        "positivePrompt": "Field required",
        "width": "'wide' is not allowed: Input should be a valid integer",
        "outputFormat": "'AVI' is not allowed: Input should be 'MP4', 'WEBM' or 'MOV'",
    }


def test_a_refusal_shows_no_query_of_a_url_and_no_whole_image() -> None:
    image = "data:image/png;base64," + "A" * 10_000
    with pytest.raises(InvalidRequestError) as refusal:
        check_request(
            request(webhook_url="ftp://example.com/hook", inputs={"frame_images": [image]}),
            Catalogue.builtin(),
        )
    assert len(str(refusal.value)) < 2_000

    with pytest.raises(InvalidRequestError) as refusal:
        check_request(
            request(upload_endpoint="https://example .com/put?X-Signature=secret"),
            Catalogue.builtin(),
        )
    assert "secret" not in str(refusal.value)


def test_a_request_does_not_show_the_secrets_in_its_urls() -> None:
    shown = repr(
        request(
            webhook_url="https://example.com/hook?token=secret",
            upload_endpoint="https://example.com/put?signature=secret",
        )
    )
    assert "secret" not in shown


def test_parameters_of_one_model_are_sent_beside_the_documented_ones() -> None:
    wire = request(extra_parameters={"resolution": "1080p"}).to_wire()
    assert wire["resolution"] == "1080p"
    assert "extra_parameters" not in wire


def test_the_other_tasks_have_their_documented_forms() -> None:
    assert get_response(FIRST) == {"taskType": "getResponse", "taskUUID": FIRST}
    assert get_task_details(FIRST) == {"taskType": "getTaskDetails", "taskUUID": FIRST}
    assert account_details(FIRST) == {
        "taskType": "accountManagement",
        "taskUUID": FIRST,
        "operation": "getDetails",
    }
    assert ping() == {"taskType": "ping", "ping": True}


def _fields(entry: VideoModel) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of which many, but by no means all, keep the rules."""
    size = st.one_of(
        st.sampled_from(entry.allowed_sizes).map(
            lambda size: {"width": size.width, "height": size.height}
        ),
        st.just({"inputs": {"video_id": "video_1"}}),
        st.just({"inputs": {"frame_images": ["https://example.com/a.png"]}}),
        st.just({"inputs": {"frame_images": [{"image": FIRST, "frame": "first"}]}}),
        st.fixed_dictionaries(
            {}, optional={"width": st.integers(), "height": st.integers(), "inputs": st.just({})}
        ),
    )
    url = st.sampled_from(["https://example.com/hook", "http://10.0.0.1:8080/x?y=1", "hook", ""])
    others = st.fixed_dictionaries(
        {
            "task_uuid": st.uuids(version=4).map(str),
            "positive_prompt": st.text(alphabet=string.printable + "é漢🎬", max_size=40),
            "model": st.just(entry.air),
        },
        optional={
            "duration": st.one_of(st.sampled_from((4, 8, 20)), st.floats(-1, 30)),
            "number_results": st.integers(-1, 6),
            "output_format": st.sampled_from(["MP4", "WEBM", "MOV"]),
            "output_quality": st.integers(15, 105),
            "webhook_url": url,
            "upload_endpoint": url,
            "ttl": st.one_of(st.none(), st.integers(50, 10_000)),
            "include_cost": st.booleans(),
            "safety": st.fixed_dictionaries(
                {},
                optional={
                    "mode": st.sampled_from(["none", "fast", "full"]),
                    "check_content": st.booleans(),
                },
            ),
        },
    )
    return st.tuples(others, size).map(lambda parts: {**parts[0], **parts[1]})


@given(st.sampled_from([SORA_2_PRO, SORA_2]).flatmap(_fields))
def test_what_passes_the_check_is_plain_json_of_known_fields(fields: dict[str, Any]) -> None:
    request = VideoInference.build(**fields)
    if broken_rules(request, Catalogue.builtin().get(request.model)):
        return
    wire = request.to_wire()
    assert set(wire) <= KNOWN_FIELDS
    assert json.loads(json.dumps(wire, allow_nan=False)) == wire
    assert "null" not in json.dumps({**wire, "positivePrompt": ""})
    assert ("width" in wire) != ("inputs" in wire)


@given(st.sampled_from([SORA_2_PRO, SORA_2]).flatmap(_fields))
def test_a_request_is_read_back_from_its_json(fields: dict[str, Any]) -> None:
    wire = VideoInference.build(**fields).to_wire()
    assert wire.pop("taskType") == "videoInference"
    assert VideoInference.build(**wire).to_wire() == {**wire, "taskType": "videoInference"}


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_no_fields_whatever_end_in_another_error(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        VideoInference.build(**fields)
    assert {"taskUUID", "positivePrompt"} <= {problem.field for problem in refusal.value.problems}


def test_the_fields_that_no_setting_can_be_are_those_of_a_request() -> None:
    fields = VideoInference.model_json_schema(by_alias=True)["properties"]
    assert {*fields, "taskType"} - {"extra_parameters"} == REQUEST_FIELDS
