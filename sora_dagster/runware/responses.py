"""Reads the answers of the API in every form that they are known to have.

The documented form is ``{"data": [...], "errors": [...]}``, where either key may be missing. The
official SDK also handles a list, a single error object, and ``{"error": {...}}``; failed
generations are among the data as ``{"status": "error", "error": {...}}``. The body of a webhook is
one result or one error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sora_dagster.runware.errors import RunwareError, UnreadableResponseError, error_from_payload
from sora_dagster.runware.redaction import shown, without_secrets

_RESULT_KEYS = ("videoUUID", "videoURL", "taskUUID", "taskType")
_FAILED_STATUSES = ("error", "failed")


@dataclass(frozen=True)
class ApiResponse:
    """An answer, sorted into successes and failures.

    Arguments:
        status_code: HTTP status.
        rows: acknowledgements, results, and running generations.
        row_errors: failed generations that are listed among the data.
        errors: all other errors, of tasks or of the whole request.
        retry_after_seconds: requested wait in seconds. None: not requested.
    """

    status_code: int
    rows: tuple[Mapping[str, Any], ...] = ()
    row_errors: tuple[RunwareError, ...] = ()
    errors: tuple[RunwareError, ...] = ()
    retry_after_seconds: float | None = None

    def rows_of(self, task_uuid: str) -> list[Mapping[str, Any]]:
        """The rows of a task."""
        return [row for row in self.rows if _same(row.get("taskUUID"), task_uuid)]

    def errors_of(self, task_uuid: str) -> list[RunwareError]:
        """The errors of a task, without those among the data."""
        return [error for error in self.errors if _same(error.task_uuid, task_uuid)]

    def row_errors_of(self, task_uuid: str) -> list[RunwareError]:
        """The errors of a task among the data."""
        return [error for error in self.row_errors if _same(error.task_uuid, task_uuid)]

    @property
    def unscoped_errors(self) -> tuple[RunwareError, ...]:
        """The errors that name no task."""
        return tuple(error for error in (*self.errors, *self.row_errors) if error.task_uuid is None)

    def names(self, task_uuid: str) -> bool:
        """Whether anything in the response names a task."""
        return bool(
            self.rows_of(task_uuid) or self.errors_of(task_uuid) or self.row_errors_of(task_uuid)
        )


def parse_response(
    status_code: int,
    body: bytes | str | object,
    *,
    headers: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> ApiResponse:
    """Read a response of any form.

    Never raises: an unreadable response becomes an `UnreadableResponseError` in `errors`, or the
    error of its HTTP status if that is a failure.

    Arguments:
        status_code: HTTP status.
        body: the body, raw or as parsed JSON.
        headers: headers of the response, for `Retry-After`. Default: none.
        secrets: texts to remove from error messages. Default: none.
    """
    wait = retry_after_seconds(headers or {})
    parsed, text = body, ""
    if isinstance(body, (bytes, str)):
        text = body.decode("utf-8-sig", errors="replace") if isinstance(body, bytes) else body
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
    reader = _Reader(status_code, wait, secrets)
    if not reader.read(parsed):
        reader.add_unreadable(text)
    return ApiResponse(
        status_code=status_code,
        rows=tuple(reader.rows),
        row_errors=tuple(reader.row_errors),
        errors=tuple(reader.errors),
        retry_after_seconds=wait,
    )


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The wait in seconds that `Retry-After` requests, by a number or a date. None: no wait.

    Arguments:
        headers: headers of the response. A date is compared with the response's own `Date`.
        now: compared with if the response has no `Date`. Default: the current time.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    value = lowered.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    until = _date(value)
    if until is None:
        return None
    sent = _date(lowered.get("date", "")) or now or datetime.now(UTC)
    return max(0.0, (until - sent).total_seconds())


def text_or_none(value: object) -> str | None:
    """A non-empty text of a response. None: anything else."""
    return value if isinstance(value, str) and value else None


def number_or_none(value: object) -> float | None:
    """A finite number of a response. None: anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _same(named: object, task_uuid: str) -> bool:
    return isinstance(named, str) and named.lower() == task_uuid.lower()


