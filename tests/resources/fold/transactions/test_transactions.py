"""Transactions: all or nothing, which precondition failed, and which generations rise."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, claim, claims, event, opened, provider, released
from tests.support.models.memory_state import MemoryState
from vacancy.resources.fold.fold import fold
from vacancy.resources.state.rows import AllocationRow, OperatorSettingsRow, ProviderRow, QuotaRow, VerdictRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CUSTOM_NAMES,
    DEAD_LETTERS,
    FACTS,
    NODES,
    PROVIDER_DETAILS,
    PROVIDER_NAMES,
    PROVIDERS,
    QUOTAS,
    VERDICTS,
    quota_key,
)

CELL = "auto-0"


class Log:
    """A log of one cell, folded as it is written."""

    def __init__(self, version: int = 6) -> None:
        self.tape, self.state, self.numbers = Tape(version=version), MemoryState(), 0
        records = self.tape.records[0]
        records[0] = records[0]._replace(value=opened(version=version))
        self.state.commit(fold(self.state, records[0], REGISTRY))

    def say(self, kind: str, **data: Any) -> bool:
        """Whether it was accepted."""
        return self.append(event(kind, data))

    def append(self, value: bytes) -> bool:
        self.tape.append(CELL, value)
        self.tape.now_ms += 10
        changes = fold(self.state, self.tape.records[0][-1], REGISTRY)
        self.state.commit(changes)
        return DEAD_LETTERS not in changes

    def report(self, root: str = "n1", **inventories: Any) -> None:
        self.numbers += 1
        assert self.say(
            "node.reported.v2",
            providers=[provider(root, **inventories)],
            root=root,
            incarnation=f"{1:016x}",
            sequence=self.numbers,
        )

    def ask(self, **data: Any) -> VerdictRow:
        """The verdict of a transaction."""
        self.numbers += 1
        id_ = f"t{self.numbers}"
        data = {"id": id_, "deadline_ms": self.tape.now_ms + 30_000, **data}
        assert self.say("transaction.requested.v1", **data), self.letters()
        row = self.state.get(VERDICTS, self.key(data["id"]))
        assert row is not None
        return row

    def does(self, **data: Any) -> None:
        verdict = self.ask(**data)
        assert verdict.accepted, verdict

    def refuses(self, reason: str, **data: Any) -> VerdictRow:
        """The verdict of a transaction that changes nothing else."""
        before = self.rows()
        verdict = self.ask(**data)
        assert (verdict.accepted, verdict.reason) == (False, reason), verdict
        assert self.rows() == before
        return verdict

    def rows(self) -> list[Any]:
        return [one for one in self.state.items() if one[0] not in ("partition", "verdicts", "deadlines")]

    def letters(self) -> list[str]:
        return [row.reason for _, row in self.state.rows(DEAD_LETTERS)]

    def key(self, id_: str) -> bytes:
        return f"{CELL}\0{id_}".encode()

    def row(self, id_: str) -> ProviderRow:
        row = self.state.get(PROVIDERS, self.key(id_))
        assert row is not None
        return row

    def generation(self, id_: str) -> int:
        row = self.state.get(PROVIDER_DETAILS, self.key(id_))
        return 0 if row is None else row.generation

    def held(self, consumer: str) -> AllocationRow | None:
        return self.state.get(ALLOCATIONS, self.key(consumer))

    def used(self, id_: str, name: str) -> int:
        row = self.state.get(REGISTRY.table(name), self.key(id_))
        assert row is not None
        return int(row.record.used)


def create(id_: str, **more: Any) -> dict[str, Any]:
    return {"provider": id_, "op": "create", **more}


def change(id_: str, **more: Any) -> dict[str, Any]:
    return {"provider": id_, **more}


def delete(id_: str, **more: Any) -> dict[str, Any]:
    return {"provider": id_, "op": "delete", **more}


def stock(total: int = 8, **more: Any) -> dict[str, Any]:
    return {"VCPU": {"total": total, **more}}


def holds(consumer: str, generation: int | str = "absent", **more: Any) -> dict[str, Any]:
    """`VCPU=n1:2` style: provider -> amount of VCPU in `on`."""
    on: dict[str, int] = more.pop("on", {})
    return {
        "consumer": consumer,
        "generation": generation,
        "project": "p",
        "user": "u",
        "allocations": {id_: {"VCPU": amount} for id_, amount in on.items()},
        **more,
    }


@pytest.fixture
def log() -> Log:
    made = Log()
    made.does(providers=[create("n1", name="node one", inventories=stock(), raises=1)])
    return made


# -- providers --------------------------------------------------------------------------------------------


def test_a_provider_is_created_renamed_and_deleted(log: Log) -> None:
    assert log.row("n1") == ProviderRow("n1", None, (), ("VCPU",), 1, members=("n1",))
    assert log.generation("n1") == 1
    log.does(providers=[create("c1", parent="n1"), create("c2", parent="c1", name="leaf")])
    assert log.row("n1").members == ("n1", "c1", "c2")
    assert (log.row("c2").root, log.row("c2").parent) == ("n1", "c1")
    refused = log.refuses("name_taken", providers=[create("x", name="leaf")])
    assert (refused.group, refused.other, refused.taken) == ("c2", "leaf", 2)
    assert log.refuses("name_taken", providers=[create("x", name="c1")]).group == "c1"
    assert log.refuses("name_taken", providers=[create("leaf")]).group == "c2"
    log.does(providers=[change("c2", name="twig"), create("leaf")])
    assert log.refuses("provider_has_children", providers=[delete("c1")]).other == "c2"
    log.does(providers=[delete("c2"), delete("leaf")])
    assert log.row("n1").members == ("n1", "c1")
    assert log.state.get(PROVIDER_NAMES, log.key("twig")) is None
    assert log.state.get(NODES, log.key("leaf")) is None
    log.does(providers=[delete("c1"), delete("n1")])
    assert list(log.state.rows(PROVIDERS)) == []
    assert list(log.state.rows(PROVIDER_DETAILS)) == []


def test_a_subtree_moves_to_another_tree_and_becomes_one(log: Log) -> None:
    log.does(providers=[create("c1", parent="n1"), create("c2", parent="c1"), create("n2")])
    assert log.refuses("parent_below", providers=[change("c1", parent="c2")]).other == "c2"
    assert log.refuses("parent_unknown", providers=[change("c1", parent="x")]).other == "x"
    log.does(providers=[change("c1", parent="n2")])
    assert (log.row("n1").members, log.row("n2").members) == (("n1",), ("n2", "c1", "c2"))
    assert {log.row(one).root for one in ("n2", "c1", "c2")} == {"n2"}
    log.does(providers=[change("c1", parent="")])
    assert (log.row("n2").members, log.row("c1").members) == (("n2",), ("c1", "c2"))
    assert log.state.get(NODES, log.key("c1")) is not None
    log.does(providers=[change("n2", parent="c2")])
    assert log.state.get(NODES, log.key("n2")) is None
    assert log.row("c1").members == ("c1", "c2", "n2")
    assert log.generation("n1") == 1, "places raise nothing"


def test_a_generation_that_changed_is_refused_with_the_offset_that_changed_it(log: Log) -> None:
    log.does(providers=[change("n1", generation=1, raises=1, inventories=stock(9))])
    refused = log.refuses("provider_changed", providers=[change("n1", generation=1, raises=1)])
    assert (refused.provider, refused.asked, refused.available, refused.taken) == ("n1", 1, 2, 2)
    assert log.refuses("provider_unknown", providers=[change("x")]).provider == "x"
    assert log.refuses("provider_exists", providers=[create("n1")]).taken == 1


def test_traits_and_aggregates_are_operator_settings(log: Log) -> None:
    log.does(names=[{"kind": "trait", "name": "CUSTOM_A", "op": "create"}])
    log.does(providers=[change("n1", traits=["HW_CPU_X86_AVX", "CUSTOM_A"], aggregates=["b", "a"], raises=2)])
    row = log.row("n1")
    assert (row.operator_traits, row.aggregates) == (("CUSTOM_A", "HW_CPU_X86_AVX"), ("a", "b"))
    assert log.generation("n1") == 3
    log.report("n1", VCPU=4)
    assert log.row("n1").operator_traits == ("CUSTOM_A", "HW_CPU_X86_AVX")
    assert log.generation("n1") == 4, "the node reported another inventory"
    assert log.refuses("trait_unknown", providers=[change("n1", traits=["CUSTOM_B"])]).other == "CUSTOM_B"


def test_custom_names_exist_by_themselves_and_while_they_are_used(log: Log) -> None:
    gold = {"CUSTOM_GOLD": {"total": 1}}
    refused = log.refuses("class_unknown", providers=[change("n1", inventories=gold)])
    assert (refused.provider, refused.other) == ("n1", "CUSTOM_GOLD")
    name = {"kind": "class", "name": "CUSTOM_GOLD"}
    log.does(names=[{**name, "op": "create"}], providers=[change("n1", inventories=gold)])
    assert log.refuses("name_exists", names=[{**name, "op": "create"}]).other == "CUSTOM_GOLD"
    log.does(names=[{**name, "op": "ensure"}])
    log.refuses("name_in_use", names=[{**name, "op": "delete"}])
    log.does(providers=[change("n1", inventories={})])
    log.does(names=[{**name, "op": "delete"}])
    log.refuses("name_unknown", names=[{**name, "op": "delete"}])
    assert list(log.state.rows(CUSTOM_NAMES)) == []
    log.report("n2", CUSTOM_IRON=2)
    log.refuses("name_exists", names=[{"kind": "class", "name": "CUSTOM_IRON", "op": "create"}])


def test_what_is_added_to_a_node_stays_when_the_node_reports(log: Log) -> None:
    log.report("n2", VCPU=4)
    log.does(
        providers=[create("port", parent="n2", inventories={"NET_BW_EGR_KILOBIT_PER_SEC": {"total": 5}})]
    )
    log.report("n2", VCPU=5)
    assert log.row("n2").members == ("n2", "port")
    assert log.row("port").reported
    assert log.refuses("provider_reported", providers=[delete("n2")]).provider == "n2"
    assert log.refuses("provider_reported", providers=[change("n2", parent="n1")]).provider == "n2"
    log.report("n1", VCPU=8)
    log.refuses("provider_reported", providers=[delete("n1")])


def test_what_a_node_reports_stays_in_its_tree(log: Log) -> None:
    log.report("n2", VCPU=5)
    again = {"root": "n2", "incarnation": f"{1:016x}", "sequence": log.numbers + 1}
    log.does(providers=[create("shelf", parent="n2")])
    card = {**provider("card", VCPU=1), "parent": "shelf"}
    assert log.say("node.changed.v1", providers=[card], **again)
    refused = log.refuses("provider_reported", providers=[change("shelf", parent="n1")])
    assert refused.other == "card"


@pytest.mark.parametrize("next_record", ["tick.v1", "transaction"])
def test_a_withdrawal_that_goes_on_raises_generations_whatever_comes_next(next_record: str) -> None:
    log = Log()
    for sequence, classes in enumerate(({"VCPU": 1, "MEMORY_MB": 1}, {"VCPU": 1}), start=1):
        parts = [{**provider(f"c{number}", None, (), **classes), "parent": "r"} for number in range(700)]
        report = {"root": "r", "incarnation": f"{1:016x}", "sequence": sequence}
        assert log.say("node.reported.v2", providers=[provider("r", VCPU=1), *parts], **report)
    assert (log.generation("c100"), log.generation("c600")) == (1, 0)
    if next_record == "transaction":
        verdict = log.ask(providers=[change("c600", generation=0, raises=1)])
        assert verdict.reason == "provider_changed"
    else:
        assert log.say(next_record)
    assert (log.generation("c100"), log.generation("c600")) == (1, 1)


def test_a_tree_that_a_report_made_too_large_can_shrink(log: Log) -> None:
    log.report("r", VCPU=1)
    for part in range(4):
        log.does(providers=[create(f"m{part}.{number}", parent="r") for number in range(1_000)])
    parts = [{"id": f"c{number}", "parent": "r", "inventories": {}} for number in range(200)]
    report = {"root": "r", "incarnation": f"{1:016x}", "sequence": 1_000}
    assert log.say("node.reported.v2", providers=[provider("r", VCPU=1), *parts], **report)
    log.refuses("invalid", providers=[create("one more", parent="r") | {"provider": "m"}])
    log.does(providers=[delete("m0.0")])


def test_the_name_of_a_provider_that_ended_at_the_same_record_is_free(log: Log) -> None:
    log.report("n2", VCPU=8)
    log.does(providers=[change("n2", name="two")])
    until = log.tape.now_ms + 2_000
    assert log.append(claims(claim("k", "i", "n2", {"VCPU": 1}, until, hold_until_ms=until)))
    retired = {"root": "n2", "incarnation": f"{1:016x}", "sequence": log.numbers + 1}
    assert log.say("node.retired.v2", **retired)
    log.tape.now_ms = until + 1_000
    log.does(providers=[create("n2", name="other")])
    log.does(providers=[create("n3", name="two")])
    assert dict(log.state.rows(PROVIDER_NAMES))[log.key("two")] == "n3"


def test_the_name_that_a_renamed_node_loses_is_free(log: Log) -> None:
    log.report("a", VCPU=8)
    log.numbers = 0
    log.report("b", VCPU=8)
    log.numbers = 10
    log.does(providers=[change("a", name="first"), change("b", name="second")])
    assert log.say("node.renamed.v1", root="a", to="b", providers={"a": "b"})
    log.does(providers=[create("c", name="first")])


def test_deleting_takes_traits_and_aggregates_along(log: Log) -> None:
    log.does(providers=[change("n1", traits=["HW_CPU_X86_AVX"], aggregates=["a"])])
    log.does(providers=[delete("n1")])
    assert list(log.state.rows(FACTS)) == []


# -- what one record may cost -----------------------------------------------------------------------------


_COSTLY = {
    "inventories": {f"CUSTOM_C{number}": {"total": 1} for number in range(64)},
    "traits": [f"T{number}" for number in range(512)],
    "aggregates": [f"rack/{number}" for number in range(256)],
}


@pytest.mark.parametrize("field", sorted(_COSTLY))
@pytest.mark.parametrize("deletes", [False, True])
def test_what_few_bytes_remove_is_limited(field: str, deletes: bool, log: Log) -> None:
    classes = [{"kind": "class", "name": name, "op": "create"} for name in _COSTLY["inventories"]]
    log.does(
        names=classes, providers=[create(f"c{number}", **{field: _COSTLY[field]}) for number in range(34)]
    )
    nothing: Any = {} if field == "inventories" else []

    def less(count: int) -> list[dict[str, Any]]:
        ids = [f"c{number}" for number in range(count)]
        return [delete(id_) if deletes else change(id_, **{field: nothing}) for id_ in ids]

    refused = log.refuses("record_full", providers=less(34))
    assert refused.available == 8_192
    log.does(providers=less(8))


@pytest.mark.parametrize("deletes", [False, True])
def test_the_items_of_inventories_that_are_removed_are_limited(deletes: bool, log: Log) -> None:
    devices: dict[str, Any] = {"PCI_DEVICE": {"devices": {f"d{number}": {} for number in range(512)}}}
    ids = [f"c{number}" for number in range(17)]
    log.does(providers=[create(id_, inventories=devices) for id_ in ids])
    less = [delete(id_) if deletes else change(id_, inventories={}) for id_ in ids]
    log.refuses("record_full", providers=less)
    log.does(providers=less[:15])


def test_the_items_that_an_operator_excludes_are_read_within_limits(log: Log) -> None:
    excluded = {f"d{number}": "" for number in range(64)}
    facts = OperatorSettingsRow(1, ("e",), "enabled", "", (), (), {"PGPU": {"excluded": excluded}})
    ids = [f"c{number}" for number in range(129)]
    log.state.commit({FACTS: {log.key(id_): facts for id_ in ids}})
    log.refuses("record_full", providers=[create(id_) for id_ in ids])
    log.does(providers=[create(id_) for id_ in ids[:100]])


def test_rows_of_quotas_that_many_consumers_read_are_limited(log: Log) -> None:
    used = tuple(sorted((f"T{number}", "VCPU", 1) for number in range(512)))
    log.state.commit({QUOTAS: {quota_key(f"p{number}"): QuotaRow(used) for number in range(66)}})
    them = [holds(f"i{n}", project=f"p{n}", consumer_type="T1", user="-", on={"n1": 1}) for n in range(66)]
    log.does(providers=[change("n1", inventories=stock(100))])
    log.refuses("record_full", consumers=them)
    log.does(consumers=them[:60])


def test_consumers_that_hold_too_much_are_noticed_at_the_first(log: Log) -> None:
    ids = [f"big{number}" for number in range(18)]
    classes = [{"kind": "class", "name": name, "op": "create"} for name in _COSTLY["inventories"]]
    stocks = {name: {"total": 100} for name in _COSTLY["inventories"]}
    log.does(names=classes, providers=[create(id_, inventories=stocks) for id_ in ids])
    all_of_it = {id_: dict.fromkeys(stocks, 1) for id_ in ids}
    for number in range(3):
        log.does(consumers=[holds(f"i{number}", allocations=all_of_it)])
    refused = log.refuses("record_full", consumers=[holds(f"i{number}", 1) for number in range(3)])
    assert refused.asked == 2 * 18 * 64


# -- ratios -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "total", "capacity"),
    [
        ("1.0", 8, 8),
        ("16.0", 8, 128),
        ("1.15", 100, 114),
        ("0.5", 3, 1),
        ("3.40282", 7, 23),
        ("3.40282e+38", 7, 2**53 - 1),
        ("0.0", 7, 0),
    ],
)
def test_any_ratio_has_the_capacity_that_placement_computes(ratio: str, total: int, capacity: int) -> None:
    log = Log()
    log.does(providers=[create("n1", inventories=stock(total, allocation_ratio=ratio))])
    row = log.state.get(REGISTRY.table("VCPU"), log.key("n1"))
    assert row is not None
    assert row.record.capacity == capacity
    if 0 < capacity < 1000:
        log.refuses("no_room", consumers=[holds("i1", on={"n1": capacity + 1})]) if capacity < total else None
        log.does(providers=[change("n1", inventories=stock(total, allocation_ratio=ratio, max_unit=1000))])
        log.refuses("no_room", consumers=[holds("i1", on={"n1": capacity + 1})])
        log.does(consumers=[holds("i1", on={"n1": capacity})])


@pytest.mark.parametrize("ratio", ["1", "1.50", "nan", "inf", "4e+38", "x", "", "5e-324"])
def test_a_text_that_is_no_ratio_is_refused(ratio: str, log: Log) -> None:
    refused = log.refuses("invalid", providers=[change("n1", inventories=stock(allocation_ratio=ratio))])
    assert "allocation_ratio" in refused.other


# -- consumers --------------------------------------------------------------------------------------------


def test_several_consumers_get_what_they_ask_or_none_does(log: Log) -> None:
    log.does(consumers=[holds("i1", on={"n1": 3}), holds("i2", on={"n1": 5})])
    assert log.used("n1", "VCPU") == 8
    assert log.generation("n1") == 2, "a provider's generation rises once"
    refused = log.refuses("no_room", consumers=[holds("i1", 1, on={"n1": 4}), holds("i3", on={"n1": 1})])
    assert (refused.consumer, refused.provider, refused.resource_class) == ("i1", "n1", "VCPU")
    assert (refused.asked, refused.available, refused.taken) == (4, 3, 2)
    log.does(consumers=[holds("i1", 1, on={"n1": 5}), holds("i2", 1, on={"n1": 3})])
    held = log.held("i1")
    assert held is not None
    assert (held.generation, held.project, held.user, held.consumer_type) == (2, "p", "u", "unknown")
    log.does(consumers=[holds("i1", 2), holds("i2", "any")])
    assert log.held("i1") is None
    assert log.used("n1", "VCPU") == 0
    assert log.generation("n1") == 3, "what is given back raises nothing"
    assert list(log.state.rows(QUOTAS)) == []


def test_generations_of_consumers_are_checked(log: Log) -> None:
    assert log.refuses("consumer_unknown", consumers=[holds("i1", 3, on={"n1": 1})]).asked == 3
    log.does(consumers=[holds("i1", on={"n1": 1})])
    refused = log.refuses("consumer_exists", consumers=[holds("i1", on={"n1": 1})])
    assert (refused.consumer, refused.available, refused.taken) == ("i1", 1, 3)
    refused = log.refuses("consumer_changed", consumers=[holds("i1", 7, on={"n1": 1})])
    assert (refused.asked, refused.available) == (7, 1)


def test_over_capacity_passes_where_the_use_does_not_rise(log: Log) -> None:
    log.does(consumers=[holds("i1", on={"n1": 5}), holds("i2", on={"n1": 3})])
    log.does(providers=[change("n1", inventories=stock(4))])
    log.refuses("no_room", consumers=[holds("i1", 1, on={"n1": 4}), holds("i3", on={"n1": 2})])
    log.does(consumers=[holds("i1", 1, on={"n1": 4}), holds("i3", on={"n1": 1})])
    log.does(providers=[change("n1", inventories=stock(4, max_unit=2))])
    log.refuses("above_max_unit", consumers=[holds("i1", 2, on={"n1": 3})])
    log.does(consumers=[holds("i1", 2, on={"n1": 2})])


def test_inventories_and_what_is_held_of_them_move_together(log: Log) -> None:
    log.does(consumers=[holds("i1", on={"n1": 3})], providers=[create("c1", parent="n1")])
    assert log.refuses("inventory_in_use", providers=[change("n1", inventories={})]).taken == 2
    log.does(
        providers=[
            change("n1", inventories={}, raises=1),
            change("c1", inventories=stock(3), raises=2),
        ],
        consumers=[holds("i1", 1, on={"c1": 3})],
    )
    assert (log.generation("n1"), log.generation("c1")) == (3, 3)
    assert log.row("n1").classes == ()
    assert log.refuses("provider_in_use", providers=[delete("c1")]).resource_class == "VCPU"


def test_a_quota_refuses_all_of_a_transaction(log: Log) -> None:
    assert log.say("quota.share.set.v1", project="p", unit="VCPU", number=1, amount=2)
    more = change("n1", raises=3, traits=["HW_CPU_X86_AVX"], inventories=stock(9))
    refused = log.refuses("over_quota", providers=[more], consumers=[holds("i1", on={"n1": 3})])
    assert (refused.asked, refused.available) == (3, 2)
    log.does(providers=[more], consumers=[holds("i1", on={"n1": 2})])
    assert log.generation("n1") == 5


def test_claims_and_transactions_see_each_other(log: Log) -> None:
    log.report("n2", VCPU=4)
    assert log.generation("n2") == 0
    at = log.tape.now_ms
    assert log.append(claims(claim("c-1", "vm-1", "n2", {"VCPU": 3}, at + 5_000)))
    assert log.generation("n2") == 1
    log.refuses("no_room", consumers=[holds("i1", on={"n2": 2})])
    log.does(consumers=[holds("i1", on={"n2": 1}), holds("vm-1", 1, on={"n2": 3})])
    assert log.generation("n2") == 2
    assert log.append(claims(claim("c-2", "vm-2", "n2", {"VCPU": 1}, at + 5_000)))
    verdict = log.state.get(VERDICTS, log.key("c-2"))
    assert verdict is not None
    assert verdict.reason == "no_room"
    held = log.held("vm-1")
    assert held is not None
    assert log.append(released("vm-1", held.claim))
    assert log.used("n2", "VCPU") == 1
    assert log.generation("n2") == 2
    log.report("n2", VCPU=9)
    assert log.generation("n2") == 3


def test_a_closed_provider_takes_no_more(log: Log) -> None:
    log.does(consumers=[holds("i1", on={"n1": 3})])
    assert log.say("facts.set.v1", provider="n1", revision=1, facts={"status": "disabled"})
    assert log.generation("n1") == 3
    log.refuses("provider_disabled", consumers=[holds("i2", on={"n1": 1})])
    log.does(consumers=[holds("i1", 1, on={"n1": 2})])


# -- records ----------------------------------------------------------------------------------------------


def test_a_repeated_transaction_changes_nothing_and_another_content_is_refused(log: Log) -> None:
    data = {"id": "t", "deadline_ms": log.tape.now_ms + 1_000, "providers": [change("n1", raises=1)]}
    log.does(**data)
    assert log.say("transaction.requested.v1", **data)
    assert log.generation("n1") == 2
    assert not log.say("transaction.requested.v1", **{**data, "providers": [change("n1", raises=2)]})
    late = {**data, "id": "late", "deadline_ms": log.tape.now_ms - 1}
    assert log.say("transaction.requested.v1", **late)
    assert log.state.get(VERDICTS, log.key("late")) is None
    log.refuses("deadline_too_far", id="far", deadline_ms=log.tape.now_ms + 3_600_000)


def test_a_cancelled_transaction_is_refused(log: Log) -> None:
    at = log.tape.now_ms + 5_000
    assert log.say("consumers.released.v1", releases=[{"consumer": "-", "claim": "t-x", "deadline_ms": at}])
    log.refuses("cancelled", id="t-x", deadline_ms=at, providers=[change("n1", raises=1)])


def test_earlier_rules_have_no_transactions() -> None:
    log = Log(version=5)
    assert not log.say("transaction.requested.v1", id="t", deadline_ms=log.tape.now_ms + 1)
    log.report("n1", VCPU=1)
    log.report("n1", VCPU=2)
    assert list(log.state.rows(PROVIDER_DETAILS)) == []
