"""Storage roots with many stored clips, and storage roots that count the requests to them."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.storage import ObjectInfo, StorageRoot
from tests.generation.stored_takes import NONCE, claim, stored_take

OBJECTS_OF_A_CLIP = 12
_SETTLED_A_DAY = 1000
_CLIP = "Old clip"


def clip_name(number: int) -> str:
    """Name of one of the clips of :func:`stored_clips`."""
    return f"{_CLIP} {number}"


def stored_clips(count: int) -> Iterator[tuple[str, bytes]]:
    """What clips that were generated some days ago have left in the root: keys and bodies."""
    made = Ledger(StorageRoot("memory://"))
    made.bind(api_base_url="https://api.example.com/v1", account=None)
    task = stored_take(made, _CLIP).task_uuid
    made.mark_seen(task, "polled")
    folders = (
        layout.CLIPS_FOLDER,
        layout.SLOTS_FOLDER,
        layout.TASKS_FOLDER,
        layout.STORED_FOLDER,
    )
    objects = {
        info.key: made.root.read(info.key) for folder in folders for info in made.root.list(folder)
    }
    video = layout.video_key("clips", _CLIP, 1, task, "mp4", NONCE)
    today = datetime.now(UTC).date()
    for number in range(count):
        clip, uuid = clip_name(number), str(UUID(int=number))
        renamed = {
            video: layout.video_key("clips", clip, 1, uuid, "mp4", NONCE),
            layout.segment(_CLIP): layout.segment(clip),
            f'"{_CLIP}"': f'"{clip}"',
            task: uuid,
        }
        for key, body in objects.items():
            text = body.decode()
            for old, new in renamed.items():
                key, text = key.replace(old, new), text.replace(old, new)
            yield key, text.encode()
        day = today - timedelta(days=2 + number // _SETTLED_A_DAY)
        entry = 2 * (number % _SETTLED_A_DAY)
        yield layout.budget_key(layout.day_log(day), 1 + entry), b"{}"
        yield layout.budget_key(layout.day_log(day), 2 + entry), b"{}"


def add_those_that_matter(ledger: Ledger, outstanding: int) -> ClipRequest:
    """Add clips that are outstanding, and one that is stored; gives the request of that one."""
    manifest = stored_take(ledger, "fox")
    for number in range(outstanding):
        claim(ledger, f"outstanding {number}")
    return manifest.request


def filled_root(stored: int, outstanding: int, *, api_base_url: str) -> CountingRoot:
    """A storage root in memory, bound to an API, with clips that are stored and outstanding."""
    root = CountingRoot("memory://")
    for key, body in stored_clips(stored):
        root.write(key, body)
    # A root is bound when it is empty; this one was filled otherwise.
    bound = Ledger(StorageRoot("memory://"))
    bound.bind(api_base_url=api_base_url, account=None)
    root.write(layout.ROOT_KEY, bound.root.read(layout.ROOT_KEY))
    add_those_that_matter(Ledger(root), outstanding)
    return root


class CountingRoot(StorageRoot):
    """A storage root that counts the calls to it by kind, and the objects and folders it lists.

    Arguments:
        url: the storage root's URL.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.counts: Counter[str] = Counter()
        self.listed_folders: Counter[str] = Counter()

    def forget(self) -> None:
        """Set all counts to zero."""
        self.counts.clear()
        self.listed_folders.clear()

    def create(self, key: str, *rest: object, **options: object) -> bool:
        self.counts["create"] += 1
        return super().create(key, *rest, **options)  # type: ignore[arg-type]

    def write(self, key: str, *rest: object, **options: object) -> None:
        self.counts["write"] += 1
        super().write(key, *rest, **options)  # type: ignore[arg-type]

    def read(self, key: str) -> bytes:
        self.counts["read"] += 1
        return super().read(key)

    def info(self, key: str) -> ObjectInfo | None:
        self.counts["info"] += 1
        return super().info(key)

    def delete(self, key: str) -> None:
        self.counts["delete"] += 1
        super().delete(key)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        self.counts["list"] += 1
        self.listed_folders[prefix] += 1
        for info in super().list(prefix, after=after):
            self.counts["listed"] += 1
            yield info

    def folders(self, prefix: str) -> builtins.list[str]:
        self.counts["list"] += 1
        self.listed_folders[prefix] += 1
        return super().folders(prefix)
