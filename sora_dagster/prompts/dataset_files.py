"""The files of a dataset: in a local folder, or in an object store."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from sora_dagster.storage import ObjectInfo, ObjectMissingError, StorageError, StorageRoot

_STORES = ("s3", "gs", "az")
_SCHEMES = ", ".join(f"{scheme}://" for scheme in (*_STORES, "file"))
_MAX_DIGITS = 16
# Number of files in a folder from which on one listing is cheaper than a request for each.
_LEAST_LISTED = 4

Result = TypeVar("Result")


def file_location(path: str | Path) -> str:
    """Path of a local file, or URL of a file in an object store.

    Arguments:
        path: a path or a URL; a ``file://`` URL becomes a path.

    Raises:
        ValueError: if the URL is not one of a file in an object store.
    """
    text = str(path).strip()
    if "://" not in text:
        return text
    parts = urlsplit(text)
    # Messages have no URL, which may contain a secret.
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ValueError("a file:// URL of a prompt dataset must be file:///folder/file")
        return unquote(parts.path)
    if parts.scheme not in _STORES:
        raise ValueError(
            f"the URL of a prompt dataset starts with {parts.scheme}://; allowed: a path, or a URL "
            f"that starts with {_SCHEMES}. For a database, use SqlPrompts"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"the URL of a prompt dataset must be {parts.scheme}://bucket/key only; set "
            f"credentials in the environment or in ClipStorageResource"
        )
    if not parts.netloc or parts.path.endswith("/") or not parts.path:
        raise ValueError(
            f"the URL of a prompt dataset must name a bucket and a file in it: "
            f"{parts.scheme}://bucket/prompts.csv"
        )
    return text


class DatasetFiles(ABC):
    """Reads the files of a dataset, and says whether they have changed since.

    Names are relative to the folder of the dataset.
    """

    def __init__(self) -> None:
        # The files that were used, with their states then.
        self._used: dict[str, str | None] = {}

    @property
    @abstractmethod
    def folder(self) -> str:
        """The folder, for messages."""

    @property
    def local_folder(self) -> Path | None:
        """The folder, if it is a local one."""
        return None

    @abstractmethod
    def label(self, name: str) -> str:
        """A file's full name, for messages."""

    @abstractmethod
    def size_bytes(self, name: str) -> int | None:
        """Size of a file. None: there is no such file.

        Raises:
            OSError: if it is no file, or cannot be looked up.
        """

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    @abstractmethod
    def _state(self, name: str) -> str | None:
        """A string that changes with the content of a file. None: there is no such file."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            OSError: if it cannot be read.
        """
        self._note(name)
        return self._read(name)

    def note(self, names: Iterable[str]) -> None:
        """Count files as used although they do not exist: the dataset changes once they do."""
        for name in names:
            self._note(name)

    def version_read(self) -> str:
        """A hash of the states of all files that were used, as they were then."""
        return _version(self._used)

    def version_now(self) -> str:
        """The same for their present states."""
        return _version(self._states(self._used))

    def _states(self, names: Iterable[str]) -> dict[str, str | None]:
        return {name: self._state(name) for name in names}

    def _note(self, name: str) -> None:
        # Before it is read, so that a change in between is seen later.
        if name not in self._used:
            self._used[name] = self._state(name)


def _object_state(info: ObjectInfo | None) -> str | None:
    if info is None:
        return None
    return info.etag or f"{info.last_modified.isoformat()}.{info.size_bytes}"


def _version(states: Mapping[str, str | None]) -> str:
    digest = hashlib.sha256()
    for name, state in sorted(states.items()):
        digest.update(f"{name}\0{state}\0".encode())
    return digest.hexdigest()[:_MAX_DIGITS]


class LocalFiles(DatasetFiles):
    """Files of a local folder.

    Arguments:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @property
    def folder(self) -> str:
        """The folder, for messages."""
        return str(self._folder)

    @property
    def local_folder(self) -> Path:
        """The folder."""
        return self._folder

    def label(self, name: str) -> str:
        """A file's full name, for messages."""
        return str((self._folder / name).absolute())

    def size_bytes(self, name: str) -> int | None:
        """Size of a file. None: there is no such file."""
        path = self._folder / name
        try:
            if path.exists() and not path.is_file():
                raise OSError("it is not a file")
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def _state(self, name: str) -> str | None:
        try:
            stat = (self._folder / name).stat()
        except OSError:
            return None
        return f"{stat.st_mtime_ns}.{stat.st_size}"


class StoredFiles(DatasetFiles):
    """Files of a folder in an object store.

    Arguments:
        root: the folder.
    """

    def __init__(self, root: StorageRoot) -> None:
        super().__init__()
        self._root = root

    @property
    def folder(self) -> str:
        """The folder, for messages."""
        return self._root.url

    def label(self, name: str) -> str:
        """A file's full name, for messages."""
        return self._root.uri(name)

    def size_bytes(self, name: str) -> int | None:
        """Size of a file. None: there is no such file."""
        info = self._info(name)
        return None if info is None else info.size_bytes

    def _read(self, name: str) -> bytes:
        return self._translated(lambda: self._root.read(self._key(name)))

    def _state(self, name: str) -> str | None:
        return _object_state(self._info(name))

    def _states(self, names: Iterable[str]) -> dict[str, str | None]:
        """The states of files, with one listing for the images of a folder."""
        folders: dict[str, list[str]] = {}
        for name in names:
            folders.setdefault(str(PurePosixPath(self._key(name)).parent), []).append(name)
        states: dict[str, str | None] = {}
        for folder, inside in folders.items():
            # The dataset's own folder may have anything below it, clips too.
            if folder == "." or len(inside) < _LEAST_LISTED:
                states |= super()._states(inside)
                continue
            listed = self._listed(folder)
            states |= {name: _object_state(listed.get(self._key(name))) for name in inside}
        return states

    def _listed(self, folder: str) -> dict[str, ObjectInfo]:
        return self._translated(lambda: {info.key: info for info in self._root.list(folder)})

    def _info(self, name: str) -> ObjectInfo | None:
        try:
            return self._translated(lambda: self._root.info(self._key(name)))
        except FileNotFoundError:
            return None

    def _key(self, name: str) -> str:
        parts: list[str] = []
        for part in PurePosixPath(name).parts:
            if part == "..":
                if not parts:
                    raise OSError("it is outside of the dataset's folder")
                parts.pop()
            elif part == "/":
                raise OSError("write it relative to the dataset's folder")
            else:
                parts.append(part)
        return "/".join(parts)

    @staticmethod
    def _translated(call: Callable[[], Result]) -> Result:
        """The result of a call, whose errors become those of files."""
        try:
            return call()
        except ObjectMissingError:
            raise FileNotFoundError("no such object") from None
        except StorageError as error:
            raise OSError(str(error)) from error
