"""The keys of the protocol's objects below the storage root."""

from __future__ import annotations

import hashlib
import re
from datetime import date

ROOT_KEY = "root.json"
DATASETS_FOLDER = "datasets"
PENDING_FOLDER = "pending"
STORED_FOLDER = "stored"
STUCK_FOLDER = "stuck"
NOTES_FOLDER = "notes"
UNDECIDED_FOLDER = "undecided"
STATUS_FOLDER = "status"
INBOX_FOLDER = "inbox"
CLAIMS_FOLDER = "claims"
BUDGET_FOLDER = "budget"
BUDGET_SUMMARIES_FOLDER = "budget-summaries"
INCOMING_FOLDER = "incoming"
RESTORE_PREFIX = f"{INCOMING_FOLDER}/restore-"
CLIPS_FOLDER = "clips"
SLOTS_FOLDER = "slots"
TASKS_FOLDER = "tasks"
GALLERY_FOLDER = "gallery"
REPORTS_FOLDER = "reports"
LAST_FRAMES_FOLDER = "last-frames"
IMAGES_FOLDER = "images"
REMOVED_FOLDER = "removed"
PROMPTS_FOLDER = "prompts"
FOLDERS_WITHOUT_CLIPS = frozenset(
    {"clock", GALLERY_FOLDER, PROMPTS_FOLDER, REMOVED_FOLDER, REPORTS_FOLDER}
)

ATTEMPT_KEY = re.compile(
    rf"{SLOTS_FOLDER}/(?P<asset>[^/]+)/(?P<clip>[^/]+)"
    r"/take-(?P<take>\d+)/attempt-(?P<attempt>\d+)\.json"
)
MANIFEST_KEY = re.compile(rf"{CLIPS_FOLDER}/[^/]+/[^/]+/take-\d+/clip\.json")
_PLAIN = re.compile(r"[a-z0-9_]+")
_NOT_SLUG = re.compile(r"[^A-Za-z0-9_.]+")
_BUDGET_ENTRY = re.compile(rf"{BUDGET_FOLDER}/.+/(\d{{8}})\.json")


def segment(name: str) -> str:
    """A name of the user's as one folder name: readable, safe, and different for each name.

    Plain lower-case names stay as they are; any other gets a hash, so that ``A`` and ``a`` stay
    apart on a case-insensitive disk and no name can leave its folder.

    >>> segment("clips"), segment("../etc/x")
    ('clips', 'etc-x-2215be8e04')
    """
    if _PLAIN.fullmatch(name) and len(name) <= 60:
        return name
    slug = _NOT_SLUG.sub("-", name).strip("-.")[:60].replace("..", "-")
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def slot_folder(asset: str, clip: str) -> str:
    """Folder of all takes and attempts of one clip."""
    return f"slots/{segment(asset)}/{segment(clip)}"


def attempt_key(asset: str, clip: str, take: int, attempt: int) -> str:
    """Key of the record of one attempt."""
    return f"{slot_folder(asset, clip)}/take-{take}/attempt-{attempt}.json"


def task_folder(task_uuid: str) -> str:
    """Folder of all facts about one task."""
    return f"tasks/{task_uuid}"


def task_key(task_uuid: str, name: str) -> str:
    """Key of a fact about one task: ``sent-1``, ``seen``, ``outcome-0``, ``reopened-1``."""
    return f"{task_folder(task_uuid)}/{name}.json"


def dataset_key(dataset: str) -> str:
    """Key of the record of a dataset's name."""
    return f"{DATASETS_FOLDER}/{segment(dataset)}.json"


def dataset_folder(folder: str, dataset: str) -> str:
    """Folder of one dataset in a folder that has one for each, such as `PENDING_FOLDER`."""
    return f"{folder}/{segment(dataset)}"


def pending_key(dataset: str, task_uuid: str, reopening: int = 0) -> str:
    """Key of a task's entry in the index of what is outstanding.

    Each reopening of a task has its own entry, so that closing one never closes the next.
    """
    return f"{dataset_folder(PENDING_FOLDER, dataset)}/{task_uuid}.{reopening}"


def remixes_due_key(dataset: str, task_uuid: str) -> str:
    """Key of the entry, in the same index, of a stored clip whose remixes are not requested yet."""
    return f"{dataset_folder(PENDING_FOLDER, dataset)}/{task_uuid}.remixes"


def remix_key(task_uuid: str, recipe: str, fingerprint: str) -> str:
    """Key of the record that a remix of a task's video was requested.

    Arguments:
        task_uuid: the task that the parent video came from.
        recipe: name of the recipe.
        fingerprint: hash of all that decides what the remix is.
    """
    identity = hashlib.sha256(f"{recipe}\0{fingerprint}".encode()).hexdigest()[:16]
    return task_key(task_uuid, f"remix-{identity}")


def stuck_key(dataset: str, task_uuid: str) -> str:
    """Key of a task that cannot be collected because one of its records cannot be read."""
    return f"{dataset_folder(STUCK_FOLDER, dataset)}/{task_uuid}.json"


def note_key(dataset: str, task_uuid: str) -> str:
    """Key of the note why an outstanding task is slow or cannot be stored yet."""
    return f"{dataset_folder(NOTES_FOLDER, dataset)}/{task_uuid}.json"


