import base64
import csv
import doctest
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sora_dagster.generation.requesting.payloads import build_inference
from sora_dagster.prompts import dataset as prompts
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.prompts.dataset import (
    DatasetError,
    DatasetProblem,
    PromptDataset,
    Recipe,
    load_dataset,
)
from sora_dagster.runware.models import SORA_2, SORA_2_PRO, Catalogue, FrameSize, VideoModel
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import broken_rules

EXAMPLE = Path(__file__).parents[2] / "examples" / "prompts.yaml"

# A model that takes neither first frames nor video ids, and delivers one container.
PLAIN_MODEL = VideoModel(
    air="acme:1@1",
    name="Acme Plain",
    usd_per_second={FrameSize(640, 480): 0.05},
    default_size=FrameSize(640, 480),
    durations_seconds=(2.5, 5),
    default_duration_seconds=5,
    prompt_max_characters=40,
    max_results=2,
    accepts_first_frame=False,
)
CATALOGUE = Catalogue.builtin().extended([PLAIN_MODEL])
RECIPES = "night: At night.\nsnow: In snow.\n"
FORMATS = [".jsonl", ".csv", ".yaml", ".parquet"]

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into the test's folder."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write_file


def load(path: Path) -> PromptDataset:
    return load_dataset(path, catalogue=CATALOGUE)


def error_of(path: Path) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        load(path)
    return caught.value


def problems_of(path: Path) -> tuple[DatasetProblem, ...]:
    return error_of(path).problems


def only_problem_of(path: Path) -> DatasetProblem:
    [problem] = problems_of(path)
    return problem


def jsonl(*rows: Mapping[str, object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    output = io.StringIO(newline="")
    writer = csv.DictWriter(output, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                name: ";".join(map(str, value)) if isinstance(value, (list, tuple)) else value
                for name, value in row.items()
            }
        )
    return output.getvalue()


def write_as(folder: Path, extension: str, rows: Sequence[Mapping[str, object]]) -> Path:
    path = folder / f"prompts{extension}"
    if extension == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(map(dict, rows))), path)
    elif extension == ".csv":
        path.write_text(csv_text(rows), encoding="utf-8", newline="")
    elif extension == ".jsonl":
        path.write_text(jsonl(*rows), encoding="utf-8")
    else:
        text = yaml.safe_dump(list(map(dict, rows)), allow_unicode=True, sort_keys=False)
        path.write_text(text, encoding="utf-8")
    return path


def image_bytes(width: int, height: int, image_format: str = "PNG") -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (width, height), (90, 40, 120)).save(output, image_format)
    return output.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


# --- what rows become


def every_column() -> list[dict[str, Any]]:
    # Each row has each column, as a Parquet file has.
    shared = {"output_quality": 80, "safety": "fast", "take": 2}
    return [
        {
            "id": "dawn",
            "prompt": 'Mist over a lake, "slowly" lifting;\na heron: wades — Ünïcödé 🎬',
            "model": "openai:3@2",
            "size": "1792x1024",
            "duration": 8,
            "number_results": 2,
            "output_format": "WEBM",
            "first_frame": None,
            **shared,
            "recipes": ["night", "snow"],
            "tags": ["water", "two words"],
        },
        {
            "id": "Dawn",
            "prompt": "  The same lake  ",
            "model": "openai:3@1",
            "size": None,
            "duration": 4,
            "number_results": 1,
            "output_format": "MOV",
            "first_frame": "https://example.com/lake.png?size=full",
            **shared,
            "recipes": ["snow"],
            "tags": [],
        },
    ]


@pytest.mark.parametrize("extension", FORMATS)
def test_the_same_rows_are_the_same_clips_in_every_format(
    tmp_path: Path, write: Write, extension: str
) -> None:
    write("recipes.yaml", RECIPES)
    dataset = load(write_as(tmp_path, extension, every_column()))
    assert dataset.clips == (
        ClipSpec(
            clip_id="dawn",
            prompt='Mist over a lake, "slowly" lifting;\na heron: wades — Ünïcödé 🎬',
            model="openai:3@2",
            size=FrameSize(1792, 1024),
            duration_seconds=8.0,
            number_results=2,
            output_format="WEBM",
            output_quality=80,
            safety="fast",
            take=2,
            recipes=("night", "snow"),
            tags=("water", "two words"),
        ),
        ClipSpec(
            clip_id="Dawn",
            prompt="The same lake",
            model="openai:3@1",
            duration_seconds=4.0,
            output_format="MOV",
            output_quality=80,
            first_frame="https://example.com/lake.png?size=full",
            safety="fast",
            take=2,
            recipes=("snow",),
        ),
    )


@pytest.mark.parametrize("extension", FORMATS)
def test_a_row_that_says_little_gets_the_defaults_of_its_model(
    tmp_path: Path, extension: str
) -> None:
    rows = [{"id": "a", "prompt": "A lake", "model": "acme:1@1"}]
    [clip] = load(write_as(tmp_path, extension, rows)).clips
    assert clip == ClipSpec(
        clip_id="a",
        prompt="A lake",
        model="acme:1@1",
        size=FrameSize(640, 480),
        duration_seconds=5.0,
    )


