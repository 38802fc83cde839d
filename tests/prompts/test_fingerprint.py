"""A fingerprint hashes what is meant: another spelling is the same clip, a real change is not."""

from __future__ import annotations

import base64
import io
import json
import re
import textwrap
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from sora_dagster.generation.requesting.input_urls import InputUrls
from sora_dagster.generation.requesting.payloads import (
    keep_images,
    redacted_spec,
    with_images,
)
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.images import image_identity
from sora_dagster.runware.requests import VideoInference
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip
from tests.runware.examples import SORA_2_PRO

LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=12)
BLANKS = st.text(" \t", max_size=3)
IMAGE_UUID = "aac49721-1964-481a-ae78-8a4e29b91402"


def picture(shade: int = 90) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (300, 300), (shade, 40, 120)).save(output, "PNG")
    return output.getvalue()


ENCODED = base64.b64encode(picture()).decode()


def fingerprint(**fields: Any) -> str:
    return ClipSpec(**{"clip_id": "dawn", "prompt": "Mist over a lake", **fields}).fingerprint


def of_prompt(prompt: str) -> str:
    return fingerprint(prompt=prompt)


def of_image(image: str) -> str:
    return fingerprint(first_frame=image)


# --- the prompt


@given(st.lists(LINES, min_size=1, max_size=4), st.data())
def test_line_ends_and_blanks_at_them_do_not_count(lines: list[str], data: st.DataObject) -> None:
    ends = st.sampled_from(["\n", "\r\n", "\r"])
    respelled = "".join(line + data.draw(BLANKS) + data.draw(ends) for line in lines)
    blank_lines = "".join(data.draw(st.lists(BLANKS.flatmap(lambda b: ends.map(b.__add__)))))
    assert of_prompt(respelled + blank_lines) == of_prompt("\n".join(lines))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_the_unicode_form_of_a_prompt_does_not_count(prompt: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, prompt) for form in ("NFC", "NFD"))
    assert of_prompt(prompt) == of_prompt(composed) == of_prompt(decomposed)


