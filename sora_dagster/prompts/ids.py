"""Ids of clips and names of recipes, which are partition keys."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from sora_dagster.runware.redaction import shown

_CLIP_ID_ALLOWED = (
    "1 to 100 letters with their combining marks, digits, '.', '_', '-' and inner spaces, "
    "starting with a letter or digit, without '..'"
)
_LONGEST_CLIP_ID = 100
# Marks without a shape: with one of them, two ids could look the same.
_INVISIBLE_MARK = re.compile(
    r"[\u034f\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_RECIPE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,49}")


def check_clip_id(value: str) -> str:
    """Return a clip id, in the Unicode form NFC, that is valid as a partition key.

    Raises:
        ValueError: if it is not; the message says what is allowed.
    """
    clip_id = unicodedata.normalize("NFC", value)
    if (
        not 1 <= len(clip_id) <= _LONGEST_CLIP_ID
        or not clip_id[0].isalnum()
        or not all(map(_may_be_in_clip_id, clip_id))
        or ".." in clip_id
        or clip_id.endswith(" ")
    ):
        raise ValueError(f"{shown(value)} cannot be a clip id; allowed: {_CLIP_ID_ALLOWED}")
    return clip_id


def _may_be_in_clip_id(character: str) -> bool:
    if character.isalnum() or character in "._- ":
        return True
    # Hindi and Thai, for example, are written with marks that no letter includes.
    is_mark = unicodedata.category(character) in ("Mn", "Mc")
    return is_mark and not _INVISIBLE_MARK.fullmatch(character)


def check_recipe_name(value: str) -> str:
    """Return a recipe name that is valid as a partition key.

    Raises:
        ValueError: if it is not; the message says what is allowed.
    """
    if not _RECIPE_PATTERN.fullmatch(value):
        raise ValueError(
            f"{value!r} cannot be a recipe name; allowed: 1 to 50 of A-Z, a-z, 0-9, '_' and "
            f"'-', starting with a letter or digit"
        )
    return value


ClipId = Annotated[str, AfterValidator(check_clip_id)]
RecipeName = Annotated[str, AfterValidator(check_recipe_name)]
