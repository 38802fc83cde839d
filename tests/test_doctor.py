"""`sora-dagster doctor`: where settings come from, what works, and that nothing is paid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.cli.diagnosis import diagnose
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import StorageRoot
from sora_dagster.web.webhook import create_app
from tests.command_line import api_of, run_here
from tests.sandbox_server import Sandbox, free_port
from tests.serving import serving, silent_server

SECRET = "a secret of more than thirty-two characters"
REMOTE_API = "https://api.example.com/v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts.yaml").write_text(
        "clips:\n- {id: fox, prompt: a fox, recipes: [snow]}\n- {id: owl, prompt: an owl}\n"
        "recipes: {snow: in snow}\n"
    )
    return tmp_path


class Report:
    """What the command printed as JSON."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        result = run_here(folder, "doctor", "--json", *arguments, **environment)
        assert result.stdout, result.stderr
        self.text = result.stdout + result.stderr
        self.status = result.returncode
        self._printed: dict[str, Any] = json.loads(result.stdout)

    def check(self, name: str) -> dict[str, str]:
        """The only check of this name."""
        [found] = [check for check in self._printed["checks"] if check["name"] == name]
        return dict(found)

    def setting(self, variable: str) -> tuple[str, str]:
        """Value and source of a setting."""
        [row] = [row for row in self._printed["settings"] if row["variable"] == variable]
        return row["value"], row["source"]

    @property
    def failed(self) -> list[str]:
        checks = self._printed["checks"]
        return [check["name"] for check in checks if check["status"] == "failed"]


def working(folder: Path, sandbox: Sandbox, **environment: str) -> dict[str, str]:
    """An environment in which everything works, with changes."""
    return {
        **api_of(sandbox),
        "SORA_STORAGE": str(folder / "storage"),
        "SORA_PROMPTS": str(folder / "prompts.yaml"),
        **environment,
    }


def test_everything_works_and_nothing_is_paid_or_written(folder: Path, sandbox: Sandbox) -> None:
    charged = sandbox.charged()
    report = Report(folder, **working(folder, sandbox))
    assert (report.status, report.failed) == (0, [])
    assert "of account " in report.check("key")["sentence"]
    assert " USD." in report.check("balance")["sentence"]
    assert "not bound to an account yet" in report.check("account of the storage root")["sentence"]
    assert "2 clips and 1 remixes" in report.check("dataset")["sentence"]
    assert report.check("webhook")["sentence"].endswith("results are polled.")
    assert sandbox.charged() == charged
    assert list(StorageRoot(folder / "storage").list("")) == []


def test_the_table_shows_each_value_with_its_source_and_no_secret(
    folder: Path, sandbox: Sandbox
) -> None:
    (folder / ".env").write_text("SORA_MAX_USD=0.50\nSORA_MAX_USD_PER_DAY=7\n")
    environment = working(
        folder,
        sandbox,
        RUNWARE_API_KEY="wrong-key-0123456789",
        SORA_WEBHOOK_SECRET=SECRET,
        SORA_MAX_USD="9",
        SORA_VIEWER_URL="https://ann:opensesame@viewer.example.com/",
    )
    report = Report(folder, f"--storage={folder / 'other'}", **environment)
    assert report.setting("SORA_STORAGE") == ((folder / "other").resolve().as_uri(), "option")
    assert report.setting("SORA_PROMPTS") == (str(folder / "prompts.yaml"), "environment")
    assert report.setting("SORA_MAX_USD") == ("0.50", ".env")
    assert report.setting("SORA_MAX_USD_PER_DAY") == ("7", ".env")
    assert report.setting("SORA_VIEWER_URL") == ("https://viewer.example.com/", "environment")
    assert report.setting("SORA_WEBHOOK_WAIT") == ("30", "default")
    assert report.setting("RUNWARE_API_KEY") == ("set, shorter than 32", "environment")
    assert report.setting("SORA_WEBHOOK_SECRET")[0] == "set, 32 characters or more"
    assert report.check(".env")["status"] == "warning"
    assert "SORA_MAX_USD, SORA_MAX_USD_PER_DAY" in report.check(".env")["sentence"]
    for secret in ("wrong-key-0123456789", SECRET, "opensesame"):
        assert secret not in report.text


def test_without_a_key_everything_else_is_checked(folder: Path, sandbox: Sandbox) -> None:
    report = Report(folder, **working(folder, sandbox, RUNWARE_API_KEY=""))
    assert (report.status, report.failed) == (1, ["key"])
    assert "set RUNWARE_API_KEY" in report.check("key")["action"]
    assert report.check("API")["status"] == report.check("storage")["status"] == "ok"


def test_a_wrong_key_is_reported(folder: Path, sandbox: Sandbox) -> None:
    report = Report(folder, **working(folder, sandbox, RUNWARE_API_KEY="wrong-key-0123456789"))
    assert (report.status, report.failed) == (1, ["key"])


def test_an_api_that_cannot_be_reached_is_reported(folder: Path, sandbox: Sandbox) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    report = Report(folder, **working(folder, sandbox, RUNWARE_BASE_URL=url))
    assert (report.status, report.failed) == (1, ["API"])
    assert url in report.check("API")["sentence"]
    assert report.check("dataset")["status"] == "ok"


