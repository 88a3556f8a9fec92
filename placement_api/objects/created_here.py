"""Names that a request created and that are not in the state: they become part of it with the allocations.

Placement has tables of projects, users and consumer types. Here they are fields of a consumer, so a name without a
consumer is known to the request that created it only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class CreatedHere:
    """What one context created. consumers: uuid -> Placement's object."""

    consumers: dict[str, Any] = field(default_factory=dict)
    projects: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    consumer_types: set[str] = field(default_factory=set)


def created_here(context: Any) -> CreatedHere:
    """What this context created so far."""
    found: CreatedHere | None = getattr(context, "vacancy_created", None)
    if found is None:
        found = context.vacancy_created = CreatedHere()
    return found