@given(LINES, LINES)
def test_another_text_is_another_clip(one: str, other: str) -> None:
    assume(unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", other))
    assert of_prompt(one) != of_prompt(other)


@pytest.mark.parametrize(
    "prompt",
    [
        "A  lake",
        " A lake",
        "A\nlake",
        "\nA lake",
        "A\n\nlake",
        "a lake",
        "A lake.",
        "A \N{EM SPACE}",
    ],
)
def test_blanks_within_a_prompt_count(prompt: str) -> None:
    assert of_prompt(prompt) != of_prompt("A lake")


# --- the settings


@pytest.mark.parametrize("extension", [".yaml", ".jsonl"])
def test_a_row_that_states_the_defaults_is_the_row_that_leaves_them_out(
    tmp_path: Path, extension: str
) -> None:
    rows = [
        {"id": "brief", "prompt": "A lake"},
        {
            "id": "explicit",
            "prompt": "A lake",
            "model": SORA_2_PRO.air,
            "size": str(SORA_2_PRO.default_size),
            "duration": 4.0,
            "number_results": 1,
            "output_format": "mp4",
            "output_quality": 95,
            "safety": "none",
            "take": 1,
            "tags": ["lake"],
        },
    ]
    path = tmp_path / f"prompts{extension}"
    # Each of the lines is also a YAML list item.
    prefix = "- " if extension == ".yaml" else ""
    path.write_text("".join(f"{prefix}{json.dumps(row)}\n" for row in rows))
    brief, explicit = load_dataset(path, catalogue=Catalogue.builtin()).clips
    assert brief.fingerprint == explicit.fingerprint


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "openai:3@1"},
        {"size": "720x1280"},
        {"duration_seconds": 12},
        {"number_results": 2},
        {"output_format": "WEBM"},
        {"output_quality": 94},
        {"first_frame": IMAGE_UUID},
        {"safety": "fast"},
        {"duration_seconds": "auto"},
        {"resolution": "720p"},
        {"fps": 24},
        {"seed": 0},
        {"negative_prompt": "text"},
        {"audio": False},
        {"last_frame": IMAGE_UUID},
        {"reference_images": (IMAGE_UUID,)},
        {"settings": {"promptExtend": False}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_each_setting_that_changes_the_video_changes_the_fingerprint(
    fields: dict[str, Any],
) -> None:
    before = {"size": "1280x720", "duration_seconds": 8}
    assert fingerprint(**{**before, **fields}) != fingerprint(**before)


@pytest.mark.parametrize(
    "fields", [{"clip_id": "noon"}, {"take": 2}, {"tags": ("lake",)}, {"recipes": ("snow",)}]
)
def test_what_leaves_the_video_as_it_is_leaves_the_fingerprint(fields: dict[str, Any]) -> None:
    assert fingerprint(**fields) == fingerprint()


def test_a_clip_without_newer_fields_has_the_fingerprint_that_it_always_had() -> None:
    # Stored records have fingerprints of the first version of the package.
    assert fingerprint(size="1280x720", duration_seconds=8) == "08de7d76aca0f00c45ae46bb6eed6040"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"settings": {"a": 1, "b": {"x": 2.0}}}, {"settings": {"b": {"x": 2}, "a": 1.0}}),
        ({"fps": 24}, {"fps": 24.0}),
        ({"negative_prompt": "text\r\nlogos "}, {"negative_prompt": "text\nlogos"}),
        (
            {"last_frame": "https://example.com/a.png?sig=1"},
            {"last_frame": "https://example.com/a.png"},
        ),
        ({"audio": True, "at_default": ("audio",)}, {}),
        ({"settings": {"a": True}, "at_default": ("settings.a",)}, {}),
    ],
    ids=["settings", "fps", "negative prompt", "last frame", "default audio", "default setting"],
)
def test_another_spelling_of_a_field_is_the_same_clip(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert fingerprint(**one) == fingerprint(**other)


def test_a_first_frame_is_not_a_last_frame_and_references_have_an_order() -> None:
    other = IMAGE_UUID.replace("a", "b")
    assert fingerprint(first_frame=IMAGE_UUID) != fingerprint(last_frame=IMAGE_UUID)
    assert fingerprint(reference_images=(IMAGE_UUID, other)) != fingerprint(
        reference_images=(other, IMAGE_UUID)
    )


# --- the first frame


@pytest.mark.parametrize(
    "image",
    [
        f"data:image/x-png;base64,{ENCODED}",
        f"data:IMAGE/PNG;name=lake.png;base64,{ENCODED}",
        ENCODED,
        "\r\n".join(textwrap.wrap(ENCODED, 76)),
        f"data:image/png;base64,{' '.join(textwrap.wrap(ENCODED, 60))}",
    ],
    ids=["media type", "parameters", "base64", "line breaks", "blanks"],
)
def test_the_bytes_of_a_first_frame_count_and_not_how_they_are_encoded(image: str) -> None:
    assert of_image(image) == of_image(f"data:image/png;base64,{ENCODED}")


def test_a_first_frame_from_a_file_is_the_same_as_its_data_uri(tmp_path: Path) -> None:
    (tmp_path / "lake.png").write_bytes(picture())
    path = tmp_path / "prompts.yaml"
    path.write_text("- {id: dawn, prompt: Mist over a lake, duration: 8, first_frame: lake.png}")
    [from_file] = load_dataset(path, catalogue=Catalogue.builtin()).clips
    assert from_file.fingerprint == fingerprint(
        duration_seconds=8, first_frame=f"data:image/jpeg;base64,{ENCODED}"
    )


def test_other_bytes_are_another_clip() -> None:
    other = base64.b64encode(picture(shade=91)).decode()
    assert of_image(f"data:image/png;base64,{other}") != of_image(
        f"data:image/png;base64,{ENCODED}"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/Lake.png?X-Amz-Signature=0123&X-Amz-Date=20270101",
        "https://example.com/Lake.png#top",
        "https://user:password@example.com/Lake.png",
        "https://example.com:443/Lake.png",
        "HTTPS://Example.COM/Lake.png",
    ],
    ids=["query", "fragment", "user", "default port", "upper case"],
)
def test_the_address_of_a_first_frame_counts_and_not_what_grants_access(url: str) -> None:
    assert of_image(url) == of_image("https://example.com/Lake.png")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/lake.png",
        "https://example.com/Lake.png/",
        "https://example.org/Lake.png",
        "https://example.com:8443/Lake.png",
        "http://example.com/Lake.png",
    ],
)
def test_another_address_is_another_clip(url: str) -> None:
    assert of_image(url) != of_image("https://example.com/Lake.png")