class _Reader:
    def __init__(
        self, status_code: int, retry_after_seconds: float | None, secrets: Sequence[str]
    ) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.row_errors: list[RunwareError] = []
        self.errors: list[RunwareError] = []
        self._status_code = status_code
        self._retry_after_seconds = retry_after_seconds
        self._secrets = secrets

    def read(self, parsed: object) -> bool:
        """Sort a response. False: it is not the API's, or a failure without an error."""
        if isinstance(parsed, list):
            understood = self._read_list(parsed)
        elif isinstance(parsed, Mapping):
            understood = self._read_object(parsed)
        else:
            return False
        found = self.rows or self.row_errors or self.errors
        return understood and (self._status_code < 400 or bool(found))

    def add_unreadable(self, text: str) -> None:
        """Add the error of a response that is not the API's."""
        snippet = shown(without_secrets(text, self._secrets)) if text else "an empty body"
        if self._status_code >= 400:
            message = f"Runware answered HTTP {self._status_code} with {snippet}"
            self._add_error({"message": message}, self.errors)
            return
        self.errors.append(
            UnreadableResponseError(
                f"received HTTP {self._status_code} with {snippet} instead of the API's JSON; "
                f"check that RUNWARE_BASE_URL is the API's address",
                status_code=self._status_code,
                retry_after_seconds=self._retry_after_seconds,
            )
        )

    def _read_list(self, items: list[Any]) -> bool:
        for item in _objects(items):
            if self._is_bare_error(item):
                self._add_error(item, self.errors)
            else:
                self._read_datum(item)
        return not items or any(isinstance(item, Mapping) for item in items)

    def _read_object(self, parsed: Mapping[str, Any]) -> bool:
        failures = _failures(parsed)
        for failure in failures:
            self._add_error(failure, self.errors)
        if "data" in parsed:
            for item in _objects(parsed["data"]):
                self._read_datum(item)
        elif not failures:
            if self._is_bare_error(parsed):
                self._add_error(parsed, self.errors)
            elif any(parsed.get(key) for key in _RESULT_KEYS):
                self._read_datum(parsed)
            else:
                return not parsed or "errors" in parsed or "error" in parsed
        return True

    def _read_datum(self, item: Mapping[str, Any]) -> None:
        status = str(item.get("status") or "").lower()
        failures = _failures(item)
        if status not in _FAILED_STATUSES and (not failures or item.get("videoURL")):
            self.rows.append(item)
            return
        flat = {key: value for key, value in item.items() if key not in ("error", "errors")}
        for failure in failures or [flat]:
            self._add_error(failure, self.row_errors)

    def _is_bare_error(self, item: Mapping[str, Any]) -> bool:
        if item.get("videoURL"):
            return False
        return bool(item.get("code")) or ("message" in item and self._status_code >= 400)

    def _add_error(self, payload: Mapping[str, Any], errors: list[RunwareError]) -> None:
        errors.append(
            error_from_payload(
                without_secrets(dict(payload), self._secrets),
                status_code=self._status_code,
                retry_after_seconds=self._retry_after_seconds,
            )
        )


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    # Other entries name no task, so they are of no use.
    items = value if isinstance(value, list) else [value]
    return (item for item in items if isinstance(item, Mapping))


def _failures(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The error objects under `errors` and `error`, with the task of the object around them."""
    around = {key: item[key] for key in ("taskUUID", "taskType") if item.get(key)}
    failures: list[Mapping[str, Any]] = []
    for key in ("errors", "error"):
        value = item.get(key)
        for failure in value if isinstance(value, list) else [value]:
            if isinstance(failure, Mapping) and failure:
                failures.append({**around, **failure})
            elif isinstance(failure, str) and failure:
                failures.append({**around, "message": failure})
    return failures
