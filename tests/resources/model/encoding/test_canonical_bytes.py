"""The bytes that the digest contains never change: literal bytes, pydantic's output, and a naive encoder of our own."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

from vacancy.resources.model.encoding import canonical_bytes
from vacancy.resources.model.encoding.canonical_bytes import (
    FORM_1,
    FORM_2,
    FORMS,
    CanonicalForm,
    has_fingerprint,
    read_spec,
    spec_json,
)
from vacancy.resources.model.events import Allocation, AttributePredicate, Claim, Decision, Predicate
from vacancy.resources.model.request import RequestGroup, RequestSpec, RequestSpecV2
from vacancy.resources.model.server_group import ServerGroupMembership

SOME = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
"""Claims are large: on a busy machine it takes a while to draw one."""

SPEC = {
    "groups": [
        {"resources": {"VCPU": 4, "MEMORY_MB": 8192}, "required": ["HW_CPU_X86_AVX2"]},
        {"name": "gpu", "resources": {"PCI_DEVICE": {"count": 2, "where": {"b": "é\n", "a": 10**30}}}},
    ],
    "memberships": [{"group": "b1/db", "policy": "anti-affinity", "max_per_node": 2}],
    "copies": 3,
}
CLAIM = {
    "id": "c1",
    "consumer": "vm-1",
    "request": "q1",
    "spec": SPEC,
    "allocations": [{"provider": "n1", "resources": {"VCPU": 4, "CUSTOM_A": {"f": [1.5, None, True]}}}],
    "predicates": [
        {"provider": "n1", "kind": "trait", "value": "CUSTOM_X", "negate": True},
        {
            "provider": "n1",
            "kind": "attribute",
            "name": "kernel",
            "operator": ">=",
            "value": "6.1",
            "version": True,
        },
    ],
    "deadline_ms": 1772366460000,
    "decided": {"as_of": {"0": 12}, "seed": -7, "policy": 'a "b"'},
}

CLAIM_1 = (
    '{"id":"c1","consumer":"vm-1","consumer_generation":null,"consumer_type":"INSTANCE","project":"-","user":"-",'
    '"request":"q1","spec":{"groups":[{"name":"","same_provider":true,"resources":{"VCPU":4,"MEMORY_MB":8192},'
    '"required":["HW_CPU_X86_AVX2"],"forbidden":[],"any_traits":[],"member_of":[],"not_member_of":[],"in_tree":null,'
    '"where":""},{"name":"gpu","same_provider":true,"resources":{"PCI_DEVICE":{"count":2,"where":{"b":"é\\n",'
    '"a":1000000000000000000000000000000}}},"required":[],"forbidden":[],"any_traits":[],"member_of":[],'
    '"not_member_of":[],"in_tree":null,"where":""}],"group_policy":"none","memberships":[{"group":"b1/db",'
    '"policy":"anti-affinity","hard":true,"max_per_node":2,"scope":null}],"copies":3,"copies_on":"any",'
    '"root_required":[],"root_forbidden":[],"same_subtree":[]},"allocations":[{"provider":"n1","resources":{"VCPU":4,'
    '"CUSTOM_A":{"f":[1.5,null,true]}},"group":""}],"predicates":[{"provider":"n1","kind":"trait",'
    '"value":"CUSTOM_X","negate":true},{"provider":"n1","kind":"attribute","name":"kernel","operator":">=",'
    '"value":"6.1","version":true}],"memberships":[],"deadline_ms":1772366460000,"hold_until_ms":null,'
    '"decided":{"as_of":{"0":12},"seed":-7,"policy":"a \\"b\\""}}'
)
SPEC_1 = (
    '{"groups":[{"resources":{"VCPU":4,"MEMORY_MB":8192},"required":["HW_CPU_X86_AVX2"]},{"name":"gpu",'
    '"resources":{"PCI_DEVICE":{"count":2,"where":{"b":"é\\n","a":1000000000000000000000000000000}}}}],'
    '"memberships":[{"group":"b1/db","policy":"anti-affinity","max_per_node":2}],"copies":3}'
)
SPEC_2 = (
    "9396a46e6f6e6503a3616e79909090929aa0c382a94d454d4f52595f4d42cd2000a4564350550491af48575f4350555f5838"
    "365f4156583290909090c0a09aa3677075c381aa5043495f44455649434582a5636f756e7402a5776865726582a161c71f01"
    "31303030303030303030303030303030303030303030303030303030303030a162a3c3a90a9090909090c0a09195a562312f"
    "6462ad616e74692d616666696e697479c302c0"
)


def claim_of(**changed: Any) -> Claim:
    return Claim.model_validate_json(json.dumps({**CLAIM, **changed}))


def spec_of(**changed: Any) -> RequestSpec:
    return RequestSpec.model_validate_json(json.dumps({**SPEC, **changed}))


# -- literal bytes --------------------------------------------------------------------------------------------


def test_form_1_is_the_bytes_of_the_first_rules() -> None:
    assert FORM_1.claim(claim_of()).decode() == CLAIM_1
    assert FORM_1.spec(spec_of()).decode() == SPEC_1
    assert FORM_1.fingerprint(claim_of()).hex() == "314f1b2d93681fd4"


def test_form_2_is_the_bytes_of_the_second_rules() -> None:
    assert FORM_2.spec(spec_of()).hex() == SPEC_2
    assert FORM_2.fingerprint(claim_of()).hex() == "024fe022fa15e06b5f"


# -- against pydantic, and against a naive encoder ------------------------------------------------------------

names = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)
group_names = st.from_regex(r"[A-Za-z0-9_-]{0,12}", fullmatch=True)
symbols = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
amounts = st.integers(0, 2**53 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
asks = st.integers(-(10**25), 10**25) | st.dictionaries(texts, json_values, max_size=3)
memberships = st.fixed_dictionaries(
    {"group": names.map("b1/{}".format), "policy": st.just("anti-affinity")},
    optional={
        "hard": st.booleans(),
        "max_per_node": st.integers(1, 1024),
        "scope": st.none() | names,
    },
)
symbol_lists = st.lists(symbols, max_size=3)
groups = st.fixed_dictionaries(
    {"name": group_names, "resources": st.dictionaries(symbols, asks, min_size=1, max_size=3)},
    optional={
        "same_provider": st.booleans(),
        "required": symbol_lists,
        "forbidden": symbol_lists,
        "any_traits": st.lists(symbol_lists, max_size=2),
        "member_of": st.lists(st.lists(names, max_size=2), max_size=2),
        "not_member_of": st.lists(names, max_size=2),
        "in_tree": st.none() | names,
        "where": texts,
    },
)
specs = st.fixed_dictionaries(
    {"groups": st.lists(groups, min_size=1, max_size=3, unique_by=lambda group: str(group["name"]))},
    optional={
        "group_policy": st.sampled_from(["none", "isolate"]),
        "memberships": st.lists(memberships, max_size=2, unique_by=lambda one: str(one["group"])),
        "copies": st.integers(1, 4),
        "copies_on": st.sampled_from(["any", "distinct"]),
        "root_required": symbol_lists,
        "root_forbidden": symbol_lists,
    },
)
values = st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts
predicates = st.fixed_dictionaries(
    {
        "provider": names,
        "kind": st.sampled_from(["trait", "aggregate", "subtree", "generation"]),
        "value": amounts | texts,
    },
    optional={"negate": st.booleans()},
) | st.fixed_dictionaries(
    {"provider": names, "kind": st.just("attribute"), "name": st.just("kernel")},
    optional={
        "operator": st.sampled_from(["==", "<", "has"]),
        "value": st.none() | values,
        "version": st.booleans(),
    },
)
CLAIMS = st.fixed_dictionaries(
    {
        "id": names,
        "consumer": names,
        "deadline_ms": amounts,
        "allocations": st.lists(
            st.fixed_dictionaries(
                {"provider": names, "resources": st.dictionaries(symbols, asks, min_size=1, max_size=3)},
                optional={"group": texts},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "consumer_generation": st.none() | amounts,
        "consumer_type": texts,
        "project": names,
        "user": names,
        "request": st.none() | names,
        "spec": st.none() | specs,
        "predicates": st.lists(predicates, max_size=3),
        "memberships": st.lists(memberships, max_size=2),
        "hold_until_ms": st.none() | amounts,
        "decided": st.fixed_dictionaries(
            {},
            optional={
                "as_of": st.dictionaries(st.from_regex(r"[0-9]{1,3}", fullmatch=True), amounts, max_size=3),
                "seed": st.integers(-(2**70), 2**70),
                "policy": texts,
            },
        ),
    },
).map(lambda said: Claim.model_validate_json(json.dumps(said)))
SPECS = specs.map(lambda said: RequestSpec.model_validate_json(json.dumps(said)))


@SOME
@given(CLAIMS)
def test_form_1_of_a_claim_is_what_pydantic_makes_of_it(claim: Claim) -> None:
    assert FORM_1.claim(claim) == claim.model_dump_json().encode()


@SOME
@given(SPECS)
def test_form_1_of_a_spec_is_what_pydantic_makes_of_it(spec: RequestSpec) -> None:
    assert FORM_1.spec(spec) == spec.model_dump_json(exclude_defaults=True).encode()


@given(st.floats())
def test_form_1_of_a_fraction_is_what_pydantic_makes_of_it(value: float) -> None:
    ask: dict[str, JsonValue] = {"a": value}
    claim = claim_of().model_copy(update={"allocations": (Allocation(provider="n", resources={"A": ask}),)})
    assert FORM_1.claim(claim) == claim.model_dump_json().encode()


def naive(value: Any) -> bytes:
    """MessagePack by its specification, with the keys of maps in the order of their bytes."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return naive_integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return head(len(data), 0xA0, 32, {0xD9: 1, 0xDA: 2, 0xDB: 4}) + data
    if isinstance(value, dict):
        found = sorted((key.encode(), naive(key) + naive(one)) for key, one in value.items())
        return head(len(found), 0x80, 16, {0xDE: 2, 0xDF: 4}) + b"".join(pair for _, pair in found)
    return head(len(value), 0x90, 16, {0xDC: 2, 0xDD: 4}) + b"".join(map(naive, value))


