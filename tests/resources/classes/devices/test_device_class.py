"""What holds of every class of devices, on whatever record: nothing is given twice, and what is given comes back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vacancy.projections.query.conditions.filter import term_holds
from vacancy.resources.classes.devices.device_class import DeviceClass, DeviceRecord
from vacancy.resources.classes.registry import Registry
from vacancy.resources.classes.resource_class import Granted, Shortfall
from vacancy.resources.model.comparison import comparisons
from vacancy.resources.model.errors import InvalidRecord, UsageError

NAMES = [f"0000:0{number}:00.0" for number in range(5)]
REGISTRY = Registry()
CLASSES: dict[str, DeviceClass] = {
    name: REGISTRY.table(name).resource_class  # type: ignore[misc]
    for name in ("PCI_DEVICE", "GPU_SHARE", "VGPU")
}

ATTRIBUTES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["A", "B", 1, True]),
        "memory": st.integers(-2, 3),
        "hot": st.booleans(),
    },
)
WHERE = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(
            ["A", 1, True, {"in": ["A", "B"]}, {"in": ["B", 1]}, {"!=": "A"}, {"<": "B"}]
        ),
        "memory": st.sampled_from([0, 2, {">=": 1}, {"<": 2, ">": -1}, {"<=": 0}, {"in": [1, 3]}]),
        "hot": st.sampled_from([True, False, 1, {"!=": True}]),
        "address": st.sampled_from([NAMES[0], {">": NAMES[2]}]),
    },
)
TYPES = st.dictionaries(st.sampled_from(["q", "c"]), st.integers(1, 3), min_size=1)
COUNTED = st.fixed_dictionaries({"total": st.integers(0, 5)})


@st.composite
def inventories(draw: st.DrawFn, name: str) -> dict[str, Any]:
    if name != "GPU_SHARE" and draw(st.integers(0, 4)) == 0:
        return draw(COUNTED)
    devices: dict[str, dict[str, Any]] = {}
    for one in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        said = dict(draw(ATTRIBUTES))
        if name == "GPU_SHARE":
            said["total"] = draw(st.integers(1, 10))
        elif name == "VGPU":
            said["types"] = draw(TYPES)
        elif one > NAMES[1] and draw(st.booleans()):
            said["parent"] = draw(st.sampled_from(NAMES[:2]))
        devices[one] = said
    return {"devices": devices}


@st.composite
def asks(draw: st.DrawFn, name: str) -> Any:
    if draw(st.booleans()):
        return draw(st.integers(1, 4))
    ask: dict[str, Any] = {"count": draw(st.integers(1, 3)), "where": draw(WHERE)}
    if name == "GPU_SHARE":
        ask["share"] = draw(st.integers(1, 8))
    if name == "VGPU" and draw(st.booleans()):
        ask["type"] = draw(st.sampled_from(["q", "c", "z"]))
    if name == "PCI_DEVICE" and draw(st.booleans()):
        ask["where"]["dev_type"] = draw(st.sampled_from(["type-PF", "type-VF", "type-PCI"]))
    if draw(st.integers(0, 2)) == 0:
        ask["match"] = draw(st.lists(st.sampled_from(["model", "memory", "parent"]), max_size=2))
    return ask


def check_books(name: str, record: DeviceRecord, held: dict[int, tuple[Any, Any, dict[str, Any]]]) -> None:
    """What is held, summed over its grants, equals the record; by the rules as documented."""
    amounts: Counter[tuple[str, str]] = Counter()
    counted = 0
    for _, grant, _ in held.values():
        if isinstance(grant, int):
            counted += grant
        elif name == "PCI_DEVICE":
            amounts.update((one, "") for one in grant)
        else:
            for one, part in grant.items():
                for kind, amount in part.items() if isinstance(part, dict) else [("", part)]:
                    amounts[(one, kind)] += amount
    assert record.counted.used == counted
    kinds = {(use.name, use.kind if name == "VGPU" else ""): use.amount for use in record.used}
    assert kinds == dict(amounts)
    if name == "PCI_DEVICE":
        assert all(amount == 1 for amount in amounts.values())
    if name == "VGPU":
        assert len({one for one, _ in amounts}) == len(amounts)


def check_grant(name: str, ask: Any, grant: Any, devices: dict[str, Any], before: DeviceRecord) -> None:
    """What was granted is what was asked for, of devices that are reported."""
    said = {"count": ask} if isinstance(ask, int) and name != "GPU_SHARE" else ask
    said = {"share": ask} if isinstance(ask, int) and name == "GPU_SHARE" else said
    count, where = said.get("count", 1), comparisons(said.get("where", {}))
    in_use = {use.name for use in before.used}
    physical = {one["parent"] for one in devices.values() if "parent" in one}
    if name == "GPU_SHARE":
        assert len(grant) == count
        assert set(grant.values()) == {said["share"]}
        used = {use.name: use.amount for use in before.used}
        assert all(used.get(one, 0) + share <= devices[one]["total"] for one, share in grant.items())
    elif name == "VGPU":
        assert sum(amount for of in grant.values() for amount in of.values()) == count
        types = {kind for of in grant.values() for kind in of}
        assert len(types) == 1
        assert types == {said.get("type", next(iter(types)))}
        running = {use.name: use for use in before.used}
        for one, of in grant.items():
            ((kind, amount),) = of.items()
            use = running.get(one)
            assert use is None or use.kind == kind
            assert amount + (use.amount if use else 0) <= devices[one]["types"][kind]
    else:
        assert len(set(grant)) == len(grant) == count
        assert not in_use & set(grant)
        for one in grant:
            assert devices[one].get("parent") not in in_use | set(grant)
            family = {other for other, said in devices.items() if said.get("parent") == one}
            assert not family & (in_use | set(grant))
    for one in grant:
        values = {**devices[one], "address": one}
        kind = "type-VF" if "parent" in devices[one] else "type-PF" if one in physical else "type-PCI"
        values.setdefault("dev_type", kind)
        assert all(term.holds(values.get(term.name)) for term in where)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_happens_nothing_is_given_twice_and_all_of_it_comes_back(
    name: str, data: st.DataObject
) -> None:
    resource_class = CLASSES[name]
    inventory = data.draw(inventories(name))
    record = resource_class.report(inventory, None)
    held: dict[int, tuple[Any, Any, dict[str, Any]]] = {}
    for step in range(data.draw(st.integers(1, 10))):
        what = data.draw(st.sampled_from(["claim", "claim", "claim", "release", "report"]))
        if what == "report":
            inventory = data.draw(inventories(name))
            record = resource_class.report(inventory, record)
        elif what == "release" and held:
            _, grant, _ = held.pop(data.draw(st.sampled_from(sorted(held))))
            record = resource_class.release(record, json.loads(json.dumps(grant)))
        elif what == "claim":
            ask = data.draw(asks(name))
            resource_class.check_ask(ask)
            outcome = resource_class.claim(record, ask)
            assert outcome == resource_class.claim(resource_class.decode(resource_class.encode(record)), ask)
            if isinstance(outcome, Shortfall):
                assert outcome.available < outcome.asked
                continue
            assert resource_class.release(outcome.record, json.loads(json.dumps(outcome.grant))) == record
            row = dict(zip(resource_class.columns, resource_class.row(record), strict=True))
            assert all(term_holds(row[term.column], term) for term in resource_class.query(ask))
            moves = resource_class.column_deltas(ask)
            if moves is not None:
                after = dict(zip(resource_class.columns, resource_class.row(outcome.record), strict=True))
                assert {column: after[column] - row[column] for column in moves} == moves
            if not record.is_counted:
                check_grant(name, ask, outcome.grant, inventory["devices"], record)
            record = outcome.record
            held[step] = (ask, outcome.grant, inventory)
        assert resource_class.decode(resource_class.encode(record)) == record
        assert resource_class.in_use(record) == bool(held)
        check_books(name, record, held)
        columns = resource_class.project([resource_class.encode(record)] * 2)
        assert columns.T.tolist() == [list(resource_class.row(record))] * 2
    for _, grant, _ in held.values():
        record = resource_class.release(record, grant)
    assert not resource_class.in_use(resource_class.withdraw(record))
    assert record == resource_class.report(inventory, None)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_was_reported_says_what_the_record_is(name: str, data: st.DataObject) -> None:
    """The order in which devices are listed means nothing; a number is not the boolean that equals it."""
    resource_class = CLASSES[name]
    inventory = data.draw(inventories(name))
    record = resource_class.report(inventory, None)
    turned = {
        what: dict(reversed(of.items())) if isinstance(of, dict) else of for what, of in inventory.items()
    }
    assert resource_class.report(turned, None) == record
    assert resource_class.encode(resource_class.report(turned, None)) == resource_class.encode(record)
    as_numbers = json.loads(json.dumps(inventory).replace("true", "1"))
    other = resource_class.report(as_numbers, None)
    assert (other == record) == (resource_class.encode(other) == resource_class.encode(record))
    assert (other == record) == (json.dumps(as_numbers) == json.dumps(inventory))


ANYTHING = st.recursive(
    st.one_of(st.none(), st.floats(), st.text(max_size=3), st.integers(), st.booleans()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["count", "where", "share", "type", "devices", "total", "parent", "types", "x"]),
            inner,
        )
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=150, deadline=None)
@given(inventory=st.dictionaries(st.sampled_from(["devices", "total", "y"]), ANYTHING), ask=ANYTHING)
def test_nonsense_is_refused_and_never_raises_anything_else(
    name: str, inventory: dict[str, Any], ask: Any
) -> None:
    resource_class = CLASSES[name]
    record = resource_class.report({"devices": {}}, None)
    try:
        record = resource_class.report(inventory, None)
    except InvalidRecord as error:
        assert name in str(error)  # noqa: PT017 - it need not raise
    outcome = resource_class.claim(record, ask)
    assert isinstance(outcome, Granted | Shortfall)
    try:
        resource_class.check_ask(ask)
    except UsageError as error:
        assert error.do  # noqa: PT017 - it need not raise
        assert outcome == Shortfall("bad_ask", 0, 0)


DEVICE = {"devices": {"a": {"model": "A100"}}}


@pytest.mark.parametrize(
    ("name", "inventory", "says"),
    [
        ("PGPU", {"devices": {"a": {}}, "total": 1}, "an inventory is"),
        ("PGPU", {"devices": {"a b": {}}}, "cannot name a device"),
        ("PGPU", {"devices": {"a": 1}}, "are no object"),
        ("PGPU", {"devices": {"a": {"address": "b"}}}, "cannot have an attribute 'address'"),
        ("PGPU", {"devices": {"a": {"x": 1.5}}}, "cannot have an attribute 'x'"),
        ("PGPU", {"devices": {"a": {"x": [1]}}}, "cannot have an attribute 'x'"),
        ("PGPU", {"devices": {"a": {f"x{n}": 1 for n in range(65)}}}, "more than 64 attributes"),
        ("PGPU", {"devices": {"a": {"parent": "a"}}}, "parent of a is not the name of another"),
        ("PGPU", {"devices": {"a": {}, "b": {"parent": "a"}, "c": {"parent": "b"}}}, "has a parent itself"),
        (
            "PGPU",
            {"devices": {f"d{n}": {} for n in range(4097)}},
            "an inventory has 4,096 devices at most, and this one has 4,097",
        ),
        ("PGPU", {"total": -1}, "total"),
        ("GPU_SHARE", {"total": 1000}, "an inventory is"),
        ("GPU_SHARE", DEVICE, "the total of a is not a number"),
        ("GPU_SHARE", {"devices": {"a": {"total": 0}}}, "the total of a is not a number"),
        ("VGPU", DEVICE, "does not say which types"),
        ("VGPU", {"devices": {"a": {"types": {}}}}, "does not say which types"),
        ("VGPU", {"devices": {"a": {"types": {"q": 0}}}}, "does not say how many of 'q'"),
    ],
)
def test_an_inventory_that_is_invalid_is_refused(name: str, inventory: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRecord, match=says):
        REGISTRY.table(name).resource_class.report(inventory, None)


@pytest.mark.parametrize(
    ("name", "ask", "says"),
    [
        ("PGPU", 0, "is not an amount"),
        ("PGPU", {"count": 0}, "count is a whole number"),
        ("PGPU", {"count": 1, "wear": {}}, "no field 'wear'"),
        ("PGPU", {"where": {"model": {"~": "A"}}}, "unknown operator"),
        ("PGPU", {"where": {"model": 1.5}}, "neither a string"),
        ("PGPU", {"share": 1}, "no field 'share'"),
        ("GPU_SHARE", {"count": 1}, "share is a whole number"),
        ("VGPU", {"type": 35}, "type is the name"),
    ],
)
def test_an_ask_that_is_invalid_is_refused_with_the_reason_before_it_is_sent(
    name: str, ask: Any, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        REGISTRY.check(name).check_ask(ask)
    assert name in str(raised.value)
