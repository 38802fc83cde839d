"""The form of each file format, and the file as a whole."""

import datetime
import decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.prompts.dataset_files import (
    FORMATS,
    Write,
    load,
    only_problem_of,
    problems_of,
    run_python,
    write_as,
)

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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_utf_16_or_utf_32_is_a_problem_that_says_so(write: Write, encoding: str) -> None:
    problem = only_problem_of(write("p.csv", "id,prompt\na,A lake\n".encode(encoding)))
    assert "UTF-16 or UTF-32; save it as UTF-8" in problem.message


@pytest.mark.parametrize("extension", [".jsonl", ".csv", ".tsv", ".yaml"])
def test_a_byte_order_mark_is_not_part_of_a_file(tmp_path: Path, extension: str) -> None:
    path = write_as(tmp_path, extension, [{"id": "a", "prompt": "A lake"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).clip_ids == ("a",)


# --- what spreadsheets and pandas write


@pytest.mark.parametrize(
    ("text", "take_line"),
    [
        ("sep=;\nid;prompt;take\na;A lake, at dawn;0\n", 3),
        ("sep=,\r\nid,prompt,take\r\na,A lake,0\r\n", 3),
        ('"sep=;"\nid;prompt;take\na;"A lake\nat dawn";1\nb;A hill;0\n', 5),
        ("SEP=\t\nid\tprompt\ttake\na\tA lake\t0\n", 3),
        ("sep=|\nid|prompt|take\na|A lake|0\n", 3),
    ],
)
def test_a_first_line_names_the_separator_and_counts_as_a_line(
    write: Write, text: str, take_line: int
) -> None:
    problem = only_problem_of(write("p.csv", text))
    assert (problem.line, problem.column) == (take_line, "take")


def test_a_separator_that_is_not_allowed_is_a_problem(write: Write) -> None:
    problem = only_problem_of(write("p.csv", "sep=x\nidxprompt\n"))
    assert (problem.line, problem.message) == (
        1,
        "'x' cannot separate cells; allowed: ',', ';', a tab, '|'",
    )


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0"])
def test_the_index_of_pandas_is_not_a_column(write: Write, name: str) -> None:
    path = write("p.csv", f"{name},id,prompt,take\n0,a,A lake,1\n7,b,A hill,2\n")
    assert [(clip.clip_id, clip.take) for clip in load(path).clips] == [("a", 1), ("b", 2)]


def test_the_index_of_pandas_is_not_a_column_in_parquet(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "A lake", "__index_level_0__": 7}]
    assert load(write_as(tmp_path, ".parquet", rows)).clip_ids == ("a",)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (",id,prompt\nx,a,A lake\n0,b,A hill\n", 1),
        ("id,,prompt\na,x,A lake\nb,y,A hill\n", 2),
    ],
)
def test_a_column_with_values_and_no_name_is_one_problem_of_the_header(
    write: Write, text: str, column: int
) -> None:
    problem = only_problem_of(write("p.csv", text))
    assert problem.line == 1
    assert f"column {column} has no name, and its first value is 'x'" in problem.message
    assert "index=False" in problem.message


def test_cells_of_tsv_that_are_separated_by_commas_are_a_problem(write: Write) -> None:
    problem = only_problem_of(write("p.tsv", "id,prompt\na,A lake\n"))
    assert problem.line == 1
    assert "separated by ','; separate them by a tab" in problem.message


# --- values of Parquet that no column has

_UNKNOWN_ZONE = pyarrow.timestamp("s", tz="Mars/Phobos")
_TEXT = pyarrow.string()


