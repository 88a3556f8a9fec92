"""What schedulers encode without the models is what the models read, and the fold makes the same state of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tests.support.classes.ports_class import REGISTRY
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.strategies import logs
from vacancy.resources.fold.fold import fold
from vacancy.resources.model import events
from vacancy.resources.model.attributes import Operator
from vacancy.resources.model.encoding.event_encoding import (
    AllocationWire,
    AnyPredicateWire,
    AttributePredicateWire,
    ClaimWire,
    ClosedRequestWire,
    DecisionWire,
    PredicateWire,
    ReceivedRequestWire,
    TolerationWire,
    encode_claims,
    encode_closed,
    encode_gang,
    encode_position,
    encode_received,
    membership_wire,
)
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.names import AMOUNT_MAX
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import ChosenSpec, RequestGroup, RequestSpec, RequestSpecV2
from vacancy.resources.model.server_group import ServerGroupMembership
from vacancy.resources.model.taints import Toleration
from vacancy.resources.state.tables import DEAD_LETTERS

ids = st.text("abcXYZ019._:/@+=~-", min_size=1, max_size=12)
symbols = st.sampled_from(["VCPU", "MEMORY_MB", "CUSTOM_GPU", "PCI_DEVICE"])
amounts = st.integers(0, AMOUNT_MAX)
texts = st.text(max_size=8)
asks = st.integers(1, AMOUNT_MAX) | st.dictionaries(texts, st.integers(-9, 9) | texts | st.none(), max_size=3)
positions = st.dictionaries(st.integers(0, 99).map(str), amounts, max_size=3)
specs = st.builds(
    RequestSpec,
    groups=st.tuples(st.builds(RequestGroup, resources=st.dictionaries(symbols, asks, min_size=1))),
)
allocations = st.builds(
    events.Allocation,
    provider=ids,
    resources=st.dictionaries(symbols, asks, min_size=1, max_size=3),
    group=st.sampled_from(["", "gpu", "gpu#2"]),
)
named = st.builds(
    events.Predicate,
    provider=ids,
    kind=st.sampled_from(["trait", "aggregate", "subtree"]),
    value=texts,
    negate=st.booleans(),
)
generations = st.builds(
    events.Predicate, provider=ids, kind=st.just("generation"), value=amounts, negate=st.booleans()
)
attributes = st.builds(
    events.AttributePredicate,
    kind=st.just("attribute"),
    provider=ids,
    name=st.sampled_from(["a", "driver.version"]),
    operator=st.sampled_from(Operator.__args__),  # type: ignore[attr-defined]
    value=st.none() | st.integers(-9, 9) | st.booleans() | texts,
    version=st.booleans(),
)
memberships = st.builds(
    ServerGroupMembership,
    group=st.sampled_from(["cell/a", "cell/b"]),
    policy=st.just("anti-affinity"),
    hard=st.booleans(),
    max_per_node=st.integers(1, 9),
    scope=st.none() | ids,
)
_CLAIM: dict[str, Any] = {
    "id": ids,
    "consumer": ids,
    "consumer_generation": st.none() | amounts,
    "consumer_type": st.sampled_from(["INSTANCE", "VOLUME"]),
    "project": ids | st.just("-"),
    "user": ids | st.just("-"),
    "request": st.none() | ids,
    "spec": st.none() | specs,
    "allocations": st.lists(allocations, min_size=1, max_size=3).map(tuple),
    "predicates": st.lists(named | generations | attributes, max_size=3).map(tuple),
    "memberships": st.lists(memberships, max_size=2).map(tuple),
    "deadline_ms": amounts,
    "hold_until_ms": st.none() | amounts,
    "decided": st.builds(events.Decision, as_of=positions, seed=st.integers(0, 99), policy=texts),
}
tolerations = st.builds(Toleration, key=st.sampled_from(["a", "b/c"]), value=st.sampled_from([None, "", "v"]))
claims = st.builds(events.Claim, **_CLAIM)
_CLAIM["spec"] = st.none() | specs.map(lambda spec: ChosenSpec(groups=spec.groups))
newest_claims = st.builds(events.ClaimV2, **_CLAIM, tolerations=st.lists(tolerations, max_size=3).map(tuple))
outcomes = st.builds(
    events.ClosedRequest,
    id=ids,
    outcome=st.sampled_from(["placed", "no_valid_host", "failed", "unknown"]),
    claim=st.none() | ids,
    cell=st.none() | ids,
    as_of=positions,
    in_flight=st.lists(ids, max_size=3).map(tuple),
    heard_since_ms=st.none() | amounts,
    reason=texts,
)


def position_of(as_of: dict[str, int]) -> Raw:
    return encode_position({int(partition): offset for partition, offset in as_of.items()})


def spec_of(spec: RequestSpec) -> Raw:
    return Raw(spec.model_dump_json(exclude_defaults=True))


def wire_of(claim: events.Claim) -> ClaimWire:
    """A claim, as a scheduler encodes it."""
    own = {name: getattr(claim, name) for name in type(claim).model_fields if name not in _PARTS}
    decided = DecisionWire(position_of(claim.decided.as_of), claim.decided.seed, claim.decided.policy)
    return ClaimWire(
        **own,
        spec=None if claim.spec is None else spec_of(claim.spec),
        allocations=[AllocationWire(a.provider, a.resources, a.group) for a in claim.allocations],
        predicates=[predicate_wire(one) for one in claim.predicates],
        memberships=[membership_wire(one) for one in claim.memberships],
        decided=decided,
        tolerations=tuple(TolerationWire(one.key, one.value) for one in getattr(claim, "tolerations", ())),
    )


_PARTS = {"spec", "allocations", "predicates", "memberships", "decided", "tolerations"}


def predicate_wire(one: events.Predicate | events.AttributePredicate) -> AnyPredicateWire:
    if isinstance(one, events.Predicate):
        return PredicateWire(one.provider, one.kind, one.value, one.negate)
    return AttributePredicateWire(one.provider, one.name, one.operator, one.value, one.version)


def same(read: Any, written: Any) -> None:
    """Equal, and with equal JSON, which tells True from 1, and which the fold's fingerprints are made of."""
    assert read == written
    assert read.model_dump_json() == written.model_dump_json()


