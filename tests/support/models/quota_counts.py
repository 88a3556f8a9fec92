"""What the rows of quotas count, and the same computed from the allocations."""

from __future__ import annotations

from collections import Counter

from tests.support.models.allocation_model import rows_of
from tests.support.models.memory_state import MemoryState
from vacancy.resources.classes.registry import Registry
from vacancy.resources.state.tables import ALLOCATIONS, PARTITION, QUOTA_AMOUNTS, QUOTAS

Counts = dict[bytes, Counter[tuple[str, str]]]
"""The key of a row -> (consumer type, unit) -> amount."""


def counted(state: MemoryState) -> Counts:
    """What the rows say."""
    return {
        key: Counter({(kind, unit): amount for kind, unit, amount in row.used})
        for key, row in rows_of(state, QUOTAS).items()
        if row.used
    }


def recounted(state: MemoryState, registry: Registry) -> Counts:
    """What consumers hold, added up for their projects, their users and the projects above, but for what was held before the log was
    raised to rules that count, and is not counted yet."""
    found: Counts = {}
    since = max((row.quotas_from for row in rows_of(state, PARTITION).values()), default=0)
    marked = rows_of(state, QUOTA_AMOUNTS)
    parents = {key.decode(): row.parent for key, row in rows_of(state, QUOTAS).items()}
    for key, row in rows_of(state, ALLOCATIONS).items():
        if row.offset < since and key not in marked:
            continue
        keys = [row.project]
        keys += [parents[row.project]] if parents.get(row.project) else []
        keys += [f"{row.project}\0{row.user}"] if row.user != "-" else []
        for part in row.parts:
            of_class = registry.table(part.resource_class).resource_class
            amounts = {"": part.grant} if type(part.grant) is int else of_class.amounts_of(part.grant, None)
            for unit, amount in amounts.items():
                name = f"{part.resource_class}.{unit}" if unit else part.resource_class
                for scope in keys:
                    found.setdefault(scope.encode(), Counter())[row.consumer_type, name] += amount
    return {scope: +amounts for scope, amounts in found.items() if +amounts}
