"""Whether a video file's container is all there: its outermost parts, by the sizes they state.

FFmpeg plays what it finds of a file that was cut short, and says nothing; so this is looked at
before anything is decoded.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_MP4_BOXES = frozenset(
    b"ftyp moov mdat moof mfra sidx ssix styp free skip wide uuid pdin meta pnot emsg".split()
)
_EBML_ID = b"\x1a\x45\xdf\xa3"
_EBML_SEGMENT_ID = b"\x18\x53\x80\x67"
_EBML_DOCTYPE_ID = b"\x42\x82"


class MediaError(Exception):
    """The file is no whole, readable video; the text says what is wrong with it."""


def check_container(file: BinaryIO) -> str:
    """The name of the file's container: ``mp4``, ``mov``, ``webm`` or ``matroska``.

    Arguments:
        file: a seekable binary file; where it stands afterwards is not said.

    Raises:
        MediaError: where it is no such container, or ends before its parts do.
    """
    file_size = file.seek(0, os.SEEK_END)
    if file_size == 0:
        raise MediaError("the file is empty (0 bytes); fetch it again")
    file.seek(0)
    head = file.read(64)
    if head.startswith(_EBML_ID):
        _check_ebml(file, file_size)
        doctype = head.partition(_EBML_DOCTYPE_ID)[2]
        return "webm" if doctype[1:5] == b"webm" else "matroska"
    if head[4:8] in _MP4_BOXES:
        _check_boxes(file, file_size)
        return "mp4" if head[4:8] == b"ftyp" and head[8:12] != b"qt  " else "mov"
    raise MediaError(
        f"the file ({file_size} bytes) is no MP4, MOV or WebM video: it begins with "
        f"{_shown(head[:40])}. Perhaps an error page was stored in place of the video"
    )


def _check_boxes(file: BinaryIO, file_size: int) -> None:
    position = 0
    found = set()
    while position + 8 <= file_size:
        file.seek(position)
        header = file.read(16)
        name, size = header[4:8], int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        elif size == 0:
            size = file_size - position
        if size < 8 or position + size > file_size:
            if name not in _MP4_BOXES:
                break  # bytes after the end of the video harm nobody
            raise MediaError(
                f"the file is cut short: its part {name.decode()!r} ends at byte "
                f"{position + size}, the file after {file_size}; fetch it again"
            )
        found.add(name)
        position += size
    if b"moov" not in found:
        raise MediaError(
            f"the file is cut short: after {file_size} bytes its index ('moov') has not come; "
            f"fetch it again"
        )


def _check_ebml(file: BinaryIO, file_size: int) -> None:
    file.seek(len(_EBML_ID))
    header_size = _ebml_size(file)
    if header_size is not None:
        file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != _EBML_SEGMENT_ID:
        raise MediaError(
            f"the file is cut short or damaged: no 'Segment' follows the header of a WebM file of "
            f"{file_size} bytes; fetch it again"
        )
    segment_size = _ebml_size(file)
    if segment_size is not None and file.tell() + segment_size > file_size:
        raise MediaError(
            f"the file is cut short: its 'Segment' ends at byte {file.tell() + segment_size}, "
            f"the file after {file_size}; fetch it again"
        )


def _ebml_size(file: BinaryIO) -> int | None:
    """A size in EBML's own variable-length form; None for "not known", as live muxers write it."""
    first = file.read(1)
    if not first or first == b"\0":
        raise MediaError("the file is cut short or damaged in its first bytes; fetch it again")
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value


def _shown(beginning: bytes) -> str:
    text = beginning.decode("ascii", errors="ignore")
    if len(text) == len(beginning) and "".join(text.split()).isprintable():
        return repr(text)
    return f"the bytes {beginning[:8].hex(' ')}"
