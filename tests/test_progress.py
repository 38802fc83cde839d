"""How far a dataset is, looked at on a real ledger: states, reasons and what would be bought."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest, OutcomeRecord
from sora_dagster.local.dataset_progress import DatasetProgress
from sora_dagster.local.progress import ClipProgress, ClipState, Purchase, count
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import end, store
from tests.store_faults import FaultyStore


class Dataset:
    """A dataset file and a storage root, and what became of asking for its clips."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.ledger = ledger
        self.path = folder / "prompts.yaml"
        self.dataset = VideoDataset(self.path)

    def write(self, clips: str, recipes: str = "{}") -> DatasetProgress:
        self.path.write_text(f"clips: [{clips}]\nrecipes: {recipes}\n")
        return self.progress()

    def progress(self) -> DatasetProgress:
        return DatasetProgress(self.ledger, self.dataset, self.dataset.load_prompts())

    def request(self, clip: str) -> ClipRequest:
        rows = self.dataset.load_prompts()
        clip_id, _, recipe = clip.partition("|")
        if not recipe:
            return self.dataset.clip_request(rows, clip_id)
        parent = self.ledger.latest_manifest("clips", clip_id)
        return self.dataset.remix_request(rows, clip_id, recipe, parent, self.ledger.root)

    def ask(self, clip: str, *, take: int = 1, attempt: int = 1) -> AttemptRecord:
        request = self.request(clip)
        record = AttemptRecord(
            request=request,
            take=take,
            attempt=attempt,
            fingerprint=request.spec.fingerprint,
            task_uuid=self.ledger.task_uuid(request.asset, request.clip, take, attempt),
            wire={},
            estimate=Price(usd=1.2, certainty="published"),
            root_run="run",
            run_limit_usd=None,
            created_at=datetime.now(UTC),
            nonce=self.ledger.new_nonce(),
        )
        self.ledger.claim_attempt(record)
        self.ledger.take_right_to_send(record.task_uuid)
        return record

    def store(self, clip: str, *, take: int = 1) -> ClipManifest:
        attempt = self.ask(clip, take=take)
        manifest = store(self.ledger, attempt)
        end(self.ledger, attempt)
        self.ledger.mark_stored(manifest)
        return manifest

    def fail(self, attempt: AttemptRecord, message: str) -> None:
        self.ledger.settle(
            attempt.task_uuid,
            OutcomeRecord(
                state="failed",
                cost_usd=0,
                errors=(ErrorRecord(kind="refused", message=message),),
                at=datetime.now(UTC),
                nonce=self.ledger.new_nonce(),
            ),
        )
        self.ledger.pending.remove(attempt.dataset, attempt.task_uuid)


@pytest.fixture
def dataset(tmp_path: Path, ledger: Ledger) -> Dataset:
    return Dataset(tmp_path, ledger)


FOX = "{id: fox, prompt: a fox}"
REMIXED = "{id: fox, prompt: a fox, recipes: [night]}"
NIGHT = "{night: the same at night}"


def by_name(progress: list[ClipProgress]) -> dict[str, ClipProgress]:
    return {clip.clip: clip for clip in progress}


def test_a_clip_waits_is_generated_and_is_stored(dataset: Dataset) -> None:
    watch = dataset.write(FOX)
    [fox] = watch.read()
    assert (fox.state, fox.purchase) == (ClipState.WAITING, Purchase.NEW)
    assert fox.price is not None
    assert fox.price.usd == pytest.approx(1.2)

    attempt = dataset.ask("fox")
    [fox] = watch.read(thorough=False)
    assert (fox.state, fox.purchase) == (ClipState.GENERATING, None)

    manifest = store(dataset.ledger, attempt)
    [fox] = watch.read(thorough=False)
    assert fox.state is ClipState.GENERATING, "it counts as stored once it is reported"
    end(dataset.ledger, attempt)
    [fox] = watch.read(thorough=False)
    assert (fox.state, fox.take) == (ClipState.STORED, 1)
    assert watch.manifests([fox]) == {("clips", "fox"): manifest}


def test_a_changed_row_is_stored_in_an_earlier_version(dataset: Dataset) -> None:
    dataset.write(FOX)
    dataset.store("fox")
    [fox] = dataset.write("{id: fox, prompt: a red fox}").read()
    assert (fox.state, fox.take, fox.purchase) == (ClipState.CHANGED, 1, Purchase.CHANGED)
    assert fox.changes == "its row"
    assert fox.price is not None
    assert fox.price.usd == pytest.approx(1.2)


