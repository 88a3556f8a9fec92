"""One tree against a request: for each group what its providers lack, the nearest provider first."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from vacancy.projections.diagnostics.constraints import (
    TOGETHER,
    CollectiveConstraint,
    GroupConstraints,
    RequestConstraints,
)
from vacancy.projections.query.conditions.filter import ComparesColumn, Condition, IndexedAttribute
from vacancy.projections.view.columns import is_exact
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.classes.resource_class import EXCLUDED, Shortfall
from vacancy.resources.model.request import RequestGroup

NO_INVENTORY = "no_inventory"

_WITHHELD_TRIED = 32
"""How many excluded items are tried one by one."""


class FailedConstraint(NamedTuple):
    """A constraint that a provider fails.

    `kind` is that of the condition, `exact` where a class refuses what its columns let through, or `together`. `asked`
    and `available` are None where the constraint has no numbers. `reason` is the class's word for its refusal. `taken`
    is the offset of the event that last took units of what is short; -1 if none did, or if claims do not consume it.
    `provider` is the provider that fails a constraint of the whole tree, where it is not the root. `withheld` are items that
    would help and that nobody gets, because they are excluded or unhealthy.
    """

    kind: str
    constraint: str
    resource_class: str = ""
    asked: int | None = None
    available: int | None = None
    reason: str = ""
    taken: int = -1
    provider: str = ""
    withheld: tuple[str, ...] = ()


class NodeReport(NamedTuple):
    """One provider, and the constraints that it fails. Without failures it can serve the group."""

    provider: str
    failures: tuple[FailedConstraint, ...]


class GroupReport(NamedTuple):
    """What groups (their names) ask of one provider, and the providers of the tree, the nearest first."""

    group: str
    providers: tuple[NodeReport, ...]

    @property
    def best(self) -> NodeReport:
        """The provider that can serve it, or the nearest one."""
        return self.providers[0]


class TreeReport(NamedTuple):
    """A node's tree, with the sharing providers that serve it, against a request. `whole` are the constraints that the
    tree fails as a whole: by its root, or because it cannot serve all groups at once."""

    cell: str
    root: str
    groups: tuple[GroupReport, ...]
    whole: tuple[FailedConstraint, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it is a candidate."""
        return not self.whole and not any(group.best.failures for group in self.groups)

    @property
    def misses(self) -> Iterator[tuple[str, str, FailedConstraint]]:
        """(group, provider, failure) of the nearest provider of each group, then of the tree as a whole."""
        for group in self.groups:
            for failure in group.best.failures:
                yield group.group, group.best.provider, failure
        for failure in self.whole:
            yield "", failure.provider or self.root, failure


def report_node(view: FleetView, asked: RequestConstraints, root: int) -> TreeReport:
    """Test a request on the tree of one root (its row), and on the sharing providers that serve it."""
    cell, name = view.name(root)
    serving = [_rated(view, part, root) for part in asked.parts]
    groups = tuple(
        GroupReport(part.groups, tuple(NodeReport(view.name(one.row)[1], one.failures) for one in rated))
        for part, rated in zip(asked.parts, serving, strict=True)
    )
    whole = [
        FailedConstraint(one.kind, one.text) for one in asked.roots if not one.holds(np.array([root]))[0]
    ]
    for trait in asked.collective_traits:
        whole += _lacks_trait(view, trait, [serving[number] for number in trait.parts])
    found = TreeReport(cell, name, groups, tuple(whole))
    if found.fits and asked.text is not None and not asked.able([root]):
        return found._replace(whole=(FailedConstraint(TOGETHER, asked.text),))
    return found


def _lacks_trait(
    view: FleetView, trait: CollectiveConstraint, serving: list[list[_Rated]]
) -> list[FailedConstraint]:
    """What keeps a tree from having a collective trait. `serving` are the providers for each part of the group.

    If a provider has the trait and the class, the trait is not what is missing: the reason is what that provider lacks. It is
    left out if that provider is the nearest of its part, because then it is reported there.
    """
    holders: list[tuple[_Rated, bool]] = []
    for rated in serving:
        has = trait.holds(np.array([one.row for one in rated], dtype=np.int64), view)
        some = [one for one, holds in zip(rated, has, strict=True) if holds and not one.absent]
        if any(not one.failures for one in some):
            return []
        holders += [(one, one is rated[0]) for one in some]
    if not holders:
        return [FailedConstraint("trait", trait.text)]
    if any(reported for _, reported in holders):
        return []
    nearest, _ = min(holders, key=lambda item: item[0][:4])
    name = view.name(nearest.row)[1]
    return [
        one._replace(constraint=f"{one.constraint} (for {trait.text})", provider=name)
        for one in nearest.failures
    ]


class _Rated(NamedTuple):
    """A provider and the constraints that it fails. They sort by distance, the nearest first. `absent` are the classes that
    it does not have."""

    lacking: int
    absent: int
    missing: float
    row: int
    failures: tuple[FailedConstraint, ...]


def _rated(view: FleetView, part: GroupConstraints, root: int) -> list[_Rated]:
    sharing = sharing_providers(view).serving(root) if part.may_share else []
    rows = [(row, False) for row in view.tree(root)] + [(row, True) for row in sharing]
    return sorted((_rate(view, part, row, shared) for row, shared in rows), key=lambda one: one[:4])