@given(st.lists(claims, min_size=1, max_size=3))
def test_claims_are_read_as_they_were_written(written: list[events.Claim]) -> None:
    read = events.parse(encode_claims("e", "/s", [wire_of(one) for one in written]))
    data = events.ClaimsRequestedData(claims=tuple(written))
    same(read, events.ClaimsRequested(id="e", source="/s", data=data))


@given(st.lists(newest_claims, min_size=1, max_size=3))
def test_the_newest_form_of_claims_is_used_where_it_is_needed(written: list[events.ClaimV2]) -> None:
    value = encode_claims("e", "/s", [wire_of(one) for one in written])
    needed = any(one.tolerations for one in written)
    assert isinstance(events.parse(value), events.ClaimsRequestedV2 if needed else events.ClaimsRequested)


@given(st.lists(newest_claims, min_size=1, max_size=4), st.integers(0, 3))
def test_what_claims_have_in_common_is_in_their_record_once(
    written: list[events.ClaimV2], alike: int
) -> None:
    decided = [events.Decision(seed=1 if at < alike else 2 + at) for at, _ in enumerate(written)]
    written = [
        one.model_copy(update={"decided": basis} | ({"spec": written[0].spec} if at < alike else {}))
        for at, (one, basis) in enumerate(zip(written, decided, strict=True))
    ]
    read = events.parse(encode_claims("e", "/s", [wire_of(one) for one in written], newest=True))
    assert isinstance(read, events.ClaimsRequestedV2)
    for one, claim in zip(events.claims_of(read), written, strict=True):
        assert one.model_dump() == claim.model_dump() | {"spec_at": None}
    distinct = {bytes(spec_of(one.spec)) for one in written if one.spec is not None}
    assert len(read.data.specs) == len(distinct)


@given(
    st.lists(newest_claims, min_size=2, max_size=3, unique_by=(lambda one: one.id, lambda one: one.consumer))
)
def test_gangs_are_read_as_they_were_written(written: list[events.ClaimV2]) -> None:
    written = [one.model_copy(update={"deadline_ms": written[0].deadline_ms}) for one in written]
    read = events.parse(encode_gang("e", "/s", [wire_of(one) for one in written]))
    data = events.GangRequestedData(claims=tuple(written))
    same(read, events.GangRequested(id="e", source="/s", data=data))


@given(st.lists(st.tuples(ids, specs), min_size=1, max_size=3))
def test_requests_are_read_as_they_were_written(written: list[tuple[str, RequestSpec]]) -> None:
    value = encode_received("e", "/s", [ReceivedRequestWire(id_, spec_of(spec)) for id_, spec in written])
    requests = tuple(events.ReceivedRequest(id=id_, spec=spec) for id_, spec in written)
    data = events.RequestsReceivedData(requests=requests)
    same(events.parse(value), events.RequestsReceived(id="e", source="/s", data=data))


@given(st.lists(st.tuples(ids, specs), min_size=1, max_size=4))
def test_requests_for_the_same_share_a_spec(written: list[tuple[str, RequestSpec]]) -> None:
    wires = [ReceivedRequestWire(id_, spec_of(spec)) for id_, spec in written]
    read = events.parse(encode_received("e", "/s", wires, newest=True))
    assert isinstance(read, events.RequestsReceivedV2)
    found = [(one.id, read.data.specs[one.spec_at]) for one in read.data.requests]
    assert found == [(id_, RequestSpecV2(**dict(spec))) for id_, spec in written]
    assert len(read.data.specs) == len({bytes(spec_of(spec)) for _, spec in written})


@given(st.lists(outcomes, min_size=1, max_size=3))
def test_outcomes_are_read_as_they_were_written(written: list[events.ClosedRequest]) -> None:
    wires = [
        ClosedRequestWire(
            **{**{n: getattr(one, n) for n in type(one).model_fields}, "as_of": position_of(one.as_of)}
        )
        for one in written
    ]
    data = events.RequestsClosedData(requests=tuple(written))
    same(events.parse(encode_closed("e", "/s", wires)), events.RequestsClosed(id="e", source="/s", data=data))


@settings(max_examples=25, deadline=None)
@given(logs())
def test_the_fold_makes_the_same_state_of_claims_that_were_encoded_again(tape: Any) -> None:
    as_written, again = MemoryState(), MemoryState()
    for record in tape.records[0]:
        as_written.commit(fold(as_written, record, REGISTRY))
        again.commit(fold(again, encoded_again(record), REGISTRY))
    assert rows_of(as_written) == rows_of(again)


def rows_of(state: MemoryState) -> list[tuple[str, bytes, bytes]]:
    """All rows; of dead letters only which there are, because they keep the bytes of their records."""
    return [
        (family, key, b"" if family == DEAD_LETTERS.family else row) for family, key, row in state.items()
    ]


def encoded_again(record: Record) -> Record:
    try:
        event = events.parse(record.value)
    except InvalidRecord:
        return record
    if not isinstance(event, events.ClaimsRequested):
        return record
    value = encode_claims(event.id, event.source, [wire_of(one) for one in event.data.claims])
    return record._replace(value=value)
