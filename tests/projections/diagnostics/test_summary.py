"""Why there is no valid host: counts that add up to what the engine finds, and the nearest misses."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.projections.query.test_engine import EVERYTHING, specs
from tests.support.logs.events_json import Tape, claim, claims, event, provider, reported
from tests.support.models.memory_fleets import Fleet, fleet_of, spec_of
from tests.support.queries import constraints, explain, find
from tests.support.random_fleets.fleets import RandomFleet, a_request
from tests.support.random_logs.strategies import logs
from tests.support.solver.brute_force import assignments
from vacancy.projections.diagnostics.node_report import report_node
from vacancy.projections.ranking.orders import Random
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import key

RNG = np.random.default_rng(1)


@settings(max_examples=50, deadline=None)
@given(logs(partitions=2, length=20), specs())
def test_what_is_left_is_what_is_found(tape: Tape, spec: RequestSpec) -> None:
    fleet = fleet_of(tape)
    view = fleet.view()
    found = {(one.cell, one.root) for one in find(view, spec, limit=EVERYTHING, order=Random(), rng=RNG)}
    assert found == set(fleet.serving(spec))
    nodes = {(at[0], row.root) for at, row in fleet.providers.items()}
    told = explain(view, spec, nearest=len(nodes))
    assert told.nodes == len(nodes)
    assert told.left == len(found)
    assert told.nodes == told.left + sum(one.in_order for one in told.constraints)
    assert {(one.cell, one.root) for one in told.nearest} == nodes - found
    asked = constraints(view, spec)
    trees = {node: report_node(view, asked, view.row_of["\0".join(node).encode()]) for node in nodes}
    assert {node for node, tree in trees.items() if tree.fits} == found


@pytest.mark.parametrize("seed", range(60))
def test_trees_and_lenders_are_explained_as_trying_everything_finds(seed: int) -> None:
    rng = random.Random(seed)
    random_fleet = RandomFleet(rng)
    fleet = Fleet(random_fleet.tape.records.values())
    view = fleet.view()
    random_fleet.learn(fleet.states[0])
    for _ in range(12):
        request = a_request(rng, list(random_fleet.known), random_fleet.kinds)
        spec = RequestSpec.model_validate_json(json.dumps(request))
        able = {root for root, _ in assignments(random_fleet.known, request)}
        nodes = {id_ for id_, node in random_fleet.known.items() if node.parent is None}
        told = explain(view, spec, nearest=len(nodes))
        assert (told.nodes, told.left) == (len(nodes), len(able)), request
        assert told.nodes == told.left + sum(one.in_order for one in told.constraints)
        assert {one.root for one in told.nearest} == nodes - able
        asked = constraints(view, spec)
        trees = [report_node(view, asked, view.row_of[key(random_fleet.cell, root)]) for root in nodes]
        assert {tree.root for tree in trees if tree.fits} == able, request


def fleet() -> Tape:
    """Four nodes; each lacks something else of `WANTED`."""
    tape = Tape()
    cell = tape.cells[0]
    tape.append(cell, reported("near", [provider("near", None, ["CUSTOM_A"], VCPU=8)]))
    tape.append(cell, reported("small", [provider("small", None, ["CUSTOM_A"], VCPU=6)]))
    tape.append(cell, reported("plain", [provider("plain", VCPU=16)]))
    tape.append(cell, reported("shut", [provider("shut", VCPU=2)]))
    for name, facts in (
        ("small", {"aggregates": ["rack"]}),
        ("shut", {"status": "disabled"}),
    ):
        tape.append(cell, event("facts.set.v1", {"provider": name, "revision": 1, "facts": facts}))
    return tape


WANTED = {"resources": {"VCPU": 8}, "required": ["CUSTOM_A"], "member_of": [["rack"]]}


def test_each_constraint_counts_alone_and_in_order() -> None:
    view = fleet_of(fleet()).view()
    told = explain(view, spec_of(WANTED))
    assert (told.nodes, told.left) == (4, 0)
    assert [(one.constraint, one.alone, one.in_order) for one in told.constraints] == [
        ("takes new claims", 1, 1),
        ("required trait CUSTOM_A", 2, 1),
        ("member of rack", 3, 1),
        ("VCPU: free >= 8", 2, 1),
        ("VCPU: max_unit >= 8", 2, 0),
        ("VCPU: min_unit <= 8", 0, 0),
        ("VCPU: step_size divides 8", 0, 0),
    ]


def test_the_nearest_fail_the_fewest_and_then_by_least() -> None:
    tape = fleet()
    view = fleet_of(tape).view()
    told = explain(view, spec_of({**WANTED, "resources": {"VCPU": 7}}), nearest=3)
    assert [one.root for one in told.nearest] == ["small", "near", "plain"]
    (small,) = told.nearest[0].groups
    assert [(one.constraint, one.asked, one.available) for one in small.best.failures] == [
        ("VCPU: free >= 7", 7, 6),
        ("VCPU: max_unit >= 7", 7, 6),
    ]
    tape.append(tape.cells[0], reported("big", [provider("big", None, ["CUSTOM_A"], VCPU=4096)]))
    again = explain(fleet_of(tape).view(), spec_of({"VCPU": 100}), nearest=1)
    assert (again.left, [one.root for one in again.nearest]) == (1, ["plain"])


def test_groups_that_ask_for_the_same_are_one() -> None:
    tape = Tape()
    gpus = [provider(f"g{n}", "n1", CUSTOM_GPU=1) for n in range(2)]
    tape.append(tape.cells[0], reported("n1", [provider("n1", VCPU=8), *gpus]))
    view = fleet_of(tape).view()
    told = explain(view, spec_of({"VCPU": 1}, *[{"CUSTOM_GPU": 1}] * 3, policy="isolate"))
    assert [one.group for one in told.constraints if one.constraint == "CUSTOM_GPU: free >= 1"] == ["1, 2, 3"]
    together = told.constraints[-1]
    assert (together.kind, together.alone, together.in_order) == ("together", None, 1)
    assert "each from a provider of its own" in together.constraint
    assert [one.constraint for one in told.nearest[0].whole] == [together.constraint]
    assert not told.nearest[0].fits


def test_a_class_that_refuses_what_columns_let_through_says_why() -> None:
    tape = Tape()
    for n, ports in enumerate(([80, 81], [80, 90], [1, 2])):
        tape.append(tape.cells[0], reported(f"n{n}", [provider(f"n{n}", PORTS={"ports": ports})]))
    bid = {
        "id": "c1",
        "consumer": "i1",
        "allocations": [{"provider": "n0", "resources": {"PORTS": {"ports": [80]}}}],
        "deadline_ms": tape.now_ms,
    }
    tape.append(tape.cells[0], event("claims.requested.v1", {"claims": [bid]}))
    taken = len(tape.records[0]) - 1
    view = fleet_of(tape).view()
    told = explain(view, spec_of({"PORTS": {"ports": [80]}, "VCPU": 1}))
    assert told.left == 0
    told = explain(view, spec_of({"PORTS": {"ports": [80, 81]}}))
    counts = {one.constraint: (one.alone, one.in_order) for one in told.constraints}
    # n0 has but one free port and n2 none so high: columns say it. Of n1 only the class can.
    assert counts["PORTS: free >= 2"] == (1, 1)
    assert counts["PORTS: highest >= 81"] == (1, 1)
    assert counts['PORTS: {"ports": [80, 81]} fits'] == (3, 1)
    refused = {one.root: one.groups[0].best.failures[0] for one in told.nearest}
    assert (refused["n1"].kind, refused["n1"].reason) == ("exact", "ports_taken")
    assert (refused["n1"].asked, refused["n1"].available, refused["n1"].taken) == (2, 2, -1)
    assert refused["n0"].taken == taken
    assert refused["n2"].taken == -1


def test_what_is_held_below_a_provider_that_went_makes_no_node_of_it() -> None:
    tape = Tape()
    cell = tape.cells[0]
    tree = [provider("n1"), provider("n1-a", "n1"), provider("n1-deep", "n1-a", VCPU=1)]
    tape.append(cell, reported("n1", tree))
    bid = {
        "id": "c1",
        "consumer": "i1",
        "allocations": [{"provider": "n1-deep", "resources": {"VCPU": 1}}],
        "deadline_ms": tape.now_ms,
    }
    tape.append(cell, event("claims.requested.v1", {"claims": [bid]}))
    tape.append(cell, reported("n1", [provider("n1")], sequence=2))
    after = fleet_of(tape)
    assert {id_: row.parent for (_, id_), row in after.providers.items()} == {"n1": None, "n1-deep": "n1-a"}
    view = after.view()
    assert set(view.row_of) == {key(cell, "n1"), key(cell, "n1-deep")}
    assert explain(view, spec_of({"VCPU": 1})).nodes == 1


def test_a_provider_without_the_class_says_only_that() -> None:
    tape = Tape()
    tree = [provider("n1", VCPU=8), provider("n1-a", "n1", CUSTOM_GPU=1)]
    tape.append(tape.cells[0], reported("n1", tree))
    view = fleet_of(tape).view()
    (group,) = report_node(view, constraints(view, spec_of({"CUSTOM_GPU": 2})), 0).groups
    assert [(one.provider, [f.constraint for f in one.failures]) for one in group.providers] == [
        ("n1-a", ["CUSTOM_GPU: free >= 2", "CUSTOM_GPU: max_unit >= 2"]),
        ("n1", ["CUSTOM_GPU: any"]),
    ]
    unknown = report_node(view, constraints(view, spec_of({"DISK_GB": 2})), 0).groups[0].best.failures
    assert [(one.constraint, one.resource_class) for one in unknown] == [("DISK_GB: any", "DISK_GB")]


# -- traits that several providers have together -------------------------------------------------------------------


def spread(resources: dict[str, int], **more: Any) -> RequestSpec:
    """A request whose classes different providers of a tree may serve."""
    return spec_of({"resources": resources, "same_provider": False, **more})


def failures_of(view: FleetView, spec: RequestSpec, root: str) -> list[tuple[str, str]]:
    """(provider, constraint) of what is reported of a node; the same as among the nearest misses."""
    (cell,) = {cell for cell, _ in map(view.name, view.row_of.values())}
    tree = report_node(view, constraints(view, spec), view.row_of[key(cell, root)])
    nearest = {one.root: one for one in explain(view, spec, nearest=100).nearest}
    assert nearest[root] == tree
    return [(provider, failure.constraint) for _, provider, failure in tree.misses]


@pytest.mark.parametrize(
    "asked", [{"required": ["HW_CPU_X86_AVX2"]}, {"any_traits": [["CUSTOM_Z", "HW_CPU_X86_AVX2"]]}]
)
def test_a_trait_that_the_node_has_is_no_reason(asked: dict[str, Any]) -> None:
    tape = Tape()
    cell = tape.cells[0]
    tape.append(
        cell, reported("host1", [provider("host1", None, ["HW_CPU_X86_AVX2"], VCPU=2, MEMORY_MB=4096)])
    )
    all_of_it = claim("c1", "vm-1", "host1", {"VCPU": 2, "MEMORY_MB": 4096}, tape.now_ms)
    tape.append(cell, claims(all_of_it))
    tape.append(cell, reported("host2", [provider("host2", VCPU=2, MEMORY_MB=1)]))
    view = fleet_of(tape).view()
    spec = spread({"VCPU": 1, "MEMORY_MB": 2}, **asked)
    free = [("host1", "VCPU: free >= 1"), ("host1", "MEMORY_MB: free >= 2")]
    assert failures_of(view, spec, "host1") == free
    lacks = [constraint for _, constraint in failures_of(view, spec, "host2")]
    trait = "required trait " + " or ".join(asked.get("required") or asked["any_traits"][0])
    assert lacks == ["MEMORY_MB: free >= 2", "MEMORY_MB: max_unit >= 2", trait]
    counts = {one.constraint: (one.alone, one.in_order) for one in explain(view, spec).constraints}
    assert counts[trait] == (1, 0)


def test_the_provider_that_has_a_trait_says_why_it_cannot_serve() -> None:
    """The node has room without the trait; the pool that has it is full."""
    tape = Tape()
    cell = tape.cells[0]
    tape.append(
        cell,
        reported(
            "n1", [provider("n1", VCPU=8, DISK_GB=100), provider("n1-ssd", "n1", ["CUSTOM_SSD"], DISK_GB=5)]
        ),
    )
    view = fleet_of(tape).view()
    spec = spread({"VCPU": 1, "DISK_GB": 10}, required=["CUSTOM_SSD"])
    assert failures_of(view, spec, "n1") == [
        ("n1-ssd", "DISK_GB: free >= 10 (for required trait CUSTOM_SSD)"),
        ("n1-ssd", "DISK_GB: max_unit >= 10 (for required trait CUSTOM_SSD)"),
    ]
    tape.append(
        cell,
        reported(
            "n1", [provider("n1", VCPU=8, DISK_GB=100), provider("n1-ssd", "n1", ["CUSTOM_SSD"])], sequence=2
        ),
    )
    view = fleet_of(tape).view()
    assert failures_of(view, spec, "n1") == [("n1", "required trait CUSTOM_SSD")], "it has no disk"


def test_a_node_that_has_the_trait_and_is_short_is_nearer_than_one_without() -> None:
    tape = Tape()
    for name, traits, vcpus in (("without", [], 4), ("with", ["CUSTOM_A"], 3)):
        tape.append(tape.cells[0], reported(name, [provider(name, None, traits, VCPU=vcpus, MEMORY_MB=4)]))
    view = fleet_of(tape).view()
    told = explain(view, spread({"VCPU": 4, "MEMORY_MB": 5}, required=["CUSTOM_A"]))
    assert [one.root for one in told.nearest] == ["with", "without"]