def naive_integer(value: int) -> bytes:
    if -32 <= value < 128:
        return value.to_bytes(1, "big", signed=value < 0)
    for code, size in {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.items():
        if 0 <= value < 1 << 8 * size:
            return bytes([code]) + value.to_bytes(size, "big")
    for code, size in {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}.items():
        if -(1 << 8 * size - 1) <= value < 0:
            return bytes([code]) + value.to_bytes(size, "big", signed=True)
    digits = str(value).encode()
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(len(digits))
    return (bytes([fixed]) if fixed else bytes([0xC7, len(digits)])) + b"\x01" + digits


def head(size: int, short: int, below: int, longer: dict[int, int]) -> bytes:
    if size < below:
        return bytes([short + size])
    return next(
        bytes([c]) + size.to_bytes(width, "big") for c, width in longer.items() if size < 1 << 8 * width
    )


def fields(model: BaseModel, names: tuple[str, ...]) -> list[Any]:
    return [getattr(model, name) for name in names]


def arrays_of_spec(spec: RequestSpec) -> list[Any]:
    return [
        fields(spec, canonical_bytes.SPEC_2),
        [fields(one, canonical_bytes.GROUP_2) for one in spec.groups],
        [fields(one, canonical_bytes.MEMBERSHIP_2) for one in spec.memberships],
    ]


@SOME
@given(CLAIMS)
def test_form_2_of_a_claim_is_what_its_documentation_says(claim: Claim) -> None:
    told = [
        fields(claim, canonical_bytes.CLAIM_2),
        None if claim.spec is None else arrays_of_spec(claim.spec),
        [fields(one, canonical_bytes.ALLOCATION_2) for one in claim.allocations],
        [
            fields(
                one,
                canonical_bytes.PREDICATE_2
                if isinstance(one, Predicate)
                else canonical_bytes.ATTRIBUTE_PREDICATE_2,
            )
            for one in claim.predicates
        ],
        [fields(one, canonical_bytes.MEMBERSHIP_2) for one in claim.memberships],
        fields(claim.decided, canonical_bytes.DECISION_2),
    ]
    assert FORM_2.claim(claim) == naive(told)


@SOME
@given(SPECS)
def test_form_2_of_a_spec_is_what_its_documentation_says(spec: RequestSpec) -> None:
    assert FORM_2.spec(spec) == naive(arrays_of_spec(spec))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Claim, {*canonical_bytes.CLAIM_2, "spec", "allocations", "predicates", "memberships", "decided"}),
        (Allocation, set(canonical_bytes.ALLOCATION_2)),
        (Predicate, set(canonical_bytes.PREDICATE_2)),
        (AttributePredicate, set(canonical_bytes.ATTRIBUTE_PREDICATE_2)),
        (ServerGroupMembership, set(canonical_bytes.MEMBERSHIP_2)),
        (Decision, set(canonical_bytes.DECISION_2)),
        (RequestSpec, {*canonical_bytes.SPEC_2, "groups", "memberships"}),
        (RequestGroup, set(canonical_bytes.GROUP_2)),
    ],
)
def test_no_field_is_left_out(model: type[BaseModel], names: set[str]) -> None:
    """A new field needs a place at the end of its array, and a version of the rules that allows it."""
    assert set(model.model_fields) == names


