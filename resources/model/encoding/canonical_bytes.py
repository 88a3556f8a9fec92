"""Canonical bytes: one byte string for equal content, whatever library writes or reads it.

The state holds two things that are made from the content of an event: the *fingerprint* of a claim (a claim that is
sent again is the same claim if its fingerprint is the same) and the *spec* of a request. Both are in the digest, so
their bytes are a rule of the log. They must not change with a release of a library. A version of the rules names the
form that it writes (`state.rule_set.RuleSet`); each form stays here for as long as a log may hold it.

**Form 1** is JSON in UTF-8 without spaces, as pydantic 2.13 made it of the models. A claim has all its fields, in the
order of `_claim_1`, also those at their defaults. A spec has only the fields that differ from their defaults, in the
order of `_spec_1`. Objects inside an ask have their keys in the order of the event.

* Text is between double quotes. `"` and `\\` have a backslash before them. The control characters U+0008, U+0009,
  U+000A, U+000C and U+000D are `\\b \\t \\n \\f \\r`; the others below U+0020 are `\\u00xx` with lowercase digits.
  Every other character stands as it is.
* A whole number has its decimal digits, with `-` before it if it is negative, however many digits it has.
* A number with a fraction (only a plugin's class may be asked for one) has the fewest digits that read back as the
  same 64-bit number. It is written as `0.00001` or `12.5` or `100.0` where its first digit is from 5 places after
  the point to 16 places before it, else as `1.5e+300` or `5e-324`. What is no number is `null`.

**Form 2** is MessagePack, the same for a claim and for a spec. It leaves no choices:

* A model is an array of its fields in the order of `CLAIM_2` and the tuples after it, also those at their defaults.
  A field that is added to a model later comes last, and is left out where it is at its default: so it changes no
  bytes of what does not use it.
* A map (amounts by class, an object inside an ask) has its keys in ascending order of their UTF-8 bytes.
* Every value has the shortest encoding of its kind: text (`str`), whole numbers (unsigned where they are not
  negative), true and false, nil, arrays, maps. A number with a fraction is `float 64`.
* A whole number outside -2^63 .. 2^64 - 1 is an extension of type 1 that holds its decimal digits in ASCII.

A fingerprint of form 1 is the BLAKE2b hash of the claim, 8 bytes. One of form 2 is the byte 0x02 and then the BLAKE2b
hash of the claim, 8 bytes. So the length shows the form, and a claim is recognised by a row that an earlier version
wrote (`has_fingerprint`). A spec of form 1 starts with `{` (0x7b), which starts no array of form 2:
`spec_json` and `read_spec` read both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from json.encoder import encode_basestring as _quote
from math import isfinite
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from vacancy.resources.model.events import AttributePredicate, Claim, Predicate
from vacancy.resources.model.request import RequestGroup, RequestSpec, RequestSpecV2, changed_extras
from vacancy.resources.model.server_group import ServerGroupMembership, ServerGroupMembershipV2
from vacancy.resources.model.transactions import TransactionData

_HASH_BYTES: Final = 8


class CanonicalForm(NamedTuple):
    """One form. `claim` and `spec` make the bytes; `prefix` starts its fingerprints."""

    number: int
    claim: Callable[[Claim], bytes]
    spec: Callable[[RequestSpec], bytes]
    prefix: bytes

    def fingerprint(self, claim: Claim) -> bytes:
        """What is kept of a claim's content: equal for equal claims, and different for others."""
        return self.prefix + blake2b(self.claim(claim), digest_size=_HASH_BYTES).digest()


def has_fingerprint(claim: Claim, fingerprint: bytes) -> bool:
    """Whether this is the claim that a stored fingerprint, of whatever form, was made of."""
    number = 1 if len(fingerprint) == _HASH_BYTES else fingerprint[0]
    return FORMS[number].fingerprint(claim) == fingerprint


def spec_json(data: bytes) -> dict[str, Any]:
    """A stored spec of either form as JSON. Fields at their defaults are left out."""
    extras: dict[str, Any] = {}
    if data[:1] != b"{":
        spec = read_spec(data)
        data, extras = _spec_1(spec), changed_extras(spec)
    found: dict[str, Any] = json.loads(data)
    return {**found, **extras}


