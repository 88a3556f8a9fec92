"""Which classes exist, and the error for a request that names another one."""

from __future__ import annotations

import weakref

import pytest
from os_resource_classes import STANDARDS

from tests.support.classes.ports_class import Ports
from vacancy.resources.classes.quantity import Quantity
from vacancy.resources.classes.registry import CLASSES_1, OWN_CLASSES, STANDARD_CLASSES, Registry
from vacancy.resources.model.errors import Halt, InvalidRecord, UsageError
from vacancy.resources.model.names import check_trait, standard_traits
from vacancy.resources.state.tables import CUSTOM_FAMILY


def test_the_standard_classes_are_those_of_os_resource_classes() -> None:
    """They are pinned with the rules: where a new release brings more, that is a new version of the rules."""
    assert list(STANDARD_CLASSES) == list(STANDARDS)


def test_each_class_has_a_family_and_all_custom_ones_share_one() -> None:
    registry = Registry([Ports()])
    assert registry.families == (*STANDARD_CLASSES, *OWN_CLASSES, "PORTS", CUSTOM_FAMILY)
    assert registry.table("VCPU").family == "VCPU"
    assert registry.table("CUSTOM_A").family == registry.table("CUSTOM_B").family == CUSTOM_FAMILY
    assert registry.table("CUSTOM_A").prefix == b"CUSTOM_A\0"
    assert registry.table("CUSTOM_A") is registry.table("CUSTOM_A")


class _Taken(Quantity):
    """A plugin under a name that is not its to take."""


@pytest.mark.parametrize("name", ["VCPU", "CUSTOM_X", "PORTS"])
def test_a_plugin_may_not_take_a_name_that_is_taken(name: str) -> None:
    with pytest.raises(UsageError, match=f"plugin class {name} takes a name that is taken"):
        Registry([Ports(), _Taken(name)])


def test_what_the_rules_allow_is_what_counts() -> None:
    registry = Registry([Ports()])
    assert registry.allowed("PORTS", CLASSES_1, ("PORTS",)).name == "PORTS"
    assert registry.allowed("VCPU", CLASSES_1, ()).name == "VCPU"
    assert registry.allowed("CUSTOM_A", CLASSES_1, ()).name == "CUSTOM_A"
    with pytest.raises(InvalidRecord, match="PORTS is not allowed by the log's rules"):
        registry.allowed("PORTS", CLASSES_1, ())
    with pytest.raises(Halt, match="SPONGES, which this build does not have"):
        registry.allowed("SPONGES", CLASSES_1, ("SPONGES",))
    with pytest.raises(InvalidRecord, match="unknown resource class SPONGES"):
        registry.allowed("SPONGES", CLASSES_1, ())


def test_an_unknown_class_or_trait_is_reported_with_its_neighbours() -> None:
    with pytest.raises(UsageError, match="unknown resource class 'VCPUS'; did you mean VCPU"):
        Registry().check("VCPUS")
    with pytest.raises(UsageError, match="did you mean HW_CPU_X86_AVX2"):
        check_trait("HW_CPU_X86_AVX22")
    assert check_trait("CUSTOM_ANYTHING") == "CUSTOM_ANYTHING"
    assert check_trait("HW_CPU_X86_AVX2") in standard_traits()


@pytest.mark.parametrize("ask", [0, -1, 2**53, 1.5, "4", True, None, {"ports": [1]}])
def test_an_ask_that_is_no_amount_is_refused_with_the_reason_before_it_is_sent(ask: object) -> None:
    with pytest.raises(UsageError, match="is not an amount; ask for a whole number from 1"):
        Registry().check("VCPU").check_ask(ask)


def test_a_table_that_is_in_use_stays_the_same_object() -> None:
    """States have tables as keys: with another object for a class, its rows would be lost."""
    registry = Registry()
    used = registry.table("CUSTOM_USED")
    for number in range(3_000):
        registry.table(f"CUSTOM_{number}")
    assert registry.table("CUSTOM_USED") is used
    gone = weakref.ref(registry.table("CUSTOM_0"))
    for number in range(3_000):
        registry.table(f"CUSTOM_OTHER_{number}")
    assert gone() is None
