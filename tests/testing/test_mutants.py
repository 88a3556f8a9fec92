"""The conformance suite finds mistakes: each mutant is a built-in class with one wrong method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import Phase, settings
from msgspec.structs import replace

from tests.support.classes.class_strategies import REGISTRY, subject
from vacancy.resources.classes.devices.device_class import DeviceClass
from vacancy.resources.classes.devices.gpu_share import GpuShare
from vacancy.resources.classes.devices.whole_devices import Devices
from vacancy.resources.classes.numa.numa_cell import NumaCell
from vacancy.resources.classes.quantity import Quantity
from vacancy.resources.classes.resource_class import EXCLUDED, Exactness, Granted, ResourceClass, Shortfall
from vacancy.testing import check

SETTINGS: Final = settings(
    derandomize=True, database=None, max_examples=500, phases=(Phase.generate,), report_multiple_bugs=False
)


class Mutant(NamedTuple):
    """A mistake in one method of a class, and the property that must find it."""

    class_name: str
    method: str
    mistake: Any
    found_by: str


def _claim_and_remember(self: Any, record: Any, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
    """The instance holds state: every second claim of it is refused."""
    self.claims = getattr(self, "claims", 0) + 1
    if self.claims % 2 == 0:
        return Shortfall("no_room", 1, 0)
    return Quantity.claim(self, record, ask, no_worse=no_worse)


def _claim_and_change_the_ask(
    self: Any, record: Any, ask: Any, *, no_worse: bool = False
) -> Granted | Shortfall:
    outcome = NumaCell.claim(self, record, ask, no_worse=no_worse)
    if isinstance(ask, dict):
        ask.pop("threads", None)
    return outcome


def _claim_within(refuse: Callable[[Shortfall], Shortfall]) -> Callable[..., Granted | Shortfall]:
    """A claim whose refusals are changed."""

    def claim(self: Any, record: Any, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        outcome = Quantity.claim(self, record, ask, no_worse=no_worse)
        return refuse(outcome) if isinstance(outcome, Shortfall) else outcome

    return claim


def _report_and_keep_health(self: Any, inventory: Any, old: Any) -> Any:
    record = DeviceClass.report(self, inventory, old)
    names = self.names(record)
    kept = {} if old is None else {name: why for name, why in old.unhealthy if name in names}
    return self.set_unhealthy(record, kept)


def _swapped(self: Any, encoded: Any) -> Any:
    return Quantity.project(self, encoded)[[0, 1, 3, 2, 4]]


MUTANTS: Final[dict[str, Mutant]] = {
    "release gives back one too few": Mutant(
        "VCPU",
        "release",
        lambda self, record, grant: Quantity.release(self, record, grant - 1),
        "claim_then_release_is_identity",
    ),
    "terms compare with > for >=": Mutant(
        "VCPU",
        "query",
        lambda self, ask: Quantity.query(self, ask + 1),
        "terms_never_exclude_what_claim_grants",
    ),
    "encode drops a field": Mutant(
        "VCPU",
        "encode",
        lambda self, record: Quantity.encode(self, replace(record, step_size=1)),
        "records_survive_encoding",
    ),
    "column_deltas is off by one": Mutant(
        "PCI_DEVICE",
        "column_deltas",
        lambda self, ask: {"free": -ask - 1} if self.is_amount(ask) else None,
        "deltas_are_what_claims_change",
    ),
    "column_deltas of an object is that of an amount": Mutant(
        "PCI_DEVICE",
        "column_deltas",
        lambda self, ask: {"free": -(ask if self.is_amount(ask) else ask["count"])},
        "deltas_are_what_claims_change",
    ),
    "report forgets use": Mutant(
        "NUMA_CELL",
        "report",
        lambda self, inventory, old: NumaCell.report(self, inventory, None),
        "in_use_while_something_is_held",
    ),
    "withdraw leaves free units": Mutant(
        "VCPU", "withdraw", lambda self, record: record, "withdrawn_records_give_nothing"
    ),
    "withdraw forgets use": Mutant(
        "PCI_DEVICE",
        "withdraw",
        lambda self, record: replace(DeviceClass.withdraw(self, record), used=()),
        "in_use_while_something_is_held",
    ),
    "project swaps two columns": Mutant("VCPU", "project", _swapped, "projected_columns_are_rows"),
    "no_worse is ignored": Mutant(
        "VCPU",
        "claim",
        lambda self, record, ask, no_worse=False: Quantity.claim(self, record, ask),
        "no_worse_is_granted",
    ),
    "any ask is no worse": Mutant(
        "VCPU", "asks_no_more", lambda self, grants, asks: True, "no_worse_is_granted"
    ),
    "reclaim chooses again": Mutant(
        "NUMA_CELL",
        "reclaim",
        lambda self, record, ask, before, no_worse=False: NumaCell.claim(self, record, ask),
        "reclaim_keeps_what_was_held",
    ),
    "reclaim gives what others hold": Mutant(
        "VCPU",
        "reclaim",
        lambda self, record, ask, before, no_worse=False: Quantity.claim(self, record, ask, no_worse=True),
        "reclaim_grants_what_claim_grants",
    ),
    "capacity is not checked": Mutant(
        "VCPU",
        "claim",
        lambda self, record, ask, no_worse=False: Quantity.claim(self, record, ask, no_worse=True),
        "claims_take_no_more_than_there_is",
    ),
    "an override is not cleared": Mutant(
        "VCPU",
        "override",
        lambda self, record, override: Quantity.override(self, record, override) if override else record,
        "overrides_can_be_cleared",
    ),
    "an override that holds is called idle": Mutant(
        "VCPU", "without_effect", lambda self, record, override: tuple(override), "overrides_can_be_cleared"
    ),
    "an excluded device is granted": Mutant(
        "PCI_DEVICE",
        "override",
        lambda self, record, override: replace(
            DeviceClass.override(self, record, {}), excluded=tuple(sorted(override.get(EXCLUDED, ())))
        ),
        "excluded_items_go_to_nobody",
    ),
    "an unhealthy card is granted": Mutant(
        "MIG",
        "set_unhealthy",
        lambda self, record, unhealthy: replace(record, unhealthy=tuple(sorted(unhealthy.items()))),
        "unhealthy_items_go_to_nobody",
    ),
    "a report keeps what was unhealthy": Mutant(
        "VGPU",
        "report",
        lambda self, inventory, old: _report_and_keep_health(self, inventory, old),
        "unhealthy_items_go_to_nobody",
    ),
    "every device is called withheld": Mutant(
        "PCI_DEVICE",
        "withheld",
        lambda self, record, grant: tuple(grant) if isinstance(grant, list) else (),
        "excluded_items_go_to_nobody",
    ),
    "no row is known to withhold something": Mutant(
        "GPU_SHARE", "may_withhold", lambda self, encoded: False, "unhealthy_items_go_to_nobody"
    ),
    "any grant is part of what was held": Mutant(
        "PCI_DEVICE", "grants_no_more", lambda self, before, after: True, "parts_are_no_more"
    ),
    "no grant is part of what was held": Mutant(
        "NUMA_CELL", "grants_no_more", lambda self, before, after: False, "reclaim_keeps_what_was_held"
    ),
    "a field that is needed is called a later one": Mutant(
        "MIG", "added_ask_fields", frozenset({"profile"}), "added_fields_are_optional"
    ),
    "the query ignores step_size": Mutant(
        "VCPU", "query", lambda self, ask: Quantity.query(self, ask)[:3], "exact_terms_decide"
    ),
    "devices are exact": Mutant(
        "PCI_DEVICE", "exactness", lambda self, ask: Exactness.EXACT_NEXT, "exact_terms_decide"
    ),
    "memory in any pages is exact": Mutant(
        "NUMA_CELL", "exactness", lambda self, ask: Exactness.EXACT_NEXT, "exact_terms_decide"
    ),
    "shares are counted": Mutant(
        "GPU_SHARE", "exactness", lambda self, ask: Exactness.EXACT, "exact_asks_are_counted"
    ),
    "claim changes the instance": Mutant("VCPU", "claim", _claim_and_remember, "instances_are_stateless"),
    "claim changes the ask": Mutant(
        "NUMA_CELL", "claim", _claim_and_change_the_ask, "arguments_are_not_changed"
    ),
    "a refusal names enough": Mutant(
        "VCPU",
        "claim",
        _claim_within(lambda refusal: refusal._replace(available=refusal.asked)),
        "refusals_say_why",
    ),
    "release forgets which cores are closed": Mutant(
        "NUMA_CELL",
        "release",
        lambda self, record, grant: replace(NumaCell.release(self, record, grant), isolated=record.isolated),
        "claim_then_release_is_identity",
    ),
    "use that was counted is not use": Mutant(
        "PCI_DEVICE", "in_use", lambda self, record: bool(record.used), "in_use_while_something_is_held"
    ),
    "a grant is a tuple": Mutant(
        "PCI_DEVICE",
        "_grant",
        lambda self, uses: tuple(Devices._grant(self, uses)),
        "grants_are_json_with_an_amount",
    ),
    "devices are counted, not their shares": Mutant(
        "GPU_SHARE", "_amount_of", lambda self, grant: len(grant), "grants_are_json_with_an_amount"
    ),
    "memory is a unit that nobody declared": Mutant(
        "NUMA_CELL",
        "amounts_of",
        lambda self, grant, record=None: {"": self.amount_of(grant), "pages": grant.get("pages", 0)},
        "amounts_have_units",
    ),
    "a physical function counts twice": Mutant(
        "PCI_DEVICE",
        "amounts_of",
        lambda self, grant, record=None: {"": 2 * self.amount_of(grant)},
        "amounts_have_units",
    ),
    "the largest share is not consumed": Mutant(
        "GPU_SHARE", "consumable_columns", ("free",), "claims_lower_consumable_columns_only"
    ),
    "all shares must be on one device": Mutant(
        "GPU_SHARE",
        "query",
        lambda self, ask: tuple(
            term._replace(column="largest") if term.column == "free" else term
            for term in GpuShare.query(self, ask)
        ),
        "terms_never_exclude_what_claim_grants",
    ),
}


def mutated(mutant: Mutant) -> ResourceClass[Any]:
    """A class with that mistake."""
    kind = type(REGISTRY.table(mutant.class_name).resource_class)
    made: ResourceClass[Any] = type("Mutant", (kind,), {mutant.method: mutant.mistake})(mutant.class_name)
    return made


@pytest.mark.parametrize("mistake", MUTANTS)
def test_the_suite_finds(mistake: str) -> None:
    mutant = MUTANTS[mistake]
    with pytest.raises(AssertionError):
        check(subject(mutant.class_name, mutated(mutant)), mutant.found_by, SETTINGS)
