"""The demo: this host and a synthetic fleet, several schedulers that fill it completely, and the verification.

Everything is real but the fleet: the log, the tables, the worker, the schedulers, each in its own process.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Progress, Trial, TrialOptions, TrialResult, run_trial
from vacancy.clients.demo.synthetic_fleet import SyntheticFleet, SyntheticNode, make_fleet, node_reports
from vacancy.clients.publisher.host import HostOptions, collect
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import FACTS, key

REQUESTS_PER_NODE = 12
"""About one and a half times what a node of the fleet can hold."""

_RELEASED = 0.2
_STAY = 0.3
"""A fifth of the requests are released, each after about so large a share of all has come later."""

DemoResult = TrialResult


@dataclass(frozen=True)
class DemoOptions:
    """What to show. `requests` None: as many as fill the fleet, and half as many again.

    `log`: a log's URL, made with `partitions` if it is not there; None: a new one in `directory`. `directory`:
    None for a temporary one, which is removed at the end unless `keep`. `hosts`: stores that follow the log.
    `in_flight`: claims that each scheduler has under way at once.
    """

    nodes: int = 300
    schedulers: int = 4
    requests: int | None = None
    seed: int = 0
    partitions: int = 4
    log: str | None = None
    directory: Path | None = None
    keep: bool = False
    hosts: int = 1
    order: Order = RANDOM
    in_flight: int = 16
    client_settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {"nodes": self.nodes, "schedulers": self.schedulers, "partitions": self.partitions}
        counts |= {"hosts": self.hosts, "in_flight": self.in_flight}
        if self.requests is not None:
            counts["requests"] = self.requests
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"{name} is {count}, which is invalid", do="give 1 or more")


def run_demo(options: DemoOptions, progress: Progress | None = None) -> DemoResult:
    """Run the demo. Raises `VacancyError` where something fails; what it finds wrong is in the result."""
    requests = REQUESTS_PER_NODE * options.nodes if options.requests is None else options.requests
    fleet = make_fleet(options.nodes, requests, options.seed)
    trial = TrialOptions(
        log=options.log,
        directory=options.directory,
        keep=options.keep,
        partitions=options.partitions,
        hosts=options.hosts,
        order=options.order,
        in_flight=options.in_flight,
        release_batch=options.in_flight,
        seed=options.seed,
        client_settings=options.client_settings,
    )
    plans = deal(_arrivals(fleet, options.seed), options.schedulers)
    return run_trial(trial, lambda trial: _publish(trial, fleet), plans, progress)


def _arrivals(fleet: SyntheticFleet, seed: int) -> Sequence[Arrival]:
    rng = random.Random(f"{seed} releases")
    total = len(fleet.requests)
    return [
        Arrival(spec, number + 1 + int(_STAY * total * rng.random()) if rng.random() < _RELEASED else None)
        for number, spec in enumerate(fleet.requests)
    ]


# -- publishing -------------------------------------------------------------------------------------------------


def _publish(trial: Trial, fleet: SyntheticFleet) -> None:
    """The report of this host, the fleet's reports, and the operator settings of the fleet."""
    _publish_host(trial)
    partitions = trial.log.partitions
    trial.append(list(node_reports((node.tree for node in fleet.nodes), partitions)), "nodes report")
    trial.settle("publish")
    trial.append(_facts(trial, fleet.nodes), "operators name aggregates")


def _publish_host(trial: Trial) -> None:
    options = HostOptions()
    with Outbox(trial.directory / "outbox.db") as outbox:
        cell = cell_for(options.root, trial.log.partitions)
        publisher = Publisher(trial.log, options.root, cell, outbox)
        publisher.report(collect(options))
        publisher.flush()


def _facts(trial: Trial, nodes: Sequence[SyntheticNode]) -> list[NewRecord]:
    """The operator settings that are not set yet: a log that is used again has them already."""
    entries = []
    with StoreReader(trial.stores[0], trial.registry, with_view=False) as reader:
        for node in nodes:
            cell = cell_for(node.root, trial.log.partitions)
            known = reader.get(FACTS, key(cell, node.root))
            if known is not None and known.aggregates == tuple(sorted(node.aggregates)):
                continue
            data = events.OperatorSettingsData(
                provider=node.root,
                revision=1 if known is None else known.revision + 1,
                facts=events.OperatorSettings(aggregates=node.aggregates),
            )
            event = events.OperatorSettingsSet(id=uuid4().hex, source="/operator/demo", data=data)
            entries.append(NewRecord(cell, events.encode(event)))
    return entries