def undecided_key(dataset: str, task_uuid: str) -> str:
    """Key of a task that may have been paid for and has no video."""
    return f"{dataset_folder(UNDECIDED_FOLDER, dataset)}/{task_uuid}.json"


def collection_key(dataset: str) -> str:
    """Key of the record of a dataset's last collection."""
    return f"{dataset_folder(STATUS_FOLDER, dataset)}.json"


def stored_clip_folder(dataset: str, clip: str) -> str:
    """Folder of a clip's entries in the index of what is stored."""
    return f"{dataset_folder(STORED_FOLDER, dataset)}/{segment(clip)}"


def stored_key(dataset: str, clip: str, take: int, fingerprint: str, size_bytes: int) -> str:
    """Key of an entry in the index of what is stored; it has no content."""
    return f"{stored_clip_folder(dataset, clip)}/{take}.{fingerprint}.{size_bytes}"


def asset_folder(asset: str) -> str:
    """Folder of all stored clips of one asset."""
    return f"{CLIPS_FOLDER}/{segment(asset)}"


def take_folder(asset: str, clip: str, take: int) -> str:
    """Folder of a take's videos, poster and manifest."""
    return f"{asset_folder(asset)}/{segment(clip)}/take-{take}"


def manifest_key(asset: str, clip: str, take: int) -> str:
    """Key of a take's manifest."""
    return f"{take_folder(asset, clip, take)}/clip.json"


def pruned_key(asset: str, clip: str, take: int) -> str:
    """Key of the record of a take whose videos were removed."""
    return f"{take_folder(asset, clip, take)}/pruned.json"


def take_file_key(asset: str, clip: str, take: int, name: str, nonce: str) -> str:
    """Key of a picture of a take, under a name that only one writer has.

    >>> take_file_key("clips", "fox", 1, "poster.jpg", "5a1e")
    'clips/clips/fox/take-1/poster-5a1e.jpg'
    """
    stem, _, extension = name.rpartition(".")
    return f"{take_folder(asset, clip, take)}/{stem}-{nonce}.{extension}"


def video_key(asset: str, clip: str, take: int, video_uuid: str, extension: str, nonce: str) -> str:
    """Key of one video, named by a hash of its id, since ids from outside are no file names.

    The nonce is the writer's: two processes that store the same video never share an object.
    """
    name = hashlib.sha256(video_uuid.encode()).hexdigest()[:16]
    return take_file_key(asset, clip, take, f"{name}.{extension}", nonce)


def incoming_key(task_uuid: str) -> str:
    """Key that Runware uploads a task's video to with direct delivery."""
    return f"{INCOMING_FOLDER}/{task_uuid}"


def restore_key(nonce: str) -> str:
    """Key that a video is fetched to again, before its hash is compared with the recorded one."""
    return f"{RESTORE_PREFIX}{nonce}"


def inbox_folder(dataset: str, task_uuid: str | None = None) -> str:
    """Folder of the markers of a dataset, or of one of its tasks."""
    folder = dataset_folder(INBOX_FOLDER, dataset)
    return folder if task_uuid is None else f"{folder}/{task_uuid}"


def inbox_key(dataset: str, task_uuid: str, body_hash: str) -> str:
    """Key of a marker; the same body lands on the same key."""
    return f"{inbox_folder(dataset, task_uuid)}/{body_hash}"


def day_log(day: date) -> str:
    """Name of the spending log of a day (UTC)."""
    return day.isoformat()


def run_log(root_run: str) -> str:
    """Name of the spending log of a root run."""
    return f"runs/{segment(root_run)}"


def budget_folder(log: str) -> str:
    """Folder of a spending log's entries."""
    return f"{BUDGET_FOLDER}/{log}"


def budget_key(log: str, number: int) -> str:
    """Key of an entry of a spending log."""
    return f"{budget_folder(log)}/{number:08d}.json"


def budget_number(key: str) -> int | None:
    """Number of the entry of a spending log at a key; None if no entry can be there."""
    match = _BUDGET_ENTRY.fullmatch(key)
    return None if match is None else int(match[1])


def budget_summary_folder(log: str) -> str:
    """Folder of the summaries of a spending log."""
    return f"{BUDGET_SUMMARIES_FOLDER}/{log}"


def budget_summary_key(log: str, number: int) -> str:
    """Key of the sums of a spending log, up to an entry."""
    return f"{budget_summary_folder(log)}/{number:08d}.json"


def last_frame_key(video_sha256: str) -> str:
    """Key of the last frame of a stored video, which continuations start from."""
    return f"{LAST_FRAMES_FOLDER}/{video_sha256}.jpg"


def gallery_key(dataset: str) -> str:
    """Key of the page that shows a dataset's clips."""
    return f"{GALLERY_FOLDER}/{segment(dataset)}/index.html"


def scan_key(dataset: str) -> str:
    """Key of the cache of the last scan for a dataset's gallery and costs."""
    return f"{REPORTS_FOLDER}/{segment(dataset)}/scan.jsonl.gz"


def removed_folder(asset: str) -> str:
    """Folder of the marks of clips whose rows were removed from the dataset."""
    return f"{REMOVED_FOLDER}/{segment(asset)}"


def removed_key(asset: str, clip: str) -> str:
    """Key of the mark of a clip whose row was removed from the dataset."""
    return f"{removed_folder(asset)}/{segment(clip)}"