def test_a_row_without_a_model_is_for_sora_2_pro(write: Write) -> None:
    [clip] = load(write("p.jsonl", jsonl({"id": "a", "prompt": "A lake"}))).clips
    assert (clip.model, clip.size) == ("openai:3@2", FrameSize(1280, 720))


def test_numbers_with_a_fraction_of_zero_are_whole(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "A lake", "duration": 8.0, "take": 3.0, "number_results": 2.0}]
    [clip] = load(write_as(tmp_path, ".parquet", rows)).clips
    assert (clip.duration_seconds, clip.take, clip.number_results) == (8.0, 3, 2)


@pytest.mark.parametrize("extension", FORMATS)
def test_a_whole_number_is_an_id_as_it_is_written(tmp_path: Path, extension: str) -> None:
    rows = [{"id": 7, "prompt": "A lake"}, {"id": 2024, "prompt": "A hill"}]
    assert load(write_as(tmp_path, extension, rows)).clip_ids == ("7", "2024")


def test_yaml_does_not_make_booleans_octals_or_dates_of_words(write: Write) -> None:
    path = write("p.yaml", "- {id: 007, prompt: A lake, tags: [no, 1:30, 2024-01-05]}\n")
    [clip] = load(path).clips
    assert (clip.clip_id, clip.tags) == ("007", ("no", "1:30", "2024-01-05"))


def test_yaml_rows_can_share_what_they_have_in_common(write: Write) -> None:
    path = write(
        "p.yaml",
        "- &first {id: a, prompt: A lake, size: 1792x1024, duration: 8}\n"
        "- {<<: *first, id: b, duration: 4}\n",
    )
    first, second = load(path).clips
    assert second == first.model_copy(update={"clip_id": "b", "duration_seconds": 4.0})


def test_a_byte_order_mark_is_no_part_of_the_first_column(write: Write) -> None:
    assert load(write("p.csv", b"\xef\xbb\xbfid,prompt\na,A lake\n")).clip_ids == ("a",)


def test_windows_line_ends_and_blank_lines_are_passed_over_but_counted(write: Write) -> None:
    path = write("p.jsonl", '{"id": "a", "prompt": "A lake"}\r\n\r\n{"id": "b"}\r\n')
    assert [problem.line for problem in problems_of(path)] == [3]


def test_cells_that_a_spreadsheet_leaves_empty_are_passed_over(write: Write) -> None:
    path = write("p.csv", "id,prompt,size,,\na,A lake,,,\n,,,,\nb,A hill,1280x720,,\n")
    assert load(path).clip_ids == ("a", "b")


