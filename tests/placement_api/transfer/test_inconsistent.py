"""Rows that no Placement should have, but that old deployments have: each is copied as far as it can be, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.placement_api.transfer.cells import empty_cell, unseen
from tests.placement_api.transfer.placement_database import (
    Fleet,
    dump,
    empty_database,
    execute,
    fleet_database,
)
from vacancy.placement_api.transfer.database import Database
from vacancy.placement_api.transfer.transfer import Copied, export_from, import_into

A, B, C = (f"{n}0000000-0000-4000-8000-000000000000" for n in "abc")


def small_fleet() -> Fleet:
    """Two providers, one below the other, and a consumer of both."""
    return Fleet(
        providers={A: ("one", 7, None), B: ("two", 3, A)},
        inventories={(A, "VCPU"): (8, 0, 1, 8, 1, 1.0), (B, "VGPU"): (2, 0, 1, 2, 1, 1.0)},
        consumers={C: (1, "project", "user", "INSTANCE")},
        allocations={(C, A, "VCPU"): 2, (C, B, "VGPU"): 1},
    )


@pytest.mark.parametrize(
    ("statement", "finding", "differences"),
    [
        (
            "DELETE FROM inventories WHERE total = 2",
            f"provider {B}: 1 VGPU of it are in use, and it has no inventory of that: it gets one without capacity",
            {("inventory", f"{B} VGPU")},
        ),
        (
            "DELETE FROM consumers",
            f"consumer {C}: has allocations and no record: its project and user are 00000000-0000-0000-0000-000000000000",
            set(),
        ),
        (
            "DELETE FROM resource_providers WHERE name = 'two'",
            f"consumer {C}: holds 1 VGPU of number 2, which does not exist",
            {("usage", "number 2 VGPU"), ("allocation", f"{C} number 2 VGPU")},
        ),
        (
            "UPDATE allocations SET resource_class_id = 9999 WHERE used = 1",
            f"consumer {C}: names resource class 9999, which does not exist",
            set(),
        ),
        (
            "UPDATE resource_providers SET parent_provider_id = 99 WHERE name = 'two'",
            f"provider {B}: its parent number 99 is not above it, so it becomes a root",
            {("provider", B)},
        ),
        (
            "UPDATE resource_providers SET parent_provider_id = 2 WHERE name = 'one'",
            f"provider {B}: its parent {A} is not above it, so it becomes a root",
            {("provider", B)},
        ),
        (
            "UPDATE resource_providers SET name = NULL WHERE name = 'two'",
            f"provider {B}: has no name, so its uuid becomes its name",
            {("provider", B)},
        ),
        (
            "UPDATE inventories SET reserved = 9, min_unit = 0 WHERE total = 2",
            f"provider {B}: its inventory of VGPU has numbers that are not allowed",
            {("inventory", f"{B} VGPU")},
        ),
        ("UPDATE resource_providers SET root_provider_id = NULL", "", set()),
        ("UPDATE consumers SET consumer_type_id = NULL, generation = 0", "", set()),
        (
            "UPDATE allocations SET used = 0 WHERE used = 1",
            f"consumer {C}: holds 0 VGPU of {B}",
            {("allocation", f"{C} {B} VGPU")},
        ),
        (
            "DELETE FROM allocations",
            f"consumer {C}: holds nothing, so it is not copied",
            {("consumer", C)},
        ),
    ],
)
def test_an_inconsistent_row_is_said(
    statement: str, finding: str, differences: set[tuple[str, str]], tmp_path: Path
) -> None:
    url = fleet_database(tmp_path / "source.db", small_fleet())
    execute(tmp_path / "source.db", statement)
    copied = import_into(empty_cell(), Database(url), unseen)
    said = [str(one) for one in copied.findings]
    assert (finding in said) if finding else (said == [])
    assert copied.refusals == ()
    assert found(copied) == differences


def found(copied: Copied) -> set[tuple[str, str]]:
    assert copied.comparison is not None
    return {(one.kind, one.subject) for one in copied.comparison.differences}


def test_what_is_held_without_inventory_is_still_held_after_the_way_back(tmp_path: Path) -> None:
    fleet, cell = small_fleet(), empty_cell()
    del fleet.inventories[B, "VGPU"]
    import_into(cell, Database(fleet_database(tmp_path / "source.db", fleet)), unseen)
    export_from(cell, empty_database(tmp_path / "target.db"), unseen)
    rows = dump(tmp_path / "target.db")
    assert (C, B, "VGPU", 1) in rows["allocations"]
    assert (B, "VGPU", 1, 1, 1, 1, 1, 1.0) in rows["inventories"]


def test_a_name_that_no_record_can_have_is_refused_by_itself(tmp_path: Path) -> None:
    """The other things of its batch are copied."""
    fleet = small_fleet()
    fleet.providers[C] = ("three", 1, None)
    fleet.consumers[C] = (1, "project", "user", "T" * 100)
    url = fleet_database(tmp_path / "source.db", fleet)
    execute(
        tmp_path / "source.db",
        "UPDATE resource_providers SET name = 'x' || char(0) || 'y' WHERE name = 'three'",
    )
    copied = import_into(empty_cell(), Database(url), unseen)
    (refusal,) = copied.refusals
    assert refusal.subject == f"provider {C}"
    assert found(copied) == {("provider", C)}


def test_generations_go_on_from_those_of_the_source(tmp_path: Path) -> None:
    cell = empty_cell()
    import_into(cell, Database(fleet_database(tmp_path / "source.db", small_fleet())), unseen)
    assert {one.name: one.generation for one in cell.read().providers.values()} == {"one": 7, "two": 3}
