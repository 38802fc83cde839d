"""Images: files, URLs, data URIs and UUIDs."""

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from PIL import Image

from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.prompts.files import DatasetError
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.catalogue.parts import InputLimits
from tests.prompts.dataset_files import (
    FORMATS,
    Write,
    data_uri,
    image_bytes,
    jsonl,
    load,
    only_problem_of,
    sent_images,
    write_as,
)


def test_a_first_frame_beside_the_dataset_is_sent_as_a_data_uri(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    content = image_bytes(640, 360)
    write("frames/lake.png", content)
    row = {"id": "a", "prompt": "A lake", "first_frame": "frames/lake.png"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert (sent_images(clip), clip.size) == ([data_uri(content)], None)


@pytest.mark.parametrize("column", ["first_frame", "last_frame", "reference_images"])
def test_a_row_has_no_bytes_of_its_image_files(write: Write, column: str) -> None:
    output = io.BytesIO()
    Image.effect_noise((500, 500), 90).save(output, "PNG")
    write("noise.png", output.getvalue())
    row: dict[str, object] = {"id": "a", "prompt": "A lake", "model": "veo-3.1"}
    frames = {"first_frame": "noise.png"} if column == "last_frame" else {}
    [clip] = load(write("p.jsonl", jsonl({**row, **frames, column: "noise.png"}))).clips
    assert len(output.getvalue()) > 100_000
    assert len(clip.model_dump_json()) < 2000
    assert set(sent_images(clip)) == {data_uri(output.getvalue())}


def test_an_image_file_is_read_again_only_when_it_changed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    file_digest = hashlib.file_digest

    def count(file: BinaryIO, *arguments: Any) -> Any:
        hashed.append(Path(file.name).name)
        return file_digest(file, *arguments)

    monkeypatch.setattr(hashlib, "file_digest", count)
    write("one.png", image_bytes(400, 300))
    write("two.png", image_bytes(401, 300))
    rows = [
        {"id": name, "prompt": "A lake", "first_frame": f"{name}.png"} for name in ("one", "two")
    ]
    path = write("p.jsonl", jsonl(*rows))
    first = load(path).clips
    assert hashed == ["one.png", "two.png"]
    assert load(path).clips == first
    assert hashed == ["one.png", "two.png"]
    write("two.png", image_bytes(402, 300))
    one, two = load(path).clips
    assert hashed == ["one.png", "two.png", "two.png"]
    assert one == first[0]
    assert two.fingerprint != first[1].fingerprint


def test_a_cell_cannot_name_an_image_by_its_reference(write: Write) -> None:
    write("lake.png", image_bytes(400, 300))
    row = {"id": "a", "prompt": "A lake", "first_frame": "lake.png"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    problem = only_problem_of(write("p.jsonl", jsonl({**row, "first_frame": clip.first_frame})))
    assert "cannot be read as a file" in problem.message


@pytest.mark.parametrize(
    ("image_format", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")],
)
def test_the_format_of_a_first_frame_is_that_of_its_content(
    write: Write, image_format: str, media_type: str
) -> None:
    write("frame", image_bytes(400, 300, image_format))
    row = {"id": "a", "prompt": "A lake", "first_frame": "frame"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert sent_images(clip)[0].startswith(f"data:{media_type};base64,")


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/lake.png",
        "aac49721-1964-481a-ae78-8a4e29b91402",
        data_uri(image_bytes(300, 300)),
    ],
    ids=["URL", "UUID", "data URI"],
)
@pytest.mark.parametrize("extension", FORMATS)
def test_the_address_of_a_first_frame_stays_as_it_is(
    tmp_path: Path, extension: str, address: str
) -> None:
    rows = [{"id": "a", "prompt": "A lake", "first_frame": address}]
    [clip] = load(write_as(tmp_path, extension, rows)).clips
    assert clip.first_frame == address


def test_a_cell_longer_than_the_csv_module_takes_by_default_is_read(tmp_path: Path) -> None:
    output = io.BytesIO()
    Image.effect_noise((500, 500), 90).save(output, "PNG")
    address = data_uri(output.getvalue())
    assert len(address) > 131_072
    path = write_as(tmp_path, ".csv", [{"id": "a", "prompt": "A lake", "first_frame": address}])
    assert load(path).clips[0].first_frame == address


@pytest.mark.parametrize(
    ("first_frame", "part"),
    [
        ("missing.png", "no such file"),
        ("notes.txt", "not a PNG, JPEG or WebP"),
        ("small.png", "300 to 2048 pixels per side"),
        ("wide.png", "300 to 2048 pixels per side"),
        ("large.png", "at most 20000000"),
        (".", "is not a file"),
        ("s3://bucket/lake.png", "cannot be an image"),
        ("https://", "cannot be an image"),
        ("data:image/png;base64,!!!", "not valid base64"),
        ("data:text/plain;base64,aGVsbG8=", "text/plain"),
        ("data:image/png;base64,aGVsbG8=", "PNG, JPEG or WebP"),
        (data_uri(image_bytes(299, 400)), "300 to 2048 pixels per side"),
    ],
)
def test_what_cannot_be_a_first_frame_is_a_problem(
    write: Write, first_frame: str, part: str
) -> None:
    write("notes.txt", "hello")
    write("small.png", image_bytes(299, 300))
    write("wide.png", image_bytes(2049, 300))
    write("large.png", image_bytes(400, 300) + bytes(20_000_000))
    rows = [{"id": "a", "prompt": "A lake"}, {"id": "b", "prompt": "A hill"}]
    rows[1]["first_frame"] = first_frame
    problem = only_problem_of(write("p.jsonl", jsonl(*rows)))
    assert (problem.line, problem.column, problem.value) == (2, "first_frame", first_frame)
    assert part in problem.message


@pytest.mark.parametrize("column", ["first_frame", "last_frame", "reference_images"])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9], ids=["header", "half", "most"])
@pytest.mark.parametrize("is_file", [True, False], ids=["file", "data URI"])
def test_an_image_that_is_cut_is_a_problem(
    write: Write, is_file: bool, share: float, image_format: str, column: str
) -> None:
    output = io.BytesIO()
    Image.effect_noise((400, 300), 90).convert("RGB").save(output, image_format)
    content = output.getvalue()[: int(len(output.getvalue()) * share)]
    write("cut.png", content)
    image = "cut.png" if is_file else data_uri(content)
    row: dict[str, object] = {"id": "a", "prompt": "A lake", "model": "wan-3.0", column: image}
    if column == "last_frame":
        row["first_frame"] = "https://example.com/a.png"
    problem = only_problem_of(write("p.jsonl", jsonl(row)))
    assert (problem.line, problem.column) == (1, column)
    assert "cannot be decoded" in problem.message
    assert "truncated or damaged" in problem.message


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_an_image_that_is_stored_rotated_is_a_problem_with_what_to_do(
    write: Write, orientation: int, image_format: str
) -> None:
    write("frame.png", image_bytes(400, 300, image_format, orientation=orientation))
    row = {"id": "a", "prompt": "A lake", "first_frame": "frame.png"}
    problem = only_problem_of(write("p.jsonl", jsonl(row)))
    assert (problem.line, problem.column) == (1, "first_frame")
    assert f"EXIF orientation {orientation}" in problem.message
    assert "-auto-orient" in problem.message


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", [None, 0, 1, 9])
def test_an_upright_image_is_sent_as_it_is(
    write: Write, orientation: int | None, image_format: str
) -> None:
    content = image_bytes(400, 300, image_format, orientation=orientation)
    write("frame", content)
    row = {"id": "a", "prompt": "A lake", "first_frame": "frame"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert sent_images(clip)[0].endswith(data_uri(content).partition(",")[2])


def test_an_image_that_takes_too_much_memory_to_decode_is_a_problem(write: Write) -> None:
    output = io.BytesIO()
    Image.new("1", (9000, 9000)).save(output, "PNG")
    write("huge.png", output.getvalue())
    wan = Catalogue.builtin().get("wan-3.0")
    entry = wan.model_copy(
        update={"inputs": {**wan.inputs, "referenceImages": InputLimits(min_pixels=1)}}
    )
    row = {"id": "a", "prompt": "A lake", "reference_images": ["huge.png"]}
    catalogue = Catalogue.builtin().extended([entry]).with_default("wan-3.0")
    with pytest.raises(DatasetError, match="9000x9000 pixels; allowed: at most 64000000"):
        load_dataset(write("p.jsonl", jsonl(row)), catalogue=catalogue)


def test_the_sides_of_a_first_frame_may_be_as_small_and_as_large_as_the_model_says(
    write: Write,
) -> None:
    write("frame.png", image_bytes(300, 2048))
    row = {"id": "a", "prompt": "A lake", "first_frame": "frame.png"}
    assert load(write("p.jsonl", jsonl(row))).clips[0].size is None


def test_a_size_beside_a_first_frame_is_a_problem(write: Write) -> None:
    text = "id,prompt,size,first_frame\na,Lake,1280x720,https://example.com/a.png\n"
    problem = only_problem_of(write("p.csv", text))
    assert (problem.line, problem.column, problem.value) == (2, "size", "1280x720")


def test_a_first_frame_for_a_model_that_takes_none_is_a_problem(write: Write) -> None:
    text = "id,prompt,model,first_frame\na,Lake,acme:1@1,https://example.com/a.png\n"
    problem = only_problem_of(write("p.csv", text))
    assert (problem.line, problem.column) == (2, "first_frame")
    assert "Acme Plain" in problem.message


def test_each_kind_of_image_has_the_limits_of_its_own_input(write: Write) -> None:
    write("small.png", image_bytes(64, 64))
    write("large.png", image_bytes(64, 65))
    wan = Catalogue.builtin().get("wan-3.0")
    inputs = {
        **wan.inputs,
        "frameImages": InputLimits(max=2, positions=("first", "last"), max_pixels=64),
        "referenceImages": InputLimits(min_pixels=65),
    }
    entry = wan.model_copy(update={"inputs": inputs})
    rows: list[dict[str, object]] = [
        {"first_frame": "small.png", "last_frame": "large.png"},
        {"reference_images": ["small.png"]},
        {"first_frame": "small.png", "last_frame": "small.png"},
    ]
    path = write(
        "p.jsonl",
        jsonl(*({"id": f"c{n}", "prompt": "A lake", **row} for n, row in enumerate(rows))),
    )
    catalogue = Catalogue.builtin().extended([entry]).with_default("wan-3.0")
    with pytest.raises(DatasetError) as caught:
        load_dataset(path, catalogue=catalogue)
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [
        (1, "last_frame"),
        (2, "reference_images"),
    ]
    assert "the image is 64x65 pixels; allowed: 1 to 64 pixels" in str(caught.value)