def test_words_of_a_choice_may_be_in_any_case(write: Write) -> None:
    row = {"id": "a", "prompt": "A lake", "output_format": "webm", "safety": "Full"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert (clip.output_format, clip.safety) == ("WEBM", "full")


def test_a_text_with_semicolons_is_a_list_in_json_too(write: Write) -> None:
    row = {"id": "a", "prompt": "A lake", "tags": "water; two words ;;"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert clip.tags == ("water", "two words")


def test_a_dataset_finds_its_clips_and_recipes_by_name(write: Write) -> None:
    path = write(
        "p.yaml",
        "clips:\n"
        "  - {id: a, prompt: A lake, recipes: [snow, night]}\n"
        "  - {id: b, prompt: A hill}\n"
        "  - {id: c, prompt: A road, recipes: night}\n"
        "recipes: {night: At night., snow: Snow.}\n",
    )
    dataset = load(path)
    assert dataset.clip("b").prompt == "A hill"
    assert dataset.recipe("snow") == Recipe("snow", "Snow.")
    assert dataset.remix_cells == (("a", "snow"), ("a", "night"), ("c", "night"))


def test_an_unknown_clip_or_recipe_names_a_near_one(write: Write) -> None:
    dataset = load(write("p.yaml", "clips: [{id: dawn, prompt: Lake}]\nrecipes: {night: Dark.}"))
    with pytest.raises(LookupError, match=r"no clip 'down' \(did you mean 'dawn'"):
        dataset.clip("down")
    with pytest.raises(LookupError, match=r"no recipe 'nights' \(did you mean 'night'"):
        dataset.recipe("nights")


# --- recipes


def test_recipes_of_the_datasets_own_name_come_before_shared_ones(write: Write) -> None:
    write("recipes.yaml", "night: Shared.\n")
    write("p.recipes.yaml", "night: Own.\n")
    path = write("p.jsonl", jsonl({"id": "a", "prompt": "A lake", "recipes": ["night"]}))
    assert load(path).recipes == (Recipe("night", "Own."),)


def test_recipes_inside_a_dataset_come_before_files_beside_it(write: Write) -> None:
    write("p.recipes.yaml", "night: Beside.\n")
    path = write("p.yaml", "clips: [{id: a, prompt: A lake}]\nrecipes: {night: Inside.}\n")
    assert load(path).recipes == (Recipe("night", "Inside."),)


def test_a_yaml_list_of_clips_has_its_recipes_beside_it(write: Write) -> None:
    write("recipes.yaml", RECIPES)
    path = write("p.yaml", "- {id: a, prompt: A lake, recipes: [snow]}\n")
    assert load(path).remix_cells == (("a", "snow"),)


def test_a_dataset_that_is_called_recipes_is_not_its_own_recipes_file(write: Write) -> None:
    assert load(write("recipes.yaml", "- {id: a, prompt: A lake}\n")).recipes == ()


def test_a_recipe_that_is_not_known_is_a_problem_of_its_item(write: Write) -> None:
    path = write(
        "p.yaml",
        "clips:\n"
        "  - id: a\n"
        "    prompt: A lake\n"
        "    recipes:\n"
        "      - night\n"
        "      - nigth\n"
        "recipes:\n"
        "  night: At night.\n",
    )
    problem = only_problem_of(path)
    assert (problem.line, problem.column, problem.value) == (6, "recipes", "nigth")
    assert "did you mean 'night'" in problem.message


def test_a_recipe_where_there_are_none_says_where_to_write_it(write: Write) -> None:
    path = write("p.csv", "id,prompt,recipes\na,A lake,night\n")
    assert "in p.recipes.yaml" in only_problem_of(path).message


def test_a_recipe_listed_twice_is_a_problem(write: Write) -> None:
    write("recipes.yaml", RECIPES)
    problem = only_problem_of(write("p.csv", "id,prompt,recipes\na,A lake,night;night\n"))
    assert (problem.line, problem.column) == (2, "recipes")


def test_a_remix_by_a_model_that_makes_none_is_a_problem(write: Write) -> None:
    write("recipes.yaml", RECIPES)
    row = {"id": "a", "prompt": "A lake", "model": "acme:1@1", "recipes": ["snow"]}
    problem = only_problem_of(write("p.jsonl", jsonl(row)))
    assert (problem.line, problem.column) == (1, "recipes")
    assert "Acme Plain" in problem.message


def test_a_recipes_prompt_is_held_against_the_limits_of_the_models_that_make_it(
    write: Write,
) -> None:
    short_prompts = SORA_2.model_copy(update={"air": "acme:2@1", "prompt_max_characters": 20})
    write("recipes.yaml", f"fine: {'x' * 20}\nlong: {'x' * 21}\n")
    rows = [
        {"id": "a", "prompt": "A lake", "recipes": ["fine", "long"]},
        {"id": "b", "prompt": "A lake", "recipes": ["fine", "long"], "model": "acme:2@1"},
    ]
    path = write("p.jsonl", jsonl(*rows))
    with pytest.raises(DatasetError) as caught:
        load_dataset(path, catalogue=CATALOGUE.extended([short_prompts]))
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == ("recipes.yaml", 2)
    assert "21 characters; allowed: 2 to 20 " in problem.message


@pytest.mark.parametrize(
    ("recipes", "line"),
    [
        ("night: At night.\n'a|b': Both.\n", 2),
        ("night: At night.\n\nsnow:\n", 3),
        ("night: At night.\nsnow: [In, snow]\n", 2),
        ("night: At night.\nsnow: S\n", 2),
        ('night: At night.\nsnow: "\\u200b\\u200b\\u200b"\n', 2),
        ("night: At night.\nnight: Again.\n", 2),
        ("- night\n", 1),
        ("night: At night\nsnow: 'In snow\n", 3),
    ],
    ids=["name", "blank", "list", "short", "invisible", "twice", "no mapping", "no YAML"],
)
def test_what_is_wrong_in_a_recipes_file_is_a_problem_at_its_line(
    write: Write, recipes: str, line: int
) -> None:
    write("recipes.yaml", recipes)
    problem = only_problem_of(write("p.jsonl", jsonl({"id": "a", "prompt": "A lake"})))
    assert (problem.file, problem.line) == ("recipes.yaml", line)


# --- first frames


def test_a_first_frame_beside_the_dataset_becomes_a_data_uri(write: Write, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    content = image_bytes(640, 360)
    write("frames/lake.png", content)
    row = {"id": "a", "prompt": "A lake", "first_frame": "frames/lake.png"}
    [clip] = load(write("p.jsonl", jsonl(row))).clips
    assert (clip.first_frame, clip.size) == (data_uri(content), None)


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
    assert (clip.first_frame or "").startswith(f"data:{media_type};base64,")


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
        ("small.png", "300 to 2048 pixels a side"),
        ("wide.png", "300 to 2048 pixels a side"),
        ("large.png", "at most 20000000"),
        (".", "is not a file"),
        ("s3://bucket/lake.png", "cannot be a first frame"),
        ("https://", "cannot be a first frame"),
        ("data:image/png;base64,!!!", "not valid base64"),
        ("data:text/plain;base64,aGVsbG8=", "text/plain"),
        ("data:image/png;base64,aGVsbG8=", "PNG, JPEG or WebP"),
        (data_uri(image_bytes(299, 400)), "300 to 2048 pixels a side"),
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


# --- wrong values


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("id", "../../etc/x", "cannot be a clip id"),
        ("id", "a|b", "cannot be a clip id"),
        ("id", "a...b", "cannot be a clip id"),
        ("id", "a,b", "cannot be a clip id"),
        ("id", "", "missing"),
        ("prompt", "", "missing"),
        ("prompt", "x", "2 to 6000"),
        ("prompt", "x" * 6001, "6001 characters"),
        ("prompt", "\u200b\u200b\u200b", "3 characters, 0 of them visible"),
        ("prompt", "a \u2060\ufe0f", "4 characters, 1 of them visible"),
        ("model", "openai:3@3", "did you mean"),
        ("size", "100x100", "allowed: 1280x720, 720x1280, 1792x1024"),
        ("size", "wide", "WIDTHxHEIGHT"),
        ("duration", "eight", "allowed: 4, 8, 12, 16, 20 seconds"),
        ("duration", "5", "allowed: 4, 8, 12, 16, 20 seconds"),
        ("duration", "inf", "not a number"),
        ("duration", "1_2", "not a number"),
        ("number_results", "5", "a whole number from 1 to 4"),
        ("number_results", "0", "a whole number from 1 to 4"),
        ("number_results", "1.5", "a whole number from 1 to 4"),
        ("output_format", "AVI", "allowed: MP4, WEBM, MOV"),
        ("output_quality", "100", "a whole number from 20 to 99"),
        ("output_quality", "19", "a whole number from 20 to 99"),
        ("safety", "paranoid", "allowed: none, fast, full"),
        ("take", "0", "from 1 on"),
    ],
)
@pytest.mark.parametrize(
    ("extension", "line"), [(".jsonl", 2), (".csv", 3), (".yaml", 2), (".parquet", 2)]
)
def test_a_wrong_value_is_a_problem_at_its_place(
    tmp_path: Path, extension: str, line: int, column: str, value: str, part: str
) -> None:
    # Each row has the same columns, as CSV and Parquet have it.
    rows: list[dict[str, object]] = [
        {column: None, "id": "good", "prompt": "A lake"},
        {"id": "wrong", "prompt": "A hill", column: value},
    ]
    if extension == ".yaml":
        path = tmp_path / "prompts.yaml"
        path.write_text("".join(f"- {json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        path = write_as(tmp_path, extension, rows)
    problem = only_problem_of(path)
    assert (problem.line, problem.column) == (line, column)
    assert part in problem.message


@pytest.mark.parametrize("column", ["duration", "number_results", "output_quality", "take"])
@pytest.mark.parametrize(
    ("extension", "text"),
    [
        (".jsonl", '{"id": "a", "prompt": "A lake", "COLUMN": true}\n'),
        (".yaml", "- {id: a, prompt: A lake, COLUMN: yes}\n"),
    ],
)
def test_a_boolean_is_not_a_number(write: Write, extension: str, text: str, column: str) -> None:
    problem = only_problem_of(write(f"p{extension}", text.replace("COLUMN", column)))
    assert (problem.line, problem.column) == (1, column)
    assert "not a number" in problem.message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", True),
        ("id", 1.5),
        ("prompt", 42),
        ("prompt", ["A", "lake"]),
        ("model", 3),
        ("size", [1280, 720]),
        ("duration", [8]),
        ("duration", {"seconds": 8}),
        ("output_format", False),
        ("first_frame", 1),
        ("safety", True),
        ("tags", {"a": 1}),
        ("tags", ["a", ["b"]]),
        ("recipes", 1.5),
    ],
)
def test_a_value_of_another_type_is_a_problem(write: Write, column: str, value: object) -> None:
    row = {"id": "a", "prompt": "A lake", column: value}
    problem = only_problem_of(write("p.jsonl", jsonl(row)))
    assert (problem.line, problem.column) == (1, column)
    assert " is not a " in problem.message


def test_the_rules_are_those_of_the_rows_own_model(write: Write) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "prompt": "A lake", "model": "openai:3@1", "size": "1792x1024"},
        {"id": "b", "prompt": "A lake", "model": "acme:1@1", "duration": 8},
        {"id": "c", "prompt": "A lake", "model": "acme:1@1", "output_format": "MOV"},
        {"id": "d", "prompt": "A lake", "model": "acme:1@1", "number_results": 3},
        {"id": "e", "prompt": "x" * 41, "model": "acme:1@1"},
        {"id": "f", "prompt": "A lake", "model": "acme:1@1", "duration": 2.5},
    ]
    found = problems_of(write("p.jsonl", jsonl(*rows)))
    assert [(problem.line, problem.column) for problem in found] == [
        (1, "size"),
        (2, "duration"),
        (3, "output_format"),
        (4, "number_results"),
        (5, "prompt"),
    ]


