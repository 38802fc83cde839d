"""The metrics of a storage root and of a webhook receiver, as Prometheus text."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sora_dagster.extras import require_extras
from sora_dagster.generation.status.problems import AccountAnswer
from sora_dagster.generation.status.root_status import DatasetStatus, RootStatus
from sora_dagster.storage import StorageError
from sora_dagster.web.counters import ReceiverCounters

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# A scrape must not cause more than this: anyone may be able to reach the address.
STATUS_SECONDS = 30.0
_log = logging.getLogger(__name__)


def metrics_text(
    status: RootStatus | None = None,
    account: AccountAnswer | None = None,
    counters: ReceiverCounters | None = None,
) -> str:
    """Metrics in Prometheus' text format.

    Arguments:
        status: the state of a storage root. None: without it.
        account: what Runware answered. None: it was not asked.
        counters: the counters of a webhook receiver. None: without them.

    Raises:
        MissingExtraError: if prometheus-client is not installed.
    """
    require_extras("The metrics", "webhook")
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Iterator[Metric]:
            if status is not None:
                yield from _root_metrics(status)
            if account is not None:
                yield from _account_metrics(account)
            if counters is not None:
                yield from _receiver_metrics(counters)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry).decode()


class StatusCache:
    """The state of a storage root, read at most every 30 seconds and by one thread at a time.

    Arguments:
        read: reads it.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, read: Callable[[], RootStatus], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._found: RootStatus | None = None
        self._read_at = float("-inf")

    def status(self) -> RootStatus | None:
        """The last state that was read; None if the last read failed, which is logged."""
        with self._lock:
            if self._clock() - self._read_at >= STATUS_SECONDS:
                self._read_at = self._clock()
                try:
                    self._found = self._read()
                except StorageError as error:
                    _log.warning("the metrics of the storage root are left out: %s", error)
                    self._found = None
            return self._found


def _root_metrics(status: RootStatus) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def of_each(
        name: str, text: str, value: Callable[[DatasetStatus], float | None]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=["dataset"])
        for dataset in status.datasets:
            if (found := value(dataset)) is not None:
                family.add_metric([dataset.name], found)
        return family

    tasks = GaugeMetricFamily(
        "sora_dagster_tasks",
        "Tasks by state: outstanding ones, and stuck and unsure ones.",
        labels=["dataset", "state"],
    )
    stored = CounterMetricFamily(
        "sora_dagster_clips_stored", "Clips stored by collections.", labels=["dataset"]
    )
    failed = CounterMetricFamily(
        "sora_dagster_clips_failed",
        "Clips that ended without a video, by kind of error.",
        labels=["dataset", "kind"],
    )
    for dataset in status.datasets:
        for state, number in dataset.tasks.items():
            tasks.add_metric([dataset.name, state], number)
        if (last := dataset.last_collection) is not None:
            stored.add_metric([dataset.name], last.clips_stored)
            for kind, number in last.clips_failed.items():
                failed.add_metric([dataset.name, kind], number)
    yield tasks
    yield stored
    yield failed
    yield of_each(
        "sora_dagster_oldest_task_seconds",
        "Age of the oldest outstanding task; 0 if there is none.",
        lambda dataset: dataset.oldest_seconds or 0.0,
    )
    yield of_each(
        "sora_dagster_markers_waiting",
        "Webhooks that wait for a collection.",
        lambda dataset: dataset.markers,
    )
    yield of_each(
        "sora_dagster_failed_collections",
        "Collections in a row that ended with an error.",
        _failures,
    )
    yield of_each("sora_dagster_unreachable_seconds", "How long polls failed.", _unreachable)
    yield of_each(
        "sora_dagster_last_collection_timestamp_seconds",
        "When the last collection ended or was last recorded.",
        _last_seen,
    )
    spending = status.spending
    if spending.day_usd is not None:
        text = "Reserved or spent today (UTC), in USD."
        yield GaugeMetricFamily("sora_dagster_spent_today_usd", text, spending.day_usd)
    if spending.day_limit_usd is not None:
        text = "Daily spending limit (UTC), in USD."
        yield GaugeMetricFamily("sora_dagster_day_limit_usd", text, spending.day_limit_usd)


def _failures(dataset: DatasetStatus) -> float | None:
    last = dataset.last_collection
    return None if last is None else last.failures_in_a_row


def _last_seen(dataset: DatasetStatus) -> float | None:
    last = dataset.last_collection
    return None if last is None else last.updated_at.timestamp()


def _unreachable(dataset: DatasetStatus) -> float:
    last = dataset.last_collection
    if last is None or last.unreachable_since is None:
        return 0.0
    return (last.updated_at - last.unreachable_since).total_seconds()


def _account_metrics(account: AccountAnswer) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    up = GaugeMetricFamily(
        "sora_dagster_runware_up",
        "Whether Runware answered and accepted the key.",
        labels=["error"],
    )
    up.add_metric([account.error_kind], float(account.status is not None))
    yield up
    if account.status is not None and account.status.balance_usd is not None:
        text = "Balance of the Runware account in USD."
        yield GaugeMetricFamily("sora_dagster_balance_usd", text, account.status.balance_usd)


def _receiver_metrics(counters: ReceiverCounters) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    counts = counters.counts()
    accepted = CounterMetricFamily(
        "sora_dagster_webhooks_accepted",
        "Accepted webhooks: new ones, duplicates, and those of clips that are stored.",
        labels=["as"],
    )
    accepted.add_metric(["marker"], counts.markers_written)
    accepted.add_metric(["duplicate"], counts.duplicates)
    accepted.add_metric(["already_stored"], counts.already_stored)
    refused = CounterMetricFamily(
        "sora_dagster_webhooks_refused", "Refused webhooks by reason.", labels=["reason"]
    )
    for reason, number in counts.refused.items():
        refused.add_metric([reason], number)
    yield accepted
    yield refused
