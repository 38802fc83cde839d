"""The text of a file, and what is wrong if it cannot be read."""

from __future__ import annotations

from pathlib import Path

from sora_dagster.user_files.problems import ProblemList


def unreadable(path: Path | str, error: OSError) -> str:
    """The message about a file that cannot be read.

    Arguments:
        path: the file's full name.
        error: why it cannot be read.
    """
    reason = (error.strerror or str(error)).lower()
    return f"the file cannot be read: {reason} ({path})"


def decode_text(data: bytes, problems: ProblemList) -> str:
    """Decode a file without its byte order mark; each line that is not UTF-8 is a problem."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        problems.add("the file is in UTF-16 or UTF-32; save it as UTF-8", value=data[:4])
        return ""
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        for number, line in enumerate(data.split(b"\n"), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                before = line[max(0, error.start - 20) : error.start].decode("utf-8", "replace")
                problems.add(
                    f"byte 0x{line[error.start]:02x} after {before!r} is not UTF-8; save the file "
                    f"as UTF-8",
                    line=number,
                    value=line,
                )
        # Decoded anyway, to report the other problems of the file too.
        return data.decode("utf-8", "replace")
