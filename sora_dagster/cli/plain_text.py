"""Text from outside, made safe for a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """A text without what a terminal would obey, such as escape sequences; lines stay lines.

    >>> plain("a \\x1b[31mred\\x07 fox")
    'a  [31mred  fox'
    """
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def one_line(text: str) -> str:
    """The same in one line.

    >>> one_line("a fox\\nin snow")
    'a fox in snow'
    """
    return " ".join(plain(text).split())
