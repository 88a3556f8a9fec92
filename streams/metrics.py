"""The status of a worker, rendered as JSON and as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vacancy.streams.partition_ownership import PartitionOwnership
from vacancy.streams.printable import printable

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


def status(source: MetricsSource) -> dict[str, Any]:
    """The status as JSON-serializable data."""
    ownership = source.ownership
    now_ms = ownership.clock()
    return {
        "log": source.log_name,
        "store": ownership.projection.id,
        "ready": source.ready,
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


_GAUGES: Mapping[str, tuple[str, str]] = {
    "position": ("position", "Offset of the next record to fold"),
    "end": ("log_end", "Offset that the log's next record will get"),
    "lag_records": ("lag_records", "Records in the log that are not folded"),
    "lag_seconds": ("lag_seconds", "How old the tables are while records wait"),
}


_CONTESTED: Mapping[str, tuple[str, str]] = {
    "closed": ("contested_nodes", "Nodes that take no claims because two publishers use their names"),
    "dropped": ("contested_events", "Events dropped of nodes whose names two publishers used"),
    "dropped_reports": ("contested_reports", "Full reports dropped of nodes whose names two publishers used"),
}


class WorkerCollector(Collector):
    """The status as Prometheus metrics. All have the label log, most also the label partition."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        found = status(self._source)
        log = printable(found["log"])
        for name, help_ in (
            ("records", "Records folded"),
            ("batches", "Batches committed"),
            ("ticks", "Ticks sent"),
        ):
            yield _counter(name, help_, {(log,): found[name]}, ["log"])
        yield _ready(log, ready=found["ready"])
        labels = ["log", "partition"]
        partitions = {(log, str(one["partition"])): one for one in found["partitions"]}
        for key, (name, help_) in _GAUGES.items():
            yield _gauge(name, help_, {at: one[key] for at, one in partitions.items()}, labels)
        log_time = {at: one["log_time_ms"] / 1000 for at, one in partitions.items()}
        yield _gauge("log_time_seconds", "How far log time has come (Unix time)", log_time, labels)
        ahead = {
            at: max(0.0, one["log_time_ms"] - found["host_time_ms"]) / 1000 for at, one in partitions.items()
        }
        yield _gauge(
            "log_time_ahead_seconds", "How far log time is ahead of this host's clock", ahead, labels
        )
        refused = {at: one["dead_letters"] for at, one in partitions.items()}
        yield _counter("dead_letters", "Records refused since the partition's first", refused, labels)
        claims = {
            (*at, printable(verdict)): count
            for at, one in partitions.items()
            for verdict, count in one["claims"].items()
        }
        help_ = "Claims judged since the worker's start: accepted, or the reason of the rejection"
        yield _counter("claims", help_, claims, [*labels, "verdict"])
        for field, (name, help_) in _CONTESTED.items():
            counts = {at: one["contested"][field] for at, one in partitions.items()}
            yield (_gauge if field == "closed" else _counter)(name, help_, counts, labels)
        differ = {at: len(one["differs"]) for at, one in partitions.items()}
        yield _gauge("differing_stores", "Stores of other hosts whose state is another one", differ, labels)
        stopped = {at: one["error"] is not None for at, one in partitions.items()}
        yield _gauge("partition_stopped", "1 where folding had to stop", stopped, labels)


class _NotReadyCollector(Collector):
    """The metrics of a worker whose log does not answer."""

    def __init__(self, log: str) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        yield _ready(printable(self._log), ready=False)


def _ready(log: str, *, ready: bool) -> Metric:
    help_ = "1 once all that was there at start is folded"
    return _gauge("ready", help_, {(log,): ready}, ["log"])


def _gauge(name: str, help_: str, values: Mapping[Any, float], labels: list[str]) -> Metric:
    family = GaugeMetricFamily(f"vacancy_worker_{name}", help_, labels=labels)
    for at, value in values.items():
        family.add_metric(at, float(value))
    return family


def _counter(name: str, help_: str, values: Mapping[Any, float], labels: list[str]) -> Metric:
    family = CounterMetricFamily(f"vacancy_worker_{name}", help_, labels=labels)
    for at, value in values.items():
        family.add_metric(at, float(value))
    return family


def render(source: MetricsSource) -> str:
    """The metrics in Prometheus' text format."""
    return _rendered(WorkerCollector(source))


def not_ready(log: str) -> str:
    """The metrics of a worker whose log, of this name, does not answer, in Prometheus' text format."""
    return _rendered(_NotReadyCollector(log))


def _rendered(collector: Collector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()