@pytest.mark.parametrize(
    ("column", "value", "field", "field_value"),
    [
        ("prompt", "x", "positive_prompt", "x"),
        ("duration", 5, "duration", 5),
        ("number_results", 9, "number_results", 9),
        ("output_quality", 7, "output_quality", 7),
        ("first_frame", "data:image/png,raw", "inputs", {"frame_images": ["data:image/png,raw"]}),
    ],
)
def test_a_row_and_a_request_report_a_broken_rule_in_the_same_sentence(
    write: Write, column: str, value: object, field: str, field_value: object
) -> None:
    row = {"id": "a", "prompt": "A lake", column: value}
    of_row = only_problem_of(write("p.jsonl", jsonl(row)))
    request = VideoInference.build(
        **{
            "task_uuid": "982c01aa-813a-4434-aa42-3e512808fd94",
            "positive_prompt": "A lake",
            **({} if field == "inputs" else {"width": 1280, "height": 720}),
            field: field_value,
        }
    )
    [of_request] = broken_rules(request, SORA_2_PRO)
    assert of_row.message == of_request.message


def test_half_a_surrogate_pair_is_a_problem(write: Write) -> None:
    problem = only_problem_of(write("p.jsonl", '{"id": "a", "prompt": "A lake \\ud83c"}\n'))
    assert (problem.line, problem.column) == (1, "prompt")
    assert "\\ud83c" in problem.message


