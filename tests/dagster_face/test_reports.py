"""What was spent, and what there is to see: the gallery and the cost report of a dataset."""

from __future__ import annotations

import io
import math
import sys

import dagster as dg
import pyarrow.parquet
import pytest
from PIL import Image

from sora_dagster.assets.reports import build_report_assets
from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol.layout import gallery_key
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.scan import stored_manifests
from sora_dagster.generation.storyboards.shot_requests import shot_request
from sora_dagster.local.request_runs import failure_text
from sora_dagster.prompts.boards import load_board
from sora_dagster.resources import ClipStorageResource
from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import Stack
from tests.generation.stored_takes import claim, stored_take


def materialize(stack: Stack, *assets: str) -> dict[str, dg.AssetMaterialization]:
    result = stack.materialize(assets, [None])  # type: ignore[list-item]
    assert result.success
    return {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def rows_of(stack: Stack) -> list[dict[str, object]]:
    body = stack.root.read("reports/generation_costs.parquet")
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    return rows


def generate(stack: Stack) -> None:
    stack.run_job("request_clips")
    stack.run_job("collect_clips")


def test_the_sums_equal_the_manifests(stack: Stack) -> None:
    stack.write(
        {"id": "fox", "recipes": ["night"], "tags": ["animal", "forest"]},
        {"id": "owl", "number_results": 2, "tags": ["animal"], "model": "openai:3@1"},
        recipes={"night": "the same at night"},
    )
    generate(stack)
    events = materialize(stack, "generation_costs", "cost_report")
    manifests = list(stored_manifests(stack.root))
    paid = math.fsum(manifest.cost_usd for manifest in manifests)
    assert len(manifests) == 3
    assert paid > 0
    rows = rows_of(stack)
    assert math.fsum(float(str(row["cost_usd"])) for row in rows) == pytest.approx(paid)
    costs = events["generation_costs"].metadata
    assert costs["total_usd"].value == pytest.approx(paid)
    assert costs["dagster/row_count"].value == 3
    report = events["cost_report"].metadata
    for table in ("by_day", "by_model", "by_dataset"):
        records = report[table].value.records  # type: ignore[union-attr]
        total = math.fsum(record.data["total_usd"] for record in records)
        assert total == pytest.approx(paid), table
    models = {
        record.data["model"]
        for record in report["by_model"].value.records  # type: ignore[union-attr]
    }
    assert models == {"Sora 2 Pro", "Sora 2"}
    # A task counts under each of its tags; the remix has those of its clip.
    by_tag = {
        record.data["tag"]: record.data["tasks"]
        for record in report["by_tag"].value.records  # type: ignore[union-attr]
    }
    assert by_tag == {"animal": 3, "forest": 2}


def test_a_row_has_all_facts_of_its_task(stack: Stack) -> None:
    stack.write({"id": "fox", "size": "1280x720", "duration": 4, "tags": ["animal"]})
    generate(stack)
    materialize(stack, "generation_costs")
    [row] = rows_of(stack)
    manifest = stack.ledger.latest_manifest("clips", "fox")
    assert manifest is not None
    expected = {
        "task_uuid": manifest.task_uuid,
        "dataset": "default",
        "asset": "clips",
        "partition": "fox",
        "take": 1,
        "attempt": 1,
        "model": "openai:3@2",
        "width": 1280,
        "height": 720,
        "results": 1,
        "estimate_usd": manifest.estimate.usd,
        "cost_usd": manifest.cost_usd,
        "outcome": "done",
        "wasted": "",
        "run_id": manifest.root_run,
        "tags": ["animal"],
    }
    assert {name: row[name] for name in expected} == expected
    assert row["seconds"] == pytest.approx(4, abs=0.1)


def test_what_a_later_take_replaced_is_wasted(stack: Stack) -> None:
    stack.write({"id": "fox"})
    generate(stack)
    stack.write({"id": "fox", "prompt": "another fox", "take": 2})
    generate(stack)
    materialize(stack, "generation_costs", "cost_report", "gallery")
    assert [(row["take"], row["wasted"]) for row in rows_of(stack)] == [
        (1, "superseded"),
        (2, ""),
    ]


def test_what_failed_and_was_charged_is_wasted(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "safety", "prompt_contains": "owl"})
    stack.write({"id": "fox"}, {"id": "owl"})
    generate(stack)
    events = materialize(stack, "generation_costs", "gallery")
    charged = math.fsum(charge["cost"] for charge in sandbox.ledger()["charges"])
    assert events["generation_costs"].metadata["wasted_usd"].value > 0  # type: ignore[operator]
    assert events["generation_costs"].metadata["total_usd"].value == pytest.approx(charged)
    page = stack.root.read(gallery_key("default")).decode()
    assert '"state":"failed"' in page
    assert events["gallery"].metadata["failed"].value == 1