def test_an_api_that_never_answers_does_not_hold_the_command_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_server() as url:
        monkeypatch.setenv("RUNWARE_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("SORA_STORAGE", str(folder / "storage"))
        found = diagnose({}, folder=folder, check_seconds=0.2)
    [check] = [check for check in found.checks if check.name == "API"]
    assert (check.status, check.sentence) == ("failed", "There was no result within 0.2 s.")
    assert not found.is_ok


def test_all_wrong_values_are_reported_at_once_and_the_rest_is_checked(
    folder: Path, sandbox: Sandbox
) -> None:
    environment = working(folder, sandbox, SORA_MAX_USD="much", SORA_DELIVERY="pigeon")
    result = run_here(folder, "doctor", **environment)
    assert result.returncode == 1
    assert "failed  settings: SORA_MAX_USD: 'much' is not a spending limit" in result.stdout
    assert "failed  settings: SORA_DELIVERY" in result.stdout
    assert "ok      dataset:" in result.stdout


def test_a_storage_root_of_another_api_is_reported_and_left_as_it_is(
    folder: Path, sandbox: Sandbox
) -> None:
    Ledger(StorageRoot(folder / "storage")).bind(api_base_url=REMOTE_API, account="account-1")
    report = Report(folder, **working(folder, sandbox))
    assert (report.status, report.failed) == (1, ["account of the storage root"])
    assert REMOTE_API in report.check("account of the storage root")["sentence"]
    assert [info.key for info in StorageRoot(folder / "storage").list("")] == ["root.json"]


def test_a_folder_with_other_files_is_no_storage_root(folder: Path, sandbox: Sandbox) -> None:
    (folder / "storage").mkdir()
    (folder / "storage" / "thesis.txt").touch()
    report = Report(folder, **working(folder, sandbox))
    assert report.failed == ["account of the storage root"]
    assert "thesis.txt" in report.check("account of the storage root")["sentence"]


def test_a_storage_root_that_cannot_be_written_is_reported(folder: Path, sandbox: Sandbox) -> None:
    (folder / "storage").touch()
    assert Report(folder, **working(folder, sandbox)).failed == ["storage"]


def test_direct_delivery_to_a_folder_is_reported_as_impossible(
    folder: Path, sandbox: Sandbox
) -> None:
    report = Report(folder, **working(folder, sandbox, SORA_DELIVERY="direct"))
    assert report.failed == ["delivery"]


def test_a_bucket_that_can_sign_gets_its_videos_directly(
    folder: Path, sandbox: Sandbox, s3_url: str
) -> None:
    report = Report(folder, **working(folder, sandbox, SORA_STORAGE=s3_url))
    assert report.failed == []
    assert "straight to the storage root" in report.check("delivery")["sentence"]


def test_a_receiver_of_the_same_storage_root_is_fine_and_of_another_is_not(
    folder: Path, sandbox: Sandbox
) -> None:
    own, other = StorageRoot(folder / "storage"), StorageRoot(folder / "other")
    for root in (own, other):
        Ledger(root).bind(api_base_url=sandbox.base_url, account=None)
    environment = working(folder, sandbox, SORA_WEBHOOK_SECRET=SECRET)
    with serving(create_app(own, SECRET)) as url:
        report = Report(folder, **environment, SORA_WEBHOOK_URL=f"{url}/runware/")
    assert report.failed == []
    assert "has the same storage root" in report.check("webhook receiver")["sentence"]
    with serving(create_app(own, "another secret of the receiver")) as url:
        report = Report(folder, **environment, SORA_WEBHOOK_URL=f"{url}/runware")
    assert report.failed == ["webhook receiver"]
    assert "different SORA_WEBHOOK_SECRET" in report.check("webhook receiver")["sentence"]
    with serving(create_app(other, SECRET)) as url:
        report = Report(folder, **environment, SORA_WEBHOOK_URL=f"{url}/runware")
    assert report.failed == ["webhook receiver"]
    assert "different storage root" in report.check("webhook receiver")["sentence"]


def test_a_webhook_address_that_cannot_work_is_reported(folder: Path, sandbox: Sandbox) -> None:
    environment = working(folder, sandbox, SORA_WEBHOOK_SECRET=SECRET)
    report = Report(folder, **environment, SORA_WEBHOOK_URL="hooks.example.com")
    assert report.failed == ["webhook"]
    url = f"http://127.0.0.1:{free_port()}/runware"
    report = Report(folder, **environment, SORA_WEBHOOK_URL=url)
    assert report.failed == ["webhook receiver"]
    report = Report(folder, **{**environment, "SORA_WEBHOOK_SECRET": "short"}, SORA_WEBHOOK_URL=url)
    assert report.failed == ["webhook"]
    assert "openssl rand -hex 32" in report.check("webhook")["sentence"]


def test_models_that_cannot_be_used_and_a_retired_default_are_reported(
    folder: Path, sandbox: Sandbox
) -> None:
    assert Report(folder, **working(folder, sandbox)).check("default model")["status"] == "warning"
    report = Report(folder, **working(folder, sandbox, SORA_MODEL="veo-9"))
    assert report.failed == ["models"]
    report = Report(folder, **working(folder, sandbox, SORA_MODELS=str(folder / "missing.yaml")))
    assert report.failed == ["models"]
    assert "missing.yaml" in report.check("models")["sentence"]


def test_mistakes_in_the_dataset_are_reported(folder: Path, sandbox: Sandbox) -> None:
    (folder / "prompts.yaml").write_text("- {id: fox}\n")
    report = Report(folder, **working(folder, sandbox))
    assert report.failed == ["dataset"]
    assert "prompt" in report.check("dataset")["sentence"]