def test_an_unknown_model_does_not_hide_the_other_problems_of_its_row(write: Write) -> None:
    row = {"id": "a|b", "prompt": "A lake", "model": "acme:9@9", "duration": "eight", "take": 0}
    found = problems_of(write("p.jsonl", jsonl(row)))
    assert {problem.column for problem in found} == {"id", "model", "duration", "take"}


def test_a_repeated_id_names_the_line_of_the_first(write: Write) -> None:
    rows = [{"id": clip_id, "prompt": "A lake"} for clip_id in ("a", "b", "a")]
    problem = only_problem_of(write("p.jsonl", jsonl(*rows)))
    assert (problem.line, problem.column, problem.value) == (3, "id", "a")
    assert "line 1" in problem.message


def test_a_repeated_id_in_parquet_names_the_row_of_the_first(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "A lake"}, {"id": "a", "prompt": "A hill"}]
    text = str(only_problem_of(write_as(tmp_path, ".parquet", rows)))
    assert text.startswith("prompts.parquet: row 2: column 'id': 'a' is already the id of row 1")


def test_an_id_is_repeated_even_where_its_first_row_is_wrong(write: Write) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "prompt": "A lake", "take": 0},
        {"id": "a", "prompt": "A hill"},
    ]
    found = problems_of(write("p.jsonl", jsonl(*rows)))
    assert [(problem.line, problem.column) for problem in found] == [(1, "take"), (2, "id")]


def test_ids_that_differ_only_in_case_are_two_clips(write: Write) -> None:
    rows = [{"id": "a", "prompt": "A lake"}, {"id": "A", "prompt": "A hill"}]
    assert load(write("p.jsonl", jsonl(*rows))).clip_ids == ("a", "A")


# --- columns


@pytest.mark.parametrize(("extension", "line"), [(".jsonl", 1), (".yaml", 3), (".csv", 1)])
@pytest.mark.parametrize(
    ("column", "known"),
    [
        ("promt", "prompt"),
        ("Tags", "tags"),
        ("duration_seconds", "duration"),
        ("numberResults", "number_results"),
        ("width", "size"),
    ],
)
def test_an_unknown_column_is_a_problem_with_a_suggestion(
    tmp_path: Path, extension: str, line: int, column: str, known: str
) -> None:
    rows = [{"id": "a", "prompt": "A lake", column: "x"}]
    problem = only_problem_of(write_as(tmp_path, extension, rows))
    assert (problem.line, problem.column) == (line, column)
    assert f"did you mean {known!r}" in problem.message


def test_an_unknown_column_of_parquet_is_a_problem_of_the_file(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "A lake", "colour": "red"}]
    problem = only_problem_of(write_as(tmp_path, ".parquet", rows))
    assert (problem.line, problem.column) == (None, "colour")


def test_an_unknown_column_of_many_rows_is_one_problem_at_its_first(write: Write) -> None:
    rows = [
        {"id": f"clip-{number}", "prompt": "A lake"} | ({"mood": "calm"} if number > 1 else {})
        for number in range(5)
    ]
    problem = only_problem_of(write("p.jsonl", jsonl(*rows)))
    assert problem.line == 3
    assert "3 rows have it" in problem.message


@pytest.mark.parametrize(("extension", "line"), [(".csv", 1), (".parquet", None)])
def test_a_missing_column_is_one_problem_of_the_header(
    tmp_path: Path, extension: str, line: int | None
) -> None:
    rows = [{"id": "a", "take": "1"}, {"id": "b", "take": "1"}]
    problem = only_problem_of(write_as(tmp_path, extension, rows))
    assert (problem.line, problem.column) == (line, "prompt")


def test_a_row_without_id_and_prompt_has_two_problems(write: Write) -> None:
    found = problems_of(write("p.jsonl", jsonl({"id": "a", "prompt": "A lake"}, {"take": 1})))
    assert [(problem.line, problem.column) for problem in found] == [(2, "id"), (2, "prompt")]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("p.jsonl", '{"id": "a", "prompt": "A lake", "id": "b"}\n', 1),
        ("p.yaml", "- id: a\n  prompt: A lake\n  id: b\n", 3),
        ("p.csv", "id,prompt,id\na,A lake,b\n", 1),
    ],
)
def test_a_column_that_is_given_twice_is_a_problem(
    write: Write, name: str, text: str, line: int
) -> None:
    problem = only_problem_of(write(name, text))
    assert (problem.line, problem.column) == (line, "id")
    assert "twice" in problem.message