@pytest.mark.parametrize("host", ["[2001:db8::1]", "[2001:DB8::1]:80"])
def test_an_ipv6_address_is_compared_like_any_other(host: str) -> None:
    assert of_image(f"http://{host}/a.png") == of_image("http://[2001:db8::1]:80/a.png")
    assert of_image(f"http://{host}/a.png") != of_image("http://[2001:db8::1]:8080/a.png")


def test_the_case_of_an_images_uuid_does_not_count() -> None:
    assert of_image(IMAGE_UUID.upper()) == of_image(IMAGE_UUID)
    assert of_image(IMAGE_UUID) != of_image(IMAGE_UUID.replace("a", "b"))


@pytest.mark.parametrize("image", ["data:image/png,plain", "not base64!", "data:", "http://[", ""])
def test_what_cannot_be_a_first_frame_still_has_a_fingerprint(image: str) -> None:
    assert of_image(image) == of_image(image)


# --- what is sent


def draft(request: ClipRequest) -> VideoInference:
    """The API request of a clip, unchecked."""
    fields = request.spec.request_fields(Catalogue.builtin().get(request.spec.model))
    return VideoInference.model_construct(None, **fields)


@pytest.mark.parametrize(
    "image",
    [
        f"data:image/x-png;base64,{ENCODED}",
        ENCODED,
        "https://user:password@example.com/a.png?X-Amz-Signature=0123",
        "https://example.com/a.png",
        IMAGE_UUID,
    ],
    ids=["data URI", "base64", "presigned URL", "URL", "UUID"],
)
@pytest.mark.parametrize("column", ["first_frame", "last_frame", "reference_images"])
def test_an_image_comes_back_from_its_record_as_it_was_given(
    root: StorageRoot, image: str, column: str
) -> None:
    value = (image, "https://example.com/b.png?sig=1") if column == "reference_images" else image
    request = clip(**{column: value}, size=None)
    keep_images(root, request.spec, draft(request))
    kept = request.model_copy(update={"spec": redacted_spec(request.spec)})
    record = kept.model_dump_json()
    assert len(record) < 1500
    assert not re.search("password|Signature|sig=", record)
    assert addresses(kept.spec) == addresses(request.spec)
    assert with_images(root, kept, urls_of(request).full_url) == request


def urls_of(request: ClipRequest) -> InputUrls:
    urls = InputUrls()
    urls.remember(request.spec)
    return urls


def addresses(spec: ClipSpec) -> list[str]:
    images = (spec.first_frame, spec.last_frame, *spec.reference_images)
    return [image_identity(image) for image in images if image is not None and "://" in image]


def test_a_url_in_a_setting_comes_back_from_its_record_as_it_was_given(root: StorageRoot) -> None:
    url = "https://user:password@example.com/mask.png?X-Amz-Signature=0123"
    settings = {"style": "film", "edit": {"masks": [url, "https://example.com/b.png"]}}
    request = clip(settings=settings)
    keep_images(root, request.spec, draft(request))
    kept = request.model_copy(update={"spec": redacted_spec(request.spec)})
    for shown in (kept.model_dump_json(), json.dumps(request.spec.options)):
        assert "https://example.com/mask.png" in shown
        assert not re.search("password|Signature", shown)
    assert with_images(root, kept, urls_of(request).full_url) == request
    assert kept.spec.fingerprint == request.spec.fingerprint


def test_a_url_in_a_setting_that_was_signed_again_is_the_same_clip() -> None:
    def of_mask(url: str) -> str:
        return fingerprint(settings={"mask": url})

    assert of_mask("https://example.com/a.png?sig=1") == of_mask("https://example.com/a.png?sig=2")
    assert of_mask("https://example.com/a.png") != of_mask("https://example.com/b.png")
