"""Reading and creating records: broken and newer ones are refused, and each is created once."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    DatasetRecord,
    OutcomeRecord,
    Record,
    ReopenedRecord,
    RootRecord,
    SentRecord,
)
from sora_dagster.storage import StorageError, StorageRoot

_VERSION_FIELD = "format_version"
_UPGRADE = "upgrade sora-dagster in this environment: pip install --upgrade sora-dagster"


class UnreadableRecordError(StorageError):
    """A stored record is broken; the message says which, and what to do."""


class NewerFormatError(UnreadableRecordError):
    """A stored record was written by a newer version of this program."""


AnyRecord = TypeVar("AnyRecord", bound=Record)
NonceRecord = TypeVar(
    "NonceRecord",
    RootRecord,
    DatasetRecord,
    AttemptRecord,
    SentRecord,
    ReopenedRecord,
    OutcomeRecord,
    ClipManifest,
)


class RecordStore:
    """Reads and creates records in one storage root.

    Arguments:
        root: the storage root.
        clock: gives the time recorded in the objects (never compared across machines).
        new_nonce: gives a fresh random text for each claim.
    """

    def __init__(
        self,
        root: StorageRoot,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self.root = root
        self.clock = clock
        self.new_nonce = new_nonce

    def read(self, key: str, model: type[AnyRecord]) -> AnyRecord | None:
        """The record at a key; None if there is none.

        Raises:
            UnreadableRecordError: if it is not a record of this model.
        """
        body = self.root.read_if_present(key)
        return None if body is None else parse_record(body, model, uri=self.root.uri(key))

    def require(self, key: str, model: type[AnyRecord]) -> AnyRecord:
        """The record at a key.

        Raises:
            ObjectMissingError: if there is none.
            UnreadableRecordError: if it is not a record of this model.
        """
        return parse_record(self.root.read(key), model, uri=self.root.uri(key))

    def claim(self, key: str, record: NonceRecord) -> tuple[bool, NonceRecord]:
        """Create a record that only one process can create.

        A store may answer "already exists" to a put of ours whose first answer was lost. The nonce
        shows whether the record on file is ours.

        Returns:
            Whether this call created it, and the record on file.
        """
        if self.root.create(key, record.to_json()):
            return True, record
        found = self.require(key, type(record))
        return found.nonce == record.nonce, found


def parse_record(body: bytes, model: type[AnyRecord], *, uri: str) -> AnyRecord:
    """A record from an object's bytes.

    Fields that a newer version added are ignored, at any depth. A record with a higher format
    version than this program knows may mean something else, and is refused. So is one with an
    unknown value in a field whose values are fixed, such as the state of an outcome: what it means
    for the clip cannot be guessed.

    Arguments:
        body: the object's bytes.
        model: what it must be.
        uri: the object's full address, for the error's message.

    Raises:
        NewerFormatError: if the record's format is newer than this program.
        UnreadableRecordError: if it is not a record of this model.
    """
    _check_version(body, model, uri)
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "literal_error":
            raise NewerFormatError(
                f"{uri} cannot be read as {model.__name__}: {place} has a value that this "
                f"sora-dagster does not know ({first['msg']}). If a newer version wrote it, "
                f"{_UPGRADE}"
            ) from error
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
        # Validation reports what is wrong with it.
        return
    found = content.get(_VERSION_FIELD) if isinstance(content, dict) else None
    if isinstance(found, int) and found > field.default:
        raise NewerFormatError(
            f"{uri} has format version {found}, and this sora-dagster knows versions up to "
            f"{field.default}. To read it, {_UPGRADE}"
        )