# --- the form of each format


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "b", "prompt": "A hill"',
        '["b", "A hill"]',
        '"b"',
        "id: b",
        '{"id": "b", "prompt": "A hill", "duration": NaN}',
        '{"id": "b", "prompt": "A hill", "take": ' + "9" * 5_000 + "}",
        "[" * 100_000,
    ],
    ids=["cut", "list", "text", "yaml", "NaN", "endless number", "deep"],
)
def test_a_line_that_is_no_json_object_is_a_problem_of_that_line(write: Write, line: str) -> None:
    good = '{"id": "a", "prompt": "A lake"}\n'
    problem = only_problem_of(write("p.jsonl", f"{good}{line}\n"))
    assert (problem.line, problem.column) == (2, None)


def test_a_csv_record_counts_from_the_line_it_starts_on(write: Write) -> None:
    path = write(
        "p.csv",
        'id,prompt,take\na,"A lake\nat\r\ndawn",1\n\nb,"A\nhill",0\nc,A road,nought\n',
    )
    found = problems_of(path)
    assert [(problem.line, problem.column) for problem in found] == [(6, "take"), (8, "take")]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("id,prompt\na,A lake, at dawn\n", 2, "is not in a column"),
        ('id,prompt\na,"A lake" at dawn\nb,A hill\n', 2, "quotes"),
        ('id,prompt\nb,A hill\na,"A lake\n', 3, "quotes"),
        ("id;prompt\na;A lake\n", 1, "separate them by ','"),
        ("id\tprompt\na\tA lake\n", 1, "separate them by ','"),
    ],
)
def test_what_breaks_the_form_of_csv_is_a_problem(
    write: Write, text: str, line: int, part: str
) -> None:
    problem = only_problem_of(write("p.csv", text))
    assert problem.line == line
    assert part in problem.message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- id: a\n  prompt: 'A lake\n", 3),
        ("- id: a\n\tprompt: A lake\n", 2),
        ("- {id: a, prompt: A lake}\n- just words\n", 2),
        ("just words\n", 1),
        ("clips:\n  id: a\n  prompt: A lake\n", 2),
        ("recipes: {night: At night.}\n", 1),
        ("clips: [{id: a, prompt: A lake}]\nreceipes: {}\n", 2),
        ("- {id: a, prompt: A lake}\n---\n- {id: b, prompt: A hill}\n", 2),
        ("- id: a\n  prompt: A lake \x07\n", 2),
        ("- id: a\n  prompt: A lake\n  [1]: 2\n", 3),
        ("- &a\n  id: a\n  prompt: A lake\n  <<: *a\n", 4),
        ("[" * 100_000, 1),
    ],
    ids=[
        "quote",
        "tab",
        "text for a row",
        "text for a file",
        "mapping for clips",
        "no clips",
        "unknown part",
        "two documents",
        "bell",
        "list for a name",
        "merge with itself",
        "deep",
    ],
)
def test_what_breaks_the_form_of_yaml_is_a_problem(write: Write, text: str, line: int) -> None:
    assert only_problem_of(write("p.yaml", text)).line == line


def test_a_yaml_problem_stands_at_the_line_of_its_value(write: Write) -> None:
    path = write(
        "p.yaml",
        "# prompts\nclips:\n\n  - prompt: >-\n      A lake\n      at dawn\n    id: a\n"
        "    take:\n      0\n",
    )
    problem = only_problem_of(path)
    assert (problem.line, problem.column, problem.value) == (9, "take", "0")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", b'{"id": "a", "prompt": "A lake"}\n{"id": "b", "prompt": "Caf\xe9"}\n'),
        ("p.csv", b"id,prompt\nb,Caf\xe9\n"),
        ("p.yaml", b"- id: b\n  prompt: Caf\xe9\n"),
    ],
)
def test_a_byte_that_is_not_utf_8_is_a_problem_at_its_line(
    write: Write, name: str, content: bytes
) -> None:
    problem = only_problem_of(write(name, content))
    assert problem.line == 2
    assert "0xe9 after" in problem.message


def test_bytes_that_are_not_utf_8_do_not_hide_other_problems(write: Write) -> None:
    path = write("p.csv", b"id,prompt,take\na,Caf\xe9,0\nb,\xff\xff\xff,1\n")
    assert [(problem.line, problem.column) for problem in problems_of(path)] == [
        (2, None),
        (2, "take"),
        (3, None),
    ]


def test_a_file_in_utf_16_is_a_problem_that_says_so(write: Write) -> None:
    problem = only_problem_of(write("p.csv", "id,prompt\na,A lake\n".encode("utf-16")))
    assert "UTF-16" in problem.message


def test_a_file_that_is_no_parquet_is_a_problem(write: Write) -> None:
    assert "cannot be read" in only_problem_of(write("p.parquet", b"PAR1 not really")).message


# --- the file as a whole


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", ""),
        ("p.jsonl", "\n\n"),
        ("p.csv", ""),
        ("p.csv", "id,prompt\n"),
        ("p.yaml", ""),
        ("p.yaml", "# nothing yet\n"),
        ("p.yaml", "[]\n"),
        ("p.yaml", "clips:\nrecipes: {night: At night.}\n"),
    ],
)
def test_a_dataset_without_clips_is_a_problem(write: Write, name: str, content: str) -> None:
    problem = only_problem_of(write(name, content))
    assert (problem.line, problem.column) == (None, None)
    assert "no clips" in problem.message


@pytest.mark.parametrize("extension", FORMATS)
def test_a_missing_file_is_a_problem(tmp_path: Path, extension: str) -> None:
    assert "no such file" in only_problem_of(tmp_path / f"p{extension}").message


