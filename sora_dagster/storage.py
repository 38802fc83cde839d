"""One storage root: a URL, and the few operations on objects that everything else is built from.

Every store that obstore opens offers an atomic create-only put; that is what claims are made of.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast
from urllib.parse import quote, unquote, urlsplit

from sora_dagster.storage_s3 import S3Settings, open_s3

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Store

SUPPORTED_SCHEMES = ("file", "memory", "s3")


class StorageError(Exception):
    """The storage root cannot be used, or an operation on it failed."""


class ObjectMissingError(StorageError):
    """There is no object at the key."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says of one object.

    Arguments:
        key: the object's key below the root.
        size_bytes: its length.
        last_modified: when it was written, by the store's own clock.
    """

    key: str
    size_bytes: int
    last_modified: datetime


class ByteSink(Protocol):
    """Where a streamed object's bytes go."""

    def write(self, chunk: bytes, /) -> object:
        """Append bytes."""


class StorageRoot:
    """All objects of one storage root, addressed by keys relative to it.

    Arguments:
        url: ``file:///folder`` or a plain folder path, ``s3://bucket/prefix``, or ``memory://``
            (this process only, for tests).
        s3: settings of S3; by default those of the ordinary AWS chain.

    Raises:
        StorageError: where the URL names no store that can be opened.

    Example:
        >>> root = StorageRoot("memory://")
        >>> root.create("greeting.txt", b"hello"), root.create("greeting.txt", b"again")
        (True, False)
        >>> root.read("greeting.txt")
        b'hello'
    """

    def __init__(self, url: str | Path, *, s3: S3Settings | None = None) -> None:
        self.url = normalized_url(url)
        self._folder = _folder_of(self.url)
        self._store = _open_store(self.url, self._folder, s3 or S3Settings())

    def __repr__(self) -> str:
        return f"StorageRoot({self.url!r})"

    def uri(self, key: str) -> str:
        """The full address of an object."""
        return f"{self.url.rstrip('/')}/{quote(key)}"

    def local_path(self, key: str) -> Path | None:
        """The object's file, where the root is a local folder."""
        return None if self._folder is None else self._folder / key

    def create(self, key: str, body: bytes) -> bool:
        """Write an object only if there is none; atomic on every store.

        Returns:
            Whether it was written by this call.
        """
        import obstore

        try:
            obstore.put(self._store, key, body, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return False
        except Exception as error:
            raise self._failure("write", key, error) from error
        return True

    def write(self, key: str, body: bytes) -> None:
        """Write an object, replacing what was there."""
        import obstore

        try:
            obstore.put(self._store, key, body)
        except Exception as error:
            raise self._failure("write", key, error) from error

    def read(self, key: str) -> bytes:
        """The whole of a small object.

        Raises:
            ObjectMissingError: where there is none.
        """
        import obstore

        try:
            return bytes(obstore.get(self._store, key).bytes())
        except Exception as error:
            raise self._failure("read", key, error) from error

    def read_if_present(self, key: str) -> bytes | None:
        """The whole of a small object, or None where there is none."""
        try:
            return self.read(key)
        except ObjectMissingError:
            return None

    def info(self, key: str) -> ObjectInfo | None:
        """Size and age of an object, or None where there is none."""
        import obstore

        try:
            return _object_info(obstore.head(self._store, key))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failure("look up", key, error) from error

    def exists(self, key: str) -> bool:
        """Whether there is an object at the key."""
        return self.info(key) is not None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below a folder, page by page, in no promised order."""
        import obstore

        try:
            for page in obstore.list(self._store, prefix=prefix):
                for meta in page:
                    yield _object_info(meta)
        except Exception as error:
            raise self._failure("list", prefix, error) from error

    def delete(self, key: str) -> None:
        """Remove an object; it is no error where there is none."""
        import obstore

        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failure("delete", key, error) from error

    @contextmanager
    def writer(self, key: str) -> Iterator[ByteSink]:
        """Stream an object in bounded memory; it appears whole at the end, or not at all."""
        import obstore

        sink = obstore.open_writer(self._store, key)
        # obstore's own context manager commits on a normal end and aborts on an exception.
        with sink:
            yield cast(ByteSink, sink)

    def open(self, key: str) -> BinaryIO:
        """A seekable file over an object, reading only the ranges asked for.

        Raises:
            ObjectMissingError: where there is none.
        """
        import obstore

        try:
            readable = obstore.open_reader(self._store, key)
        except Exception as error:
            raise self._failure("read", key, error) from error
        return cast(BinaryIO, io.BufferedReader(cast(Any, _RawReader(readable)), 1 << 20))

    def store_time(self) -> datetime:
        """The store's own clock: the time it gives a fresh write."""
        key = f"clock/{secrets.token_hex(8)}"
        self.write(key, b"")
        try:
            info = self.info(key)
            if info is None:
                raise StorageError(f"{self.uri(key)} vanished right after it was written")
            return info.last_modified
        finally:
            self.delete(key)

    def check_writable(self) -> None:
        """Write and remove one object, and see that it cannot be created twice.

        Raises:
            StorageError: where that fails; the message says what to check.
        """
        key = f"clock/{secrets.token_hex(8)}"
        self.create(key, b"")
        try:
            if self.create(key, b""):
                raise StorageError(
                    f"{self.url} lets an object be created twice, so that two processes could pay "
                    f"for the same clip. Use a store with create-only puts: a local folder, S3, or "
                    f"a server that honours If-None-Match."
                )
        finally:
            self.delete(key)

    def _failure(self, action: str, key: str, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        if isinstance(error, FileNotFoundError):
            return ObjectMissingError(f"there is no object at {self.uri(key)}")
        return StorageError(
            f"cannot {action} {self.uri(key)}: {_first_line(error)}. Check that the storage root "
            f"{self.url} exists, that this process may read and write it, and that it has room."
        )


class _RawReader(io.RawIOBase):
    """obstore's reader as Python's raw file, so that PyAV and others can seek in it."""

    def __init__(self, readable: Any) -> None:
        self._readable = readable

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = bytes(self._readable.read(len(buffer)))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._readable.seek(offset, whence))

    def tell(self) -> int:
        return int(self._readable.tell())


def normalized_url(url: str | Path) -> str:
    """A storage URL in its one spelling: folders become absolute ``file://`` URLs.

    Raises:
        StorageError: where the scheme is not supported.
    """
    text = str(url).strip()
    if not text:
        raise StorageError("the storage root is empty; give a folder or a URL such as s3://bucket")
    scheme = urlsplit(text).scheme if "://" in text else ""
    if not scheme:
        return Path(text).expanduser().resolve().as_uri()
    if scheme not in SUPPORTED_SCHEMES:
        raise StorageError(
            f"storage root {text!r}: scheme {scheme!r} is not supported; allowed are a folder path "
            f"and URLs that start with {', '.join(f'{name}://' for name in SUPPORTED_SCHEMES)}"
        )
    if scheme == "file":
        return Path(unquote(urlsplit(text).path)).resolve().as_uri()
    return text.rstrip("/") if scheme != "memory" else "memory://"


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open_store(url: str, folder: Path | None, s3: S3Settings) -> Store:
    from obstore.store import LocalStore, MemoryStore

    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return LocalStore(folder)
        except OSError as error:
            raise StorageError(
                f"the storage root {folder} cannot be made: {error.strerror}. "
                f"Choose a folder that this user may write, with --storage or SORA_STORAGE."
            ) from error
    if url.startswith("memory:"):
        return MemoryStore()
    try:
        return open_s3(url, s3)
    except Exception as error:
        raise StorageError(f"cannot open storage root {url}: {_first_line(error)}") from error


def _object_info(meta: Any) -> ObjectInfo:
    return ObjectInfo(
        key=meta["path"], size_bytes=meta["size"], last_modified=meta["last_modified"]
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