def test_a_changed_row_that_is_to_be_generated_again_waits_for_its_new_take(
    dataset: Dataset,
) -> None:
    dataset.write(FOX)
    dataset.store("fox")
    watch = dataset.write("{id: fox, prompt: a red fox}")
    watch.read()
    watch.regenerates_changed = True
    assert [fox.state for fox in watch.read()] == [ClipState.WAITING]
    attempt = dataset.ask("fox", take=2)
    assert [fox.state for fox in watch.read(thorough=False)] == [ClipState.GENERATING]
    store(dataset.ledger, attempt)
    end(dataset.ledger, attempt)
    [fox] = watch.read(thorough=False)
    assert (fox.state, fox.take, fox.purchase) == (ClipState.STORED, 2, None)


def test_a_raised_take_waits_for_its_new_take_without_confirmation(dataset: Dataset) -> None:
    dataset.write(FOX)
    dataset.store("fox")
    [fox] = dataset.write("{id: fox, prompt: a fox, take: 2}").read()
    assert (fox.state, fox.purchase) == (ClipState.WAITING, Purchase.RAISED_TAKE)
    assert not fox.is_kept
    assert fox.price is not None
    assert fox.price.usd == pytest.approx(1.2)


def test_a_changed_recipe_is_a_changed_row_of_its_remixes(dataset: Dataset) -> None:
    dataset.write(REMIXED, NIGHT)
    dataset.store("fox")
    dataset.store("fox|night")
    assert [clip.state for clip in dataset.progress().read()] == [ClipState.STORED] * 2
    fox, remix = dataset.write(REMIXED, "{night: the same in moonlight}").read()
    assert fox.state is ClipState.STORED
    assert (remix.state, remix.purchase) == (ClipState.CHANGED, Purchase.CHANGED)
    assert "recipe" in remix.changes


def test_a_remix_of_an_earlier_video_of_its_clip_has_changed(dataset: Dataset) -> None:
    dataset.write(REMIXED, NIGHT)
    dataset.store("fox")
    dataset.store("fox|night")
    watch = dataset.write("{id: fox, prompt: a fox, take: 2, recipes: [night]}", NIGHT)
    fox, remix = watch.read()
    assert fox.purchase is Purchase.RAISED_TAKE
    assert (remix.state, remix.purchase) == (ClipState.STORED, Purchase.FOLLOWS)
    assert remix.price is not None
    assert remix.price.usd == pytest.approx(1.2)

    dataset.store("fox", take=2)
    fox, remix = watch.read()
    assert (fox.state, fox.take) == (ClipState.STORED, 2)
    assert (remix.state, remix.purchase) == (ClipState.CHANGED, Purchase.CHANGED)
    assert remix.changes == "the video of its parent fox"


def test_a_new_remix_of_a_clip_that_is_kept_is_made_with_its_new_take(dataset: Dataset) -> None:
    dataset.write(FOX)
    dataset.store("fox")
    watch = dataset.write("{id: fox, prompt: a red fox, recipes: [night]}", NIGHT)
    _, remix = watch.read()
    assert (remix.state, remix.purchase) == (ClipState.CHANGED, Purchase.FOLLOWS)
    assert "new take of fox" in remix.reason
    watch.regenerates_changed = True
    assert [clip.state for clip in watch.read()] == [ClipState.WAITING] * 2


def test_a_failed_clip_and_its_remix_have_the_reason(dataset: Dataset) -> None:
    watch = dataset.write(REMIXED, NIGHT)
    dataset.fail(dataset.ask("fox"), "the prompt was moderated")
    fox, remix = watch.read()
    assert fox.state is remix.state is ClipState.FAILED
    assert "the prompt was moderated" in fox.reason
    assert remix.reason == "its clip fox failed"


def test_a_retried_clip_is_generated_again(dataset: Dataset) -> None:
    watch = dataset.write(FOX)
    first = dataset.ask("fox")
    watch.read()
    dataset.ask("fox", attempt=2)
    dataset.fail(first, "the provider was busy")
    [fox] = watch.read(thorough=False)
    assert (fox.state, fox.reason) == (ClipState.GENERATING, "")


def test_a_changed_clip_whose_new_take_failed_counts_by_the_take_that_is_kept(
    dataset: Dataset,
) -> None:
    dataset.write(FOX)
    dataset.store("fox")
    dataset.write("{id: fox, prompt: a red fox}")
    dataset.fail(dataset.ask("fox", take=2), "the prompt was moderated")
    [fox] = dataset.write("{id: fox, prompt: a blue fox}").read()
    assert (fox.state, fox.take) == (ClipState.CHANGED, 1)


