"""The settings for the hosts that videos may be downloaded from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from sora_dagster.generation.collecting.tracked import ReadyTask
from sora_dagster.generation.fetching.download import Downloader, RefusedAddressError
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.settings import Settings
from tests.generation.ready_tasks import ready_task
from tests.generation.requesting import clip, request_clips
from tests.sandbox_server import KEY, Sandbox

ENVIRONMENT = {
    "SORA_RESULT_HOSTS": " CDN.example.com, media.example.org,",
    "SORA_RESULT_NETWORKS": "198.18.0.0/15, 10.0.0.7",
}
BAD_HOSTS = [
    "https://cdn.example.com",
    "cdn.example.com:443",
    "*.example.com",
    ".example.com",
    "a b",
]
BAD_NETWORKS = ["198.18.0.1/15", "198.18.0.0/33", "cdn.example.com", "10.0.0.0-10.0.0.9"]


def test_the_settings_come_from_the_environment_and_reach_child_processes() -> None:
    settings = Settings.from_environment(ENVIRONMENT)
    assert settings.result_hosts == ("cdn.example.com", "media.example.org")
    assert settings.result_networks == ("198.18.0.0/15", "10.0.0.7/32")
    child = Settings.from_environment(settings.to_environment())
    assert child.result_hosts == settings.result_hosts
    assert child.result_networks == settings.result_networks


def test_nothing_is_allowed_by_default() -> None:
    settings = Settings.from_environment({})
    assert settings.result_hosts == settings.result_networks == ()
    assert not {"SORA_RESULT_HOSTS", "SORA_RESULT_NETWORKS"} & set(settings.to_environment())


@pytest.mark.parametrize("value", BAD_HOSTS)
def test_a_bad_host_is_a_clear_error(value: str) -> None:
    for make in (
        lambda: Settings.from_environment({"SORA_RESULT_HOSTS": value}),
        lambda: RunwareResource(result_hosts=[value]),
        lambda: Downloader(api_base_url="https://api.runware.ai/v1", result_hosts=[value]),
    ):
        with pytest.raises(ValueError, match=r"is not a host name.*SORA_RESULT_HOSTS") as error:
            make()
        assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", BAD_NETWORKS)
def test_a_bad_network_is_a_clear_error(value: str) -> None:
    for make in (
        lambda: Settings.from_environment({"SORA_RESULT_NETWORKS": value}),
        lambda: RunwareResource(result_networks=[value]),
        lambda: Downloader(api_base_url="https://api.runware.ai/v1", result_networks=[value]),
    ):
        with pytest.raises(ValueError, match=r"is not a network.*SORA_RESULT_NETWORKS") as error:
            make()
        assert repr(value) in str(error.value)


def test_the_resource_takes_environment_variables() -> None:
    resource = RunwareResource(result_hosts=[dg.EnvVar("CDN"), "cdn.example.com"])
    assert len(resource.result_hosts) == 2


def with_url(ready: ReadyTask, url: str) -> ReadyTask:
    results = [result.model_copy(update={"video_url": url}) for result in ready.status.results]
    return replace(ready, status=replace(ready.status, results=tuple(results)))


def test_a_clip_whose_address_was_refused_stays_outstanding_and_is_stored_later(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    settings = Settings(
        base_url=sandbox.base_url,
        result_hosts=("localhost", "cdn.example.com"),
        result_networks=("198.18.0.0/15",),
    )
    resource = settings.runware().model_copy(update={"poll_first_seconds": 0.2})
    with resource.generator(ClipStorageResource(url=str(tmp_path / "storage"))) as generator:
        request_clips(generator, clip())
        ready = ready_task(generator)
        with pytest.raises(RefusedAddressError, match=r"runware\.ai, localhost, cdn\.example\.com"):
            generator.archive.store(with_url(ready, "https://example.net/a.mp4"))
        with pytest.raises(RefusedAddressError, match=r"public addresses, 198\.18\.0\.0/15"):
            generator.archive.store(with_url(ready, "https://localhost/a.mp4"))
        assert list(generator.ledger.pending.tasks(DEFAULT_DATASET)) == [ready.attempt.task_uuid]
        assert generator.archive.store(ready).manifest is not None
