"""What the command refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sora_dagster.sandbox.command import sandbox_command


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_options(option: str) -> None:
    result = CliRunner().invoke(sandbox_command, [option])
    assert result.exit_code == 0
    assert "--latency" in result.output


def test_a_further_key_without_organization_is_refused() -> None:
    result = CliRunner().invoke(sandbox_command, ["--extra-key=other"])
    assert result.exit_code == 2
    assert "KEY=ORGANIZATION" in result.output


def test_an_invalid_fault_plan_is_refused_with_all_its_problems(tmp_path: Path) -> None:
    plan = tmp_path / "faults.yaml"
    plan.write_text("rules:\n- {fault: reset, nth: [0]}\n- {fault: nothing}\n")
    result = CliRunner().invoke(sandbox_command, [f"--faults={plan}"])
    assert result.exit_code == 2
    assert "rules[0].nth[0]" in result.output
    assert "rules[1]" in result.output


def test_a_fault_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(sandbox_command, [f"--faults={tmp_path / 'nowhere.yaml'}"])
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.output


def test_a_file_or_folder_of_models_that_is_wrong_is_named(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("- {air: 'maker:new@1'}\n")
    for given in (models, tmp_path):
        result = CliRunner().invoke(sandbox_command, [], env={"SORA_MODELS": str(given)})
        assert result.exit_code == 2
        assert "models.yaml" in result.output
    result = CliRunner().invoke(sandbox_command, [f"--models={tmp_path / 'nowhere.yaml'}"])
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.output
