"""Notes and stuck tasks that are looked at again and again."""

from __future__ import annotations

from sora_dagster.generation.collecting.context import CollectionReport
from sora_dagster.generation.collecting.problem_reporter import ProblemReporter
from sora_dagster.generation.collecting.tracked import TrackedTask
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_folder import note_folder, stuck_folder
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import claim
from tests.store_faults import FaultyStore


def bound(url: str) -> Ledger:
    ledger = Ledger(StorageRoot(url))
    ledger.bind(api_base_url="https://api.example.com/v1", account="account-1")
    return ledger


def test_looking_again_reads_only_the_notes_that_changed(s3_url: str, watched: FaultyStore) -> None:
    ledger = bound(s3_url)
    fox, owl = claim(ledger, "fox"), claim(ledger, "owl")
    for attempt in (fox, owl):
        ledger.pending.note(attempt, "it is slow")
    notes = note_folder(ledger, "default")
    assert {note.clip for note in notes.read().values() if note} == {"fox", "owl"}

    watched.seen.clear()
    notes.read()
    assert [request.key.count("/notes/") for request in watched.seen] == [0]

    ledger.pending.note(owl, "its host is refused by the address guard")
    watched.seen.clear()
    read = notes.read()
    assert sum("/notes/" in request.key for request in watched.seen) == 1
    assert {note.reason for note in read.values() if note} == {
        "it is slow",
        "its host is refused by the address guard",
    }

    ledger.pending.remove_note("default", fox.task_uuid)
    assert list(notes.read()) == [owl.task_uuid]


def test_a_damaged_note_takes_no_other_with_it(ledger: Ledger) -> None:
    fox, owl = claim(ledger, "fox"), claim(ledger, "owl")
    ledger.pending.note(fox, "it is slow")
    ledger.root.write(f"notes/default/{owl.task_uuid}.json", b"{")
    read = note_folder(ledger, "default").read()
    assert read[owl.task_uuid] is None
    assert read[fox.task_uuid] is not None


def test_stuck_tasks_are_found_by_task(ledger: Ledger) -> None:
    fox = claim(ledger, "fox")
    ledger.pending.mark_stuck(
        ledger.pending.tasks("default")[fox.task_uuid], "its slot cannot be read"
    )
    [(uuid, record)] = stuck_folder(ledger, "default").read().items()
    assert uuid == fox.task_uuid
    assert record is not None
    assert record.reason == "its slot cannot be read"
    assert record.pending is not None
    assert record.pending.clip == "fox"


def test_no_note_stays_when_its_task_has_ended(ledger: Ledger) -> None:
    fox, owl = claim(ledger, "fox"), claim(ledger, "owl")
    warnings: list[str] = []
    stopped = ProblemReporter(ledger, CollectionReport(), warnings.append)
    [entry] = (e for e in ledger.pending.tasks("default").values() if e.task_uuid == fox.task_uuid)
    task = TrackedTask(entry, fox, ledger.task_files(fox.task_uuid), "run", is_seen=True)

    stopped.note(task, "it is slow")
    assert ledger.pending.noted_tasks("default") == {fox.task_uuid}

    # While a process was stopped, another one ended its task; then it writes one more note.
    ledger.pending.remove("default", fox.task_uuid)
    stopped.note(task, "its video cannot be fetched")
    assert ledger.pending.noted_tasks("default") == set()

    # A process was killed between its note and the end of the task; that of owl is outstanding.
    for attempt in (fox, owl):
        ledger.pending.note(attempt, "it is slow")
    ProblemReporter(ledger, CollectionReport(), warnings.append).load_notes("default")
    assert ledger.pending.noted_tasks("default") == {owl.task_uuid}
