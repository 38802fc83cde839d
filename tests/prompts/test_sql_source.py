"""Rows of queries."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import create_engine

from sora_dagster import SqlPrompts
from sora_dagster.prompts import sql_source
from sora_dagster.prompts.files import DatasetError
from tests.postgres_server import running_postgres
from tests.prompts.test_sources import CATALOGUE, RECIPES, ROWS, in_sqlite
from tests.serving import silent_server


@pytest.mark.parametrize(
    ("url", "query", "message"),
    [
        ("sqlite://", "SELECT * FROM prompts", "the query failed: no such table: prompts"),
        ("sqlite://", "SELEC", "the query failed: near"),
        ("no-database", "SELECT 1", "not the URL of a database"),
        ("nodb://host/prompts", "SELECT 1", "no dialect for URLs that start with 'nodb'"),
        ("snowflake://host/prompts", "SELECT 1", "install snowflake-sqlalchemy"),
        ("postgresql://host:port/prompts", "SELECT 1", "not the URL of a database"),
        ("postgresql://host/prompts", "SELECT 1", r"install psycopg\[binary\]"),
        ("sqlite:///missing.sqlite", "SELECT 1", r"no such database file .*missing\.sqlite"),
        ("sqlite://", "SELECT 1 AS id, 2 AS id", "the column 'id' is given twice"),
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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://team:hunter2#1@host/db",
        "postgresql://host/db?user=team&password=hunter2",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BSERVER%3Dhost%3BPWD%3Dhunter2",
        "databricks://host/?access_token=hunter2",
    ],
)
def test_secrets_anywhere_in_a_url_are_refused_as_text(url: str) -> None:
    with pytest.raises(ValueError, match=r"dg\.EnvVar") as error:
        SqlPrompts(url, "SELECT 1")
    assert "hunter2" not in str(error.value)


def test_a_parameter_that_a_driver_does_not_know_is_named() -> None:
    with pytest.raises(DatasetError, match=r'cannot be reached: .*invalid connection option "foo"'):
        SqlPrompts("postgresql+psycopg2://host/db?foo=1", "SELECT 1").read(CATALOGUE)


def test_a_missing_database_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "missing.sqlite"
    with pytest.raises(DatasetError, match="no such database file"):
        SqlPrompts(f"sqlite:///{path}", "SELECT 1").read(CATALOGUE)
    assert not path.exists()


def test_colons_and_percent_signs_of_a_query_are_its_own() -> None:
    query = "SELECT 'a' AS id, 'At :dawn, 100% mist' AS prompt WHERE 'x' NOT LIKE '%:dawn%'"
    assert SqlPrompts("sqlite://", query).read(CATALOGUE).clip("a").prompt == "At :dawn, 100% mist"


def test_lists_and_mappings_may_be_json_in_text_columns() -> None:
    query = """SELECT 'a' AS id, 'A lake' AS prompt, 'veo-3.1' AS model, 0 AS audio,
        '["night"]' AS recipes, '[ "calm", "b;c" ]' AS tags, '{}' AS settings, NULL AS seed
        UNION ALL SELECT 'b', 'A lake', 'veo-3.1', NULL, '', '[not json]', NULL, NULL"""
    dataset = SqlPrompts("sqlite://", query, recipes=RECIPES).read(CATALOGUE)
    assert dataset.remix_cells == (("a", "night"),)
    assert dataset.clip("a").tags == ("calm", "b;c")
    assert dataset.clip("a").audio is False
    assert dataset.clip("b").tags == ("[not json]",)


def test_a_query_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    in_sqlite(path, ROWS)
    source = SqlPrompts(f"sqlite:///{path}", "DELETE FROM prompts RETURNING id, prompt")
    assert source.read(CATALOGUE).clip_ids == ("fox", "owl")
    with sqlite3.connect(path) as connection:
        [count] = connection.execute("SELECT count(*) FROM prompts").fetchone()
    connection.close()
    assert count == 2


def test_a_driver_that_repeats_the_password_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # libpq repeats the parameter that it cannot read.
    monkeypatch.setenv(
        "WAREHOUSE_URL", "postgresql+psycopg2://host/db?password=hunter2&connect_timeout=hunter2"
    )
    with pytest.raises(DatasetError, match="cannot be reached") as error:
        SqlPrompts(dg.EnvVar("WAREHOUSE_URL"), "SELECT 1").read(CATALOGUE)
    assert "hunter2" not in str(error.value)


def test_values_of_postgres_are_read_as_what_they_mean(tmp_path: Path) -> None:
    with running_postgres() as server:
        engine = create_engine(server.url)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE prompts (id uuid, prompt text, model varchar, duration numeric, "
                "seed bigint, fps double precision, audio boolean, recipes jsonb, tags text[], "
                "negative_prompt text)"
            )
            connection.exec_driver_sql(
                "INSERT INTO prompts VALUES ('00000000-0000-4000-8000-000000000001', 'A fox', "
                "'veo-3.1', 8.0, 7, 'NaN', true, '[\"night\"]', '{animal,snow}', NULL)"
            )
        engine.dispose()
        source = SqlPrompts(
            server.url,
            "SELECT * FROM prompts",
            recipes=RECIPES,
            version_query="SELECT count(*), max(seed) FROM prompts",
        )
        version = source.version()
        dataset = source.read(CATALOGUE)
        assert source.version() == version
        [clip] = dataset.clips
        assert clip.clip_id == "00000000-0000-4000-8000-000000000001"
        assert (clip.duration_seconds, clip.seed, clip.fps, clip.audio) == (8.0, 7, None, True)
        assert (clip.recipes, clip.tags) == (("night",), ("animal", "snow"))
        wrong = SqlPrompts(server.url, "SELECT id, prompt, 12.5 AS seed FROM prompts")
        with pytest.raises(DatasetError, match=r"row 1 \(id '0+-0.*01'\): column 'seed'"):
            wrong.read(CATALOGUE)
        with pytest.raises(DatasetError, match='the query failed: relation "briefs" does not'):
            SqlPrompts(server.url, "SELECT * FROM briefs").read(CATALOGUE)


def test_a_database_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sql_source._LIBPQ_LIMITS, "connect_timeout", 2)
    with silent_server() as url:
        source = SqlPrompts(f"postgresql+psycopg2://{url.removeprefix('http://')}/db", "SELECT 1")
        with pytest.raises(DatasetError, match=r"cannot be reached: .* timeout expired"):
            source.read(CATALOGUE)
