"""The metrics of a publisher: its outbox, and whether its events reach the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from vacancy.resources.model.errors import UsageError
from vacancy.streams.pages.metric_definition import MetricDefinition, MetricKind

if TYPE_CHECKING:
    from vacancy.clients.publisher.outbox import Outbox
    from vacancy.clients.publisher.publisher import Publisher
    from vacancy.clients.publisher.service import PublishService


def _publisher(name: str, help_: str, kind: MetricKind = "gauge") -> MetricDefinition:
    return MetricDefinition(f"vacancy_publisher_{name}", kind, help_, ("node",))


OUTBOX_EVENTS: Final = _publisher("outbox_events", "Events in the outbox: the log has not confirmed them")
OUTBOX_BYTES: Final = _publisher("outbox_bytes", "Bytes of the events in the outbox")
OUTBOX_DURABLE: Final = _publisher(
    "outbox_durable", "1 while the outbox is on disk, 0 while the disk fails and it is in memory"
)
EVENTS: Final = _publisher("events", "Events that the log has confirmed since the start", "counter")
LAST_EVENT: Final = _publisher("last_event_time_seconds", "When the log took the last event (Unix time)")
LOG_ANSWERS: Final = _publisher("log_answers", "1 where the log confirmed all events at the last attempt")
INVENTORY_ERRORS: Final = _publisher(
    "inventory_errors", "Times that the inventory of the node could not be collected", "counter"
)

PUBLISHER_METRICS: Final = (
    *(OUTBOX_EVENTS, OUTBOX_BYTES, OUTBOX_DURABLE, EVENTS, LAST_EVENT, LOG_ANSWERS, INVENTORY_ERRORS),
)
"""All metrics of a publisher."""


class PublisherMetrics(Collector):
    """Collects the metrics of the publisher of one node; register it with a registry of prometheus_client.

    Before `attach` there are only those of the outbox: a publisher may wait for its log for long.
    """

    def __init__(self, node: str, outbox: Outbox) -> None:
        self._node, self._outbox = node, outbox
        self._publisher: Publisher | None = None
        self._service: PublishService | None = None

    def attach(self, publisher: Publisher, service: PublishService | None = None) -> None:
        """The publisher of the node, and the service that it runs in."""
        self._publisher, self._service = publisher, service

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        at = (self._node,)
        events, size = self._outbox.size
        yield OUTBOX_EVENTS.family({at: events})
        yield OUTBOX_BYTES.family({at: size})
        yield OUTBOX_DURABLE.family({at: self._outbox.durable})
        publisher, service = self._publisher, self._service
        yield EVENTS.family({at: 0 if publisher is None else publisher.confirmed})
        landed = None if publisher is None else publisher.landed
        yield LAST_EVENT.family({} if landed is None else {at: landed.timestamp_ms / 1000})
        answers = landed is not None if service is None else service.log_answers
        yield LOG_ANSWERS.family({at: answers})
        yield INVENTORY_ERRORS.family({at: 0 if service is None else service.inventory_errors})


def write_metrics(file: Path, collector: Collector) -> None:
    """Write metrics to a file for the textfile collector of Prometheus' node_exporter: the old file stays until the new one is
    whole. Raises `UsageError` where it cannot be written."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise UsageError(
            f"the metrics cannot be written: {error.strerror}",
            where=str(file),
            do="name a file in a directory that this user may write",
        ) from error
