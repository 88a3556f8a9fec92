"""The candidates by name. A new store is one more line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final, Protocol

from evaluation.candidates.candidate import Candidate, Connection, Json, WarmsUp
from vacancy.resources.model.errors import UsageError

_MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vacancy-embedded": "vacancy.embedded:VacancyEmbedded",
        "vacancy-kafka-1": "vacancy.kafka:VacancyKafka1",
        "vacancy-kafka-3": "vacancy.kafka:VacancyKafka3",
        "postgresql": "postgresql.store:Postgresql",
        "copies": "copies.store:Copies",
        "placement-gate": "placement.store:PlacementAsInGate",
        "placement-best": "placement.store:PlacementAtBest",
        "placement-on-vacancy": "vacancy_api.store:PlacementOnVacancy",
        "etcd": "etcd.store:EtcdCandidate",
        "cassandra": "cassandra.store:CassandraCandidate",
    }
)
"""Name -> module in `evaluation/candidates` and the class in it, which is made without arguments."""

NAMES: Final = tuple(_MODULES)
"""All candidates, in the order of the report."""


def candidate(name: str, *, short_runs: bool = False) -> Candidate:
    """A new candidate. Imports its module only now, because each needs libraries of its own. `short_runs`: see `WarmsUp`. Raises
    `UsageError` for an unknown name."""
    if name not in _MODULES:
        raise UsageError(f"there is no candidate {name}", do=f"use one of {', '.join(NAMES)}")
    module, _, cls = _MODULES[name].partition(":")
    made: Candidate = getattr(import_module(f"evaluation.candidates.{module}"), cls)()
    if short_runs and isinstance(made, WarmsUp):
        made.prepare_for_short_runs()
    return made


class Connects(Protocol):
    """What of a candidate is needed to connect schedulers."""

    name: str

    def connection(self, scheduler_number: int) -> Json:
        """See `Candidate.connection`."""


def described(one: Connects, scheduler_number: int) -> Json:
    """What `connect` needs in the process of a scheduler."""
    return {"candidate": one.name, "connection": one.connection(scheduler_number)}


async def connect(description: Json) -> Connection:
    """Open the connection that `described` describes."""
    return await candidate(description["candidate"]).connect(description["connection"])
