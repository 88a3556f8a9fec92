"""What a pipeline remembers of a request on its way, and of a claim under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from vacancy.clients.scheduler.claims import ClaimSent
from vacancy.clients.scheduler.placement import PlacementRequest, Rejected
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import Candidate
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.group_members import ReservedMembership
from vacancy.projections.view.reservations import Reservation


@dataclass(slots=True)
class PlacementJob:
    """One request on its way. `gave_up` and `heard_since_ms` (see `find`) are those of its last query."""

    request: PlacementRequest
    compiled: CompiledRequest
    id: str
    consumer: str
    started: float
    parked_on: frozenset[bytes] = frozenset()
    lost: int = 0
    reason: str = ""
    avoid: set[str] = field(default_factory=set)
    query_ms: float = 0.0
    gave_up: int = 0
    heard_since_ms: int | None = None
    rejected: Rejected | None = None


@dataclass(slots=True)
class ClaimInFlight:
    """One claim under way. `landed`: what it took is no longer counted as taken by it."""

    job: PlacementJob
    claim: ClaimSent
    candidate: Candidate
    sent: float
    taken: list[Reservation]
    joined: list[ReservedMembership]
    landed: bool = False

    def land(self, view: FleetView) -> None:
        """Its verdict is known, or will not be: the store says all."""
        if self.landed:
            return
        self.landed = True
        view.groups.leave(self.joined)
        for one in self.taken:
            view.untake(one)
