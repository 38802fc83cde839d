"""The images of a dataset: addresses are kept, local files are known by their content's hash."""

from __future__ import annotations

from sora_dagster.prompts.dataset_files import DatasetFiles
from sora_dagster.runware.catalogue import InputName, VideoModel
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.image_files import hashed_image_file
from sora_dagster.runware.images import data_uri, image_too_large, is_address, read_image_header
from sora_dagster.runware.redaction import shown

_ALLOWED_ANYWHERE = "an http(s) URL, a data URI, or the UUID of an image at Runware"
_ALLOWED = (
    f"the path of a PNG, JPEG or WebP file relative to the dataset's folder, {_ALLOWED_ANYWHERE}"
)


class DatasetImages:
    """Finds the images of one dataset, each file once.

    Arguments:
        files: the files of the dataset. None: its rows are in no folder, so images are not files.
    """

    def __init__(self, files: DatasetFiles | None) -> None:
        self._files = files
        self._images: dict[str, str] = {}

    def resolve(self, value: str, entry: VideoModel, kind: InputName = "frameImages") -> str:
        """The image as it was given, or a reference to its file, which is read when it is sent.

        Its content is checked with the request.

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
        files = self._files
        if files is None:
            raise ValueError(
                f"{shown(value)} cannot be an image here; allowed: {_ALLOWED_ANYWHERE}"
            )
        try:
            files.note([value])
            size_bytes = files.size_bytes(value)
            if size_bytes is not None and size_bytes > limits.max_bytes:
                raise ValueError(image_too_large(size_bytes, entry, limits))
            if files.local_folder is not None:
                return hashed_image_file(files.local_folder / value).reference
            data = files.read(value)
        except OSError as error:
            raise ValueError(
                f"{shown(value)} cannot be read as a file in {files.folder}: "
                f"{(error.strerror or str(error)).lower()}; allowed: {_ALLOWED}"
            ) from error
        header = read_image_header(data)
        image_format = "unknown" if header is None else header.format
        return data_uri(data, image_format)
