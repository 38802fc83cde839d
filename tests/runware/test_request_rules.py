from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from sora_dagster.runware import (
    Catalogue,
    InvalidRequestError,
    UnknownModelError,
    VideoInference,
    VideoModel,
    broken_rules,
    check_request,
)
from sora_dagster.runware.catalogue.parts import InputLimits, Setting
from tests.runware.examples import FIRST, SORA_2_PRO, remix, request


def picture(width: int, height: int, file_format: str = "PNG", **options: Any) -> bytes:
    """A real image file."""
    file = BytesIO()
    Image.new("RGB", (width, height), (20, 90, 160)).save(file, file_format, **options)
    return file.getvalue()


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def with_first_frame(*images: Any, **fields: Any) -> VideoInference:
    return request(**{"width": None, "height": None, "inputs": {"frame_images": images}, **fields})


def broken(request: VideoInference, entry: VideoModel = SORA_2_PRO) -> list[str]:
    """The fields of which a rule is broken."""
    return [problem.field for problem in broken_rules(request, entry)]


@pytest.mark.parametrize("size", SORA_2_PRO.allowed_sizes)
def test_each_size_of_the_entry_is_accepted(size: Any) -> None:
    assert broken(request(width=size.width, height=size.height)) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": None}, "width"),
        ({"height": None}, "height"),
        ({"width": None, "height": None}, "width"),
        ({"width": 720}, "width"),
        ({"width": 1280, "height": 1280}, "width"),
        ({"duration": 5}, "duration"),
        ({"duration": 0}, "duration"),
        ({"number_results": 0}, "numberResults"),
        ({"number_results": 5}, "numberResults"),
        ({"output_quality": 19}, "outputQuality"),
        ({"output_quality": 100}, "outputQuality"),
        ({"ttl": 59}, "ttl"),
        ({"positive_prompt": ""}, "positivePrompt"),
        ({"positive_prompt": "a"}, "positivePrompt"),
        ({"positive_prompt": "    "}, "positivePrompt"),
        ({"positive_prompt": "\u200b\u200b\u200b"}, "positivePrompt"),
        ({"positive_prompt": "\u3164\u2800\u00ad\x07"}, "positivePrompt"),
        ({"positive_prompt": "a\u200d\ufe0f"}, "positivePrompt"),
        ({"positive_prompt": "a" * 6001}, "positivePrompt"),
        ({"positive_prompt": "half \ud83c"}, "positivePrompt"),
        ({"webhook_url": "example.com/hook"}, "webhookURL"),
        ({"webhook_url": "/hook"}, "webhookURL"),
        ({"webhook_url": "https://"}, "webhookURL"),
        ({"webhook_url": "https://example.com:port/"}, "webhookURL"),
        ({"upload_endpoint": "s3://bucket/key"}, "uploadEndpoint"),
        ({"upload_endpoint": "https://example.com/a b"}, "uploadEndpoint"),
        ({"safety": {"mode": "fast", "check_content": False}}, "safety.mode"),
        ({"safety": {"mode": "none", "check_content": True}}, "safety.mode"),
        ({"inputs": {}}, "inputs"),
        ({"seed": 1}, "seed"),
        ({"fps": 24}, "fps"),
        ({"resolution": "720p"}, "resolution"),
        ({"negative_prompt": "people"}, "negativePrompt"),
        ({"duration": "auto"}, "duration"),
        ({"settings": {"audio": True}}, "settings.audio"),
        ({"provider_settings": {"acme": {"style": 1}}}, "providerSettings.acme.style"),
        ({"inputs": {"reference_images": [FIRST]}}, "inputs.referenceImages"),
        ({"extra_parameters": {"resolution": "4K"}}, "resolution"),
        ({"extra_parameters": {"width": 1}}, "width"),
    ],
)
def test_a_broken_rule_is_reported_with_its_field(fields: dict[str, Any], field: str) -> None:
    assert broken(request(**fields)) == [field]


