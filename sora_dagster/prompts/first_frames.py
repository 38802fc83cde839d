"""The first frames that a dataset names: addresses as they are, files as data URIs."""

from __future__ import annotations

import base64
import re
import uuid
from pathlib import Path

from sora_dagster.runware.image_input import image_problems
from sora_dagster.runware.image_size import read_image_header
from sora_dagster.runware.models import VideoModel
from sora_dagster.runware.redaction import shown

ALLOWED_FIRST_FRAMES = (
    "the path of a PNG, JPEG or WebP file relative to the dataset's folder, an http(s) URL, a data "
    "URI, or the UUID of an image at Runware"
)

_SCHEME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://|data:", re.IGNORECASE)


class FirstFrames:
    """Reads the first frames of one dataset, each file once.

    Arguments:
        folder: the folder that relative paths start from.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._resolved: dict[tuple[str, str], str] = {}

    def resolve(self, value: str, entry: VideoModel) -> str:
        """The image as a request gives it.

        Arguments:
            value: what the dataset says: an address, a data URI, a UUID or a path.
            entry: the model whose limits of an image's sides and bytes are to be kept.

        Raises:
            ValueError: where it cannot be a first frame; the message says why, and what can.
        """
        resolved = self._resolved.get((value, entry.air))
        if resolved is None:
            resolved = self._resolved[value, entry.air] = self._checked(value, entry)
        return resolved

    def _checked(self, value: str, entry: VideoModel) -> str:
        if not entry.accepts_first_frame:
            raise ValueError(
                f"{entry.name} ({entry.air}) takes no first frame; leave it out or choose another "
                f"model"
            )
        image = value if _is_address(value) else self._encoded(value, entry.first_frame_max_bytes)
        for problem in image_problems(image, field="first_frame", entry=entry):
            found = "" if problem.value == shown(image) else f" ({problem.value})"
            allowed = ALLOWED_FIRST_FRAMES if not found else problem.allowed
            raise ValueError(
                f"{shown(value)} cannot be the first frame: {problem.message}{found}; "
                f"allowed: {allowed}"
            )
        return image

    def _encoded(self, value: str, most_bytes: int) -> str:
        path = self._folder / value
        try:
            if path.exists() and not path.is_file():
                raise ValueError(f"{shown(value)} is no file; allowed: {ALLOWED_FIRST_FRAMES}")
            size_bytes = path.stat().st_size
            if size_bytes > most_bytes:
                raise ValueError(
                    f"{shown(value)} cannot be the first frame: the file has {size_bytes} bytes; "
                    f"allowed: at most {most_bytes}"
                )
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(
                f"{shown(value)} cannot be read as a file in {self._folder}: "
                f"{(error.strerror or str(error)).lower()}; allowed: {ALLOWED_FIRST_FRAMES}"
            ) from error
        header = read_image_header(data)
        if header is None:
            raise ValueError(
                f"{shown(value)} is not a PNG, JPEG or WebP image; convert it to one of these"
            )
        encoded = base64.b64encode(data).decode("ascii")
        return f"data:image/{header.format.lower()};base64,{encoded}"


def _is_address(value: str) -> bool:
    if _SCHEME_PATTERN.match(value):
        return True
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False
