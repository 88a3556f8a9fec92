"""What is modelled: the costs of each step, and a deployment of fleet, log, hosts and load. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from vacancy.resources.model.errors import UsageError

TOGETHER_MAX = 64
"""Claims that share a record."""


@dataclass(frozen=True)
class Costs:
    """Seconds of each step, of one core, except `append_s` and `latency_s`, which pass without a core of the host.

    Of a scheduler: `search_s` for each search of places for claims that share a record, `query_s` for each place found;
    `record_s` and `claim_s` to encode, send and settle, for each record and each claim; `look_s` for a look for news, and
    `follow_claim_s`, `follow_heartbeat_s` and `follow_report_s` for each of these in the news.
    Of the log: `append_s`, how long a record keeps it (the lock and the flush of SQLite; a broker's work); `latency_s`, from the
    end of an append until a worker can read the record. Of a worker: `commit_s` for each batch, and for finding it; `judge_s`, `heartbeat_s` and
    `report_s` to read and fold each claim, heartbeat and report; `judge_record_s` for what the requests of claims that were sent
    together share; they are a record of their own, in any partition.
    """

    search_s: float
    query_s: float
    record_s: float
    claim_s: float
    look_s: float
    follow_claim_s: float
    follow_heartbeat_s: float
    follow_report_s: float
    append_s: float
    latency_s: float
    commit_s: float
    judge_record_s: float
    judge_s: float
    heartbeat_s: float
    report_s: float

    def __post_init__(self) -> None:
        for one in fields(self):
            if (value := getattr(self, one.name)) < 0:
                raise UsageError(f"the cost {one.name} is {value}, which is invalid", do="give 0 or more")

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Costs:
        """From a calibration's `costs_us`: names without `_s`, values in microseconds. Raises `UsageError`."""
        names = {one.name.removesuffix("_s") for one in fields(cls)}
        if set(found) != names:
            wrong = ", ".join(sorted(names ^ set(found)))
            raise UsageError(f"the costs do not fit this model: {wrong}", do="calibrate again")
        return cls(**{f"{name}_s": float(value) / 1e6 for name, value in found.items()})

    def as_json(self) -> dict[str, float]:
        """As `from_json` reads it."""
        return {one.name.removesuffix("_s"): round(getattr(self, one.name) * 1e6, 2) for one in fields(self)}


@dataclass(frozen=True)
class Pacing:
    """How long processes wait although they could work, as in `clients.scheduler.pipeline` and `streams.worker.embedded_worker`.

    `gather_s`, `gather_each_s`: how long a request waits for others to share a record with. `look_min_s`, `look_max_s`: the
    bounds of a scheduler's sleep between two looks, `look_few_s` the lower one with few claims in flight; with 0 a commit wakes it. `poll_min_s`, `poll_max_s`: the same
    for a worker; a log on Kafka wakes it.
    """

    gather_s: float = 0.010
    gather_each_s: float = 0.0004
    look_min_s: float = 0.0005
    look_few_s: float = 0.0001
    look_max_s: float = 0.005
    poll_min_s: float = 0.001
    poll_max_s: float = 0.020


IMMEDIATE = Pacing(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Nothing waits where it could work."""

ON_KAFKA = Pacing(poll_min_s=0.0, poll_max_s=0.0)
"""As the defaults, but a record wakes the worker."""


@dataclass(frozen=True)
class Deployment:
    """A fleet, its log, the hosts of its schedulers, and the load. Each host has a store, so it folds the whole log.

    `room`: claims that fit on a node; `fill`: the share of it that is in use at the start. `workers`, `schedulers`, `cores`:
    of each host. `brokers`: hosts of the log, over which partitions are spread. `in_flight`: claims of a scheduler at once.
    `arrivals_per_s`: requests of all schedulers together; None: each always has as many as `in_flight` allows. `requests`: end
    after this number. `replaced`: each accepted claim releases another one, so that the fill stays.
    `heartbeat_every_s`, `report_every_s`: of each node; None: none. `batch_max`: records of a worker's batch.
    """

    nodes: int
    room: int = 100
    fill: float = 0.0
    partitions: int = 4
    brokers: int = 1
    hosts: int = 1
    workers: int = 1
    schedulers: int = 1
    cores: int = 2
    in_flight: int = 16
    arrivals_per_s: float | None = None
    requests: int | None = None
    replaced: bool = False
    heartbeat_every_s: float | None = None
    report_every_s: float | None = None
    batch_max: int = 500
    pacing: Pacing = field(default_factory=Pacing)

    def __post_init__(self) -> None:
        counts = (
            "nodes",
            "room",
            "partitions",
            "brokers",
            "hosts",
            "workers",
            "schedulers",
            "cores",
            "in_flight",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, which is invalid", do="give 1 or more")
        if self.nodes < self.partitions:
            raise UsageError(
                f"{self.nodes} nodes are less than {self.partitions} partitions", do="give more nodes"
            )
        if not 0 <= self.fill < 1:
            raise UsageError(f"fill is {self.fill}, which is invalid", do="give 0 or more, and less than 1")

    @property
    def all_schedulers(self) -> int:
        """Of all hosts."""
        return self.hosts * self.schedulers

    @property
    def background_per_s(self) -> tuple[float, float]:
        """Heartbeats and reports a second of all nodes."""
        return (
            self.nodes / self.heartbeat_every_s if self.heartbeat_every_s else 0.0,
            self.nodes / self.report_every_s if self.report_every_s else 0.0,
        )