@pytest.mark.parametrize("extension", FORMATS)
def test_a_folder_is_no_dataset(tmp_path: Path, extension: str) -> None:
    (tmp_path / f"p{extension}").mkdir()
    assert "is a directory" in only_problem_of(tmp_path / f"p{extension}").message


@pytest.mark.parametrize("name", ["p.txt", "p", "p.json"])
def test_an_unknown_extension_is_a_problem_with_the_known_ones(write: Write, name: str) -> None:
    assert ".jsonl, .csv, .yaml, .yml, .parquet" in only_problem_of(write(name, "x")).message


def test_an_extension_may_be_in_upper_case(write: Write) -> None:
    assert load(write("P.CSV", "id,prompt\na,A lake\n")).clip_ids == ("a",)


def test_reading_text_formats_loads_nothing_heavy(write: Write) -> None:
    result = run_python(
        "import sys\n"
        "from sora_dagster.prompts.dataset import load_dataset\n"
        "from sora_dagster.runware.models import Catalogue\n"
        "load_dataset(sys.argv[1], catalogue=Catalogue.builtin())\n"
        "print({'pyarrow', 'numpy', 'PIL', 'av', 'dagster'} & set(sys.modules), end='')",
        str(write("p.yaml", "- {id: a, prompt: A lake, first_frame: https://example.com/a.png}")),
    )
    assert (result.stdout, result.stderr) == ("set()", "")


# --- the error


def test_the_error_lists_every_problem_with_its_file_line_and_column(write: Write) -> None:
    write("recipes.yaml", "snow: S\n")
    rows: list[dict[str, object]] = [
        {"id": "a", "prompt": "A lake", "size": "100x100"},
        {"id": "b", "prompt": "A hill"},
        {"id": "c", "prompt": "A road", "take": -1, "colour": "red"},
    ]
    path = write("prompts.jsonl", jsonl(*rows))
    assert str(error_of(path)).splitlines() == [
        f"{path} has 4 problems:",
        "  prompts.jsonl:1: column 'size': the size is 100x100; allowed: 1280x720, 720x1280, "
        "1792x1024, 1024x1792, 1920x1080, 1080x1920 for Sora 2 Pro",
        "  prompts.jsonl:3: column 'colour': there is no such column; allowed: id, prompt, model, "
        "size, duration, number_results, output_format, output_quality, first_frame, safety, "
        "take, recipes, tags",
        "  prompts.jsonl:3: column 'take': the take is -1; allowed: a whole number from 1 on",
        "  recipes.yaml:1: recipe 'snow': the prompt 'S' has 1 character; allowed: 2 to 6000 "
        "characters, at least 2 of them visible, for Sora 2 Pro",
    ]


def test_a_long_list_of_problems_is_cut_in_the_text_and_whole_in_the_error(write: Write) -> None:
    rows = [{"id": f"clip-{number}", "prompt": "x"} for number in range(53)]
    error = error_of(write("p.jsonl", jsonl(*rows)))
    lines = str(error).splitlines()
    assert (len(lines), lines[-1]) == (52, "  and 3 more")
    assert len(error.problems) == 53


def test_a_long_value_is_shortened_in_the_text_only(write: Write) -> None:
    error = error_of(write("p.jsonl", jsonl({"id": "a", "prompt": "x" * 100_000})))
    assert len(str(error)) < 1_000
    assert error.problems[0].value == "x" * 100_000


# --- properties

CLIP_IDS = st.text(st.sampled_from("abcXYZ019._- äß中"), min_size=1, max_size=12).filter(
    lambda text: text[0].isalnum() and ".." not in text and not text.endswith(" ")
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip)
TAGS = ANY_TEXT.filter(lambda text: bool(text) and ";" not in text)


@st.composite
def clip_specs(draw: st.DrawFn) -> ClipSpec:
    model = draw(st.sampled_from([SORA_2_PRO, SORA_2]))
    has_first_frame = draw(st.booleans())
    return ClipSpec(
        clip_id=draw(CLIP_IDS),
        prompt=f"A {draw(ANY_TEXT)} lake",
        model=model.air,
        size=None if has_first_frame else draw(st.sampled_from(model.sizes)),
        duration_seconds=draw(st.sampled_from(model.durations_seconds)),
        number_results=draw(st.integers(1, 4)),
        output_format=draw(st.sampled_from(["MP4", "WEBM", "MOV"])),
        output_quality=draw(st.none() | st.integers(20, 99)),
        first_frame="https://example.com/first.png" if has_first_frame else None,
        safety=draw(st.sampled_from(["none", "fast", "full"])),
        take=draw(st.integers(1, 1_000)),
        recipes=tuple(draw(st.lists(st.sampled_from(["night", "snow"]), unique=True))),
        tags=tuple(draw(st.lists(TAGS, max_size=3))),
    )


def row_of(spec: ClipSpec) -> dict[str, object]:
    row = spec.model_dump(mode="json")
    return {"id": row.pop("clip_id"), "duration": row.pop("duration_seconds"), **row}