@pytest.mark.parametrize(
    "fields",
    [
        {"positive_prompt": "ab"},
        {"positive_prompt": "\u200ba b\n"},
        {"positive_prompt": "a" * 6000},
        {"positive_prompt": "🎬" * 6000},
        {"number_results": 4},
        {"output_quality": 20},
        {"output_quality": 99},
        {"ttl": 60},
        {"duration": 20},
        {"webhook_url": "http://127.0.0.1:8080/hook?token=1"},
        {"safety": {"mode": "none", "check_content": False}},
    ],
)
def test_the_ends_of_each_range_are_accepted(fields: dict[str, Any]) -> None:
    assert broken(request(**fields)) == []


def test_a_missing_height_is_required_together_with_the_width() -> None:
    [problem] = broken_rules(request(height=None), SORA_2_PRO)
    assert problem.field == "height"
    assert "together" in problem.message


def test_a_size_problem_lists_the_allowed_sizes() -> None:
    [problem] = broken_rules(request(width=640, height=360), SORA_2_PRO)
    assert problem.value == "640x360"
    assert "1792x1024" in problem.message


def test_all_broken_rules_are_reported_at_once() -> None:
    wrong = request(width=1, duration=5, number_results=9, ttl=1, output_quality=1)
    assert broken(wrong) == ["width", "duration", "numberResults", "outputQuality", "ttl"]


def test_a_remix_may_ask_for_several_results() -> None:
    assert broken(remix(number_results=4)) == []


def test_a_remix_takes_neither_width_nor_height() -> None:
    assert broken(remix(width=1280, height=720)) == ["width"]


def test_a_remix_takes_no_first_frame() -> None:
    wrong = remix(inputs={"video_id": "video_0", "frame_images": [FIRST]})
    assert broken(wrong) == ["inputs.frameImages"]


@pytest.mark.parametrize("video_id", ["", "  ", "video\n0"])
def test_a_video_id_is_a_printable_text(video_id: str) -> None:
    assert broken(remix(inputs={"video_id": video_id})) == ["inputs.videoId"]


def test_a_first_frame_excludes_width_and_height() -> None:
    assert broken(with_first_frame(FIRST, width=1280, height=720)) == ["width"]


@pytest.mark.parametrize("images", [(), (FIRST, FIRST)])
def test_exactly_one_first_frame_is_taken(images: tuple[str, ...]) -> None:
    assert broken(with_first_frame(*images)) == ["inputs.frameImages"]


@pytest.mark.parametrize(
    "image",
    [
        "aac49721-1964-481a-ae78-8a4e29b91402",
        "https://example.com/a.png?signature=1",
        data_uri(picture(640, 360)),
        base64.b64encode(picture(640, 360)).decode(),
        data_uri(picture(640, 360, "JPEG"), "image/jpeg"),
        data_uri(picture(640, 360, "JPEG", progressive=True), "image/jpeg"),
        data_uri(picture(640, 360, "WEBP"), "image/webp"),
        data_uri(picture(640, 360, "WEBP", lossless=True), "image/webp"),
    ],
)
@pytest.mark.parametrize("form", [lambda image: image, lambda image: {"image": image}])
def test_a_first_frame_may_be_any_kind_of_image_in_either_form(image: str, form: Any) -> None:
    assert broken(with_first_frame(form(image))) == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("frames/harbour.png", "Read a file and pass it as a data URI"),
        ("", "not a PNG, JPEG or WebP"),
        ("data:image/png,rawbytes", "not base64-encoded"),
        ("data:text/plain;base64,aGk=", "media type of the data URI is text/plain"),
        ("data:image/png;base64,###", "not valid base64"),
        ("data:image/png;base64,aGVsbG8=", "not a PNG, JPEG or WebP"),
        (data_uri(picture(299, 720)), "299x720 pixels; allowed: 300 to 2048 pixels per side"),
        (data_uri(picture(640, 2049)), "allowed: 300 to 2048 pixels per side"),
        (data_uri(picture(2049, 640, "JPEG")), "allowed: 300 to 2048 pixels per side"),
        (data_uri(picture(200, 200, "WEBP")), "allowed: 300 to 2048 pixels per side"),
        (
            data_uri(picture(200, 200, "WEBP", lossless=True)),
            "allowed: 300 to 2048 pixels per side",
        ),
        (data_uri(picture(640, 360)[:20]), "cannot be decoded"),
        (data_uri(picture(640, 360)[:60]), "cannot be decoded"),
    ],
)
def test_a_wrong_first_frame_is_reported_with_what_is_wrong(image: str, expected: str) -> None:
    [problem] = broken_rules(with_first_frame({"image": image, "frame": "first"}), SORA_2_PRO)
    assert problem.field == "inputs.frameImages.0.image"
    assert expected in problem.message


