"""Wrong values and columns, and the error that lists them."""

import json
import re
import unicodedata
from pathlib import Path

import dagster as dg
import pytest

from sora_dagster.generation.protocol.layout import segment
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.rules import broken_rules
from tests.prompts.dataset_files import (
    FORMATS,
    Write,
    error_of,
    jsonl,
    load,
    only_problem_of,
    problems_of,
    write_as,
)
from tests.runware.examples import SORA_2_PRO

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
        ("take", "0", "1 or higher"),
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


@pytest.mark.parametrize(
    ("character", "name"), [("\0", "U+0000"), ("\x1b", "U+001B"), ("\x9b", "U+009B")]
)
@pytest.mark.parametrize("column", ["id", "prompt", "model", "tags", "settings"])
@pytest.mark.parametrize("extension", FORMATS)
def test_a_control_character_is_a_problem_in_every_format(
    tmp_path: Path, extension: str, column: str, character: str, name: str
) -> None:
    rows: list[dict[str, object]] = [{"id": "a", "prompt": "A lake"}]
    value = f"a {character}b"
    rows[0][column] = {"tags": ["x", value], "settings": {value: 1}}.get(column, value)
    if extension in (".csv", ".tsv") and column == "settings":
        # JSON in a cell has the character escaped.
        rows[0][column] = f"{value}=1"
    problem = only_problem_of(write_as(tmp_path, extension, rows))
    assert problem.column == column
    assert f"is the control character {name}; remove it" in problem.message


@pytest.mark.parametrize("extension", FORMATS)
def test_tabs_and_line_ends_are_allowed(tmp_path: Path, extension: str) -> None:
    rows = [{"id": "a", "prompt": "A\tlake\nat dawn"}]
    assert load(write_as(tmp_path, extension, rows)).clips[0].prompt == "A\tlake\nat dawn"


# --- ids


@pytest.mark.parametrize("clip_id", ["हिन्दी", "ภาษาไทย", "ที่นี่", "re\u0301sume\u0301", "வணக்கம்"])
@pytest.mark.parametrize("extension", FORMATS)
def test_an_id_may_have_combining_marks_and_is_in_nfc(
    tmp_path: Path, extension: str, clip_id: str
) -> None:
    rows = [{"id": clip_id, "prompt": "A lake"}]
    [clip] = load(write_as(tmp_path, extension, rows)).clips
    assert clip.clip_id == unicodedata.normalize("NFC", clip_id)
    partitions = dg.StaticPartitionsDefinition([clip.clip_id])
    assert partitions.has_partition_key(clip.clip_id)
    assert re.fullmatch(r"[a-zA-Z0-9_.-]+", segment(clip.clip_id))


@pytest.mark.parametrize(
    "clip_id", ["\u0301a", "a\u200cb", "a\u200db", "a\ufe0f", "a\u034f", "a\u20dd"]
)
def test_an_id_with_a_mark_first_or_with_something_invisible_is_a_problem(
    write: Write, clip_id: str
) -> None:
    problem = only_problem_of(write("p.jsonl", jsonl({"id": clip_id, "prompt": "A lake"})))
    assert (problem.line, problem.column) == (1, "id")
    assert "letters with their combining marks" in problem.message


def test_ids_that_are_equal_in_nfc_are_a_problem(write: Write) -> None:
    rows = [{"id": "caf\u00e9", "prompt": "A lake"}, {"id": "cafe\u0301", "prompt": "A hill"}]
    problem = only_problem_of(write("p.jsonl", jsonl(*rows)))
    assert (problem.line, problem.column) == (2, "id")
    assert problem.message == (
        "'caf\u00e9' is already the id of line 1, in another Unicode form (both are the same in "
        "NFC); ids must be unique"
    )


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
        "1792x1024, 1024x1792, 1920x1080, 1080x1920 for Sora 2 Pro; nearest: 1280x720",
        "  prompts.jsonl:3: column 'colour': there is no such column; allowed: id, prompt, model, "
        "size, resolution, duration, fps, seed, negative_prompt, audio, number_results, "
        "output_format, output_quality, first_frame, last_frame, reference_images, settings, "
        "safety, take, recipes, tags",
        "  prompts.jsonl:3: column 'take': the take is -1; allowed: a whole number, 1 or higher",
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
