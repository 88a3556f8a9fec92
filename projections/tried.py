"""One tree against a request: for each group what its providers lack, the best of them first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vacancy.projections.candidates import find
from vacancy.projections.conditions import Compares, Condition
from vacancy.projections.filter import compiled
from vacancy.projections.orders import Random
from vacancy.projections.view import View
from vacancy.resources.request import RequestGroup, RequestSpec
from vacancy.resources.resource_class import Shortfall

TOGETHER = "together"
"""The kind of what no provider fails by itself: its tree cannot serve all groups at once."""

NO_INVENTORY = "no_inventory"


class Failure(NamedTuple):
    """A constraint that a provider fails.

    `kind` is the condition's, `exact` where a class refuses what its columns let through, or `together`. `asked`
    and `available` are numbers where there are some. `reason` is a word of the class: why it refused. `taken` is
    the offset of the event that last took from what is short (-1: nothing did, or it is not a matter of use).
    """

    kind: str
    constraint: str
    resource_class: str = ""
    asked: int | None = None
    available: int | None = None
    reason: str = ""
    taken: int = -1


class Tried(NamedTuple):
    """One provider, and what it fails; it can serve the group where that is nothing."""

    provider: str
    failures: tuple[Failure, ...]


class TriedGroup(NamedTuple):
    """One group: the providers of the tree, the one that fails least first."""

    group: str
    providers: tuple[Tried, ...]

    @property
    def best(self) -> Tried:
        """The provider that could serve it, or comes nearest."""
        return self.providers[0]


class Tree(NamedTuple):
    """A node, and how its tree does. `together` is what all groups fail at once, each by itself being served."""

    cell: str
    root: str
    groups: tuple[TriedGroup, ...]
    together: tuple[Failure, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it is a candidate."""
        return not self.together and not any(group.best.failures for group in self.groups)

    @property
    def misses(self) -> Iterator[tuple[str, str, Failure]]:
        """(group, provider, failure) of the best provider of each group, then of all groups together."""
        for group in self.groups:
            for failure in group.best.failures:
                yield group.group, group.best.provider, failure
        for failure in self.together:
            yield "", self.root, failure


def tried(view: View, spec: RequestSpec, root: int, heard_since_ms: int | None = None) -> Tree:
    """Try a request on the tree of one root (its row)."""
    cell, name = view.name(root)
    groups = tuple(_group(view, group, root, heard_since_ms) for group in spec.groups)
    found = Tree(cell, name, groups)
    if not found.fits or len(spec.groups) == 1:
        return found
    inside = tuple(group.model_copy(update={"in_tree": name}) for group in spec.groups)
    served = find(
        view,
        spec.model_copy(update={"groups": inside}),
        limit=len(view.cells),
        order=Random(),
        rng=np.random.default_rng(0),
        heard_since_ms=heard_since_ms,
        one_a_tree=True,
    )
    if any(one.cell == cell for one in served):
        return found
    return found._replace(together=(Failure(TOGETHER, together_text(spec)),))


def _group(view: View, group: RequestGroup, root: int, heard_since_ms: int | None) -> TriedGroup:
    conditions = compiled(view, group, heard_since_ms).conditions
    rated = []
    for row in view.tree(root):
        failing = [one for one in conditions if not one.holds(np.array([row]))[0]]
        missing: dict[str, float] = {}
        for one in failing:
            about, share = one.resource_class or one.text, float(one.shortages(np.array([row]))[0])
            missing[about] = max(share, missing.get(about, 0.0))
        refused = _refused(view, row, group, failing)
        for name, shortfall in refused.items():
            missing[name] = share_missing(shortfall)
        failures = (*_failures(view, row, failing), *_refusals(view, row, group, refused))
        absent = sum(failure.reason == NO_INVENTORY for failure in failures)
        rated.append((len(missing), absent, sum(missing.values()), row, failures))
    rated.sort(key=lambda one: one[:4])
    return TriedGroup(group.name, tuple(Tried(view.name(row)[1], said) for *_, row, said in rated))


def share_missing(shortfall: Shortfall) -> float:
    """How much is missing, more than 0 and up to 1; all of it where the numbers do not tell."""
    if not 0 <= shortfall.available < shortfall.asked:
        return 1.0
    return (shortfall.asked - shortfall.available) / shortfall.asked


def _failures(view: View, row: int, failing: list[Condition]) -> list[Failure]:
    """What conditions say; of a class that the provider does not have, only that."""
    found: dict[str, Failure] = {}
    for one in failing:
        name = one.resource_class
        held = view.class_row(row, name) if name else None
        if name and held is None:
            absent = Failure(one.kind, f"{name}: any", name, reason=NO_INVENTORY)
            found.setdefault(absent.constraint, absent)
            continue
        taken = held.taken if held is not None and isinstance(one, Compares) and one.is_use else -1
        found[one.text] = Failure(one.kind, one.text, name, one.asked, one.value(row), taken=taken)
    return list(found.values())


def _refused(view: View, row: int, group: RequestGroup, failing: list[Condition]) -> dict[str, Shortfall]:
    """What classes themselves refuse, of those whose columns let it through."""
    short = {one.resource_class for one in failing}
    tried = [name for name in inexact_classes(view, group) if name not in short]
    said = {name: refusal(view, row, name, group.resources[name]) for name in tried}
    return {name: shortfall for name, shortfall in said.items() if shortfall is not None}


def _refusals(view: View, row: int, group: RequestGroup, refused: dict[str, Shortfall]) -> Iterator[Failure]:
    for name, shortfall in refused.items():
        held = view.class_row(row, name)
        yield Failure(
            "exact",
            exact_text(name, group.resources[name]),
            name,
            shortfall.asked,
            shortfall.available,
            shortfall.reason,
            -1 if held is None else held.taken,
        )


def inexact_classes(view: View, group: RequestGroup) -> list[str]:
    """The classes of a group whose columns do not say all."""
    return [
        name
        for name in group.resources
        if name in view.classes and not view.classes[name].resource_class.exact_in_columns
    ]


def refusal(view: View, row: int, name: str, ask: Any) -> Shortfall | None:
    """Why a class refuses an ask of this row, if it does."""
    record = view.record(row, name)
    if record is None:
        return Shortfall(NO_INVENTORY, 1, 0)
    outcome = view.classes[name].resource_class.claim(record, ask)
    return outcome if isinstance(outcome, Shortfall) else None


def exact_text(name: str, ask: Any) -> str:
    """The check that a class makes itself."""
    return f"{name}: {ask if isinstance(ask, int) else json.dumps(ask)} fits"


def together_text(spec: RequestSpec) -> str:
    """What is asked of a tree as a whole."""
    apart = ", each from a provider of its own" if spec.group_policy == "isolate" else ""
    return f"all groups served together{apart}"