def read_spec(data: bytes) -> RequestSpec:
    """A stored spec of either form. Raises pydantic's `ValidationError` where it is none."""
    if data[:1] == b"{":
        return RequestSpec.model_validate_json(data)
    plain, groups, memberships, *extras = _decode(data)
    fields = {
        **dict(zip(SPEC_2, plain, strict=True)),
        "groups": [dict(zip(GROUP_2, one, strict=True)) for one in groups],
        "memberships": [_membership_of_2(one) for one in memberships],
    }
    if extras or any("max_skew" in one for one in fields["memberships"]):
        return RequestSpecV2.model_validate_json(json.dumps({**fields, **(extras[0] if extras else {})}))
    return RequestSpec.model_validate_json(json.dumps(fields))


def _membership_of_2(fields: Sequence[Any]) -> dict[str, Any]:
    names = MEMBERSHIP_2 if len(fields) == len(MEMBERSHIP_2) else (*MEMBERSHIP_2, "max_skew")
    return dict(zip(names, fields, strict=True))


# -- form 1 ---------------------------------------------------------------------------------------------------
# Ids, symbols and names of groups need no escapes: their patterns allow no such character.


def _number_1(value: float) -> str:
    if not isfinite(value):
        return "null"
    mantissa, _, exponent = repr(value).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0.0"
    if -5 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if 0 < point <= 16:
        return f"{sign}{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def _any_1(value: Any) -> str:
    return _WRITERS_1[type(value)](value)


def _list_1(values: Any) -> str:
    return f"[{','.join(map(_any_1, values))}]" if values else "[]"


def _object_1(values: Mapping[str, Any]) -> str:
    return f"{{{','.join([f'{_quote(name)}:{_any_1(value)}' for name, value in values.items()])}}}"


_WRITERS_1: Final[dict[type, Callable[[Any], str]]] = {
    str: _quote,
    int: int.__repr__,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _value: "null",
    float: _number_1,
    list: _list_1,
    tuple: _list_1,
    dict: _object_1,
}


def _asks_1(values: Mapping[str, Any]) -> str:
    """Amounts, or asks of other kinds, by symbol."""
    found = [f'"{name}":{ask if type(ask) is int else _any_1(ask)}' for name, ask in values.items()]
    return f"{{{','.join(found)}}}"


def _names_1(values: tuple[str, ...]) -> str:
    return '["' + '","'.join(values) + '"]' if values else "[]"


def _optional_1(value: str | int | None) -> str:
    return "null" if value is None else f'"{value}"' if type(value) is str else str(value)


def _claim_1(claim: Claim) -> bytes:
    held = vars(claim)
    id_, consumer, generation, consumer_type, project, user, request, deadline_ms, hold_until_ms = (
        _claim_fields(held)
    )
    spec, predicates, memberships = held["spec"], held["predicates"], held["memberships"]
    as_of, seed, policy = _decision_fields(vars(held["decided"]))
    allocations = []
    for one in held["allocations"]:
        provider, resources, group = _allocation_fields(vars(one))
        allocations.append(
            f'{{"provider":"{provider}","resources":{_asks_1(resources)},"group":{_quote(group)}}}'
        )
    return (
        f'{{"id":"{id_}","consumer":"{consumer}","consumer_generation":{"null" if generation is None else generation}'
        f',"consumer_type":{_quote(consumer_type)},"project":"{project}","user":"{user}"'
        f',"request":{_optional_1(request)},"spec":{"null" if spec is None else _whole_spec_1(spec)}'
        f',"allocations":[{",".join(allocations)}]'
        f',"predicates":[{",".join(map(_predicate_1, predicates)) if predicates else ""}]'
        f',"memberships":[{",".join(map(_membership_1, memberships)) if memberships else ""}]'
        f',"deadline_ms":{deadline_ms},"hold_until_ms":{"null" if hold_until_ms is None else hold_until_ms}'
        f',"decided":{{"as_of":{_asks_1(as_of)},"seed":{seed},"policy":{_quote(policy)}}}'
        f"{_replaces_1(held)}{_added_1(held)}}}"
    ).encode()