def _rate(view: FleetView, part: GroupConstraints, row: int, shared: bool) -> _Rated:
    at = np.array([row])
    # The claim of the class refuses the same providers as the index, with numbers.
    asked = (one for one in part.conditions if not isinstance(one, IndexedAttribute))
    failing = [one for one in asked if not (one.holds_shared(at) if shared else one.holds(at))[0]]
    missing: dict[str, float] = {}
    for one in failing:
        about, share = one.resource_class or one.text, float(one.shortages(at)[0])
        missing[about] = max(share, missing.get(about, 0.0))
    refused = _refused(view, row, part.group, failing)
    for name, shortfall in refused.items():
        missing[name] = share_missing(shortfall)
    failures = (*_failures(view, row, part.group, failing), *_refusals(view, row, part.group, refused))
    absent = sum(failure.reason == NO_INVENTORY for failure in failures)
    return _Rated(len(missing), absent, sum(missing.values()), row, failures)


def share_missing(shortfall: Shortfall) -> float:
    """The missing share of what is asked, more than 0 and up to 1; 1 where the numbers do not show it."""
    if not 0 <= shortfall.available < shortfall.asked:
        return 1.0
    return (shortfall.asked - shortfall.available) / shortfall.asked


def _failures(
    view: FleetView, row: int, group: RequestGroup, failing: list[Condition]
) -> list[FailedConstraint]:
    """The failures of conditions. For a class that the provider does not have, there is only that failure."""
    found: dict[str, FailedConstraint] = {}
    for one in failing:
        name = one.resource_class
        held = view.class_row(row, name) if name else None
        if name and held is None:
            absent = FailedConstraint(one.kind, f"{name}: any", name, reason=NO_INVENTORY)
            found.setdefault(absent.constraint, absent)
            continue
        taken = held.taken if held is not None and _is_consumable(view, one) else -1
        withheld = _withheld(view, row, name, group) if _is_consumable(view, one) else ()
        found[one.text] = FailedConstraint(
            one.kind, one.text, name, one.asked, one.value(row), taken=taken, withheld=withheld
        )
    return list(found.values())


def _is_consumable(view: FleetView, condition: Condition) -> bool:
    """Whether a condition compares a column that claims consume: then some claim took what is missing."""
    if not isinstance(condition, ComparesColumn):
        return False
    consumable = view.classes[condition.resource_class].resource_class.consumable_columns
    return condition.term.column in consumable


def _refused(
    view: FleetView, row: int, group: RequestGroup, failing: list[Condition]
) -> dict[str, Shortfall]:
    """The refusals of classes whose columns let the ask through."""
    short = {one.resource_class for one in failing}
    tested = [name for name in inexact_classes(view, group) if name not in short]
    refusals = {name: refusal(view, row, name, group.resources[name]) for name in tested}
    return {name: shortfall for name, shortfall in refusals.items() if shortfall is not None}


def _refusals(
    view: FleetView, row: int, group: RequestGroup, refused: dict[str, Shortfall]
) -> Iterator[FailedConstraint]:
    for name, shortfall in refused.items():
        held = view.class_row(row, name)
        yield FailedConstraint(
            "exact",
            exact_text(name, group.resources[name]),
            name,
            shortfall.asked,
            shortfall.available,
            shortfall.reason,
            -1 if held is None else held.taken,
            withheld=_withheld(view, row, name, group),
        )


def _withheld(view: FleetView, row: int, name: str, group: RequestGroup) -> tuple[str, ...]:
    """The excluded and unhealthy items of a record with each of which more of the ask would fit; all of them, where only
    several together would serve it."""
    of, ask = view.classes[name].resource_class, group.resources[name]
    record = view.record(row, name) if of.excludes_items else None
    excluded = () if record is None else of.excluded(record)
    unhealthy = {} if record is None else of.unhealthy(record)
    names = sorted({*excluded, *unhealthy} & {*of.names(record)}) if excluded or unhealthy else []
    if not names:
        return ()

    def available(offered: Collection[str]) -> int | None:
        """How much of the ask fits if these are offered, too; None: all of it."""
        whole = of.override(record, {EXCLUDED: dict.fromkeys(set(excluded).difference(offered), "")})
        whole = of.set_unhealthy(whole, {one: why for one, why in unhealthy.items() if one not in offered})
        outcome = of.claim(whole, ask)
        return outcome.available if isinstance(outcome, Shortfall) else None

    now, best = available(()), available(names)
    if best is not None and (now is None or best <= now):
        return ()
    helping = [
        one
        for one in names[:_WITHHELD_TRIED]
        if (more := available((one,))) is None or (now is not None and more > now)
    ]
    return tuple(helping or names)


def inexact_classes(view: FleetView, group: RequestGroup) -> list[str]:
    """The classes of a group whose columns do not decide the ask."""
    return [
        name
        for name, ask in group.resources.items()
        if name in view.classes and not is_exact(view.classes, name, ask)
    ]


def refusal(view: FleetView, row: int, name: str, ask: Any) -> Shortfall | None:
    """The refusal of an ask by the record of this row, if it is refused."""
    record = view.record(row, name)
    if record is None:
        return Shortfall(NO_INVENTORY, 1, 0)
    outcome = view.classes[name].resource_class.claim(record, ask)
    return outcome if isinstance(outcome, Shortfall) else None


def exact_text(name: str, ask: Any) -> str:
    """The text of the constraint that a class tests by a claim."""
    return f"{name}: {json.dumps(ask)} fits"