@pytest.mark.parametrize("extension", [".jsonl", ".csv", ".parquet"])
@settings(deadline=None, max_examples=50)
@given(specs=st.lists(clip_specs(), min_size=1, max_size=4, unique_by=lambda spec: spec.clip_id))
def test_clips_written_to_a_file_are_read_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, extension: str, specs: list[ClipSpec]
) -> None:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "recipes.yaml").write_text(RECIPES)
    dataset = load(write_as(folder, extension, [row_of(spec) for spec in specs]))
    assert dataset.clips == tuple(specs)


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=200), extension=st.sampled_from(FORMATS))
def test_a_file_of_any_bytes_is_a_dataset_error_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, extension: str
) -> None:
    path = tmp_path_factory.mktemp("dataset") / f"p{extension}"
    path.write_bytes(content)
    with pytest.raises(DatasetError):
        load(path)


# YAML reads JSON's escapes but for the pairs of them that stand for one character.
SHORT_TEXTS = st.text(st.characters(max_codepoint=0xD7FF), max_size=6)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | SHORT_TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(SHORT_TEXTS, values, max_size=2),
    max_leaves=4,
)
COLUMN_NAMES = st.sampled_from(["prompt", "model", "size", "duration", "take", "recipes", "tags"])


@settings(deadline=None, max_examples=50)
@given(
    row=st.dictionaries(COLUMN_NAMES | SHORT_TEXTS, JSON_VALUES),
    start=st.sampled_from([("p.jsonl", ""), ("p.yaml", "- ")]),
)
def test_whatever_a_row_holds_its_problems_have_a_line(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, object], start: tuple[str, str]
) -> None:
    name, before = start
    path = tmp_path_factory.mktemp("dataset") / name
    # The id is never usable, so that the row has at least one problem.
    path.write_text(before + json.dumps({**row, "id": "a|b"}) + "\n", encoding="utf-8")
    found = problems_of(path)
    assert {problem.line for problem in found} == {1}
    assert "id" in {problem.column for problem in found}


# --- the shipped dataset


@pytest.fixture(scope="module")
def example() -> PromptDataset:
    return load_dataset(EXAMPLE, catalogue=Catalogue.builtin())


def test_the_example_begins_with_the_clip_of_the_reference_page(example: PromptDataset) -> None:
    clip = example.clips[0]
    assert (clip.clip_id, clip.model) == ("mangrove-monsoon", "openai:3@2")
    assert (clip.size, clip.duration_seconds) == (FrameSize(1792, 1024), 8.0)
    assert clip.prompt == (
        "A cinematic wide shot drifting slowly through a flooded mangrove forest at twilight "
        "during a warm monsoon rain. The tangled roots rise from mirror-dark water, and every "
        "raindrop disturbs glowing turquoise bioluminescent algae that ripple outward in delicate "
        "rings. Small lantern-like jelly insects hover between branches, casting soft teal and "
        "amber light. A narrow wooden skiff sits half-hidden among the roots, covered in wet woven "
        "baskets, seashell charms, and a dim oil lamp. In the distance, thunderclouds pulse with "
        "silent violet lightning behind layers of mist. The camera glides forward at water level "
        "with subtle parallax through leaves and hanging vines, revealing tiny tree frogs, "
        "drifting pollen, and rain sliding from glossy foliage. Soundscape: dense rainfall on "
        "leaves and water, soft insect chorus, distant thunder, creaking wood, gentle water "
        "lapping. Ultra-detailed, naturalistic cinematic fantasy, precise reflections, volumetric "
        "mist, moody color contrast, believable physics, cohesive atmosphere, premium production "
        "quality."
    )


def test_the_example_shows_what_a_dataset_can_request(example: PromptDataset) -> None:
    clips = example.clips
    assert len(clips) == 7
    assert {str(clip.size) for clip in clips if clip.size} >= {"1280x720", "720x1280", "1024x1792"}
    assert {clip.duration_seconds for clip in clips} == {4.0, 8.0}
    assert {clip.output_format for clip in clips} == {"MP4", "WEBM", "MOV"}
    assert {clip.model for clip in clips} == {"openai:3@2", "openai:3@1"}
    assert [clip.number_results for clip in clips].count(2) == 1
    assert len([clip for clip in clips if clip.first_frame]) == 1
    assert all(clip.tags for clip in clips)


def test_the_example_requests_two_remixes_of_several_clips(example: PromptDataset) -> None:
    assert {recipe.name for recipe in example.recipes} == {"night", "snowfall"}
    assert 4 <= len(example.remix_cells) <= 6
    assert len({clip_id for clip_id, _ in example.remix_cells}) >= 3
    assert {recipe for _, recipe in example.remix_cells} == {"night", "snowfall"}


def test_each_clip_of_the_example_makes_a_request_that_the_api_takes(
    example: PromptDataset,
) -> None:
    for clip in example.clips:
        inference = build_inference(
            ClipRequest(asset="clips", clip=clip.clip_id, spec=clip),
            task_uuid="982c01aa-813a-4434-aa42-3e512808fd94",
            catalogue=Catalogue.builtin(),
            webhook=None,
            hosted_seconds=None,
        )
        assert inference.positive_prompt == clip.prompt


def test_the_example_of_the_docstring_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parents[1])
    results = doctest.testmod(prompts)
    assert (results.failed, results.attempted > 0) == (0, True)