# -- what depends on them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: f"form {form.number}")
@SOME
@given(spec=SPECS)
def test_a_stored_spec_reads_back(form: CanonicalForm, spec: RequestSpec) -> None:
    assert read_spec(form.spec(spec)) == spec
    assert RequestSpec.model_validate_json(json.dumps(spec_json(form.spec(spec)))) == spec
    assert spec_json(form.spec(spec)) == spec.model_dump(mode="json", exclude_defaults=True)


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: f"form {form.number}")
@SOME
@given(one=CLAIMS, other=CLAIMS)
def test_a_fingerprint_is_that_of_its_claim_alone(form: CanonicalForm, one: Claim, other: Claim) -> None:
    assert has_fingerprint(one, form.fingerprint(one))
    assert has_fingerprint(other, form.fingerprint(one)) == (form.claim(one) == form.claim(other))


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: f"form {form.number}")
@pytest.mark.parametrize(
    "changed",
    [
        {"id": "c2"},
        {"consumer": "vm-2"},
        {"consumer_generation": 0},
        {"consumer_type": "VOLUME"},
        {"project": "p"},
        {"user": "u"},
        {"request": None},
        {"spec": None},
        {"spec": {**SPEC, "copies": 2}},
        {"allocations": [{"provider": "n1", "resources": {"VCPU": 4}}]},
        {"predicates": []},
        {"memberships": SPEC["memberships"]},
        {"deadline_ms": 1772366460001},
        {"hold_until_ms": 0},
        {"decided": {}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_field_is_another_fingerprint(form: CanonicalForm, changed: dict[str, Any]) -> None:
    assert not has_fingerprint(claim_of(**changed), form.fingerprint(claim_of()))


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: f"form {form.number}")
def test_the_type_of_a_value_is_a_part_of_it(form: CanonicalForm) -> None:
    alike: list[Any] = [0, False, None, "0", 0.0, [], {}]
    allocations = [[{"provider": "n1", "resources": {"A": {"a": value}}}] for value in alike]
    assert len({form.claim(claim_of(allocations=one)) for one in allocations}) == len(alike)


def test_a_request_with_alternatives_has_bytes_that_read_back_and_one_without_has_the_bytes_of_the_older_form() -> (
    None
):
    plain = {"groups": [{"name": "a", "resources": {"VCPU": 1}}, {"name": "b", "resources": {"VCPU": 2}}]}
    assert FORM_2.spec(RequestSpecV2.model_validate_json(json.dumps(plain))) == FORM_2.spec(
        RequestSpec.model_validate_json(json.dumps(plain))
    )
    rich = {
        **plain,
        "alternatives": [{"groups": [{"resources": {"PGPU": {"count": 2, "where": {"b": 1, "a": 2}}}}]}],
        "prefer_same_subtree": [["a", "b"]],
    }
    spec = RequestSpecV2.model_validate_json(json.dumps(rich))
    data = FORM_2.spec(spec)
    assert read_spec(data) == spec
    assert spec_json(data) == rich
    swapped = json.loads(json.dumps(rich).replace('{"b": 1, "a": 2}', '{"a": 2, "b": 1}'))
    assert FORM_2.spec(RequestSpecV2.model_validate_json(json.dumps(swapped))) == data
