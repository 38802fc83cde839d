"""The whole way with real processes on a bucket: put there by Runware, and downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sora_dagster.dataset import remix_partition
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import StorageRoot
from tests.demo import charges, finish, our_processes
from tests.media.probing import probe

pytestmark = pytest.mark.daemon

SMALL = """
clips:
  - {id: fox, prompt: a fox in snow, size: 1280x720, duration: 4, recipes: [night]}
  - {id: owl, prompt: an owl on a branch, size: 1280x720, duration: 4}
recipes: {night: the same at night}
"""
SECRETS = (b"X-Amz-Signature=", b"X-Amz-Credential=")


@pytest.mark.parametrize("delivery", ["direct", "download"])
def test_a_dataset_goes_from_rows_to_remixes_in_a_bucket(
    tmp_path: Path, s3_url: str, delivery: str
) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(SMALL)
    options = (f"--storage={s3_url}", f"--delivery={delivery}", "--latency=1")
    output = finish(tmp_path, prompts, *options)

    ledger = Ledger(StorageRoot(s3_url))
    stored = [
        ledger.latest_manifest(asset, clip)
        for asset, clip in (
            ("clips", "fox"),
            ("clips", "owl"),
            ("remixes", remix_partition("fox", "night")),
        )
    ]
    for manifest in stored:
        assert manifest is not None, output
        assert manifest.delivery == delivery
        with ledger.root.open(manifest.videos[0].key) as file:
            assert probe(file).duration_seconds == pytest.approx(4, abs=0.1)
    for folder in ("incoming", "pending", "inbox"):
        assert list(ledger.root.list(folder)) == []
    tasks = [charge["taskUUID"] for charge in charges(tmp_path)]
    assert sorted(tasks) == sorted(manifest.task_uuid for manifest in stored if manifest)

    # Nothing of it shows the addresses that allow others to write into the bucket.
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(written) > 10
    logs = [path for path in written if "sandbox" not in path.parts]
    leaks = [path for path in logs if any(secret in path.read_bytes() for secret in SECRETS)]
    assert leaks == []
    assert our_processes(tmp_path) == []
