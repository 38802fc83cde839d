"""The webhook receiver: writes Runware's calls as markers to the storage root's inbox.

Run it with `sora-dagster webhook`, or :func:`create_app` under any ASGI server. It needs only the
storage root.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import (
    DATASET_PARAMETER,
    MAX_MARKER_BYTES,
    SIGNATURE_PARAMETER,
    TASK_PARAMETER,
    drop_marker,
    markers_of,
    signature_is_valid,
)
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.root_binding import root_identity
from sora_dagster.storage import StorageError, StorageRoot

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

# A task has at most 4 results. Runware sends each once, or again with the same body, which is the
# same marker. So one task never has more different bodies than this.
MAX_MARKERS_PER_TASK = 8

_TASK_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_log = logging.getLogger(__name__)


def create_app(
    root: StorageRoot, secret: str, *, max_body_bytes: int = MAX_MARKER_BYTES
) -> Starlette:
    """The receiver as an ASGI app: ``POST /runware`` for webhooks, ``GET /health``.

    Arguments:
        root: storage root whose inbox gets the markers.
        secret: the secret that webhook addresses are signed with.
        max_body_bytes: maximum size of a body.

    The answer is 204 only if the marker was written or the task already has a video; after any
    other answer Runware sends the call again. The marker of a task that ended without a video is
    written: it causes one more poll. Errors: 400 not JSON; 403 not signed by this installation; 404
    unknown task; 413 body too long; 429 too many different bodies for one task; 503 the storage
    root failed.

    The cost of a call does not depend on the number of markers.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    if not secret:
        raise ValueError("the webhook receiver needs a secret: set SORA_WEBHOOK_SECRET")

    def refusal(status: int, reason: str) -> Response:
        return JSONResponse({"error": reason}, status_code=status)

    ledger = Ledger(root)

    def has_video(task_uuid: str) -> bool:
        # Nearly every call is about a task without an outcome: one request answers those.
        if not root.exists(layout.task_key(task_uuid, "outcome-0")):
            return False
        try:
            outcome = ledger.outcome(task_uuid)
        except UnreadableRecordError as error:
            # A marker does no harm, and the collecting run reports the damaged record.
            _log.warning("the marker of task %s is written anyway: %s", task_uuid, error)
            return False
        return outcome is not None and outcome.has_videos

    def accept(dataset: str, task_uuid: str, body: bytes) -> Response:
        try:
            if not root.exists(layout.task_key(task_uuid, "sent-1")):
                return refusal(404, "unknown task: it was never sent")
            if has_video(task_uuid):
                # Everything it could report is stored. After an error Runware would send it again.
                return Response(status_code=204)
            if len(markers_of(root, dataset, task_uuid)) >= MAX_MARKERS_PER_TASK:
                return refusal(429, "too many markers for this task")
            drop_marker(root, dataset, task_uuid, body)
        except StorageError as error:
            _log.error("the marker of task %s cannot be written: %s", task_uuid, error)
            return refusal(503, "the storage root cannot be written; try again later")
        return Response(status_code=204)

    async def receive(request: Request) -> Response:
        dataset = request.query_params.get(DATASET_PARAMETER, "")
        task_uuid = request.query_params.get(TASK_PARAMETER, "").lower()
        signature = request.query_params.get(SIGNATURE_PARAMETER, "")
        if not _TASK_UUID.fullmatch(task_uuid) or not signature_is_valid(
            secret, dataset, task_uuid, signature
        ):
            return refusal(403, "the URL is not signed by this installation")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                return refusal(413, f"the body is longer than {max_body_bytes} bytes")
        try:
            json.loads(body)
        # Brackets nested thousands deep are within the size limit, and too deep to parse.
        except (ValueError, RecursionError):
            return refusal(400, "the body is not JSON")
        return await run_in_threadpool(accept, dataset, task_uuid, bytes(body))

    async def health(_request: Request) -> Response:
        try:
            await run_in_threadpool(root.check_writable)
            identity = await run_in_threadpool(root_identity, ledger)
        except StorageError as error:
            return refusal(503, str(error))
        return JSONResponse({"status": "ok", "storage_root": identity})

    return Starlette(
        routes=[
            Route("/runware", receive, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ]
    )
