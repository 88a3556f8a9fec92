"""What the auditor reads from a record: its event, or nothing where the rules make it a dead letter.

It shares no code with the fold and its models: JSON by the standard library, shapes by the table below. So a
mistake in one is not a mistake in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from vacancy.resources.model.record import Record

INTEGER_MAX = 2**53 - 1
VALUE_BYTES_MAX = 8 * 1024 * 1024

Check = Callable[[Any], bool]


class ReadEvent(NamedTuple):
    """One event: `kind` is its type without prefix and version (`node.reported`), `data` its payload."""

    kind: str
    id: str
    data: dict[str, Any]


def read(record: Record) -> ReadEvent | None:
    """The record's event, or None where it is malformed or of an unknown type."""
    if len(record.value) > VALUE_BYTES_MAX:
        return None
    try:
        text = record.value.decode()  # `loads` itself would take other encodings, and a byte order mark
        body = json.loads(text)
        if "\\u" in text:
            json.dumps(body, ensure_ascii=False).encode()  # an escape of half a character is no text
        kind = _KINDS.get(body["type"])
        if kind is None or not _envelope(body) or not _SHAPES[kind](body.get("data", _NO_DATA.get(kind))):
            return None
        return ReadEvent(kind, body["id"], body.get("data", {}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def is_cell(key: bytes) -> bool:
    """Whether a record's key may name a cell."""
    return key.isascii() and _id(key.decode("ascii"))


@lru_cache(maxsize=65536)
def home(key: bytes, partitions: int) -> int:
    """The partition that a key belongs to: Kafka's murmur2, modulo their number."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    body, tail = key[: len(key) // 4 * 4], key[len(key) // 4 * 4 :]
    for i in range(0, len(body), 4):
        k = int.from_bytes(body[i : i + 4], "little") * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


# -- shapes -----------------------------------------------------------------------------------------------


def _integer(low: int, high: int = INTEGER_MAX) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _pattern(pattern: str) -> Check:
    match = re.compile(pattern).fullmatch
    return lambda value: isinstance(value, str) and match(value) is not None


def _text(length_max: int, length_min: int = 0) -> Check:
    return lambda value: isinstance(value, str) and length_min <= len(value) <= length_max


def _one_of(*values: str) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check, low: int = 0, high: int | None = None) -> Check:
    return lambda value: (
        isinstance(value, list)
        and low <= len(value)
        and (high is None or len(value) <= high)
        and all(map(check, value))
    )


def _map(key: Check, item: Check, low: int = 0) -> Check:
    return lambda value: (
        isinstance(value, dict) and low <= len(value) and all(key(k) and item(v) for k, v in value.items())
    )


def _object(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    known = {**required, **(optional or {})}

    def check(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and required.keys() <= value.keys() <= known.keys()
            and all(known[name](item) for name, item in value.items())
        )

    return check


def _flag(value: Any) -> bool:
    return type(value) is bool


def _attribute(value: Any) -> bool:
    return _flag(value) or _text(255)(value) or _integer(-INTEGER_MAX)(value)


def _attributes(value: Any) -> bool:
    return _map(_attribute_name, _attribute)(value) and len(value) <= 256


def _any_predicate(value: Any) -> bool:
    return _predicate(value) or _attribute_predicate(value)


def _spec(value: Any) -> bool:
    if not _spec_shape(value):
        return False
    names = [group.get("name", "") for group in value["groups"]]
    together = {group.get("name", "") for group in value["groups"] if group.get("same_provider", True)}
    asked = [len(group.get("resources", ())) for group in value["groups"]]
    serving = sum(
        min(count, 1) if name in together else count for name, count in zip(names, asked, strict=True)
    )
    number = value.get("copies", 1)
    sound = (
        len(set(names)) == len(names)
        and 0 < serving * number <= 256
        and all(count or name in together for name, count in zip(names, asked, strict=True))
        and all(some and together.issuperset(some) for some in value.get("same_subtree", ()))
    )
    return sound and _relations(value.get("memberships", ()), number, value.get("copies_on", "any"))


def _relations(memberships: list[dict[str, Any]], number: int, on: str) -> bool:
    """Whether what a request says of its groups and copies can hold together."""
    groups = [one["group"] for one in memberships]
    one_node = [
        one
        for one in memberships
        if one["policy"] == "affinity" and one.get("hard", True) and one.get("scope") is None
    ]
    return (
        len(set(groups)) == len(groups)
        and len({group.rpartition("/")[0] for group in groups}) <= 1
        and not (number > 1 and on == "distinct" and one_node)
    )


def _membership(value: Any) -> bool:
    return _membership_shape(value) and (value["policy"] != "affinity" or value.get("max_per_node", 1) == 1)


def _envelope(body: Mapping[str, Any]) -> bool:
    return (
        body.get("specversion", "1.0") == "1.0"
        and _id(body["id"])
        and _source(body["source"])
        and _time(body.get("time"))
    )


_id = _pattern(r"[A-Za-z0-9._:/@+=~-]{1,200}")
_symbol = _pattern(r"[A-Z][A-Z0-9_]{0,254}")
_source = _text(512, 1)
_time = _or_null(_text(64))
_name = _text(64)
_group_name = _pattern(r"[A-Za-z0-9_-]{0,64}")
_attribute_name = _pattern(r"[a-z][a-z0-9_.-]{0,63}")
_amount = _integer(0)
_count = _integer(1)
_ids = _list(_id)
_symbols = _list(_symbol)
_records = _map(_symbol, lambda value: isinstance(value, dict))
_asks: Mapping[str, Check] = {
    "resources": _map(_symbol, lambda value: type(value) is int or isinstance(value, dict))
}
_as_of = _map(_pattern(r"[0-9]{1,9}"), _amount)
_membership_shape = _object(
    {
        "group": _pattern(r"[A-Za-z0-9._:/@+=~-]{1,200}/[A-Za-z0-9._@+=~-]{1,100}"),
        "policy": _one_of("affinity", "anti-affinity"),
    },
    {
        "hard": lambda value: type(value) is bool,
        "max_per_node": _integer(1, 1024),
        "scope": _or_null(_id),
    },
)
_memberships = _list(_membership, 0, 16)
_spec_shape = _object(
    {
        "groups": _list(
            _object(
                {},
                {
                    **_asks,
                    "name": _group_name,
                    "same_provider": _flag,
                    "required": _symbols,
                    "forbidden": _symbols,
                    "any_traits": _list(_symbols),
                    "member_of": _list(_ids),
                    "not_member_of": _ids,
                    "in_tree": _or_null(_id),
                    "where": _text(4096),
                },
            ),
            1,
            64,
        )
    },
    {
        "group_policy": _one_of("none", "isolate"),
        "memberships": _memberships,
        "copies": _integer(1, 64),
        "copies_on": _one_of("any", "distinct"),
        "root_required": _symbols,
        "root_forbidden": _symbols,
        "same_subtree": _list(_list(_group_name), 0, 64),
    },
)
_predicate = _object(
    {
        "provider": _id,
        "kind": _one_of("trait", "aggregate", "subtree", "generation"),
        "value": lambda value: _text(255)(value) or _amount(value),
    },
    {"negate": _flag},
)
_attribute_predicate = _object(
    {"provider": _id, "kind": _one_of("attribute"), "name": _attribute_name},
    {
        "operator": _one_of("==", "!=", "<", "<=", ">", ">=", "has", "lacks"),
        "value": _or_null(_attribute),
        "version": _flag,
    },
)
_allocation = _object(
    {"provider": _id, "resources": lambda value: _asks["resources"](value) and len(value) > 0},
    {"group": _text(80)},
)
_claim = _object(
    {"id": _id, "consumer": _id, "allocations": _list(_allocation, 1, 256), "deadline_ms": _amount},
    {
        "consumer_generation": _or_null(_amount),
        "consumer_type": _name,
        "project": _id,
        "user": _id,
        "request": _or_null(_id),
        "spec": _or_null(_spec),
        "predicates": _list(_any_predicate, 0, 1024),
        "memberships": _memberships,
        "hold_until_ms": _or_null(_amount),
        "decided": _object({}, {"as_of": _as_of, "seed": lambda value: type(value) is int, "policy": _name}),
    },
)
_provider = _object(
    {"id": _id},
    {"parent": _or_null(_id), "inventories": _records, "traits": _symbols, "attributes": _attributes},
)
_node: Mapping[str, Check] = {"root": _id, "incarnation": _pattern(r"[0-9a-f]{16}"), "sequence": _count}
_facts = _object(
    {},
    {
        "status": _one_of("enabled", "disabled", "draining"),
        "reason": _text(1024),
        "aggregates": _ids,
        "traits": _symbols,
        "overrides": _records,
        "attributes": _attributes,
    },
)
_closed = _object(
    {"id": _id, "outcome": _one_of("placed", "no_valid_host", "failed", "unknown")},
    {
        "claim": _or_null(_id),
        "cell": _or_null(_id),
        "as_of": _as_of,
        "in_flight": _ids,
        "heard_since_ms": _or_null(_amount),
        "reason": _text(1024),
    },
)
_holds: Mapping[str, Check] = {"consumer": _id, "claim": _id}
_rules: Mapping[str, Check] = {"version": _integer(1, 2**31), "classes": _symbols}
_SHAPES: Mapping[str, Check] = {
    "log.opened": _object(
        {"log": _id, "partition": _integer(0, 2**63), "partitions": _integer(1, 2**63)},
        {"rules": _object({}, _rules)},
    ),
    "rules.activated": _object({}, _rules),
    "tick": _object({}),
    "node.reported": _object(
        {**_node, "providers": _list(_provider, 1, 4096)}, {"consumers": _or_null(_ids)}
    ),
    "node.changed": _object(_node, {"providers": _list(_provider, 0, 4096), "removed": _list(_id, 0, 4096)}),
    "node.heartbeat": _object(_node),
    "node.retired": _object(_node),
    "facts.set": _object({"provider": _id, "revision": _count, "facts": _facts}),
    "requests.received": _object({"requests": _list(_object({"id": _id, "spec": _spec}), 1, 64)}),
    "requests.closed": _object({"requests": _list(_closed, 1, 64)}),
    "claims.requested": _object({"claims": _list(_claim, 1, 64)}),
    "consumer.replaced": _claim,
    "consumer.confirmed": _object(_holds),
    "consumers.released": _object(
        {"releases": _list(_object(_holds, {"deadline_ms": _or_null(_amount)}), 1, 64)}
    ),
}
_KINDS = {f"vacancy.{kind}.v1": kind for kind in _SHAPES}
_NO_DATA: Mapping[str, Any] = {"tick": {}}
