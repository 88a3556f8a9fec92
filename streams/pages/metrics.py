"""The status of a worker, rendered as JSON and as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from vacancy.streams.pages.metric_definition import MetricDefinition, MetricKind
from vacancy.streams.pages.page_server import Page
from vacancy.streams.printable import printable
from vacancy.streams.worker.partition_ownership import PartitionOwnership

CONTENT_TYPE: Final = "text/plain; version=0.0.4"
"""The content type of Prometheus' text format."""


class MetricsSource(Protocol):
    """A worker whose status can be rendered."""

    ownership: PartitionOwnership

    @property
    def ready(self) -> bool:
        """Whether all records that were in the log when the worker started are in the tables."""

    @property
    def ticks(self) -> int:
        """The number of ticks sent."""

    @property
    def log_name(self) -> str:
        """The log's short name."""


def status(source: MetricsSource, page: str = "") -> dict[str, Any]:
    """The status as JSON-serializable data. `page` is the URL of the page for people that is served beside, "" for none."""
    ownership = source.ownership
    now_ms = ownership.clock()
    return {
        "log": source.log_name,
        "store": ownership.projection.id,
        "ready": source.ready,
        "page": page or None,
        "records": ownership.records,
        "batches": ownership.batches,
        "ticks": source.ticks,
        "host_time_ms": now_ms,
        "records_per_s": round(ownership.records_per_s, 1),
        "lag_records": sum(one.lag for one in ownership.held.values()),
        "lag_seconds": max((one.lag_ms(now_ms) for one in ownership.held.values()), default=0) / 1000,
        "partitions": [
            {
                "partition": one.partition,
                "position": one.position,
                "end": one.end,
                "lag_records": one.lag,
                "lag_seconds": one.lag_ms(now_ms) / 1000,
                "log_time_ms": ownership.projection.log_time_ms(one.partition),
                "dead_letters": ownership.projection.dead_letters(one.partition),
                "claims": dict(ownership.projection.claims(one.partition)),
                "contested": dict(ownership.projection.contested(one.partition)),
                "differs": dict(ownership.projection.differences(one.partition)),
                "error": str(ownership.errors[one.partition]) if one.partition in ownership.errors else None,
            }
            for one in sorted(ownership.held.values(), key=lambda one: one.partition)
        ],
        "errors": {str(partition): str(error) for partition, error in ownership.errors.items()},
    }


def _worker(
    name: str, help_: str, *labels: str, kind: MetricKind = "gauge", of_partition: bool = True
) -> MetricDefinition:
    first = ("log", "partition") if of_partition else ("log",)
    return MetricDefinition(f"vacancy_worker_{name}", kind, help_, (*first, *labels))


RECORDS: Final = _worker("records", "Records folded", kind="counter", of_partition=False)
BATCHES: Final = _worker("batches", "Batches committed", kind="counter", of_partition=False)
TICKS: Final = _worker("ticks", "Ticks sent", kind="counter", of_partition=False)
READY: Final = _worker("ready", "1 once all that was there at start is folded", of_partition=False)
POSITION: Final = _worker("position", "Offset of the next record to fold")
LOG_END: Final = _worker("log_end", "Offset that the log's next record will get")
LAG_RECORDS: Final = _worker("lag_records", "Records in the log that are not folded")
LAG_SECONDS: Final = _worker("lag_seconds", "How old the tables are while records wait")
LOG_TIME: Final = _worker("log_time_seconds", "How far log time has come (Unix time)")
LOG_TIME_AHEAD: Final = _worker("log_time_ahead_seconds", "How far log time is ahead of this host's clock")
DEAD_LETTERS: Final = _worker("dead_letters", "Records refused since the partition's first", kind="counter")
CLAIMS: Final = _worker(
    "claims",
    "Claims judged since the worker's start: accepted, or the reason of the rejection",
    "verdict",
    kind="counter",
)
CONTESTED_NODES: Final = _worker(
    "contested_nodes", "Nodes that take no claims because two publishers use their names"
)
CONTESTED_EVENTS: Final = _worker(
    "contested_events", "Events dropped of nodes whose names two publishers used", kind="counter"
)
CONTESTED_REPORTS: Final = _worker(
    "contested_reports", "Full reports dropped of nodes whose names two publishers used", kind="counter"
)
DIFFERING_STORES: Final = _worker("differing_stores", "Stores of other hosts whose state is another one")
PARTITION_STOPPED: Final = _worker("partition_stopped", "1 where folding had to stop")

WORKER_METRICS: Final = (
    *(RECORDS, BATCHES, TICKS, READY, POSITION, LOG_END, LAG_RECORDS, LAG_SECONDS, LOG_TIME, LOG_TIME_AHEAD),
    *(DEAD_LETTERS, CLAIMS, CONTESTED_NODES, CONTESTED_EVENTS, CONTESTED_REPORTS, DIFFERING_STORES),
    PARTITION_STOPPED,
)
"""All metrics of a worker, in the order in which it serves them."""


class WorkerCollector(Collector):
    """The status as Prometheus metrics. All have the label log, most also the label partition."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        found = status(self._source)
        log = printable(found["log"])
        for metric in (RECORDS, BATCHES, TICKS, READY):
            yield metric.family({(log,): found[metric.name.removeprefix("vacancy_worker_")]})
        partitions = {(log, str(one["partition"])): one for one in found["partitions"]}

        def of_each(metric: MetricDefinition, value: Callable[[Mapping[str, Any]], float]) -> Metric:
            return metric.family({at: value(one) for at, one in partitions.items()})

        now_ms = found["host_time_ms"]
        yield of_each(POSITION, lambda one: one["position"])
        yield of_each(LOG_END, lambda one: one["end"])
        yield of_each(LAG_RECORDS, lambda one: one["lag_records"])
        yield of_each(LAG_SECONDS, lambda one: one["lag_seconds"])
        yield of_each(LOG_TIME, lambda one: one["log_time_ms"] / 1000)
        yield of_each(LOG_TIME_AHEAD, lambda one: max(0.0, one["log_time_ms"] - now_ms) / 1000)
        yield of_each(DEAD_LETTERS, lambda one: one["dead_letters"])
        yield CLAIMS.family(
            {
                (*at, printable(verdict)): count
                for at, one in partitions.items()
                for verdict, count in one["claims"].items()
            }
        )
        yield of_each(CONTESTED_NODES, lambda one: one["contested"]["closed"])
        yield of_each(CONTESTED_EVENTS, lambda one: one["contested"]["dropped"])
        yield of_each(CONTESTED_REPORTS, lambda one: one["contested"]["dropped_reports"])
        yield of_each(DIFFERING_STORES, lambda one: len(one["differs"]))
        yield of_each(PARTITION_STOPPED, lambda one: one["error"] is not None)


class _NotReadyCollector(Collector):
    """The metrics of a worker whose log does not answer."""

    def __init__(self, log: str) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        yield READY.family({(printable(self._log),): False})


def render(source: MetricsSource) -> str:
    """The metrics in Prometheus' text format."""
    return rendered(WorkerCollector(source))


def not_ready(log: str) -> str:
    """The metrics of a worker whose log, of this name, does not answer, in Prometheus' text format."""
    return rendered(_NotReadyCollector(log))


def metrics_page(collector: Collector) -> Callable[[str], Page | None]:
    """The pages of a server of these metrics: `/metrics`. Each request collects them in its own thread."""

    def page(path: str) -> Page | None:
        if path != "/metrics":
            return None
        return Page(HTTPStatus.OK, CONTENT_TYPE, rendered(collector))

    return page


def rendered(collector: Collector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()