@pytest.mark.parametrize(
    ("column", "values", "part"),
    [
        ("tags", pyarrow.array([[("k", "v")]], pyarrow.map_(_TEXT, _TEXT)), "{'k': 'v'} is not"),
        ("model", pyarrow.array([[("k", "v")]], pyarrow.map_(_TEXT, _TEXT)), "{'k': 'v'} is not"),
        ("settings", pyarrow.array([[(1, "v")]], pyarrow.map_(pyarrow.int64(), _TEXT)), "key 1"),
        (
            "tags",
            pyarrow.array([[([1], "v")]], pyarrow.map_(pyarrow.list_(pyarrow.int64()), _TEXT)),
            "key [1], which is not a string",
        ),
        (
            "settings",
            pyarrow.array([[("k", "v"), ("k", "w")]], pyarrow.map_(_TEXT, _TEXT)),
            "'k' is given twice",
        ),
        ("tags", pyarrow.array([[["a"]]]), "['a'] is not a string"),
        ("tags", pyarrow.array([["a"] * 10_001]), "10001 values; at most 10000"),
        ("take", pyarrow.array([decimal.Decimal("1.50")]), "1.5 is not a whole number"),
        ("duration", pyarrow.array([datetime.datetime(2026, 1, 1)]), "is not a number"),
        ("duration", pyarrow.array([1], pyarrow.timestamp("ns")), "timestamp[ns]"),
        ("duration", pyarrow.array([8_000_000_001], pyarrow.duration("ns")), "duration[ns]"),
        ("duration", pyarrow.array([1], _UNKNOWN_ZONE), "Mars/Phobos"),
        ("duration", pyarrow.array([2**30], pyarrow.date32()), "date32"),
        ("first_frame", pyarrow.array([b"\x89PNG"]), "is not a string"),
        ("safety", pyarrow.array([b"\xff"]).view(_TEXT), "codec can't decode byte 0xff"),
    ],
)
def test_a_value_of_parquet_that_its_column_does_not_allow_is_a_problem_of_its_row(
    tmp_path: Path, column: str, values: pyarrow.Array, part: str
) -> None:
    columns = {
        "id": ["a", "b"],
        "prompt": ["A lake", "A hill"],
        column: pyarrow.concat_arrays([pyarrow.nulls(1, values.type), values]),
    }
    path = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    problem = only_problem_of(path)
    assert (problem.line, problem.column) == (2, column)
    assert part in problem.message


def test_texts_of_a_parquet_dictionary_and_numbers_of_decimals_are_read(tmp_path: Path) -> None:
    columns = {
        "id": pyarrow.array(["a"]).dictionary_encode(),
        "prompt": pyarrow.array(["A lake"], pyarrow.large_string()),
        "duration": pyarrow.array([decimal.Decimal("8.00")]),
    }
    path = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    [clip] = load(path).clips
    assert (clip.clip_id, clip.duration_seconds) == ("a", 8)


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
    assert (
        ".jsonl, .ndjson, .csv, .tsv, .yaml, .yml, .parquet"
        in only_problem_of(write(name, "x")).message
    )


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("p.json", "one JSON object a line"),
        ("p.xlsx", "save the spreadsheet as CSV"),
        ("p.csv.gz", "decompress it"),
        ("p.pq", "rename it to .parquet"),
    ],
)
def test_a_file_of_another_known_format_is_a_problem_that_says_what_to_do(
    write: Write, name: str, part: str
) -> None:
    assert part in only_problem_of(write(name, "x")).message


def test_an_extension_may_be_in_upper_case(write: Write) -> None:
    assert load(write("P.CSV", "id,prompt\na,A lake\n")).clip_ids == ("a",)


def test_reading_text_formats_loads_nothing_heavy(write: Write) -> None:
    result = run_python(
        "import sys\n"
        "from sora_dagster.prompts.dataset import load_dataset\n"
        "from sora_dagster.runware.catalogue import Catalogue\n"
        "load_dataset(sys.argv[1], catalogue=Catalogue.builtin())\n"
        "print({'pyarrow', 'numpy', 'PIL', 'av', 'dagster'} & set(sys.modules), end='')",
        str(write("p.yaml", "- {id: a, prompt: A lake, first_frame: https://example.com/a.png}")),
    )
    assert (result.stdout, result.stderr) == ("set()", "")


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!include lake.txt", "!include"),
        ("!!binary aGVsbG8=", "!!binary"),
        ("!!python/name:os.system lake", "!!python/name:os.system"),
        ("!<tag:example.com,2026:text> a lake", "tag:example.com,2026:text"),
    ],
)
def test_a_tag_that_yaml_does_not_define_is_a_problem_of_its_line(
    write: Write, value: str, tag: str
) -> None:
    problem = only_problem_of(write("p.yaml", f"- id: a\n  prompt: {value}\n"))
    assert problem.line == 2
    assert f"the tag {tag!r} is not allowed" in problem.message


def test_a_tag_inside_the_recipes_is_a_problem_too(write: Write) -> None:
    write("recipes.yaml", "night: At night.\nsnow: !include snow.txt\n")
    problem = only_problem_of(write("p.yaml", "- {id: a, prompt: A lake}\n"))
    assert (problem.file, problem.line) == ("recipes.yaml", 2)


def test_tags_that_yaml_defines_are_allowed(write: Write) -> None:
    path = write("p.yaml", "- !!map {id: a, prompt: !!str 2026, tags: !!seq [x]}\n")
    assert load(path).clip("a").prompt == "2026"
