"""The images of a dataset: addresses are kept, files are read into data URIs."""

from __future__ import annotations

import base64
from pathlib import Path

from sora_dagster.runware.catalogue import InputName, VideoModel
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.images import image_too_large, is_address, read_image_header
from sora_dagster.runware.redaction import shown

_ALLOWED = (
    "the path of a PNG, JPEG or WebP file relative to the dataset's folder, an http(s) URL, a data "
    "URI, or the UUID of an image at Runware"
)


class DatasetImages:
    """Reads the images of one dataset, each file once.

    Arguments:
        folder: the folder that relative paths start from.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[str, str] = {}

    def resolve(self, value: str, entry: VideoModel, kind: InputName = "frameImages") -> str:
        """The image in the form of a request; its content is checked with the request.

        Arguments:
            value: what the row has: a URL, a data URI, a UUID or a path.
            entry: the model, with its limit for the size of a file.
            kind: the input that the image is for. Default: frame images.

        Raises:
            ValueError: if it is none of these, or the file cannot be read.
        """
        if value[:5].lower() == "data:" or is_address(value):
            return value
        if "://" in value:
            raise ValueError(f"{shown(value)} cannot be an image; allowed: {_ALLOWED}")
        if value not in self._images:
            limits = entry.inputs.get(kind, InputLimits())
            self._images[value] = self._read(value, entry, limits)
        return self._images[value]

    def _read(self, value: str, entry: VideoModel, limits: InputLimits) -> str:
        path = self._folder / value
        try:
            if path.exists() and not path.is_file():
                raise ValueError(f"{shown(value)} is not a file; allowed: {_ALLOWED}")
            size_bytes = path.stat().st_size
            if size_bytes > limits.max_bytes:
                raise ValueError(image_too_large(size_bytes, entry, limits))
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(
                f"{shown(value)} cannot be read as a file in {self._folder}: "
                f"{(error.strerror or str(error)).lower()}; allowed: {_ALLOWED}"
            ) from error
        header = read_image_header(data)
        image_format = "unknown" if header is None else header.format
        return f"data:image/{image_format};base64,{base64.b64encode(data).decode('ascii')}"
