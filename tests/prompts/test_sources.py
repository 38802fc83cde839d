"""Sources of rows: files, object stores, queries and functions."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from sora_dagster import (
    AssetPrompts,
    ClipStorageResource,
    FunctionPrompts,
    SqlPrompts,
    VideoDataset,
)
from sora_dagster.environment.values import SettingsError
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.prompts.files import DatasetError
from sora_dagster.prompts.prompt_source import PromptSource
from sora_dagster.prompts.sources import FilePrompts
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.settings import Settings
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


@dataclass(frozen=True)
class ArrowStream:
    """A table that only has Arrow's stream interface, as those of DuckDB.

    Arguments:
        table: its rows.
    """

    table: pa.Table | pa.ChunkedArray

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


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


def as_csv() -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in ROWS:
        lists = {name: ";".join(value) for name, value in row.items() if isinstance(value, list)}
        writer.writerow({**row, **lists})
    return text.getvalue()


def table_of_rows() -> pa.Table:
    # Its columns are those of the first row.
    return pa.Table.from_pylist([{name: row.get(name) for name in COLUMNS} for row in ROWS])


def sources(folder: Path, bucket: StorageRoot) -> Iterator[tuple[str, PromptSource]]:
    for name in ("yaml", "jsonl", "csv", "parquet"):
        (folder / name).mkdir()
    (folder / "yaml" / "p.yaml").write_text(yaml.safe_dump({"clips": ROWS, "recipes": RECIPES}))
    yield "YAML", FilePrompts(folder / "yaml" / "p.yaml")
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (folder / "jsonl" / "p.jsonl").write_text(lines)
    (folder / "csv" / "p.csv").write_text(as_csv())
    pyarrow.parquet.write_table(table_of_rows(), folder / "parquet" / "p.parquet")
    for name in ("jsonl", "csv", "parquet"):
        (folder / name / "p.recipes.yaml").write_text(yaml.safe_dump(RECIPES))
        yield name, FilePrompts(folder / name / f"p.{name}")
    yield "file://", FilePrompts((folder / "csv" / "p.csv").as_uri())
    bucket.write("data/p.jsonl", lines.encode())
    bucket.write("data/p.recipes.yaml", yaml.safe_dump(RECIPES).encode())
    yield "bucket", FilePrompts(f"{bucket.url}/data/p.jsonl")
    yield "SQL", in_sqlite(folder / "prompts.sqlite", ROWS)
    yield "function", FunctionPrompts(lambda: ROWS, recipes=RECIPES)
    yield "table", FunctionPrompts(table_of_rows, recipes=RECIPES)
    yield "reader", FunctionPrompts(lambda: table_of_rows().to_reader(), recipes=RECIPES)
    yield "stream", FunctionPrompts(lambda: ArrowStream(table_of_rows()), recipes=RECIPES)
    asset = AssetPrompts("briefs", recipes=RECIPES).of_dataset("videos")
    asset.keep(asset.records(table_of_rows()), bucket)
    yield "asset", asset
    recipes = folder / "jsonl" / "p.recipes.yaml"
    yield "recipes in a file", FunctionPrompts(lambda: iter(ROWS), recipes=recipes)


def test_the_same_rows_have_the_same_fingerprints_in_every_source(
    tmp_path: Path, s3_url: str
) -> None:
    found = {}
    storage = ClipStorageResource(url=s3_url)
    for name, source in sources(tmp_path, storage.root()):
        dataset = source.read(CATALOGUE, storage)
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
        "negative_prompt": Decimal("NaN"),
        "model": np.datetime64("NaT"),
        "__index_level_0__": 3,
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
        ([{"id": "fox", "prompt": "A fox", "duration": "long"}], "row 1 .id 'fox'.: column 'dur"),
        ([{"id": "fox", "prompt": "A fox", "first_frame": "a.png"}], "cannot be an image here"),
        ([], "no clips"),
        (
            [{"id": "a", "prompt": "A", "seed": Decimal("Infinity")}],
            "column 'seed': .*not a number",
        ),
        ([{"id": "a", "prompt": "A", "seed": np.datetime64(5, "ns")}], "'seed': .*not a number"),
        ([{"id": "a", "prompt": b"\xff"}], "column 'prompt': .* is not a string"),
        ([{"id": "a", "prompt": date(2026, 11, 28)}], "column 'prompt': .* is not a string"),
        (
            pa.table([["a"], ["A"], ["B"]], names=["id", "prompt", "prompt"]),
            "the column 'prompt' is given twice",
        ),
        ("fox", "the rows are a str; expected: a list of mappings"),
        (None, "the rows are a NoneType"),
        (ArrowStream(pa.chunked_array([["fox"]])), "the rows are a ArrowStream; expected"),
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


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.com/p.csv", "allowed: a path, or a URL that starts with s3://"),
        ("postgresql://host/db", "use SqlPrompts"),
        ("s3://key:secret@bucket/p.csv", "set credentials in the environment"),
        ("s3://prompts.csv", "must name a bucket and a file in it"),
        ("s3://bucket/folder/", "must name a bucket and a file in it"),
        ("file://host/p.csv", "must be file:///folder/file"),
        (3, "the source of a dataset is a int; allowed: a path"),
    ],
)
def test_a_source_of_another_kind_is_refused_when_definitions_load(
    source: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        VideoDataset(source)
    assert "secret@" not in str(error.value)


def test_a_file_url_is_that_of_a_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my prompts.csv"
    path.write_text(as_csv().replace("night", ""))
    assert FilePrompts(path.as_uri()).read(CATALOGUE).label == str(path)
    monkeypatch.setenv("SORA_PROMPTS", path.as_uri())
    assert Settings().prompts_path == str(path)
    missing = tmp_path / "missing" / "prompts.csv"
    with pytest.raises(DatasetError, match="no such file"):
        FilePrompts(missing.as_uri()).read(CATALOGUE)
    assert not missing.parent.exists()


def test_a_database_in_sora_prompts_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SORA_PROMPTS", "postgresql://team:hunter2@host/db")
    with pytest.raises(SettingsError, match=r"SORA_PROMPTS: .* use SqlPrompts") as error:
        VideoDataset()
    assert "hunter2" not in str(error.value)


def test_a_version_follows_the_file_of_recipes(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes.yaml"
    recipes.write_text(yaml.safe_dump(RECIPES))
    source = FunctionPrompts(lambda: ROWS, recipes=recipes, version=lambda: "1")
    before = source.version()
    assert source.version() == before
    recipes.write_text("night: In the middle of the night")
    assert source.version() != before


def test_a_version_function_that_raises_is_named_with_its_error() -> None:
    def version() -> str:
        raise RuntimeError("the service is down")

    source = FunctionPrompts(lambda: ROWS, version=version)
    with pytest.raises(DatasetError, match="its version raised RuntimeError: the service is down"):
        source.version()


@pytest.mark.parametrize(
    ("recipes", "error", "message"),
    [
        (["night"], TypeError, "the recipes of a source are a list; allowed: a mapping"),
        ({"night": 3}, DatasetError, "recipe 'night': a prompt is expected"),
        ({7: "At seven"}, DatasetError, "there is no recipe 'night'.*allowed: 7"),
        ("missing.yaml", DatasetError, "missing.yaml: there is no such file"),
    ],
)
def test_wrong_recipes_are_named(recipes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FunctionPrompts(lambda: ROWS, recipes=recipes).read(CATALOGUE)


def test_arguments_of_a_function_are_not_in_messages() -> None:
    def rows(key: str) -> list[dict[str, Any]]:
        return []

    source = FunctionPrompts(partial(rows, key="hunter2"))
    assert "rows" in source.label
    assert "hunter2" not in source.label


def test_errors_of_a_source_of_a_user_are_those_of_a_dataset() -> None:
    class Service(FunctionPrompts):
        def read(self, *arguments: Any, **more: Any) -> PromptDataset:
            raise KeyError("rows")

    with pytest.raises(DatasetError, match="it cannot be read: KeyError: 'rows'"):
        VideoDataset(Service(list), catalogue=CATALOGUE).load_prompts()


@pytest.mark.parametrize("key", ["", [], "marketing//briefs", 3])
def test_the_key_of_an_upstream_asset_is_checked(key: Any) -> None:
    with pytest.raises(ValueError, match="pass its key, such as 'marketing/briefs'"):
        AssetPrompts(key)


def test_the_rows_of_an_asset_that_are_damaged_are_named(tmp_path: Path) -> None:
    storage = ClipStorageResource(url=str(tmp_path))
    dataset = VideoDataset(AssetPrompts("briefs"), catalogue=CATALOGUE)
    for text in (b"{", b"[]", b'{"rows": 3}'):
        storage.root().write("prompts/default.json", text)
        with pytest.raises(DatasetError, match="damaged; materialize prompt_rows of the dataset"):
            dataset.load_prompts(storage)


def test_the_rows_of_an_asset_are_known_only_after_they_were_loaded(tmp_path: Path) -> None:
    dataset = VideoDataset(AssetPrompts("marketing/briefs"), catalogue=CATALOGUE)
    with pytest.raises(DatasetError, match="storage root, which is not known here"):
        dataset.load_prompts()
