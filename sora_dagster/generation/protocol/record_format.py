"""Reading stored records: a clear word on those that are broken, or newer than this program."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import ValidationError

from sora_dagster.generation.protocol.records import Record
from sora_dagster.storage import StorageError

AnyRecord = TypeVar("AnyRecord", bound=Record)

_VERSION_FIELD = "format_version"


class UnreadableRecordError(StorageError):
    """A stored record is broken; the message says which, and what to do."""


class NewerFormatError(UnreadableRecordError):
    """A stored record was written by a newer version of this program."""


def parse_record(body: bytes, model: type[AnyRecord], *, uri: str) -> AnyRecord:
    """A record from an object's bytes.

    Arguments:
        body: the object's bytes.
        model: what it shall be.
        uri: the object's full address, for the error's message.

    Fields that a newer version added are passed over, at any depth; a record whose format has a
    higher number than is known here may mean something else, and is refused.

    Raises:
        NewerFormatError: where the record's format is newer than this program.
        UnreadableRecordError: where it is no such record.
    """
    _check_version(body, model, uri)
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UnreadableRecordError(
            f"{uri} cannot be read as {model.__name__}: {f'{place}: ' if place else ''}"
            f"{first['msg']}. Restore the object from a backup."
        ) from error


def _check_version(body: bytes, model: type[Record], uri: str) -> None:
    field = model.model_fields.get(_VERSION_FIELD)
    if field is None:
        return
    try:
        content = json.loads(body)
    except ValueError:
        # The reading that follows says what is wrong with it.
        return
    found = content.get(_VERSION_FIELD) if isinstance(content, dict) else None
    if isinstance(found, int) and found > field.default:
        raise NewerFormatError(
            f"{uri} has format version {found}, and this sora-dagster knows versions up to "
            f"{field.default}. Upgrade sora-dagster here, too: pip install --upgrade sora-dagster"
        )
