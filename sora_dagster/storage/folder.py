"""Stores in a local folder and in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sora_dagster.storage.attributes import ObjectAttributes
from sora_dagster.storage.errors import StorageError
from sora_dagster.storage.store import OpenStore, StaleUpload

# obstore writes an object to its final name plus a number, and renames it at the end.
_TEMPORARY = re.compile(r"(?P<final>.+)#\d+")


class FolderStore(OpenStore):
    """A local folder. It keeps no attributes, and no URLs can be signed for it."""

    def __init__(self, folder: Path) -> None:
        from obstore.store import LocalStore

        try:
            folder.mkdir(parents=True, exist_ok=True)
            objects = LocalStore(folder)
        except OSError as error:
            raise StorageError(
                f"the storage root {folder} cannot be created: {error.strerror}. "
                f"Choose a folder that this user can write, with --storage or SORA_STORAGE."
            ) from error
        super().__init__(objects, keeps_attributes=False)
        self._folder = folder

    def unfinished_uploads(self) -> Iterator[StaleUpload]:
        for path in sorted(self._folder.rglob("*#*")):
            found = _TEMPORARY.fullmatch(path.name)
            if found is None or not path.is_file():
                continue
            yield StaleUpload(
                key=path.with_name(found["final"]).relative_to(self._folder).as_posix(),
                upload_id=path.relative_to(self._folder).as_posix(),
                started=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            )

    def abort_upload(self, upload: StaleUpload) -> None:
        (self._folder / upload.upload_id).unlink(missing_ok=True)


class MemoryStore(OpenStore):
    """Memory of this process, for tests."""

    def __init__(self) -> None:
        from obstore.store import MemoryStore as Objects

        super().__init__(Objects())

    def copy(self, source: str, target: str, attributes: ObjectAttributes | None) -> None:
        import obstore

        if attributes is None:
            obstore.copy(self.objects, source, target)
        else:
            body = obstore.get(self.objects, source).bytes()
            obstore.put(self.objects, target, body, attributes=attributes.encoded())
