"""Few trees and all trees are narrowed in two ways: both must come to the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.models.memory_fleets import Fleet
from tests.support.queries import compiled
from tests.support.random_fleets.fleets import RandomFleet, a_request
from vacancy.projections.query.plan import QueryPlan, plan_of
from vacancy.projections.query.trees import prefilter
from vacancy.projections.query.trees.prefilter import Prefilter
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.model.request import RequestSpec

NONE = np.zeros(0, dtype=np.int64)
REQUESTS = 12


def shapes(seed: int) -> Iterator[tuple[FleetView, QueryPlan]]:
    """Requests of all kinds, with what is shared, nested, isolated and in subtrees among them."""
    rng = random.Random(seed)
    random_fleet = RandomFleet(rng)
    view = Fleet(random_fleet.tape.records.values()).view()
    for _ in range(REQUESTS):
        request = a_request(rng, list(random_fleet.known), random_fleet.kinds)
        spec = RequestSpec.model_validate_json(json.dumps(request))
        plan = plan_of(view, compiled(spec))
        if not plan.impossible:
            yield view, plan


def roots_of(view: FleetView, plan: QueryPlan) -> list[int]:
    roots = np.flatnonzero(plan.root_mask(view.open))
    assert (
        roots.tolist()
        == plan.roots(np.array([r for r in range(view.size) if view.root[r] == r]), view.open).tolist()
    )
    found: list[int] = roots.tolist()
    return found


@pytest.mark.parametrize("seed", range(60))
def test_few_are_narrowed_like_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for view, plan in shapes(seed):
        every = roots_of(view, plan)
        few = Prefilter(view, plan, view.open, view.open).among(np.array(every[::-1], dtype=np.int64))
        each = [
            root
            for root in every
            if len(Prefilter(view, plan, view.open, view.open).among(np.array([root])).roots)
        ]
        assert few.roots.tolist() == each[::-1]
        takes_part = set(few.roots[few.takes_part].tolist())
        for factor in (0, 10**9):  # at once to the few, and never
            monkeypatch.setattr(prefilter, "_FEW", factor)
            found = Prefilter(view, plan, view.open, view.open).everywhere(NONE).tolist()
            assert found == sorted(set(found))
            assert takes_part <= set(found) <= set(each)
            assert bool(found) == bool(each)
            assert not len(Prefilter(view, plan, view.open, view.open).everywhere(few.roots))


@pytest.mark.parametrize("seed", range(60))
def test_who_serves_is_reported_tree_by_tree(seed: int) -> None:
    for view, plan in shapes(seed):
        asked = Prefilter(view, plan, view.open, view.open)
        few = asked.among(np.array(roots_of(view, plan)[::-1], dtype=np.int64))
        for number, kind in enumerate(plan.kinds):
            can = set(kind.own(kind.filter.everywhere(view.open)).tolist())
            sharing = set(asked.sharing[number].tolist())
            assert sharing <= can & set(sharing_providers(view).rows)
            for place, root in enumerate(few.roots.tolist()):
                rows, places, starts = few.own[number]
                mine = rows[starts[place] : starts[place + 1]].tolist()
                assert mine == [row for row in view.tree(root) if row in can]
                assert set(places[starts[place] : starts[place + 1]].tolist()) <= {place}
                assert mine or sharing.intersection(sharing_providers(view).serving(root))
