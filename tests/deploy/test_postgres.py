"""Dagster's storage on Postgres, with the packages of the extra `postgres`."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from tests.postgres_server import running_postgres

ROOT = Path(__file__).parent.parent.parent


def test_a_database_with_the_shipped_instance_settings_keeps_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "deploy/dagster.yaml", home)
    with running_postgres() as server:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", server.url)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.report_runless_asset_event(
                dg.AssetMaterialization("clips", partition="fox", metadata={"cost_usd": 1.2})
            )
            instance.add_dynamic_partitions("clips", ["fox"])
        with dg.DagsterInstance.from_config(str(home)) as instance:
            [record] = instance.fetch_materializations(dg.AssetKey("clips"), limit=5).records
            assert record.partition_key == "fox"
            assert instance.get_dynamic_partitions("clips") == ["fox"]
            with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
                assert connection.dialect.driver == "psycopg2"