def test_outstanding_costs_are_counted_separately(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    events = materialize(stack, "generation_costs")
    metadata = events["generation_costs"].metadata
    assert metadata["total_usd"].value == 0
    assert metadata["outstanding_usd"].value == pytest.approx(1.2)
    assert rows_of(stack)[0]["outcome"] == "outstanding"


def test_the_report_shows_a_small_plot_and_stores_a_large_one(stack: Stack) -> None:
    stack.write({"id": "fox"})
    generate(stack)
    plot = materialize(stack, "generation_costs", "cost_report")["cost_report"].metadata["plot"]
    text = str(plot.value)
    assert text.startswith("![spending](data:image/png;base64,")
    assert len(text) < 6000
    large = Image.open(io.BytesIO(stack.root.read("reports/cost_report.png")))
    assert large.size == (1320, 480)


def test_an_empty_root_has_empty_reports(stack: Stack) -> None:
    stack.write({"id": "fox"})
    events = materialize(stack, "generation_costs", "cost_report", "gallery")
    assert events["generation_costs"].metadata["total_usd"].value == 0
    assert events["gallery"].metadata["clips"].value == 0


def test_the_gallery_shows_every_clip_with_links_that_lead_to_it(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes={"night": "the same at night"})
    generate(stack)
    event = materialize(stack, "gallery")["gallery"]
    assert event.metadata["clips"].value == 2
    page = stack.root.read(gallery_key("default")).decode()
    for manifest in stored_manifests(stack.root):
        assert f'"../../{manifest.videos[0].key}"' in page
        assert f'"../../{manifest.poster_key}"' in page
        assert stack.root.exists(manifest.videos[0].key)


def test_datasets_in_one_storage_root_have_separate_reports(stack: Stack, ledger: Ledger) -> None:
    stack.storage_url = ledger.root.url
    stored_take(ledger, "fox")
    stored_take(ledger, "owl", asset="trailers/clips", dataset="trailers")
    claim(ledger, "hare", asset="trailers/clips", dataset="trailers")
    for name, outstanding_usd in [("default", 0), ("trailers", 1.2)]:
        dataset = VideoDataset(stack.prompts_path, name)
        result = dg.materialize(
            [build_report_assets(dataset)],
            instance=stack.instance,
            resources={"clip_storage": ClipStorageResource(url=ledger.root.url)},
        )
        costs, report = (
            next(
                event.step_materialization_data.materialization
                for event in result.get_asset_materialization_events()
                if event.asset_key == dataset.asset_key(asset)
            )
            for asset in ("generation_costs", "cost_report")
        )
        assert costs.metadata["total_usd"].value == pytest.approx(1.2)
        assert costs.metadata["outstanding_usd"].value == pytest.approx(outstanding_usd)
        lines = report.metadata["by_dataset"].value.records  # type: ignore[union-attr]
        assert [line.data["dataset"] for line in lines] == [name]
    pages = {name: ledger.root.read(gallery_key(name)).decode() for name in ("default", "trailers")}
    assert '"clip":"fox"' in pages["default"]
    assert '"clip":"owl"' not in pages["default"]
    assert '"clip":"owl"' in pages["trailers"]
    assert '"clip":"fox"' not in pages["trailers"]


def test_the_storyboards_of_a_code_location_are_counted_with_its_dataset(
    stack: Stack, ledger: Ledger
) -> None:
    stack.storage_url = ledger.root.url
    stack.write({"id": "fox"})
    stack.write_board({"id": "pond", "prompt": "a pond"})
    stored_take(ledger, "fox")
    stored_take(ledger, "pond", asset="glade/pond", dataset="glade")
    stored_take(ledger, "pond", asset="elsewhere/pond", dataset="elsewhere")
    events = materialize(stack, "generation_costs", "cost_report", "gallery")
    assert events["gallery"].metadata["clips"].value == 2
    assert events["generation_costs"].metadata["dagster/row_count"].value == 2
    lines = events["cost_report"].metadata["by_dataset"].value.records  # type: ignore[union-attr]
    assert {line.data["dataset"] for line in lines} == {"default", "glade"}


def test_requests_have_the_name_of_their_dataset(stack: Stack, ledger: Ledger) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes={"night": "the same at night"})
    stack.write_board({"id": "pond", "prompt": "a pond"})
    dataset = VideoDataset(stack.prompts_path, "trailers")
    prompts = dataset.load_prompts()
    parent = stored_take(ledger, "fox", asset="trailers/clips", dataset="trailers")
    board = load_board(stack.boards[0], catalogue=dataset.catalogue)
    assert dataset.clip_request(prompts, "fox").dataset == "trailers"
    remix = dataset.remix_request(prompts, "fox", "night", parent, ledger.root)
    assert remix.dataset == "trailers"
    assert shot_request(board, board.shots[0], None).dataset == "glade"


def test_the_cost_assets_say_which_extra_they_need(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    stack.write({"id": "fox"})
    result = stack.definitions.resolve_job_def("make_reports").execute_in_process(
        instance=stack.instance, raise_on_error=False
    )
    assert not result.success
    [failure] = result.filter_events(
        lambda event: event.event_type is dg.DagsterEventType.STEP_FAILURE
    )
    assert failure_text(failure) == (
        'The table of costs needs matplotlib. Install with: pip install "sora-dagster[reports]"'
    )
    assert result.filter_events(
        lambda event: event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
    ), "the gallery is still made"


def test_a_gallery_that_cannot_be_written_leaves_the_costs(stack: Stack) -> None:
    stack.write({"id": "fox"})
    generate(stack)
    (stack.folder / "storage" / gallery_key("default") / "in-the-way").mkdir(parents=True)
    result = stack.definitions.resolve_job_def("make_reports").execute_in_process(
        instance=stack.instance, raise_on_error=False
    )
    assert not result.success
    made = {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    assert made == {"generation_costs", "cost_report"}
