"""Numbers of things, and names of some of them, in messages."""

from collections.abc import Sequence


def counted(number: int, one: str, several: str) -> str:
    """A number with its noun.

    >>> counted(1, "remix", "remixes")
    '1 remix'

    Arguments:
        number: how many there are.
        one: the noun for one.
        several: the noun for any other number.
    """
    return f"{number} {one if number == 1 else several}"


def clips_and_remixes(clips: int, remixes: int, noun: str = "clip") -> str:
    """The numbers of clips and remixes; what there is none of is left out, unless it is both.

    >>> clips_and_remixes(4, 1)
    '4 clips and 1 remix'

    Arguments:
        clips: number of clips.
        remixes: number of remixes.
        noun: what the clips are called.
    """
    parts = [counted(clips, noun, f"{noun}s")] if clips or not remixes else []
    if remixes:
        parts.append(counted(remixes, "remix", "remixes"))
    return " and ".join(parts)


def some_of(names: Sequence[str], *, most: int = 20) -> str:
    """The first names of a list, and how many more there are: ``a, b and 3 more``.

    Arguments:
        names: the names.
        most: maximum number of names that are written. Default: 20.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
