"""Whether a run may make further submissions, by the answers to its earlier ones.

A wrong key, an empty account or a failing API refuses every submission. A run that continued would
claim clips only to have them refused, so it stops and reports why.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sora_dagster.runware.errors import (
    AuthenticationError,
    ConnectionFailedError,
    QuotaError,
    RunwareError,
)
from sora_dagster.runware.submissions import Submission

_ACCOUNT_STATUSES = frozenset({401, 402, 403})
# One failing answer may be an accident.
_MOST_SERVER_ERRORS = 2
# Set once this process was asked to end.
_process_is_ending = threading.Event()


def stop_submissions() -> None:
    """Let no thread of this process submit anything more: it was asked to end."""
    _process_is_ending.set()


class SubmissionGate:
    """Open until an answer shows that further submissions of this run are useless."""

    def __init__(self) -> None:
        self._closed_because: str | None = None
        self._server_errors = 0

    @property
    def closed_because(self) -> str | None:
        """Why no further submission is made; None while it is open."""
        if _process_is_ending.is_set():
            return "the command was interrupted before it was sent; nothing was paid for it"
        return self._closed_because

    def close(self, reason: str) -> None:
        """Make no further submission; the first reason is kept."""
        if self._closed_because is None:
            self._closed_because = reason

    def read(self, submissions: Sequence[Submission]) -> None:
        """Evaluate the answer to one submission."""
        errors = [submission.error for submission in submissions if submission.error is not None]
        for error in errors:
            if _refuses_every_submission(error):
                self.close(str(error))
        was_accepted = any(one.state in ("accepted", "conflict") for one in submissions)
        failed = next((error for error in errors if (error.status_code or 0) >= 500), None)
        self._server_errors = 0 if was_accepted or failed is None else self._server_errors + 1
        if failed is not None and self._server_errors >= _MOST_SERVER_ERRORS:
            self.close(f"{self._server_errors} submissions in a row failed at Runware: {failed}")


def _refuses_every_submission(error: RunwareError) -> bool:
    if isinstance(error, ConnectionFailedError):
        return not error.sent
    # The client has repeated a 429 already, for as long as a submission is repeated.
    if error.status_code == 429:
        return True
    is_account_error = isinstance(error, (AuthenticationError, QuotaError))
    return error.task_uuid is None and (is_account_error or error.status_code in _ACCOUNT_STATUSES)
