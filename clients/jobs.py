"""What a pipeline remembers of a request on its way, and of a claim under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Raw

from vacancy.clients.claiming import ClaimSent
from vacancy.clients.placement import PlacementRequest, Rejected
from vacancy.projections.candidates import Candidate
from vacancy.projections.groups import Joining
from vacancy.resources.request import Ask


@dataclass(slots=True)
class Job:
    """One request on its way."""

    request: PlacementRequest
    spec: Raw
    id: str
    consumer: str
    started: float
    parked_on: frozenset[bytes] = frozenset()
    lost: int = 0
    reason: str = ""
    avoid: set[str] = field(default_factory=set)
    query_ms: float = 0.0
    gave_up: int = 0
    rejected: Rejected | None = None


@dataclass(slots=True)
class Flight:
    """One claim under way."""

    job: Job
    claim: ClaimSent
    candidate: Candidate
    sent: float
    rows: list[tuple[bytes, str, Ask]]
    joined: list[Joining]
