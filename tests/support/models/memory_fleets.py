"""In-memory fleets: a view without a store, and a search for candidates by exhaustive enumeration."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape
from tests.support.models.allocation_model import rows_of
from tests.support.models.memory_state import MemoryState
from tests.support.queries import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.classes.resource_class import Exactness, Granted
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.rows import ProviderRow
from vacancy.resources.state.tables import CUSTOM_FAMILY, GROUPS, NODES, PROVIDERS, ClassTable, split_key

Provider = tuple[str, str]
"""(cell, provider id)."""


class Fleet:
    """The folded state of a log, one state per partition."""

    def __init__(self, partitions: Iterable[Sequence[Record]]) -> None:
        self.states = []
        for records in partitions:
            state = MemoryState()
            for record in records:
                state.commit(fold(state, record, REGISTRY))
            self.states.append(state)
        self.providers: dict[Provider, ProviderRow] = {}
        self.live: set[Provider] = set()
        for state in self.states:
            self.providers |= {split_key(key): row for key, row in rows_of(state, PROVIDERS).items()}
            self.live |= {split_key(key) for key, row in rows_of(state, NODES).items() if row.open}
        self.live &= set(self.providers)

    def view(self) -> FleetView:
        """A view, loaded as a reader loads it."""
        view = FleetView(REGISTRY, lambda table, key: self._row(table, key))
        head = ClassTable.HEAD_BYTES
        for state in self.states:
            items = [(family, key, data) for family, key, data in state.items()]
            view.load_providers([(key, data) for family, key, data in items if family == PROVIDERS.family])
            view.load_nodes([[(key, data) for family, key, data in items if family == NODES.family]])
            view.groups.feed((key, data) for family, key, data in items if family == GROUPS.family)
            for family, key, data in items:
                if family in REGISTRY.families:
                    name = key.split(b"\0")[0].decode() if family == CUSTOM_FAMILY else family
                    table = REGISTRY.table(name)
                    view.load_class(table, [key[len(table.prefix) :]], [data[head:]])
        return view

    def _row(self, table: ClassTable, key: bytes) -> Any:
        return next((row for state in self.states if (row := state.get(table, key)) is not None), None)

    def record(self, at: Provider, name: str) -> Any:
        """A provider's record of one class, or None."""
        table = REGISTRY.table(name)
        row = self._row(table, table.prefix + f"{at[0]}\0{at[1]}".encode())
        return None if row is None else row.record

    # -- exhaustive search, written from the documented rules ----------------------------------------------

    def serving(self, spec: RequestSpec) -> dict[Provider, list[tuple[Provider, ...]]]:
        """Root -> all assignments of its tree to the groups, one provider per group."""
        found = {}
        for root in sorted(self.live):
            tree = [at for at, row in self.providers.items() if (at[0], row.root) == root]
            options = [[at for at in tree if self._may_serve(at, group)] for group in spec.groups]
            assignments = [one for one in itertools.product(*options) if self.can_serve(spec, one)]
            if assignments:
                found[root] = assignments
        return found

    def _may_serve(self, at: Provider, group: RequestGroup) -> bool:
        row = self.providers[at]
        root = self.providers[at[0], row.root]
        homes = {cell for cell, id_ in self.live if id_ == row.root}
        return (
            row.reported
            and not row.disabled
            and root.reported
            and not root.disabled
            and len(homes) == 1
            and set(group.required) <= row.traits
            and not set(group.forbidden) & row.traits
            and all(set(some) & row.traits for some in group.any_traits)
            and all(set(some) & set(row.aggregates) for some in group.member_of)
            and not set(group.not_member_of) & set(row.aggregates)
            and (group.in_tree is None or self._in_tree(at, group.in_tree))
        )

    def _in_tree(self, at: Provider, id_: str) -> bool:
        other = self.providers.get((at[0], id_))
        return other is not None and other.root == self.providers[at].root

    def can_serve(self, spec: RequestSpec, assignment: Sequence[Provider]) -> bool:
        """Whether these providers can grant the asks of all groups together, in any order."""
        if spec.group_policy == "isolate" and len(set(assignment)) < len(assignment):
            return False
        served = list(zip(assignment, spec.groups, strict=True))
        exact = all(
            REGISTRY.table(name).resource_class.exactness(ask) is Exactness.EXACT
            for group in spec.groups
            for name, ask in group.resources.items()
        )
        orders = [served] if exact else itertools.permutations(served)
        return any(self._grants(order) for order in orders)

    def _grants(self, served: Sequence[tuple[Provider, RequestGroup]]) -> bool:
        records: dict[tuple[Provider, str], Any] = {}
        for at, group in served:
            for name, ask in group.resources.items():
                record = records.get((at, name), self.record(at, name))
                outcome = None if record is None else REGISTRY.table(name).resource_class.claim(record, ask)
                if not isinstance(outcome, Granted):
                    return False
                records[at, name] = outcome.record
        return True


def fleet_of(tape: Tape) -> Fleet:
    return Fleet(tape.records.values())


def assignment_of(candidate: Candidate, spec: RequestSpec) -> tuple[Provider, ...]:
    """The providers of a candidate, one per group."""
    providers = {served.group: (candidate.cell, served.provider) for served in candidate.allocations}
    return tuple(providers[group.name] for group in spec.groups)


def alike(spec: RequestSpec, assignment: Sequence[Provider]) -> tuple[tuple[str, Provider], ...]:
    """An assignment in a form that does not distinguish equal groups."""
    groups = [group.model_dump_json(exclude={"name"}) for group in spec.groups]
    return tuple(sorted(zip(groups, assignment, strict=True)))


def spec_of(*groups: Mapping[str, Any], policy: str = "none") -> RequestSpec:
    """A request; each group is given as its resources, or completely if it has the key `resources`."""
    whole = [dict(group) if "resources" in group else {"resources": dict(group)} for group in groups]
    numbered = [{"name": str(number), **group} for number, group in enumerate(whole)]
    return RequestSpec.model_validate_json(json.dumps({"groups": numbered, "group_policy": policy}))


def draws(
    view: FleetView, spec: RequestSpec, times: int, seed: int, limit: int = 1
) -> Iterator[list[Candidate]]:
    """The answers of repeated calls of `find` with random order."""
    rng = np.random.default_rng(seed)
    for _ in range(times):
        yield find(view, spec, limit=limit, order=RANDOM, rng=rng)
