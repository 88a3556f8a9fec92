"""NUMA cells: what is given is what was asked for, nothing twice, and whatever could be given is found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vacancy.resources.classes.numa.numa_cell import CPUS_MAX, MEMORY_MB_MAX, NumaCell, NumaCellRecord
from vacancy.resources.classes.numa.numa_pinning import Core, Policy, most, pick
from vacancy.resources.classes.resource_class import Exactness, Granted, Shortfall
from vacancy.resources.model.errors import InvalidRecord, UsageError
from vacancy.resources.model.names import AMOUNT_MAX

NUMA = NumaCell()
JSON = dict[str, Any]
POLICIES: tuple[Policy, ...] = ("prefer", "isolate", "require")


def smt(cores: int, threads: int = 2, **more: Any) -> NumaCellRecord:
    """A cell whose siblings are numbered as Linux does on x86: 0 and `cores` are threads of one core."""
    return NUMA.report(
        {"cores": [[core + cores * t for t in range(threads)] for core in range(cores)], **more}, None
    )


def taken(record: NumaCellRecord, ask: JSON) -> tuple[NumaCellRecord, JSON]:
    outcome = NUMA.claim(record, ask)
    assert isinstance(outcome, Granted), outcome
    return outcome.record, json.loads(json.dumps(outcome.grant))


def refused(record: NumaCellRecord, ask: JSON) -> tuple[str, int, int]:
    outcome = NUMA.claim(record, ask)
    assert isinstance(outcome, Shortfall), outcome
    return outcome.reason, outcome.asked, outcome.available


# -- any cell, any asks -------------------------------------------------------------------------------------


@st.composite
def inventories(draw: st.DrawFn, cpus: int = 10) -> JSON:
    numbers = list(draw(st.permutations(range(cpus))))
    cores: list[list[int]] = []
    while numbers and len(cores) < 5:
        size = draw(st.sampled_from((1, 2, 2, 2, 3, 4)))
        cores.append([numbers.pop() for _ in range(min(size, len(numbers)))])
    kinds = [draw(st.sampled_from("pppppsr")) for _ in range(cpus)]
    return {
        "cores": cores,
        "shared_cpus": [cpu for cpu, kind in enumerate(kinds) if kind == "s"],
        "reserved_cpus": [cpu for cpu, kind in enumerate(kinds) if kind == "r"],
        "cpu_ratio_milli": draw(st.sampled_from((1000, 1500, 4000))),
        "memory_mb": draw(st.integers(0, 64)),
        "page_kib": draw(st.sampled_from((4, 64))),
        "hugepages": {
            str(size): draw(st.integers(0, 20)) for size in draw(st.sets(st.sampled_from((128, 2048, 16384))))
        },
        **draw(st.sampled_from(({}, {"cell": 1}))),
    }


@st.composite
def asks(draw: st.DrawFn) -> JSON:
    ask: JSON = {}
    if draw(st.booleans()):
        ask["pinned"] = draw(st.integers(1, 5))
        ask.update(draw(st.sampled_from(({}, *({"threads": policy} for policy in POLICIES)))))
    if draw(st.integers(0, 2)) == 0:
        ask["shared"] = draw(st.integers(1, 4))
    if not ask or draw(st.booleans()):
        size = draw(st.sampled_from(("small", "large", "any", 4, 64, 128, 2048, 16384)))
        ask["memory_mb"] = draw(st.integers(1, 3)) * (16 if size == 16384 else 2)
        ask.update({} if size == "small" else {"page_kib": size})
    return ask


class Books:
    """What is held of a cell, computed from its grants only."""

    def __init__(self, inventory: JSON) -> None:
        self.inventory, self.held = inventory, dict[int, tuple[JSON, JSON]]()
        self.core = {cpu: at for at, core in enumerate(inventory["cores"]) for cpu in core}

    def pinned(self) -> Counter[int]:
        return Counter(cpu for _, grant in self.held.values() for cpu in grant.get("cpus", ()))

    def free(self) -> set[int]:
        """The CPUs that may be pinned now."""
        kept = {*self.pinned(), *self.inventory["shared_cpus"], *self.inventory["reserved_cpus"]}
        closed = {
            self.core[cpu]
            for ask, grant in self.held.values()
            if ask.get("threads") == "isolate"
            for cpu in grant.get("cpus", ())
        }
        return {cpu for cpu, core in self.core.items() if cpu not in kept and core not in closed}

    def may_have(self, cpus: tuple[int, ...], policy: str) -> bool:
        """Whether these free CPUs together are what a policy allows."""
        free, sizes = self.free(), Counter(self.core.values())
        of = Counter(self.core[cpu] for cpu in cpus)
        if policy == "isolate":
            return all(
                n == 1 and all(cpu in free for cpu, at in self.core.items() if at == core)
                for core, n in of.items()
            )
        if policy == "require":
            alone = sum(n == 1 for n in of.values())
            return all(sizes[core] > 1 for core in of) and alone <= len(cpus) % 2
        return True

    def memory(self) -> Counter[int]:
        """MiB in use, by size of page."""
        used = Counter[int]()
        for _, grant in self.held.values():
            used[grant.get("page_kib", 0)] += grant.get("memory_mb", 0)
        return used

    def total_mb(self, size: int) -> int:
        if size == self.inventory["page_kib"]:
            return int(self.inventory["memory_mb"])
        return int(self.inventory["hugepages"].get(str(size), 0)) * size // 1024

    def sizes(self, ask: JSON) -> list[int]:
        large = sorted((int(size) for size in self.inventory["hugepages"]), reverse=True)
        small = self.inventory["page_kib"]
        said = ask.get("page_kib", "small")
        named = {"small": [small], "large": large, "any": [*large, small]}
        return named.get(said, [size for size in (*large, small) if size == said])

    def fits(self, ask: JSON) -> bool:
        """By trying every set of CPUs."""
        pinned, shared, memory = ask.get("pinned", 0), ask.get("shared", 0), ask.get("memory_mb", 0)
        policy = ask.get("threads", "prefer")
        if pinned and not any(
            self.may_have(cpus, policy) for cpus in combinations(sorted(self.free()), pinned)
        ):
            return False
        in_use = sum(grant.get("shared", 0) for _, grant in self.held.values())
        cpus = len(self.inventory["shared_cpus"])
        if shared and (shared > cpus or in_use + shared > cpus * self.inventory["cpu_ratio_milli"] // 1000):
            return False
        used = self.memory()
        return not memory or any(
            memory * 1024 % size == 0 and used[size] + memory <= self.total_mb(size)
            for size in self.sizes(ask)
        )

    def check(self, ask: JSON, grant: JSON) -> None:
        """A grant is what was asked for, of what is free."""
        cpus = tuple(grant.get("cpus", ()))
        assert len(set(cpus)) == len(cpus) == ask.get("pinned", 0)
        assert set(cpus) <= self.free()
        assert self.may_have(cpus, ask.get("threads", "prefer"))
        assert grant.get("shared", 0) == ask.get("shared", 0)
        assert grant.get("memory_mb", 0) == ask.get("memory_mb", 0)
        assert grant.get("cell") == self.inventory.get("cell")
        if "memory_mb" in grant:
            fitting = [
                size
                for size in self.sizes(ask)
                if grant["memory_mb"] * 1024 % size == 0
                and self.memory()[size] + grant["memory_mb"] <= self.total_mb(size)
            ]
            assert grant["page_kib"] == fitting[0]


def columns_agree(record: NumaCellRecord, ask: JSON) -> bool:
    """Whether a claim ends as the columns say, where they say all."""
    return NUMA.exactness(ask) is Exactness.NEEDS_CLAIM or terms_hold(record, ask) == isinstance(
        NUMA.claim(record, ask), Granted
    )


def terms_hold(record: NumaCellRecord, ask: JSON) -> bool:
    row = dict(zip(NUMA.columns, NUMA.row(record), strict=True))
    assert all(term.operator == ">=" for term in NUMA.query(ask))
    return all(row[term.column] >= term.value for term in NUMA.query(ask))


@settings(max_examples=400, deadline=None)
@given(inventories(), st.lists(st.tuples(asks(), st.booleans()), min_size=1, max_size=12))
def test_what_fits_is_granted_and_nothing_twice(inventory: JSON, turns: list[tuple[JSON, bool]]) -> None:
    """Against trying every set of CPUs: with what was granted before, and released in between."""
    books, record, empty = Books(inventory), NUMA.report(inventory, None), NUMA.report(inventory, None)
    for number, (ask, gives_back) in enumerate(turns):
        NUMA.check_ask(ask)
        outcome = NUMA.claim(record, ask)
        assert isinstance(outcome, Granted) == books.fits(ask), ask
        assert columns_agree(record, ask)
        if isinstance(outcome, Granted):
            assert terms_hold(record, ask)
            grant = json.loads(json.dumps(outcome.grant))
            books.check(ask, grant)
            assert NUMA.release(outcome.record, grant) == record
            assert NUMA.claim(record, ask) == outcome
            books.held[number] = (ask, grant)
            record = outcome.record
        else:
            assert outcome.available < outcome.asked or outcome.reason == "off_step"
        if gives_back and books.held:
            oldest = min(books.held)
            record = NUMA.release(record, books.held.pop(oldest)[1])
        assert NUMA.report(inventory, record) == record
        assert NUMA.in_use(record) == bool(books.held)
        assert NUMA.decode(NUMA.encode(record)) == record
        # The head of the encoding is what the view takes for the columns.
        assert NUMA.project([NUMA.encode(record)]).T.tolist() == [list(NUMA.row(record))]
        assert max(books.pinned().values(), default=1) == 1
    for _, grant in books.held.values():
        record = NUMA.release(record, grant)
    assert record == empty


@settings(max_examples=200, deadline=None)
@given(inventories(), inventories(), st.lists(asks(), max_size=6))
def test_a_node_is_right_about_itself_and_use_is_kept(before: JSON, after: JSON, wanted: list[JSON]) -> None:
    record, grants = NUMA.report(before, None), []
    for ask in wanted:
        outcome = NUMA.claim(record, ask)
        if isinstance(outcome, Granted):
            record = outcome.record
            grants.append(json.loads(json.dumps(outcome.grant)))
    changed = NUMA.report(after, record)
    withdrawn = NUMA.withdraw(record)
    assert NUMA.row(withdrawn)[1] == 0
    assert NUMA.report(before, withdrawn) == record
    for ask in wanted:
        assert isinstance(NUMA.claim(withdrawn, ask), Shortfall)
        assert columns_agree(changed, ask)
        assert columns_agree(withdrawn, ask)
        again = NUMA.claim(changed, ask)
        if isinstance(again, Granted):
            assert not {*again.grant.get("cpus", ())} & {cpu for g in grants for cpu in g.get("cpus", ())}
    for grant in grants:
        changed, withdrawn = NUMA.release(changed, grant), NUMA.release(withdrawn, grant)
    assert changed == NUMA.report(after, None)
    assert not NUMA.in_use(withdrawn)


@settings(deadline=None)
@given(st.lists(inventories(), min_size=1, max_size=5), asks())
def test_many_are_projected_as_each_by_itself(some: list[JSON], ask: JSON) -> None:
    records = [NUMA.report(inventory, None) for inventory in some]
    records = [outcome.record if isinstance(outcome := NUMA.claim(r, ask), Granted) else r for r in records]
    table = NUMA.project([NUMA.encode(record) for record in records])
    assert table.dtype == np.int64
    assert table.T.tolist() == [list(NUMA.row(record)) for record in records]


@given(inventories(), st.randoms())
def test_the_order_in_which_a_node_lists_things_means_nothing(inventory: JSON, rng: Any) -> None:
    shuffled = json.loads(json.dumps(inventory))
    for name in ("cores", "shared_cpus", "reserved_cpus"):
        rng.shuffle(shuffled[name])
    for core in shuffled["cores"]:
        rng.shuffle(core)
    shuffled["hugepages"] = dict(reversed(shuffled["hugepages"].items()))
    assert NUMA.report(shuffled, None) == NUMA.report(inventory, None)


@pytest.mark.parametrize("policy", POLICIES)
def test_all_small_cells_by_trying_everything(policy: Policy) -> None:
    """Every cell of up to four cores with up to four threads each; any number of them is free."""
    kinds = [(threads, free) for threads in range(1, 5) for free in range(1, threads + 1)]
    for size in range(5):
        for cell in combinations_with_replacement(kinds, size):
            cores = [Core(t, tuple(range(10 * at, 10 * at + free))) for at, (t, free) in enumerate(cell)]
            possible = {
                sum(counts)
                for counts in product(*(range(free + 1) for _, free in cell))
                if allowed(policy, cell, counts)
            }
            for count in range(1, sum(free for _, free in cell) + 2):
                found = pick(cores, count, policy)
                assert (found is not None) == (count in possible) == (count <= most(cores, policy)), cell
                if found is not None:
                    counts = [sum(cpu // 10 == at for cpu in found) for at in range(size)]
                    assert len(set(found)) == len(found) == count
                    assert all(cpu in core.free for cpu in found for core in [cores[cpu // 10]])
                    assert allowed(policy, cell, counts), (cell, count, found)


def allowed(policy: Policy, cell: Sequence[tuple[int, int]], counts: Sequence[int]) -> bool:
    """Whether these numbers of CPUs of each core, (threads, free), follow a policy."""
    taken = [(n, threads, free) for n, (threads, free) in zip(counts, cell, strict=True) if n]
    if policy == "isolate":
        return all(n == 1 and free == threads for n, threads, free in taken)
    if policy == "require":
        alone = sum(n == 1 for n, _, _ in taken)
        return all(threads > 1 for _, threads, _ in taken) and alone <= sum(counts) % 2
    return True


# -- which CPUs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "ask", "cpus"),
    [
        ([], {"pinned": 4}, [0, 4, 1, 5]),
        ([], {"pinned": 3}, [0, 4, 1]),
        ([], {"pinned": 3, "threads": "require"}, [0, 4, 1]),
        ([], {"pinned": 3, "threads": "isolate"}, [0, 1, 2]),
        ([], {"pinned": 8}, [0, 4, 1, 5, 2, 6, 3, 7]),
        # A thread that is left over is taken before a whole core is broken.
        ([{"pinned": 1}], {"pinned": 1}, [4]),
        ([{"pinned": 1}], {"pinned": 3}, [1, 5, 4]),
        ([{"pinned": 1}], {"pinned": 1, "threads": "require"}, [4]),
        # Side by side, as long as there are whole cores; then anywhere.
        ([{"pinned": 1}], {"pinned": 2}, [1, 5]),
        ([{"pinned": 1}], {"pinned": 7}, [1, 5, 2, 6, 3, 7, 4]),
        ([{"pinned": 1, "threads": "isolate"}], {"pinned": 6}, [1, 5, 2, 6, 3, 7]),
        ([{"pinned": 3}], {"pinned": 2, "threads": "isolate"}, [2, 3]),
    ],
)
def test_which_cpus_of_four_cores(before: list[JSON], ask: JSON, cpus: list[int]) -> None:
    record = smt(4)
    for earlier in before:
        record, _ = taken(record, earlier)
    assert taken(record, ask)[1]["cpus"] == cpus


def test_prefer_takes_scattered_threads_where_no_core_is_whole() -> None:
    record, grants = smt(4), []
    for _ in range(4):
        record, grant = taken(record, {"pinned": 1, "threads": "isolate"})
        grants.append(grant)
    assert refused(record, {"pinned": 1}) == ("no_room", 1, 0)
    record = smt(4, reserved_cpus=[4, 5, 6, 7])
    assert refused(record, {"pinned": 2, "threads": "require"}) == ("no_room", 2, 1)
    assert refused(record, {"pinned": 1, "threads": "isolate"}) == ("no_room", 1, 0)
    assert taken(record, {"pinned": 3})[1]["cpus"] == [0, 1, 2]


def test_cores_without_siblings() -> None:
    record = smt(4, threads=1)
    assert refused(record, {"pinned": 1, "threads": "require"}) == ("no_room", 1, 0)
    assert taken(record, {"pinned": 2, "threads": "isolate"})[1]["cpus"] == [0, 1]
    assert taken(record, {"pinned": 4})[1]["cpus"] == [0, 1, 2, 3]
    mixed = NUMA.report({"cores": [[0, 1], [2], [3]]}, None)
    # Where a sibling would be wasted, a core that has none is better.
    assert taken(mixed, {"pinned": 2, "threads": "isolate"})[1]["cpus"] == [2, 3]
    assert taken(mixed, {"pinned": 2, "threads": "prefer"})[1]["cpus"] == [0, 1]


def test_four_threads_a_core() -> None:
    record = smt(3, threads=4)
    record, first = taken(record, {"pinned": 5, "threads": "require"})
    assert first["cpus"] == [0, 3, 6, 9, 1]
    assert taken(record, {"pinned": 3, "threads": "require"})[1]["cpus"] == [4, 7, 10]
    # Five of a core's three and another's four: none is alone but one, which an odd number allows.
    assert len(taken(record, {"pinned": 7, "threads": "require"})[1]["cpus"]) == 7
    assert refused(record, {"pinned": 8, "threads": "require"}) == ("no_room", 8, 7)
    odd = NUMA.report({"cores": [[0, 1, 2], [3, 4, 5]]}, None)
    assert taken(odd, {"pinned": 4, "threads": "require"})[1]["cpus"] == [0, 1, 3, 4]


def test_a_core_that_grows_stays_closed_to_others() -> None:
    """An isolated guest keeps its core to itself, even a sibling that comes online later."""
    record, _ = taken(NUMA.report({"cores": [[0], [1]]}, None), {"pinned": 1, "threads": "isolate"})
    grown = NUMA.report({"cores": [[0, 2], [1, 3]]}, record)
    assert taken(grown, {"pinned": 2})[1]["cpus"] == [1, 3]
    assert refused(grown, {"pinned": 3}) == ("no_room", 3, 2)


# -- shared CPUs and memory ---------------------------------------------------------------------------------


def test_shared_cpus_are_oversubscribed_but_not_by_one_guest_alone() -> None:
    record = smt(2, shared_cpus=[1, 3], cpu_ratio_milli=1500)
    assert refused(record, {"shared": 3}) == ("above_max_unit", 3, 2)
    record, grant = taken(record, {"shared": 2, "pinned": 2})
    assert grant == {"cpus": [0, 2], "shared": 2}
    record, _ = taken(record, {"shared": 1})
    assert refused(record, {"shared": 1}) == ("no_room", 1, 0)


def test_the_sizes_of_pages() -> None:
    record = smt(1, cell=3, memory_mb=1000, hugepages={"2048": 512, "1048576": 1})
    _, small = taken(record, {"memory_mb": 1000})
    assert small == {"cell": 3, "memory_mb": 1000, "page_kib": 4}
    _, huge = taken(record, {"memory_mb": 100, "page_kib": 2048})
    assert huge == {"cell": 3, "memory_mb": 100, "page_kib": 2048, "pages": 50}
    after, large = taken(record, {"memory_mb": 1024, "page_kib": "large"})
    assert large["page_kib"] == 1_048_576
    after, large = taken(after, {"memory_mb": 1024, "page_kib": "large"})
    assert large["page_kib"] == 2048
    assert refused(after, {"memory_mb": 2, "page_kib": "large"}) == ("no_room", 2, 0)
    assert taken(after, {"memory_mb": 3, "page_kib": "any"})[1]["page_kib"] == 4
    assert refused(record, {"memory_mb": 3, "page_kib": "large"}) == ("off_step", 3, 2)
    assert refused(record, {"memory_mb": 16, "page_kib": 16384}) == ("no_room", 16, 0)
    assert taken(record, {"memory_mb": 8, "page_kib": 4})[1]["page_kib"] == 4


def test_columns_say_all_of_pages_that_have_one() -> None:
    for size in ("small", 2048, 1_048_576):
        ask = {"pinned": 1, "threads": "isolate", "memory_mb": 1024, "page_kib": size}
        assert NUMA.exactness(ask) is Exactness.EXACT_NEXT
    for size in ("large", "any", 4, 65_536):
        ask = {"pinned": 1, "memory_mb": 1024, "page_kib": size}
        assert NUMA.exactness(ask) is Exactness.NEEDS_CLAIM


def test_a_page_of_64_kib_is_small_on_one_host_and_large_on_another() -> None:
    arm = smt(1, memory_mb=64, page_kib=64, hugepages={"2048": 4})
    other = smt(1, memory_mb=64, page_kib=4, hugepages={"64": 32})
    assert taken(arm, {"memory_mb": 2, "page_kib": 64})[1] == {"memory_mb": 2, "page_kib": 64}
    assert taken(other, {"memory_mb": 2, "page_kib": 64})[1] == {"memory_mb": 2, "page_kib": 64, "pages": 32}
    assert refused(arm, {"memory_mb": 2, "page_kib": 4}) == ("no_room", 2, 0)


def test_the_largest_cell_there_may_be() -> None:
    cell = {"cores": [[cpu] for cpu in range(CPUS_MAX)], "memory_mb": MEMORY_MB_MAX, "cpu_ratio_milli": 100_000,
            "hugepages": {str(2**26): 2**27, "2048": 2**27}}  # fmt: skip
    record = NUMA.report(cell, None)
    record, _ = taken(record, {"pinned": CPUS_MAX, "memory_mb": MEMORY_MB_MAX})
    assert NUMA.project([NUMA.encode(record)]).T.tolist() == [list(NUMA.row(record))]


# -- what cannot be meant -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cores": [[0, 1], [1, 2]]}, "a CPU is in two cores"),
        ({"cores": [[0, 0]]}, "a CPU is in two cores"),
        ({"cores": [[]]}, "length >= 1"),
        ({"cores": [[-1]]}, ">= 0"),
        ({"cores": [[65_536]]}, "<= 65535"),
        ({"cores": [[0.5]]}, "got `float`"),
        ({"cores": [[True]]}, "got `bool`"),
        ({"cores": 4}, "got `int`"),
        ({"cores": [[cpu, CPUS_MAX + cpu] for cpu in range(CPUS_MAX)]}, "more than the 4096 of a cell"),
        ({"shared_cpus": [1, 1]}, "shared or reserved twice"),
        ({"shared_cpus": [1], "reserved_cpus": [1]}, "shared or reserved twice"),
        ({"cpu_ratio_milli": 0}, ">= 1"),
        ({"memory_mb": -1}, ">= 0"),
        ({"memory_mb": 2**43}, "<="),
        ({"page_kib": 5}, "Invalid enum value 5"),
        ({"hugepages": {"2M": 1}}, "matching regex"),
        ({"hugepages": {"02048": 1}}, "matching regex"),
        ({"hugepages": {"2048\n": 1}}, "matching regex"),
        ({"hugepages": {"2049": 1}}, "no hugepages of 2049 KiB"),
        ({"hugepages": {"4": 1}}, "no hugepages of 4 KiB"),
        ({"hugepages": {"2048": -1}}, ">= 0"),
        ({"total": 4}, "unknown field `total`"),
    ],
)
def test_an_inventory_that_is_invalid(wrong: JSON, told: str) -> None:
    with pytest.raises(InvalidRecord, match=told):
        NUMA.report(wrong, None)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (4, "an object, not an amount"),
        ({}, "the ask is for nothing"),
        ({"pinned": 0}, "the ask is for nothing"),
        ({"pinned": -1}, ">= 0"),
        ({"pinned": 1.5}, "got `float`"),
        ({"pinned": True}, "got `bool`"),
        ({"pinned": 10**40}, "out of range|<="),
        ({"pinned": 1, "threads": "isolated"}, "Invalid enum value 'isolated'"),
        ({"shared": 1, "threads": "isolate"}, "threads isolate applies to pinned CPUs"),
        ({"pinned": 1, "page_kib": 2048}, "page_kib needs memory_mb"),
        ({"memory_mb": 3, "page_kib": 2048}, "3 MiB are not a whole number of pages of 2048 KiB"),
        ({"memory_mb": 3, "page_kib": 3072}, "are not a whole number of pages"),
        ({"memory_mb": 2, "page_kib": "2M"}, "Invalid enum value '2M'"),
        ({"memory_mb": 1, "cells": 2}, "unknown field `cells`"),
        (["pinned"], "an ask is an object"),
        (None, "an ask is an object"),
    ],
)
def test_an_ask_that_is_invalid(wrong: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told) as error:
        NUMA.check_ask(wrong)
    assert error.value.do
    assert refused(smt(4, memory_mb=64), wrong)[0] == "bad_ask"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, AMOUNT_MAX * 2) | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(("pinned", "shared", "threads", "memory_mb", "page_kib", "cores")),
                inner,
                max_size=3,
            )
        ),
    )
)
def test_any_json_is_judged_without_failing(ask: Any) -> None:
    record = smt(2, shared_cpus=[1], memory_mb=64, hugepages={"2048": 4})
    outcome = NUMA.claim(record, ask)
    if isinstance(outcome, Granted):
        NUMA.check_ask(ask)
        assert NUMA.release(outcome.record, outcome.grant) == record
    if isinstance(ask, Mapping):
        assume("cores" not in ask)
        try:
            NUMA.report(ask, None)
        except InvalidRecord:
            return
