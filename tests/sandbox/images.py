"""First-frame images for tests."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from tests.sandbox.api import video_task


def image_bytes(
    width: int,
    height: int,
    form: str = "PNG",
    *,
    colour: tuple[int, int, int] = (200, 80, 40),
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, form)
    return buffer.getvalue()


def data_uri(encoded: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(encoded).decode()}"


def framed(image: object, **fields: Any) -> dict[str, Any]:
    """A task that starts from an image."""
    return video_task(width=None, height=None, inputs={"frameImages": [image]}, **fields)
