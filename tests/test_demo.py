"""The whole way with real processes: sandbox, receiver, Dagster daemon, and the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sora_dagster.environment.values import example_prompts
from sora_dagster.local.home import LocalHome
from sora_dagster.local.processes import wait_until
from sora_dagster.local.stack import local_runware
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.settings import Settings
from tests.demo import SMALL, charges, demo, finish, ledger_of, manifests, our_processes
from tests.media.probing import probe

pytestmark = pytest.mark.daemon


def test_the_example_dataset_goes_from_rows_to_stored_remixes_by_webhook_and_sensor(
    tmp_path: Path,
) -> None:
    dataset = load_dataset(example_prompts(), catalogue=Catalogue.builtin())
    output = finish(tmp_path, example_prompts(), "--latency=1")
    stored = manifests(tmp_path, dataset)
    assert all(stored.values()), output

    # Only what the dataset asks for was bought, in one POST for the clips and one for the remixes.
    assert len(charges(tmp_path)) == len(dataset.clips) + len(dataset.remix_cells)
    assert "2 submissions" in output
    assert f"{sum(charge['cost'] for charge in charges(tmp_path)):.2f} USD in total" in output

    # The page that the output names shows every clip.
    [page] = re.findall(r"Gallery: file://(\S+)", output)
    for manifest in stored.values():
        assert manifest is not None
        assert manifest.videos[0].key in Path(page).read_text()

    # Everything went by webhook: no poll was made before a marker came, and none is left.
    root = ledger_of(tmp_path).root
    for folder in ("pending", "inbox"):
        assert list(root.list(folder)) == []
    log = (tmp_path / "home" / "logs" / "daemon.log").read_text()
    assert re.search(r"outstanding, [1-9]\d* webhooks? ha(ve|s) arrived", log)

    # Every video decodes to its end, and is what was asked for.
    for clip, manifest in stored.items():
        assert manifest is not None
        spec = manifest.request.spec
        for video in manifest.videos:
            with root.open(video.key) as file:
                media = probe(file)
            if spec.size is not None:
                assert (media.width, media.height) == spec.size, clip
            if spec.duration_seconds is not None:
                assert media.duration_seconds == pytest.approx(
                    spec.duration_seconds, abs=1 / media.frames_per_second
                )
            has_sound = Catalogue.builtin().get(spec.model).makes_sound(spec.audio)
            assert (media.audio_codec is not None) == has_sound, clip
        assert len(manifest.videos) == spec.number_results

    # A second pass over the unchanged dataset requests nothing and pays nothing.
    again = finish(tmp_path, example_prompts())
    assert "Nothing was generated or paid" in again
    assert "0 submissions" in again
    assert len(charges(tmp_path)) == len(stored)
    assert our_processes(tmp_path) == []


def test_the_local_runware_has_the_same_address_the_next_time(tmp_path: Path) -> None:
    # A collecting run that outlived a demo that was killed polls it there.
    home, settings = LocalHome(tmp_path / "home"), Settings(prompts_path=str(example_prompts()))
    addresses = []
    for _ in range(2):
        with local_runware(home, settings, latency_seconds=1) as (local, _):
            addresses.append(local.base_url)
    assert addresses[0] == addresses[1]


def test_two_demos_in_one_folder_are_refused(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(SMALL)
    with demo(tmp_path, prompts) as first:
        assert wait_until(
            lambda: (
                (tmp_path / "home" / "lock").exists()
                and (tmp_path / "home" / "lock").read_text() == str(first.pid)
            ),
            timeout_seconds=60,
        )
        with demo(tmp_path, prompts) as second:
            assert second.wait(timeout=60) == 1
    assert "is in use" in (tmp_path / "output.txt").read_text()
