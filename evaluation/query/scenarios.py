"""The scenarios of the query benchmark: a fleet, a request made from a seed, an order, and a check of the answer.

To add one, add a `Scenario`, and a fleet in `query_fleets` if no fleet fits.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from evaluation.query.fleets import (
    AGGREGATES,
    COMMON,
    CPU_MODELS,
    GPU,
    RARE,
    Fleet,
    Nested,
    Sharing,
    Valued,
    Wide,
    first_report,
    is_rare,
    number_of,
    root,
)
from vacancy.projections.query.model import Candidate
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.request import RequestGroup, RequestSpec

LIMIT = 10
UPSTREAM = {"VCPU": 1, "DISK_GB": 10, "MEMORY_MB": 256}

Make = Callable[[random.Random, Fleet], RequestSpec]
Check = Callable[[Fleet, RequestSpec, list[Candidate]], None]


class Scenario(NamedTuple):
    """`make` makes a request; `check` compares the candidates with the rule by which the fleet was made."""

    name: str
    fleet: type[Fleet]
    make: Make
    check: Check
    order: str = "random"


# -- requests -------------------------------------------------------------------------------------------------


def _one(resources: dict[str, int], required: tuple[str, ...] = (), aggregate: str = "") -> RequestSpec:
    member_of = ((aggregate,),) if aggregate else ()
    return RequestSpec(
        groups=(RequestGroup(resources=dict(resources), required=required, member_of=member_of),)
    )


def _upstream(rng: random.Random, _fleet: Fleet) -> RequestSpec:
    return _one(UPSTREAM, (COMMON,), f"rack-{rng.randrange(AGGREGATES)}")


def _rare(rng: random.Random, _fleet: Fleet) -> RequestSpec:
    return _one({**UPSTREAM, "VCPU": rng.randint(1, 8)}, (RARE,))


def _impossible(rng: random.Random, _fleet: Fleet) -> RequestSpec:
    return _one({**UPSTREAM, "MEMORY_MB": 10_000_000 + rng.randrange(1000)}, (COMMON,))


def _any(rng: random.Random, _fleet: Fleet) -> RequestSpec:
    return _one({**UPSTREAM, "VCPU": rng.randint(1, 4)})


def _nested(roots: tuple[str, ...] = ()) -> Make:
    """Disk of the node, cores and memory of one NUMA cell, and a GPU below that NUMA cell."""

    def make(rng: random.Random, _fleet: Fleet) -> RequestSpec:
        return RequestSpec(
            groups=(
                RequestGroup(same_provider=False, resources={"DISK_GB": 10}),
                RequestGroup(name="numa", resources={"VCPU": rng.randint(1, 4), "MEMORY_MB": 1024}),
                RequestGroup(name="gpu", resources={GPU: 1}),
            ),
            root_required=roots,
            same_subtree=(("numa", "gpu"),),
        )

    return make


def _sharing(required: tuple[str, ...]) -> Make:
    """Cores and memory of a node, disk of a sharing pool. The traits are required of both together."""

    def make(rng: random.Random, _fleet: Fleet) -> RequestSpec:
        amounts = {**UPSTREAM, "VCPU": rng.randint(1, 4)}
        return RequestSpec(
            groups=(RequestGroup(same_provider=False, resources=dict(amounts), required=required),)
        )

    return make


def _groups(required: tuple[str, ...] = ()) -> Make:
    """A node and four of its GPUs."""

    def make(rng: random.Random, _fleet: Fleet) -> RequestSpec:
        gpus = [RequestGroup(name=f"gpu{n}", resources={GPU: 1 + n % 2}, required=required) for n in range(4)]
        host = RequestGroup(same_provider=False, resources={"VCPU": rng.randint(1, 4), "MEMORY_MB": 256})
        return RequestSpec(groups=(host, *gpus), group_policy="isolate")

    return make


def _explosion(*, one_node: bool) -> Make:
    """Six groups of six units, over eight GPUs: each tree has 8^6 = 262,144 possible assignments."""

    def make(rng: random.Random, fleet: Fleet) -> RequestSpec:
        within = root(rng.randrange(fleet.nodes)) if one_node else None
        return RequestSpec(
            groups=tuple(RequestGroup(name=f"gpu{n}", resources={GPU: 6}, in_tree=within) for n in range(6))
        )

    return make


def _expression(rng: random.Random, _fleet: Fleet) -> RequestSpec:
    """An expression with a version, a list, a boolean, an absent attribute and an amount."""
    where = (
        f'attributes.hypervisor_version >= version("8.{rng.randrange(10)}") && attributes.secure_boot'
        f' && attributes.cpu_model in ["Milan", "{rng.choice(CPU_MODELS)}"] && !has(attributes.retired)'
        f" && VCPU.free >= {rng.randint(1, 8)}"
    )
    return RequestSpec(groups=(RequestGroup(resources=dict(UPSTREAM), where=where),))


def _expression_rare(rng: random.Random, _fleet: Fleet) -> RequestSpec:
    where = f'attributes.site == "rare" && attributes.cores >= {rng.randint(1, 8)}'
    return RequestSpec(groups=(RequestGroup(resources=dict(UPSTREAM), where=where),))


# -- checks ---------------------------------------------------------------------------------------------------


def _check_nodes(fleet: Fleet, spec: RequestSpec, answer: list[Candidate]) -> None:
    """Each candidate is a node that matches the request, by the rule of the fleet, and no two are equal."""
    group = spec.groups[0]
    numbers = [number_of(candidate.root) for candidate in answer]
    _expect(len(set(numbers)) == len(numbers), "one candidate was found twice")
    for number in numbers:
        (node,) = first_report(fleet, number)
        has_all = set(group.required) <= set(node["traits"])
        in_all = all(fleet.aggregate(number) in some for some in group.member_of)
        fits = all(
            isinstance(ask, int) and ask <= node["inventories"][name]["max_unit"]
            for name, ask in group.resources.items()
        )
        _expect(
            number < fleet.nodes and has_all and in_all and fits, f"node {number} does not match the query"
        )


def _check_nothing(_fleet: Fleet, _spec: RequestSpec, answer: list[Candidate]) -> None:
    _expect(not answer, "a candidate was found although none exists")


def _check_best(fleet: Fleet, spec: RequestSpec, answer: list[Candidate]) -> None:
    """The best candidates of `spread` have the largest free shares: all must be nearly equal."""
    _check_nodes(fleet, spec, answer)
    shares = [_free_share(fleet, number_of(candidate.root)) for candidate in answer]
    if fleet.nodes >= 1500 * 57:
        _expect(min(shares) >= 0.99 * max(shares), "the best candidates have different free shares")


def _free_share(fleet: Fleet, number: int) -> float:
    (node,) = first_report(fleet, number)
    vcpu, memory, disk = (
        int(node["inventories"][name]["total"]) for name in ("VCPU", "MEMORY_MB", "DISK_GB")
    )
    return vcpu / 64 + (memory - 512) / (16_384 + 99_900 - 512) + disk / 1999


def _check_expression(fleet: Fleet, spec: RequestSpec, answer: list[Candidate]) -> None:
    """As `_check_nodes`, and the attributes match the expression."""
    _check_nodes(fleet, spec, answer)
    where = spec.groups[0].where
    numbers = [int(one) for one in re.findall(r"(?<=8\.)\d+(?=\")|(?<=>= )\d+", where)]
    for candidate in answer:
        (node,) = first_report(fleet, number_of(candidate.root))
        has = node["attributes"]
        if "rare" in where:
            matches = has["site"] == "rare" and has["cores"] >= numbers[0]
        else:
            minor = int(has["hypervisor_version"].split(".")[1])
            models = re.findall(r'\["(\w+)", "(\w+)"\]', where)[0]
            matches = minor >= numbers[0] and has["secure_boot"] and has["cpu_model"] in models
        _expect(matches, f"{candidate.root} does not match the expression")


def _check_parts(fleet: Fleet, spec: RequestSpec, answer: list[Candidate]) -> None:
    """Each group is served by providers of one node, or the pool of its site, within their capacity."""
    _expect(len(set(map(_taken, answer))) == len(answer), "one candidate was found twice")
    for candidate in answer:
        number = number_of(candidate.root)
        parts = {one["id"]: one for one in first_report(fleet, number)}
        pool = f"pool-{fleet.aggregate(number) or ''}".replace("site-", "")
        unserved = {name: ask for group in spec.groups for name, ask in group.resources.items()}
        left: dict[tuple[str, str], Any] = {}
        for served in candidate.allocations:
            _expect(
                served.provider in parts or served.provider == pool, f"{served.provider} is not in the tree"
            )
            for name, ask in served.resources.items():
                has = (
                    10**9 if served.provider == pool else parts[served.provider]["inventories"][name]["total"]
                )
                at = served.provider, name
                left[at] = left.get(at, has) - ask
                unserved.pop(name, None)
        _expect(not unserved and min(left.values()) >= 0, f"node {number} cannot serve the query")
        servers = candidate.mappings
        if spec.group_policy == "isolate":
            isolated = [one for name, ones in servers.items() if name for one in ones]
            _expect(len(set(isolated)) == len(isolated), "a provider serves two groups")
        for names in spec.same_subtree:
            numa, gpu = (servers[name][0] for name in names)
            _expect(parts[gpu]["parent"] == numa, f"{gpu} is not below {numa}")
        rare = (*spec.root_required, *(name for group in spec.groups for name in group.required))
        _expect(RARE not in rare or is_rare(number), f"node {number} is not rare")


def _taken(candidate: Candidate) -> Any:
    return tuple(sorted((s.provider, tuple(sorted(s.resources.items()))) for s in candidate.allocations))


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise VacancyError(otherwise)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("upstream", Fleet, _upstream, _check_nodes),
    Scenario("rare_trait", Fleet, _rare, _check_nodes),
    Scenario("nothing_fits", Fleet, _impossible, _check_nothing),
    Scenario("best_of_all", Fleet, _any, _check_best, "spread"),
    Scenario("expression", Valued, _expression, _check_expression),
    Scenario("expression_rare", Valued, _expression_rare, _check_expression),
    Scenario("nested", Nested, _nested(), _check_parts),
    Scenario("nested_rare", Nested, _nested((RARE,)), _check_parts),
    Scenario("sharing", Sharing, _sharing((COMMON,)), _check_parts),
    Scenario("sharing_rare", Sharing, _sharing((RARE,)), _check_parts),
    Scenario("groups", Wide, _groups(), _check_parts),
    Scenario("groups_rare", Wide, _groups((RARE,)), _check_parts),
    Scenario("explosion", Wide, _explosion(one_node=False), _check_parts),
    Scenario("explosion_one_node", Wide, _explosion(one_node=True), _check_parts),
)
"""In `_rare` scenarios one node in a thousand matches."""
