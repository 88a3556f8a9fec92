"""A request to be placed, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.model import ServedGroup
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.rows import AllocationPart, VerdictRow

Status = Literal["placed", "no_valid_host", "lost", "unknown", "gave_up"]


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """A request to be placed. `spec` may be text in Placement's query syntax, too. Where `id` and `consumer` are None, new ids
    are made.

    `hold_ms`: the allocation ends this long after the claim was made unless it is confirmed (log time).
    """

    spec: RequestSpec | CompiledRequest | str
    consumer: str | None = None
    id: str | None = None
    project: str = "-"
    user: str = "-"
    consumer_type: str = "INSTANCE"
    hold_ms: int | None = None


def settle_first(cell: str, consumer: str, claim: str, deadline_ms: int) -> str:
    """What to do about a claim whose outcome is not known, before anything else is asked for its consumer."""
    return (
        f"it is decided once log time of cell {cell} has passed {deadline_ms} ms; wait for that with `vacancy settle"
        f" {consumer} --claim {claim} --cell {cell} --deadline-ms {deadline_ms}`"
    )


class Rejected(NamedTuple):
    """A rejection: the verdict, and the cell that it is of."""

    cell: str
    verdict: VerdictRow


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    `placed`: the consumer has `allocations` on the tree of `root` in `cell`, by `claim`; `grants` are those that the fold
    chose (devices, CPU ids), and `groups` is in how many server groups the consumer is. `no_valid_host`: nothing that matches had room at `as_of` (partition -> next offset). `lost`:
    every claim was rejected; `reason` is that of the last, and `rejected` its verdict. `gave_up`: no place was found, but
    not all trees were searched to the end. `unknown`: no verdict came in time; the claim is decided once the cell's log
    time has passed `deadline_ms`, and not before. Times are in milliseconds; `lost_claims` counts rejected claims,
    `late_claims` those of them that were judged after their deadline.
    """

    status: Status
    request: str
    consumer: str
    cell: str = ""
    root: str = ""
    claim: str = ""
    allocations: tuple[ServedGroup, ...] = ()
    grants: tuple[AllocationPart, ...] = ()
    groups: int = 0
    as_of: Mapping[int, int] = field(default_factory=dict)
    reason: str = ""
    deadline_ms: int = 0
    lost_claims: int = 0
    late_claims: int = 0
    claim_ms: float = 0.0
    query_ms: float = 0.0
    rejected: Rejected | None = None