def test_a_jpeg_is_measured_by_its_frame_and_not_by_a_table_before_it() -> None:
    image = picture(640, 360, "JPEG")
    # An unused Huffman table with one code, in the form of a frame's header.
    table = b"\xff\xc4" + (20).to_bytes(2, "big") + b"\x13\x01" + bytes(15) + b"\x05"
    assert broken(with_first_frame(data_uri(image[:2] + table + image[2:], "image/jpeg"))) == []


@pytest.mark.parametrize("slack_bytes", [-1, 0])
def test_a_first_frame_may_be_as_large_as_the_entry_says_and_no_larger(slack_bytes: int) -> None:
    image = picture(640, 360)
    limits = InputLimits(max_bytes=len(image) + slack_bytes)
    entry = SORA_2_PRO.model_copy(update={"inputs": {"frameImages": limits}})
    allowed = slack_bytes >= 0
    assert (broken(with_first_frame(data_uri(image)), entry) == []) is allowed


def test_a_far_too_large_first_frame_is_refused() -> None:
    [problem] = broken_rules(with_first_frame("A" * 28_000_000), SORA_2_PRO)
    assert "at most 20000000 bytes" in problem.message


def test_a_model_without_remixes_accepts_no_video_id() -> None:
    entry = SORA_2_PRO.model_copy(update={"inputs": {}})
    assert broken(remix(), entry) == ["inputs.videoId"]


def test_a_model_without_first_frames_accepts_none() -> None:
    entry = SORA_2_PRO.model_copy(update={"inputs": {}})
    assert broken(with_first_frame(FIRST), entry) == ["inputs.frameImages"]


def test_a_container_that_the_model_does_not_deliver_is_refused() -> None:
    entry = SORA_2_PRO.model_copy(update={"output_formats": ("MP4",)})
    assert broken(request(output_format="MOV"), entry) == ["outputFormat"]


def test_extra_parameters_that_the_entry_names_are_accepted() -> None:
    steps = Setting(at="request", type="integer", min=1, max=50)
    entry = SORA_2_PRO.model_copy(update={"settings": {"steps": steps}})
    assert broken(request(extra_parameters={"steps": 50}), entry) == []
    assert broken(request(extra_parameters={"steps": 51}), entry) == ["steps"]


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800"])
def test_an_extra_parameter_that_is_no_json_is_refused(value: Any) -> None:
    strength = Setting(at="request", type="any")
    entry = SORA_2_PRO.model_copy(update={"settings": {"strength": strength}})
    assert broken(request(extra_parameters={"strength": value}), entry) == ["strength"]


def test_a_request_is_not_held_against_the_entry_of_another_model() -> None:
    assert broken(request(model="openai:3@1")) == ["model"]


def test_check_raises_all_problems_and_says_that_nothing_was_sent() -> None:
    with pytest.raises(InvalidRequestError, match="was not sent") as refusal:
        check_request(request(duration=5, ttl=1), Catalogue.builtin())
    assert [problem.field for problem in refusal.value.problems] == ["duration", "ttl"]
    assert refusal.value.task_uuid == FIRST


def test_check_refuses_a_model_that_the_catalogue_does_not_have() -> None:
    with pytest.raises(UnknownModelError, match="openai:4@1"):
        check_request(request(model="openai:4@1"), Catalogue.builtin())
