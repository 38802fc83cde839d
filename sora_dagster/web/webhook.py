"""The webhook receiver: writes Runware's calls as markers to the storage root's inbox.

Run it with `sora-dagster webhook`, or :func:`create_app` under any ASGI server. It needs only the
storage root.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic_core import from_json

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import (
    DATASET_PARAMETER,
    EXPIRES_PARAMETER,
    MAX_MARKER_BYTES,
    SIGNATURE_PARAMETER,
    TASK_PARAMETER,
    check_secret,
    identity_signature_is_valid,
    marker_key,
    markers_of,
    signature_is_valid,
    write_marker,
)
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.root_binding import root_identity
from sora_dagster.generation.status.root_status import RootStatus
from sora_dagster.storage import StorageError, StorageRoot
from sora_dagster.web.counters import AcceptedAs, ReceiverCounters, RefusalReason
from sora_dagster.web.metrics import CONTENT_TYPE, StatusCache, metrics_text
from sora_dagster.web.readiness import Readiness

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

# A task has at most 4 results. Runware sends each once, or again with the same body, which is the
# same marker. So one task never has more different bodies than this.
MAX_MARKERS_PER_TASK = 8
# Anyone can send wrong signatures: they must not fill the log.
_SECONDS_BETWEEN_WARNINGS = 60.0

_TASK_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EXPIRES = re.compile(r"[0-9]{1,12}")
_STATUS: dict[RefusalReason, int] = {
    "signature": 403,
    "expired": 403,
    "unknown_task": 404,
    "too_long": 413,
    "not_json": 400,
    "too_many_markers": 429,
    "storage": 503,
}
_log = logging.getLogger(__name__)


def create_app(
    root: StorageRoot,
    secret: str,
    *,
    max_body_bytes: int = MAX_MARKER_BYTES,
    counters: ReceiverCounters | None = None,
    read_status: Callable[[], RootStatus] | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The receiver as an ASGI app.

    ``POST /runware`` takes webhooks. ``GET /livez`` answers 200 while the process runs.
    ``GET /readyz`` answers 200 if the storage root can be read, else 503; the reason is in the
    log. ``GET /metrics`` gives Prometheus metrics. ``GET /identity`` says which storage root it
    has, to holders of the secret.

    Arguments:
        root: storage root whose inbox gets the markers. It need not exist yet: until then webhooks
            are answered with 503, so that Runware sends them again.
        secret: the secret that webhook addresses are signed with; at least 16 characters.
        max_body_bytes: maximum size of a body.
        counters: what counts the webhooks. Default: new ones.
        read_status: reads the state of the storage root for the metrics, at most every 30 s.
            Default: the metrics are those of this receiver only.
        clock: seconds since 1970, which the end of an address is compared with.
        monotonic: monotonic time in seconds, for the age of a readiness check.

    The answer is 204 only if the marker was written or the task already has a video; after any
    other answer Runware sends the call again. The marker of a task that ended without a video is
    written: it causes one more poll. Errors: 400 not JSON, or nested too deep; 403 not signed by
    this installation, or expired; 404 unknown task; 413 body too long; 429 too many different
    bodies for one task; 503 the storage root failed.

    The cost of a call does not depend on the number of markers.

    Raises:
        ValueError: if the secret is missing or too short.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    check_secret(secret)
    ledger = Ledger(root)
    readiness = Readiness(root, clock=monotonic)
    counters = counters or ReceiverCounters()
    inbox = _Inbox(ledger, readiness)
    status = None if read_status is None else StatusCache(read_status, clock=monotonic)
    signature_warnings = _SignatureWarnings(monotonic)

    def refusal(reason: RefusalReason, message: str) -> Response:
        number = counters.count_refused(reason)
        if reason == "signature":
            signature_warnings.warn(number)
        return JSONResponse({"error": message}, status_code=_STATUS[reason])

    async def receive(request: Request) -> Response:
        dataset = request.query_params.get(DATASET_PARAMETER, "")
        task_uuid = request.query_params.get(TASK_PARAMETER, "").lower()
        expires = request.query_params.get(EXPIRES_PARAMETER, "")
        signature = request.query_params.get(SIGNATURE_PARAMETER, "")
        if (
            not _TASK_UUID.fullmatch(task_uuid)
            or not _EXPIRES.fullmatch(expires)
            or not signature_is_valid(secret, dataset, task_uuid, expires, signature)
        ):
            return refusal("signature", "the URL is not signed by this installation")
        if clock() > int(expires):
            return refusal("expired", "the URL has expired")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                return refusal("too_long", f"the body is longer than {max_body_bytes} bytes")
        try:
            # Refuses what is nested deeper than 200 levels, too.
            from_json(bytes(body))
        except ValueError:
            return refusal("not_json", "the body is not JSON, or is nested too deep")
        try:
            accepted_as = await run_in_threadpool(inbox.accept, dataset, task_uuid, bytes(body))
        except _Refused as refused:
            return refusal(refused.reason, str(refused))
        counters.count_accepted(accepted_as)
        return Response(status_code=204)

    async def livez(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        if await run_in_threadpool(readiness.is_ready):
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the storage root cannot be read"}, status_code=503)

    def metrics(_request: Request) -> Response:
        found = None if status is None else status.status()
        return Response(metrics_text(found, counters=counters), media_type=CONTENT_TYPE)

    async def identity(request: Request) -> Response:
        signature = request.query_params.get(SIGNATURE_PARAMETER, "")
        if not identity_signature_is_valid(secret, signature):
            return JSONResponse({"error": "not signed with this secret"}, status_code=403)
        try:
            found = await run_in_threadpool(root_identity, ledger)
        except StorageError as error:
            _log.error("the storage root cannot be read: %s", error)
            return JSONResponse({"error": "the storage root cannot be read"}, status_code=503)
        return JSONResponse({"storage_root": found})

    return Starlette(
        routes=[
            # Both forms, since a redirected POST may lose its body.
            Route("/runware", receive, methods=["POST"]),
            Route("/runware/", receive, methods=["POST"]),
            Route("/livez", livez, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/identity", identity, methods=["GET"]),
        ]
    )


class _Refused(Exception):
    """A webhook that is signed, and yet not accepted."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason: RefusalReason = reason


