"""Sources of rows: files, object stores, queries and functions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
import yaml

from sora_dagster import AssetPrompts, FunctionPrompts, SqlPrompts, VideoDataset
from sora_dagster.prompts.files import DatasetError
from sora_dagster.prompts.sources import FilePrompts, PromptSource
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import StorageRoot
from tests.prompts.dataset_files import image_bytes

ROWS: list[dict[str, Any]] = [
    {
        "id": "fox",
        "prompt": "A fox in the snow",
        "model": "veo-3.1",
        "duration": 8,
        "recipes": ["night"],
        "tags": ["animal", "snow"],
    },
    {"id": "owl", "prompt": "An owl\nat dusk", "seed": 7, "size": "1280x720", "audio": True},
]
RECIPES = {"night": {"prompt": "At night", "model": "aleph-2.0", "mode": "edit"}}
CATALOGUE = Catalogue.builtin().with_default("veo-3.1")
COLUMNS = ("id", "prompt", "model", "duration", "recipes", "tags", "seed", "size", "audio")


def in_sqlite(path: Path, rows: Sequence[dict[str, Any]]) -> SqlPrompts:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE prompts ({', '.join(COLUMNS)})")
        for row in rows:
            values = [
                ";".join(value) if isinstance(value := row.get(name), list) else value
                for name in COLUMNS
            ]
            marks = ", ".join("?" * len(COLUMNS))
            connection.execute(f"INSERT INTO prompts VALUES ({marks})", values)
    connection.close()
    return SqlPrompts(f"sqlite:///{path}", "SELECT * FROM prompts", recipes=RECIPES)


def sources(folder: Path) -> Iterator[tuple[str, PromptSource]]:
    for name in ("yaml", "jsonl", "stored"):
        (folder / name).mkdir()
    (folder / "yaml" / "p.yaml").write_text(yaml.safe_dump({"clips": ROWS, "recipes": RECIPES}))
    yield "YAML", FilePrompts(folder / "yaml" / "p.yaml")
    lines = "\n".join(json.dumps(row) for row in ROWS)
    for name in ("jsonl", "stored"):
        (folder / name / "p.jsonl").write_text(lines)
        (folder / name / "p.recipes.yaml").write_text(yaml.safe_dump(RECIPES))
    yield "JSON Lines", FilePrompts(folder / "jsonl" / "p.jsonl")
    yield "object store", FilePrompts(f"{(folder / 'stored').as_uri()}/p.jsonl")
    yield "SQL", in_sqlite(folder / "prompts.sqlite", ROWS)
    yield "function", FunctionPrompts(lambda: ROWS, recipes=RECIPES)
    # Its columns are those of the first row.
    table = pa.Table.from_pylist([{name: row.get(name) for name in COLUMNS} for row in ROWS])
    yield "table", FunctionPrompts(lambda: table, recipes=RECIPES)
    recipes = folder / "jsonl" / "p.recipes.yaml"
    yield "recipes in a file", FunctionPrompts(lambda: iter(ROWS), recipes=recipes)


def test_the_same_rows_have_the_same_fingerprints_in_every_source(tmp_path: Path) -> None:
    found = {}
    for name, source in sources(tmp_path):
        dataset = source.read(CATALOGUE)
        found[name] = (
            [(clip.clip_id, clip.fingerprint, clip.take, clip.tags) for clip in dataset.clips],
            list(dataset.recipes),
            dataset.remix_cells,
        )
    expected = found["YAML"]
    assert expected[2] == (("fox", "night"),)
    assert all(value == expected for value in found.values()), found


def test_values_of_data_frames_and_databases_are_read_as_what_they_mean(tmp_path: Path) -> None:
    plain = {"id": "fox", "prompt": "A fox", "duration": 8, "seed": 7, "fps": None, "audio": True}
    odd = {
        "id": np.str_("fox"),
        "prompt": "A fox",
        "duration": Decimal("8.0"),
        "seed": np.int64(7),
        "fps": float("nan"),
        "audio": np.bool_(True),
        "tags": np.array(["a", "b"]),
    }
    [one] = FunctionPrompts(lambda: [plain]).read(CATALOGUE).clips
    [other] = FunctionPrompts(lambda: [odd]).read(CATALOGUE).clips
    assert one.fingerprint == other.fingerprint
    assert other.tags == ("a", "b")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "fox", "prompt": "A fox"}, {"id": "fox", "prompt": "Again"}], "row 2.*'id'"),
        ([{"id": "fox", "prompt": "A fox", "sound": True}], "no such column.*'audio'"),
        ([{"id": "fox"}], "column 'prompt': the column is missing"),
        ([["fox", "A fox"]], "row 1: .* is not a mapping of columns"),
        ([{"id": "fox", "prompt": "A fox", "duration": "long"}], "row 1: column 'duration'"),
        ([{"id": "fox", "prompt": "A fox", "first_frame": "a.png"}], "cannot be an image here"),
        ([], "no clips"),
        ("fox", "the rows are a str; expected: a list of mappings"),
        (None, "the rows are a NoneType"),
        (3, "the rows are a int"),
    ],
)
def test_wrong_rows_are_named_by_their_number(rows: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        FunctionPrompts(lambda: rows).read(CATALOGUE)


def test_a_function_that_raises_is_named_with_its_error() -> None:
    def broken_rows() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise RuntimeError("the service is down")

    with pytest.raises(DatasetError, match=r"(?s)broken_rows.*RuntimeError: the service is down"):
        FunctionPrompts(broken_rows).read(CATALOGUE)


@pytest.mark.parametrize(
    ("url", "query", "message"),
    [
        ("sqlite://", "SELECT * FROM prompts", "the query failed: no such table: prompts"),
        ("sqlite://", "SELEC", "the query failed: near"),
        ("no-database", "SELECT 1", "not the URL of a database"),
        ("nodb://host/prompts", "SELECT 1", "not the URL of a database"),
        ("oracle+cx_oracle://host/db", "SELECT 1", "driver 'cx_Oracle' is not installed"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(url: str, query: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        SqlPrompts(url, query).read(CATALOGUE)


def test_the_password_of_a_database_is_not_given_as_text() -> None:
    with pytest.raises(ValueError, match=r'dg\.EnvVar\("NAME"\)') as error:
        SqlPrompts("postgresql://team:hunter2@host/db", "SELECT 1")
    assert "hunter2" not in str(error.value)


def test_the_url_of_a_database_may_be_an_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_sqlite(tmp_path / "p.sqlite", ROWS)
    source = SqlPrompts(dg.EnvVar("WAREHOUSE_URL"), "SELECT * FROM prompts", recipes=RECIPES)
    with pytest.raises(DatasetError, match="WAREHOUSE_URL is not set"):
        source.read(CATALOGUE)
    monkeypatch.setenv("WAREHOUSE_URL", f"sqlite:///{tmp_path / 'p.sqlite'}")
    assert source.read(CATALOGUE).clip_ids == ("fox", "owl")
    # A driver may repeat the URL in its error; the password stays out of ours.
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql+psycopg2://team:hunter2@127.0.0.1:1/db")
    with pytest.raises(DatasetError) as error:
        source.read(CATALOGUE)
    assert "hunter2" not in str(error.value)


def test_a_version_query_tells_whether_the_rows_may_have_changed(tmp_path: Path) -> None:
    in_sqlite(tmp_path / "p.sqlite", ROWS)
    url = f"sqlite:///{tmp_path / 'p.sqlite'}"
    source = SqlPrompts(url, "SELECT * FROM prompts", version_query="SELECT count(*) FROM prompts")
    before = source.version()
    assert source.version() == before
    with sqlite3.connect(tmp_path / "p.sqlite") as connection:
        connection.execute("INSERT INTO prompts (id, prompt) VALUES ('bee', 'A bee')")
    connection.close()
    assert source.version() != before


def test_the_version_of_a_file_is_that_of_all_files_it_needs(tmp_path: Path) -> None:
    (tmp_path / "frame.png").write_bytes(image_bytes(640, 360))
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "prompt": "A lake", "first_frame": "frame.png"}')
    source = FilePrompts(path)
    assert source.version() is None
    read = source.read(CATALOGUE).version
    assert source.version() == read
    (tmp_path / "frame.png").write_bytes(image_bytes(640, 480))
    changed = source.version()
    assert changed != read
    (tmp_path / "p.recipes.yaml").write_text("night: At night")
    assert source.version() not in (read, changed)


def test_images_of_a_dataset_in_an_object_store_are_beside_it(tmp_path: Path) -> None:
    root = StorageRoot(tmp_path / "bucket")
    root.write("frames/lake.png", image_bytes(640, 360))
    rows = [
        {"id": "a", "prompt": "A lake", "first_frame": "frames/lake.png"},
        {"id": "b", "prompt": "A lake", "first_frame": "../secret.png"},
        {"id": "c", "prompt": "A lake", "first_frame": "frames/missing.png"},
    ]
    root.write("p.jsonl", json.dumps(rows[0]).encode())
    source = FilePrompts(f"{root.url}/p.jsonl")
    [clip] = source.read(CATALOGUE).clips
    (tmp_path / "local.jsonl").write_text(json.dumps({**rows[0], "first_frame": "lake.png"}))
    (tmp_path / "lake.png").write_bytes(image_bytes(640, 360))
    [local] = FilePrompts(tmp_path / "local.jsonl").read(CATALOGUE).clips
    assert clip.fingerprint == local.fingerprint
    root.write("p.jsonl", "\n".join(map(json.dumps, rows[1:])).encode())
    with pytest.raises(DatasetError) as error:
        source.read(CATALOGUE)
    assert "outside of the dataset's folder" in str(error.value)
    assert "no such object" in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.com/p.csv", "allowed: a path, or a URL that starts with s3://"),
        ("postgresql://host/db", "use SqlPrompts"),
        ("s3://key:secret@bucket/p.csv", "set credentials in the environment"),
        (3, "the source of a dataset is a int; allowed: a path"),
    ],
)
def test_a_source_of_another_kind_is_refused_when_definitions_load(
    source: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        VideoDataset(source)
    assert "secret@" not in str(error.value)


def test_a_dataset_that_is_missing_in_the_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"missing\.csv.*no such object"):
        FilePrompts(f"{tmp_path.as_uri()}/missing.csv").read(CATALOGUE)


def test_the_rows_of_an_asset_are_known_only_after_they_were_loaded(tmp_path: Path) -> None:
    dataset = VideoDataset(AssetPrompts("marketing/briefs"), catalogue=CATALOGUE)
    with pytest.raises(DatasetError, match="storage root, which is not known here"):
        dataset.load_prompts()
