"""Reading the inbox: markers of outstanding tasks, and obsolete ones."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence

from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.problem_reporter import ProblemReporter
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.markers import MAX_MARKER_BYTES, Marker, tasks_with_markers
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.runware.errors import RunwareError
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)


class Inbox:
    """The markers of the datasets that a collection collects.

    Arguments:
        context: what the collection works with; tasks that ended without a video are polled.
        problems: reports tasks that could not be polled.
    """

    def __init__(self, context: CollectionContext, problems: ProblemReporter) -> None:
        self._client = context.client
        self._ledger = context.ledger
        self._problems = problems
        self._markers: dict[str, list[Marker]] = {}

    def markers_of(self, task_uuid: str) -> list[Marker]:
        """The markers of a task in the last listing."""
        return self._markers.get(task_uuid, [])

    def read(
        self,
        entries: Mapping[str, PendingEntry],
        datasets: Sequence[str],
        handed_over: Container[str],
    ) -> None:
        """List the inbox. Markers of tasks that have ended are handled once, and removed.

        Arguments:
            entries: the entries of the index that are collected.
            datasets: datasets that are collected completely, stray markers included.
            handed_over: tasks that are being reported.
        """
        self._markers = {}
        strays: dict[str, list[Marker]] = {}
        for dataset in {entry.dataset for entry in entries.values()} | set(datasets):
            for marker in tasks_with_markers(self._ledger.root, dataset):
                if marker.task_uuid in entries and marker.size_bytes <= MAX_MARKER_BYTES:
                    self._markers.setdefault(marker.task_uuid, []).append(marker)
                elif dataset in datasets and marker.task_uuid not in handed_over:
                    strays.setdefault(marker.task_uuid, []).append(marker)
        for task_uuid, markers in strays.items():
            if task_uuid in entries:
                _log.warning("marker %s is longer than %d bytes", markers[0].key, MAX_MARKER_BYTES)
            elif not self._handle_stray(task_uuid):
                continue
            for marker in markers:
                self._ledger.root.delete(marker.key)

    def _handle_stray(self, task_uuid: str) -> bool:
        """Handle the markers of a task that is not outstanding; False to try again later.

        A task that ended without a video is polled once for all its markers: Runware may have its
        video.
        """
        try:
            attempt = self._ledger.sent_attempt(task_uuid)
            outcome = self._ledger.outcome(task_uuid)
            if attempt is None:
                _log.warning("there are markers for %s, which was never sent", task_uuid)
            elif outcome is None and self._is_pending(attempt):
                # Another process has claimed it, or it was sent since the index was read.
                return False
            elif outcome is not None and not outcome.has_videos and self._is_still_active(attempt):
                self._ledger.reopen(attempt)
        except (UnreadableRecordError, AccessDeniedError) as error:
            _log.warning("the markers of task %s are ignored: %s", task_uuid, error)
        except RunwareError as error:
            if not error.retryable:
                raise
            self._problems.warn(f"task {task_uuid} could not be polled: {error}")
            self._problems.report.unpolled[task_uuid] = str(error)
            return False
        self._problems.report.unpolled.pop(task_uuid, None)
        return True

    def _is_pending(self, attempt: AttemptRecord) -> bool:
        reopening = self._ledger.task_files(attempt.task_uuid).reopening
        key = layout.pending_key(attempt.dataset, attempt.task_uuid, reopening)
        return self._ledger.root.exists(key)

    def _is_still_active(self, attempt: AttemptRecord) -> bool:
        """Whether Runware has a video, or a running generation, of a task that ended."""
        status = self._client.poll([attempt.task_uuid])[attempt.task_uuid]
        return bool(status.results or status.processing)