def _replaces_1(held: Mapping[str, Any]) -> str:
    """The end of a `Replacement`. Only rules version 3 has it, so no log has a fingerprint of this form of one: it differs
    from that of any other claim."""
    if "replaces" not in held:
        return ""
    leaves = held.get("leaves", ())
    return f',"replaces":"{held["replaces"]}"' + (f',"leaves":{_names_1(leaves)}' if leaves else "")


def _added_1(held: Mapping[str, Any]) -> str:
    """The end of a `ClaimV2` whose fields are not at their defaults. Only rules version 4 has it: as `_replaces_1`."""
    added = _added_2(held)
    return f',"added":{_object_1(added)}' if added else ""


def _predicate_1(one: Predicate | AttributePredicate) -> str:
    if isinstance(one, AttributePredicate):
        return (
            f'{{"provider":"{one.provider}","kind":"attribute","name":"{one.name}","operator":"{one.operator}"'
            f',"value":{_any_1(one.value)},"version":{_any_1(one.version)}}}'
        )
    return f'{{"provider":"{one.provider}","kind":"{one.kind}","value":{_any_1(one.value)},"negate":{_any_1(one.negate)}}}'


def _membership_1(one: ServerGroupMembership) -> str:
    return (
        f'{{"group":"{one.group}","policy":"{one.policy}","hard":{_any_1(one.hard)}'
        f',"max_per_node":{one.max_per_node},"scope":{_optional_1(one.scope)}{_spread_1(one)}}}'
    )


def _spread_1(one: ServerGroupMembership) -> str:
    """The end of a membership with the policy `spread`. Only rules version 4 has it: as `_replaces_1`."""
    rule = one.rule
    return f',"max_skew":{rule.max_per_node}' if rule.spreads else ""


def _whole_spec_1(spec: RequestSpec) -> str:
    held = vars(spec)
    rest = _spec_rest(held)
    groups = ",".join(map(_whole_group_1, held["groups"]))
    return f'{{"groups":[{groups}]{_SPEC_REST_1 if rest == _SPEC_DEFAULTS_1 else _spec_rest_1(*rest)}}}'


def _spec_rest_1(
    policy: str, memberships: Any, copies: int, copies_on: str, required: Any, forbidden: Any, subtree: Any
) -> str:
    return (
        f',"group_policy":"{policy}","memberships":[{",".join(map(_membership_1, memberships))}]'
        f',"copies":{copies},"copies_on":"{copies_on}","root_required":{_names_1(required)}'
        f',"root_forbidden":{_names_1(forbidden)},"same_subtree":{_list_1(subtree)}'
    )


def _whole_group_1(group: RequestGroup) -> str:
    held = vars(group)
    rest = _group_rest(held)
    return (
        f'{{"name":"{held["name"]}","same_provider":{"true" if held["same_provider"] else "false"}'
        f',"resources":{_asks_1(held["resources"])},"required":{_names_1(held["required"])}'
        f"{_GROUP_REST_1 if rest == _GROUP_DEFAULTS_1 else _group_rest_1(*rest)}}}"
    )


def _group_rest_1(
    forbidden: Any, any_traits: Any, member_of: Any, not_member_of: Any, in_tree: str | None, where: str
) -> str:
    return (
        f',"forbidden":{_names_1(forbidden)},"any_traits":{_list_1(any_traits)}'
        f',"member_of":{_list_1(member_of)},"not_member_of":{_names_1(not_member_of)}'
        f',"in_tree":{_optional_1(in_tree)},"where":{_quote(where)}'
    )


_GROUP_1: Final[tuple[tuple[str, Any], ...]] = (
    ("name", ""),
    ("same_provider", True),
    ("resources", {}),
    ("required", ()),
    ("forbidden", ()),
    ("any_traits", ()),
    ("member_of", ()),
    ("not_member_of", ()),
    ("in_tree", None),
    ("where", ""),
)
_GROUP_SPLIT: Final = 4
"""The fields from here on are at their defaults in most groups."""

