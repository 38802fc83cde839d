"""Images in local files: known by a hash of their content, and read only when they are sent.

Until then a short text stands for the image: its hash and its path.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

_REFERENCE = re.compile(r"image-file:(?P<hash>[0-9a-f]{64}):(?P<path>.+)", re.DOTALL)
# Content hashes by path and state of the file. A dataset is read again and again.
_known_hashes: dict[tuple[str | int, ...], str] = {}
_MOST_KNOWN = 65_536


class ImageFileError(ValueError):
    """An image file cannot be sent: it changed after the dataset was read, or is gone."""


class ImageFile(NamedTuple):
    """An image in a local file, as it was when its dataset was read.

    Arguments:
        content_hash: SHA-256 of its bytes, in hex.
        path: the file.
    """

    content_hash: str
    path: Path

    @property
    def reference(self) -> str:
        """The text that stands for the image until it is sent."""
        return f"image-file:{self.content_hash}:{self.path}"

    def read(self) -> bytes:
        """The bytes of the image.

        Raises:
            ImageFileError: if they are not those that were hashed, or cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageFileError(
                f"the image {self.path} cannot be read any more: {reason}. Restore the file, and "
                f"request the clip again"
            ) from error
        if hashlib.sha256(data).hexdigest() != self.content_hash:
            raise ImageFileError(
                f"the image {self.path} changed after the dataset was read. Request the clip "
                f"again, to check the new image and its price first"
            )
        return data


def hashed_image_file(path: Path) -> ImageFile:
    """The image in a file. The file is read, in parts, only if its state is new to this process.

    Arguments:
        path: the file.

    Raises:
        OSError: if it cannot be read.
    """
    path = path.absolute()
    with path.open("rb") as file:
        before = _state(path, file.fileno())
        content_hash = _known_hashes.get(before)
        if content_hash is None:
            content_hash = hashlib.file_digest(file, "sha256").hexdigest()
            if _state(path, file.fileno()) == before:
                if len(_known_hashes) >= _MOST_KNOWN:
                    _known_hashes.clear()
                _known_hashes[before] = content_hash
    return ImageFile(content_hash, path)


def image_file_of(image: str) -> ImageFile | None:
    """The file that an image text stands for. None: the text is the image itself, or an address."""
    match = _REFERENCE.fullmatch(image)
    return None if match is None else ImageFile(match["hash"], Path(match["path"]))


def _state(path: Path, descriptor: int) -> tuple[str | int, ...]:
    stat = os.fstat(descriptor)
    return (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