class _Inbox:
    """Writes the markers of signed webhooks."""

    def __init__(self, ledger: Ledger, readiness: Readiness) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._readiness = readiness

    def accept(self, dataset: str, task_uuid: str, body: bytes) -> AcceptedAs:
        """Write a marker, if it is of use.

        Raises:
            _Refused: if the task is unknown, has too many markers, or the root failed.
        """
        try:
            if not self._root.exists(layout.task_key(task_uuid, "sent-1")):
                # A missing bucket looks the same as a missing object.
                if not self._readiness.is_ready():
                    raise _Refused("storage", "the storage root is not ready; try again later")
                raise _Refused("unknown_task", "unknown task: it was never sent")
            if self._has_video(task_uuid):
                # Everything it could report is stored. After an error Runware would send it again.
                return "already_stored"
            markers = {marker.key for marker in markers_of(self._root, dataset, task_uuid)}
            if marker_key(dataset, task_uuid, body) in markers:
                return "duplicate"
            if len(markers) >= MAX_MARKERS_PER_TASK:
                raise _Refused("too_many_markers", "too many markers for this task")
            return "marker" if write_marker(self._root, dataset, task_uuid, body) else "duplicate"
        except StorageError as error:
            _log.error("the marker of task %s cannot be written: %s", task_uuid, error)
            raise _Refused(
                "storage", "the storage root cannot be written; try again later"
            ) from error

    def _has_video(self, task_uuid: str) -> bool:
        # Nearly every call is about a task without an outcome: one request answers those.
        if not self._root.exists(layout.task_key(task_uuid, "outcome-0")):
            return False
        try:
            outcome = self._ledger.outcome(task_uuid)
        except UnreadableRecordError as error:
            # A marker does no harm, and the collecting run reports the damaged record.
            _log.warning("the marker of task %s is written anyway: %s", task_uuid, error)
            return False
        return outcome is not None and outcome.has_videos


class _SignatureWarnings:
    """Logs refused signatures, at most once a minute, and never their values."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = float("-inf")

    def warn(self, number: int) -> None:
        """Log that a signature was refused.

        Arguments:
            number: how many were refused since the receiver started.
        """
        if self._clock() - self._last < _SECONDS_BETWEEN_WARNINGS:
            return
        self._last = self._clock()
        _log.warning(
            "a webhook was refused, since its signature is wrong (%d since the start). If it was "
            "Runware's, SORA_WEBHOOK_SECRET differs between this receiver and the processes that "
            "request clips",
            number,
        )