_MEMBERSHIP_1: Final[tuple[tuple[str, Any], ...]] = (
    ("group", None),
    ("policy", None),
    ("hard", True),
    ("max_per_node", 1),
    ("scope", None),
)
_SPEC_1: Final[tuple[tuple[str, Any], ...]] = (
    ("group_policy", "none"),
    ("memberships", ()),
    ("copies", 1),
    ("copies_on", "any"),
    ("root_required", ()),
    ("root_forbidden", ()),
    ("same_subtree", ()),
)
"""Fields after `groups`, in the order in which form 1 has them, with the defaults at which it leaves them out."""


_spec_rest = itemgetter(*(name for name, _ in _SPEC_1))
_SPEC_DEFAULTS_1: Final = tuple(default for _, default in _SPEC_1)
_SPEC_REST_1: Final = _spec_rest_1(*_SPEC_DEFAULTS_1)
_group_rest = itemgetter(*(name for name, _ in _GROUP_1[_GROUP_SPLIT:]))
_GROUP_DEFAULTS_1: Final = tuple(default for _, default in _GROUP_1[_GROUP_SPLIT:])
_GROUP_REST_1: Final = _group_rest_1(*_GROUP_DEFAULTS_1)
"""Most specs and groups have these fields at their defaults: one comparison, and a text that is made once."""


def _spec_1(spec: RequestSpec) -> bytes:
    held = vars(spec)
    groups = "},{".join(map(_changed_group_1, held["groups"]))
    rest = "" if _spec_rest(held) == _SPEC_DEFAULTS_1 else f",{_changed_1(held, _SPEC_1)}"
    return f'{{"groups":[{{{groups}}}]{rest}}}'.encode()


def _changed_group_1(group: RequestGroup) -> str:
    held = vars(group)
    fields = _GROUP_1[:_GROUP_SPLIT] if _group_rest(held) == _GROUP_DEFAULTS_1 else _GROUP_1
    return _changed_1(held, fields)


def _changed_1(held: Mapping[str, Any], fields: tuple[tuple[str, Any], ...]) -> str:
    return ",".join([f'"{name}":{_any_1(held[name])}' for name, default in fields if held[name] != default])


_WRITERS_1[ServerGroupMembership] = lambda one: f"{{{_changed_1(vars(one), _MEMBERSHIP_1)}{_spread_1(one)}}}"
_WRITERS_1[ServerGroupMembershipV2] = _WRITERS_1[ServerGroupMembership]


# -- form 2 ---------------------------------------------------------------------------------------------------

_EXT_DIGITS: Final = 1
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def _from_extension(code: int, data: memoryview) -> Any:
    if code != _EXT_DIGITS:
        raise ValueError(f"extension {code} is not of these bytes")
    return int(bytes(data))


_decode = msgspec.msgpack.Decoder(ext_hook=_from_extension).decode


def ask_bytes(ask: Any) -> bytes:
    """An ask as bytes: equal for equal asks, whatever the order of their fields."""
    return _packed(ask)


def _packed(value: Any) -> bytes:
    try:
        return _encode(value)
    except OverflowError:
        return _encode(_with_digits(value))


