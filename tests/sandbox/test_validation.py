"""The rules of a `videoInference` task."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from runware.errors import derive_code

from tests.sandbox.api import SandboxApi, video_task
from tests.sandbox.images import data_uri, framed, image_bytes
from tests.sandbox.receiver import Receiver

SMALL = data_uri(image_bytes(320, 300))

ACCEPTED: dict[str, dict[str, Any]] = {
    "the shortest prompt": {"positivePrompt": "ab"},
    "the longest prompt": {"positivePrompt": "a" * 6000},
    "no duration": {"duration": None},
    "a duration with a decimal point": {"duration": 8.0},
    "the longest duration": {"duration": 20},
    "four results": {"numberResults": 4},
    "the size of the reference page": {"width": 1792, "height": 1024},
    "an upright size": {"width": 1080, "height": 1920},
    "the named output type": {"outputType": "URL"},
    "WEBM": {"outputFormat": "WEBM"},
    "MOV": {"outputFormat": "MOV"},
    "the least quality": {"outputQuality": 20},
    "the best quality": {"outputQuality": 99},
    "the named delivery": {"deliveryMethod": "async"},
    "a webhook": {"webhookURL": "https://example.com/hook?token=x"},
    "an upload endpoint": {"uploadEndpoint": "https://example.com/put?X-Amz-Signature=x"},
    "the shortest life": {"ttl": 60},
    "the cost asked for": {"includeCost": True},
    "a content check": {"safety": {"checkContent": True}},
    "a safety mode": {"safety": {"mode": "full"}},
    "a plain first frame": {"width": None, "height": None, "inputs": {"frameImages": [SMALL]}},
    "a placed first frame": {
        "width": None,
        "height": None,
        "inputs": {"frameImages": [{"image": SMALL, "frame": "first"}]},
    },
    "a first frame in bare base64": {
        "width": None,
        "height": None,
        "inputs": {"frameImages": [base64.b64encode(image_bytes(300, 300, "JPEG")).decode()]},
    },
    "the smaller model": {"model": "openai:3@1"},
}

REFUSED: dict[str, tuple[dict[str, Any], str, str | list[str]]] = {
    "no taskUUID": ({"taskUUID": None}, "missingTaskUUID", "taskUUID"),
    "a taskUUID of version 1": (
        {"taskUUID": "b4440347-499d-11ef-9262-ea1d5c3f0c4c"},
        "invalidTaskUUID",
        "taskUUID",
    ),
    "a taskUUID that is a number": ({"taskUUID": 7}, "invalidTaskUUID", "taskUUID"),
    "no model": ({"model": None}, "missingModel", "model"),
    "an unknown model": ({"model": "openai:3@9"}, "invalidModel", "model"),
    "a model that is a list": ({"model": []}, "invalidModel", "model"),
    "no prompt": ({"positivePrompt": None}, "missingPositivePrompt", "positivePrompt"),
    "a prompt that is a number": (
        {"positivePrompt": 12},
        "invalidPositivePrompt",
        "positivePrompt",
    ),
    "a prompt of one character": (
        {"positivePrompt": "a"},
        "invalidPositivePromptLength",
        "positivePrompt",
    ),
    "a prompt of 6001 characters": (
        {"positivePrompt": "a" * 6001},
        "invalidPositivePromptLength",
        "positivePrompt",
    ),
    "an unknown field": ({"seed": 5}, "unsupportedParameter", "seed"),
    "a width without a height": ({"height": None}, "missingHeight", "height"),
    "a height without a width": ({"width": None}, "missingWidth", "width"),
    "neither size nor image nor video": (
        {"width": None, "height": None},
        "missingParameter",
        ["inputs.videoId", "inputs.frameImages", "width", "height"],
    ),
    "a size that the model has not": ({"width": 1281}, "unsupportedDimensions", "width"),
    "a size of the larger model only": (
        {"model": "openai:3@1", "width": 1792, "height": 1024},
        "unsupportedDimensions",
        "width",
    ),
    "a width that is a text": ({"width": "1280"}, "invalidWidth", "width"),
    "a width that is a truth value": ({"width": True}, "invalidWidth", "width"),
    "a duration in between": ({"duration": 5}, "unsupportedDuration", "duration"),
    "a duration that is a text": ({"duration": "4"}, "invalidDuration", "duration"),
    "a duration of 400 digits": ({"duration": 10**400}, "invalidDuration", "duration"),
    "no results": ({"numberResults": 0}, "invalidNumberResults", "numberResults"),
    "five results": ({"numberResults": 5}, "invalidNumberResults", "numberResults"),
    "another output type": (
        {"outputType": "base64Data"},
        "unsupportedOutputType",
        "outputType",
    ),
    "another format": ({"outputFormat": "GIF"}, "unsupportedOutputFormat", "outputFormat"),
    "a quality of 19": ({"outputQuality": 19}, "invalidOutputQuality", "outputQuality"),
    "a quality of 100": ({"outputQuality": 100}, "invalidOutputQuality", "outputQuality"),
    "a quality with a fraction": ({"outputQuality": 50.5}, "invalidOutputQuality", "outputQuality"),
    "synchronous delivery": (
        {"deliveryMethod": "sync"},
        "unsupportedDeliveryMethod",
        "deliveryMethod",
    ),
    "a webhook that is no URI": ({"webhookURL": "hook"}, "invalidWebhookURL", "webhookURL"),
    "a webhook by FTP": ({"webhookURL": "ftp://x/y"}, "invalidWebhookURL", "webhookURL"),
    "an upload endpoint without a host": (
        {"uploadEndpoint": "https:///x"},
        "invalidUploadEndpoint",
        "uploadEndpoint",
    ),
    "a life of 59 seconds": ({"ttl": 59}, "invalidTtl", "ttl"),
    "a cost flag that is a number": ({"includeCost": 1}, "invalidIncludeCost", "includeCost"),
    "an unknown safety mode": (
        {"safety": {"mode": "strict"}},
        "unsupportedMode",
        "safety.mode",
    ),
    "an unknown safety field": ({"safety": {"level": 1}}, "unsupportedParameter", "safety.level"),
    "a safety that is a text": ({"safety": "fast"}, "invalidSafety", "safety"),
    "an unknown input": (
        {"inputs": {"referenceImages": []}},
        "unsupportedParameter",
        "inputs.referenceImages",
    ),
    "an image beside a size": (
        {"inputs": {"frameImages": [SMALL]}},
        "incompatibleParameters",
        ["inputs.frameImages", "width", "height"],
    ),
    "a video beside a size": (
        {"inputs": {"videoId": "video_1"}},
        "incompatibleParameters",
        ["inputs.videoId", "width", "height"],
    ),
    "an image beside a video": (
        {
            "width": None,
            "height": None,
            "inputs": {"frameImages": [SMALL], "videoId": "video_1"},
        },
        "incompatibleParameters",
        ["inputs.videoId", "inputs.frameImages"],
    ),
    "no image in the array": (
        {"width": None, "height": None, "inputs": {"frameImages": []}},
        "arrayTooSmall",
        "inputs.frameImages",
    ),
    "two images": (
        {"width": None, "height": None, "inputs": {"frameImages": [SMALL, SMALL]}},
        "arrayTooLarge",
        "inputs.frameImages",
    ),
    "a video that does not exist": (
        {"width": None, "height": None, "inputs": {"videoId": "video_nothing"}},
        "invalidVideoId",
        "inputs.videoId",
    ),
}

BAD_IMAGES = {
    "too narrow": data_uri(image_bytes(299, 400)),
    "too wide": data_uri(image_bytes(2049, 400)),
    "no image": data_uri(b"plain text"),
    "truncated": data_uri(image_bytes(400, 400, "JPEG")[:500]),
    "no base64": "@@@",
    "a data URI in plain text": "data:text/plain,hello",
    "an unknown UUID": "aac49721-1964-481a-ae78-8a4e29b91402",
    "on another machine": "https://example.com/cat.png",
    "a number": 5,
    "an object without image": {"frame": "first"},
}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_a_valid_request_is_accepted(api: SandboxApi, fields: dict[str, Any]) -> None:
    # As a dry run: accepted ones would only be rendered in vain.
    response = api.post(video_task(**fields), headers={"X-Runware-Dry-Run": "1"})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("fields", "code", "parameter"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_request_is_refused_by_its_field(
    api: SandboxApi, fields: dict[str, Any], code: str, parameter: str | list[str]
) -> None:
    task = video_task(**fields)
    error = api.refusal(task)
    assert (error["code"], error["parameter"]) == (code, parameter)
    assert error["taskType"] == "videoInference"
    assert error.get("taskUUID") == (
        task["taskUUID"] if isinstance(task.get("taskUUID"), str) else None
    )


@pytest.mark.parametrize("code", sorted({code for _, code, _ in REFUSED.values()}))
def test_the_official_sdk_sorts_every_code_as_a_validation_error(code: str) -> None:
    assert derive_code(code) == "validation"


@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_first_frame_that_cannot_be_used_is_refused(api: SandboxApi, image: object) -> None:
    error = api.refusal(framed(image))
    assert error["code"] == "invalidFrameImage"
    assert error["parameter"].startswith("inputs.frameImages")


def test_a_first_frame_that_is_not_first_is_refused(api: SandboxApi) -> None:
    error = api.refusal(framed({"image": SMALL, "frame": "last"}))
    assert error["parameter"] == "inputs.frameImages.0.frame"


def test_a_first_frame_of_too_many_bytes_is_refused(api: SandboxApi) -> None:
    error = api.refusal(framed(data_uri(image_bytes(400, 400) + bytes(20_000_000))))
    assert "bytes" in error["message"]


def test_a_first_frame_is_fetched_from_this_machine(api: SandboxApi, receiver: Receiver) -> None:
    receiver.served = image_bytes(640, 400)
    task = framed(f"{receiver.url}/cat.png")
    assert api.post(task, headers={"X-Runware-Dry-Run": "1"}).status_code == 200


def test_an_error_links_to_the_documentation_of_its_parameter(api: SandboxApi) -> None:
    error = api.refusal(video_task(safety={"mode": "strict"}))
    assert error["documentation"].endswith("#request-safety-mode")
