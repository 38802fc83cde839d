"""First frames in the storage root, so that a request can be built again from its record."""

from __future__ import annotations

import hashlib

from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.runware.images import is_address
from sora_dagster.storage import StorageRoot

_FOLDER = "frames"
_PREFIX = "sha256:"


def redacted_spec(spec: ClipSpec) -> ClipSpec:
    """A spec as records keep it: a first frame's bytes become their hash."""
    if spec.first_frame is None or not _is_bytes(spec.first_frame):
        return spec
    return spec.model_copy(update={"first_frame": hash_text(spec.first_frame)})


def keep_first_frame(root: StorageRoot, spec: ClipSpec) -> None:
    """Store the bytes of a first frame, if the spec holds any and they are not stored yet."""
    if spec.first_frame is not None and _is_bytes(spec.first_frame):
        root.create(_key(hash_text(spec.first_frame)), spec.first_frame.encode())


def with_first_frame(root: StorageRoot, request: ClipRequest) -> ClipRequest:
    """A request from a record, with its first frame's bytes.

    Raises:
        ObjectMissingError: where the bytes are not in the root.
    """
    first_frame = request.spec.first_frame
    if first_frame is None or not first_frame.startswith(_PREFIX):
        return request
    image = root.read(_key(first_frame)).decode()
    return request.model_copy(
        update={"spec": request.spec.model_copy(update={"first_frame": image})}
    )


def hash_text(text: str) -> str:
    """What stands for a long text in records."""
    return f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()}"


def _is_bytes(image: str) -> bool:
    """Whether an image is a data URI or base64: not an address, not a hash from a record."""
    return not is_address(image) and not image.startswith(_PREFIX)


def _key(hashed: str) -> str:
    return f"{_FOLDER}/{hashed.removeprefix(_PREFIX)}"
