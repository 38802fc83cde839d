"""Where each object of the protocol lies below the storage root."""

from __future__ import annotations

import hashlib
import re
from datetime import date

ROOT_KEY = "root.json"
PENDING_FOLDER = "pending"
INBOX_FOLDER = "inbox"
QUARANTINE_FOLDER = "quarantine"
LEASE_FOLDER = "lease"
BUDGET_FOLDER = "budget"
BUDGET_SUMMARIES_FOLDER = "budget-summaries"
INCOMING_FOLDER = "incoming"
CLIPS_FOLDER = "clips"
SLOTS_FOLDER = "slots"
TASKS_FOLDER = "tasks"

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
    """Key of what was asked in one attempt."""
    return f"{slot_folder(asset, clip)}/take-{take}/attempt-{attempt}.json"


def task_folder(task_uuid: str) -> str:
    """Folder of all facts about one task."""
    return f"tasks/{task_uuid}"


def task_key(task_uuid: str, name: str) -> str:
    """Key of a fact about one task: ``sent-1``, ``seen`` or ``outcome``."""
    return f"{task_folder(task_uuid)}/{name}.json"


def pending_key(task_uuid: str) -> str:
    """Key of a task's entry in the index of what is outstanding."""
    return f"{PENDING_FOLDER}/{task_uuid}"


def take_folder(asset: str, clip: str, take: int) -> str:
    """Folder of a take's videos, poster and manifest."""
    return f"clips/{segment(asset)}/{segment(clip)}/take-{take}"


def manifest_key(asset: str, clip: str, take: int) -> str:
    """Key of a take's manifest."""
    return f"{take_folder(asset, clip, take)}/clip.json"


def pruned_key(asset: str, clip: str, take: int) -> str:
    """Key of what is left of a take whose videos were removed: its record."""
    return f"{take_folder(asset, clip, take)}/pruned.json"


def poster_key(asset: str, clip: str, take: int) -> str:
    """Key of a take's poster image."""
    return f"{take_folder(asset, clip, take)}/poster.jpg"


def sheet_key(asset: str, clip: str, take: int) -> str:
    """Key of a take's contact sheet."""
    return f"{take_folder(asset, clip, take)}/sheet.jpg"


def thumbnail_key(asset: str, clip: str, take: int) -> str:
    """Key of a take's thumbnail."""
    return f"{take_folder(asset, clip, take)}/thumbnail.jpg"


def video_key(asset: str, clip: str, take: int, video_uuid: str, extension: str) -> str:
    """Key of one video, named by a hash of its id, since ids from outside are no file names."""
    name = hashlib.sha256(video_uuid.encode()).hexdigest()[:16]
    return f"{take_folder(asset, clip, take)}/{name}.{extension}"


def incoming_key(task_uuid: str) -> str:
    """Key that Runware puts a task's video to, where it is delivered directly."""
    return f"{INCOMING_FOLDER}/{task_uuid}"


def inbox_key(task_uuid: str, body_hash: str) -> str:
    """Key of a marker; the same body lands on the same key."""
    return f"{INBOX_FOLDER}/{task_uuid}-{body_hash}"


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
    """Key of what the entries of a spending log add up to, up to a number."""
    return f"{budget_summary_folder(log)}/{number:08d}.json"


def lease_key(epoch: int) -> str:
    """Key of one epoch of the collector's lease."""
    return f"{LEASE_FOLDER}/{epoch:08d}.json"
