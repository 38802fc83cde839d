"""Checks that a video file's container is complete, by the sizes that its parts state.

FFmpeg plays the rest of a file that was truncated, and reports no error. So the outermost parts are
checked before anything is decoded.
"""

from __future__ import annotations

import os
from typing import BinaryIO

# The first bytes that identify a container.
HEAD_BYTES = 64

_MP4_BOXES = frozenset(
    b"ftyp moov mdat moof mfra sidx ssix styp free skip wide uuid pdin meta pnot emsg".split()
)
_EBML_ID = b"\x1a\x45\xdf\xa3"
_EBML_SEGMENT_ID = b"\x18\x53\x80\x67"
_EBML_DOCTYPE_ID = b"\x42\x82"
_EBML_CLUSTER_ID = b"\x1f\x43\xb6\x75"


class MediaError(Exception):
    """The file is not a complete, readable video; the message says what is wrong with it."""


def looks_like_video(head: bytes) -> bool:
    """Whether a file begins like an MP4, MOV, WebM or Matroska file.

    Arguments:
        head: the first bytes of the file, at least 16 if it has as many.
    """
    return container_name(head) is not None


def container_name(head: bytes) -> str | None:
    """The container of a file with these first bytes; None for anything but a video.

    Arguments:
        head: the first bytes of the file; 64 are enough.
    """
    if head.startswith(_EBML_ID):
        doctype = head.partition(_EBML_DOCTYPE_ID)[2]
        return "webm" if doctype[1:5] == b"webm" else "matroska"
    size = int.from_bytes(head[:4], "big")
    # A size made of four printable characters is text ("the free…") rather than half a gigabyte.
    is_size = size in (0, 1) or (size >= 8 and not _is_printable(head[:4]))
    if head[4:8] not in _MP4_BOXES or not is_size:
        return None
    return "mp4" if head[4:8] == b"ftyp" and head[8:12] != b"qt  " else "mov"


def check_container(file: BinaryIO) -> str:
    """The file's container, after a check of its parts: ``mp4``, ``mov``, ``webm``, ``matroska``.

    Arguments:
        file: a seekable binary file; its position afterwards is undefined.

    Raises:
        MediaError: if it is not such a container, or ends before its parts do.
    """
    name = check_head(file)
    file_size = file.seek(0, os.SEEK_END)
    if name in ("webm", "matroska"):
        _check_ebml(file, file_size)
    else:
        _check_boxes(file, file_size)
    return name


def check_head(file: BinaryIO) -> str:
    """The file's container, by its first bytes alone.

    Raises:
        MediaError: if it does not begin like a video.
    """
    file_size = file.seek(0, os.SEEK_END)
    if file_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    file.seek(0)
    head = file.read(HEAD_BYTES)
    name = container_name(head)
    if name is None:
        raise MediaError(
            f"the file ({file_size} bytes) is not an MP4, MOV or WebM video: it begins with "
            f"{_shown(head[:40])}. An error page may have been stored in place of the video"
        )
    return name


def check_ebml_elements(file: BinaryIO) -> bool:
    """Check all elements of a WebM or Matroska file, down to the blocks of frames.

    A few bytes of each element are read, all through the file: meant for a file that already looks
    wrong.

    Arguments:
        file: a seekable binary file; its position afterwards is undefined.

    Returns:
        Whether the file states its own size; if so, its last elements are not missing either.

    Raises:
        MediaError: if an element is unreadable, or longer than the file.
    """
    end = file.seek(0, os.SEEK_END)
    position = 0
    states_its_size = False
    while position < end:
        file.seek(position)
        try:
            element = _ebml_id(file)
            size = _ebml_size(file)
        except MediaError:
            raise MediaError(
                f"the file is damaged: there is no readable element at byte {position} of {end}"
            ) from None
        position = file.tell()
        if element == _EBML_SEGMENT_ID:
            states_its_size = size is not None
            # Bytes after the segment are not part of the video.
            end = end if size is None else min(end, position + size)
        elif element != _EBML_CLUSTER_ID:
            if size is None or position + size > end:
                raise MediaError(
                    f"the file is damaged: the element at byte {position} exceeds the file"
                )
            position += size
    return states_its_size


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
                break  # bytes after the end of the video are harmless
            raise MediaError(
                f"the file is truncated: its part {name.decode()!r} ends at byte "
                f"{position + size}, but the file ends at byte {file_size}"
            )
        found.add(name)
        position += size
    if b"moov" not in found:
        raise MediaError(f"the file is truncated: its {file_size} bytes contain no index ('moov')")


def _check_ebml(file: BinaryIO, file_size: int) -> None:
    file.seek(len(_EBML_ID))
    header_size = _ebml_size(file)
    if header_size is not None:
        file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != _EBML_SEGMENT_ID:
        raise MediaError(
            f"the file is truncated or damaged: no 'Segment' follows the header of this WebM file "
            f"of {file_size} bytes"
        )
    segment_size = _ebml_size(file)
    if segment_size is not None and file.tell() + segment_size > file_size:
        raise MediaError(
            f"the file is truncated: its 'Segment' ends at byte {file.tell() + segment_size}, "
            f"but the file ends at byte {file_size}"
        )


def _ebml_id(file: BinaryIO) -> bytes:
    first = file.read(1)
    # An identifier has one to four bytes; the first one determines how many.
    if not first or first[0] < 0x10:
        raise MediaError("the file is damaged: an element has no identifier")
    return first + file.read(8 - first[0].bit_length())


def _ebml_size(file: BinaryIO) -> int | None:
    """A size in EBML's variable-length form; None for "unknown", as live muxers write it."""
    first = file.read(1)
    if not first or first == b"\0":
        raise MediaError("the file is truncated or damaged in its first bytes")
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value


def _shown(beginning: bytes) -> str:
    if _is_printable(beginning):
        return repr(beginning.decode("ascii"))
    return f"the bytes {beginning[:8].hex(' ')}"


def _is_printable(beginning: bytes) -> bool:
    return beginning.isascii() and "".join(beginning.decode("ascii").split()).isprintable()