def _with_digits(value: Any) -> Any:
    """The value with those of its numbers that have no MessagePack integer as extensions."""
    if isinstance(value, dict):
        return {name: _with_digits(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_digits(one) for one in value]
    if type(value) is int and not _INT_MIN <= value <= _INT_MAX:
        return msgspec.msgpack.Ext(_EXT_DIGITS, str(value).encode())
    return value


CLAIM_2: Final = (
    *("id", "consumer", "consumer_generation", "consumer_type", "project", "user", "request"),
    *("deadline_ms", "hold_until_ms"),
)
"""An array of these comes first; then the spec or nil, the allocations, predicates and memberships, the decision, and of
a `Replacement` the id of the claim that it replaces, then the server groups that it leaves, if any. Last comes a map of the
fields that only `ClaimV2` has and that are not at their defaults, if any: its tolerations as [key, value]."""

ALLOCATION_2: Final = ("provider", "resources", "group")
PREDICATE_2: Final = ("provider", "kind", "value", "negate")
ATTRIBUTE_PREDICATE_2: Final = ("provider", "kind", "name", "operator", "value", "version")
MEMBERSHIP_2: Final = ("group", "policy", "hard", "max_per_node", "scope")
"""With the policy `spread` its `max_skew` follows."""

DECISION_2: Final = ("as_of", "seed", "policy")
SPEC_2: Final = ("group_policy", "copies", "copies_on", "root_required", "root_forbidden", "same_subtree")
"""An array of these comes first, then the groups and the memberships, then a map of the fields that only `RequestSpecV2` has
and that are not at their defaults, if any: it has them as in JSON, without fields at their defaults."""

GROUP_2: Final = (
    *(
        "name",
        "same_provider",
        "resources",
        "required",
        "forbidden",
        "any_traits",
        "member_of",
        "not_member_of",
    ),
    *("in_tree", "where"),
)

_claim_fields, _allocation_fields = itemgetter(*CLAIM_2), itemgetter(*ALLOCATION_2)
_decision_fields = itemgetter(*DECISION_2)
_predicate_fields, _attribute_fields = itemgetter(*PREDICATE_2), itemgetter(*ATTRIBUTE_PREDICATE_2)
_membership_fields, _spec_fields, _group_fields = (
    itemgetter(*MEMBERSHIP_2),
    itemgetter(*SPEC_2),
    itemgetter(*GROUP_2),
)


def _claim_2(claim: Claim) -> bytes:
    held = vars(claim)
    spec, predicates, memberships = held["spec"], held["predicates"], held["memberships"]
    array: tuple[Any, ...] = (
        _claim_fields(held),
        None if spec is None else _spec_array_2(spec),
        [_allocation_fields(vars(one)) for one in held["allocations"]],
        predicates and [_predicate_array_2(one) for one in predicates],
        memberships and [_membership_array_2(one) for one in memberships],
        _decision_fields(vars(held["decided"])),
    )
    if "replaces" in held:
        array = (*array, held["replaces"])
    if held.get("leaves"):
        array = (*array, held["leaves"])
    if added := _added_2(held):
        array = (*array, added)
    return _packed(array)


def _added_2(held: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that only a `ClaimV2` has and that are not at their defaults."""
    tolerations = held.get("tolerations")
    return {"tolerations": [(one.key, one.value) for one in tolerations]} if tolerations else {}


def _predicate_array_2(one: Predicate | AttributePredicate) -> Any:
    return (_attribute_fields if isinstance(one, AttributePredicate) else _predicate_fields)(vars(one))


def _membership_array_2(one: ServerGroupMembership) -> Any:
    rule, fields = one.rule, _membership_fields(vars(one))
    return (*fields, rule.max_per_node) if rule.spreads else fields


def _spec_2(spec: RequestSpec) -> bytes:
    return _packed(_spec_array_2(spec))


def _spec_array_2(spec: RequestSpec) -> Any:
    held = vars(spec)
    memberships = held["memberships"]
    array = (
        _spec_fields(held),
        [_group_fields(vars(one)) for one in held["groups"]],
        memberships and [_membership_array_2(one) for one in memberships],
    )
    if not isinstance(spec, RequestSpecV2):
        return array
    extras = changed_extras(spec)
    return (*array, extras) if extras else array


_name_change_fields = itemgetter("kind", "name", "op")
_provider_change_fields = itemgetter(
    *("provider", "op", "generation", "raises", "name", "parent", "inventories", "traits", "aggregates")
)
_consumer_change_fields = itemgetter(
    *("consumer", "generation", "project", "user", "consumer_type", "allocations")
)


def transaction_fingerprint(data: TransactionData) -> bytes:
    """What is kept of a transaction's content, as of a claim's: in form 2, an array of its fields in their order."""
    array = (
        data.id,
        data.deadline_ms,
        [_name_change_fields(vars(one)) for one in data.names],
        [_provider_change_fields(vars(one)) for one in data.providers],
        [_consumer_change_fields(vars(one)) for one in data.consumers],
    )
    return FORM_2.prefix + blake2b(_packed(array), digest_size=_HASH_BYTES).digest()


FORM_1: Final = CanonicalForm(1, _claim_1, _spec_1, b"")
FORM_2: Final = CanonicalForm(2, _claim_2, _spec_2, b"\x02")
FORMS: Final[Mapping[int, CanonicalForm]] = {one.number: one for one in (FORM_1, FORM_2)}
"""All forms that a log may hold. A number is never used for another form."""