def test_a_slow_clip_has_the_reason_that_the_collecting_run_noted(dataset: Dataset) -> None:
    watch = dataset.write(f"{FOX}, {{id: owl, prompt: an owl}}")
    fox, owl = dataset.ask("fox"), dataset.ask("owl")
    watch.read()
    dataset.ledger.pending.note(fox, "its result host is refused by the address guard [/video/mp4]")
    found = by_name(watch.read(thorough=False))
    assert found["fox"].reason == "its result host is refused by the address guard [/video/mp4]"
    assert found["owl"].reason == ""
    assert watch.outstanding == {fox.task_uuid, owl.task_uuid}


def test_a_stuck_clip_failed_with_the_reason_and_the_command_to_continue(dataset: Dataset) -> None:
    watch = dataset.write(FOX)
    attempt = dataset.ask("fox")
    watch.read()
    entry = dataset.ledger.pending.tasks("default")[attempt.task_uuid]
    slot = dataset.ledger.root.uri(layout.attempt_key("clips", "fox", 1, 1))
    dataset.ledger.pending.mark_stuck(entry, f"{slot} cannot be read.")
    [fox] = watch.read(thorough=False)
    assert fox.state is ClipState.FAILED
    assert f"{slot} cannot be read." in fox.reason
    assert "sora-dagster resolve fox --retry" in fox.reason

    dataset.ledger.root.write(layout.attempt_key("clips", "fox", 1, 1), b"{")
    [fox] = watch.read()
    assert "sora-dagster resolve fox --retry" in fox.reason


def test_an_unreadable_record_does_not_affect_other_clips(dataset: Dataset) -> None:
    dataset.write(f"{FOX}, {{id: owl, prompt: an owl}}")
    dataset.ask("fox")
    dataset.store("owl")
    dataset.ledger.root.write(layout.attempt_key("clips", "fox", 1, 1), b"{")
    found = by_name(dataset.progress().read())
    assert found["owl"].state is ClipState.STORED
    assert found["fox"].state is ClipState.FAILED
    assert "attempt-1.json cannot be read" in found["fox"].reason


def test_a_lost_clip_names_both_options(dataset: Dataset) -> None:
    dataset.write(FOX)
    end(dataset.ledger, dataset.ask("fox"), "unsure")
    [fox] = dataset.progress().read()
    assert fox.state is ClipState.FAILED
    assert "sora-dagster resolve fox --resend, or with --give-up" in fox.reason
    assert fox.purchase is Purchase.RETRY


def test_a_deleted_record_and_a_deleted_video_fail_with_what_to_do(dataset: Dataset) -> None:
    dataset.write(f"{FOX}, {{id: owl, prompt: an owl}}")
    fox, owl = dataset.store("fox"), dataset.store("owl")
    dataset.ledger.root.delete(layout.manifest_key("clips", "fox", 1))
    dataset.ledger.root.delete(owl.videos[0].key)
    found = by_name(dataset.progress().read())
    assert found["fox"].state is found["owl"].state is ClipState.FAILED
    assert f"task {fox.task_uuid} ended with videos" in found["fox"].reason
    assert "Restore the take's folder from a backup" in found["fox"].reason
    assert dataset.ledger.root.uri(owl.videos[0].key) in found["owl"].reason
    assert "sora-dagster verify" in found["owl"].reason


def test_a_pruned_take_counts_as_stored(dataset: Dataset) -> None:
    dataset.write(FOX)
    manifest = dataset.store("fox")
    dataset.ledger.mark_pruned(manifest, pruned_at=datetime.now(UTC))
    dataset.ledger.root.delete(layout.manifest_key("clips", "fox", 1))
    dataset.ledger.root.delete(manifest.videos[0].key)
    assert [fox.state for fox in dataset.progress().read()] == [ClipState.STORED]


def test_reading_again_while_clips_are_generated_reads_no_records(
    tmp_path: Path, s3_url: str, watched: FaultyStore
) -> None:
    ledger = Ledger(StorageRoot(s3_url))
    ledger.bind(api_base_url="https://api.example.com/v1", account="account-1")
    dataset = Dataset(tmp_path, ledger)
    clips = [f"clip{number}" for number in range(30)]
    watch = dataset.write(", ".join(f"{{id: {clip}, prompt: a fox}}" for clip in clips))
    for clip in clips:
        dataset.ask(clip)
    assert count(watch.read(), ClipState.GENERATING) == len(clips)
    watched.seen.clear()
    assert count(watch.read(thorough=False), ClipState.GENERATING) == len(clips)
    assert len(watched.seen) == 3
