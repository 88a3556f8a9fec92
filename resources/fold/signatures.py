"""Who must sign, and what a signature is worth (rules version 7).

Nothing is signed before an operator sets a policy (`vacancy.signing.policy.set.v1`). It pins the keys of operators, and says which
nodes must sign. From then on, in this partition:

* A policy and the keys of nodes are set by events that an operator's key signed.
* An event of a node that must sign is refused without a signature of one of the node's keys.
* In a cell in which some node must sign, what operators say of nodes (settings, adoptions, names, retirements, and transactions
  over providers) is refused without a signature of an operator's key: it would decide on a node as the node's own events do.

Each key counts what it signs. An event whose number is not above the last one of its key was presented before. A signature that
nobody demands is checked too where its key is known, so that its number is used up.

A node that must sign speaks of itself: it takes no provider of another node that has keys into its tree, is no machine of such
a node, and confirms only consumers that hold something of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec.structs import replace

from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.record import Record
from vacancy.resources.model.signatures import (
    Signature,
    key_error,
    key_id,
    signed_message,
    split_signature,
    verifies,
)
from vacancy.resources.state.rows import NodeKeysRow, SigningKey, SigningRow
from vacancy.resources.state.tables import ALLOCATIONS, MACHINE_NODES, NODE_KEYS, PARTITION_KEY, SIGNING
from vacancy.resources.state.transaction import Transaction

REVOKED_KEPT: Final = 64
"""How many ids of revoked keys are kept. A key that comes back would start to count again, and what it signed before with it."""

_EVENTS_KEPT: Final = 8

_OF_NODES: Final = frozenset(
    {
        events.NodeReported,
        events.NodeReportedV2,
        events.NodeChanged,
        events.NodeHeartbeat,
        events.NodeRetired,
        events.NodeRetiredV2,
        events.NodeRunning,
    }
)
_OF_OPERATORS: Final = frozenset(
    {
        events.OperatorSettingsSet,
        events.OperatorSettingsSetV2,
        events.NodeAdopted,
        events.NodeRenamed,
        events.TransactionRequested,
    }
)
_OF_SIGNING: Final = frozenset({events.SigningPolicySet, events.SigningKeysSet})
_CHECKED: Final = _OF_NODES | _OF_OPERATORS | _OF_SIGNING

_NOBODY: Final = SigningRow(0, (), (), (), -1)
_NO_KEYS: Final = NodeKeysRow(0, (), (), -1)


def check_signature(transaction: Transaction, record: Record, event: Any) -> None:
    """Check the signature of a record, where its event needs one or has one that counts. Raises `InvalidRecord`.

    The number of the signature is noted. An event that is refused for another reason changes nothing, and so notes none.
    """
    kind = type(event)
    if kind not in _CHECKED:
        return
    policy = transaction.state.get(SIGNING, PARTITION_KEY)  # nothing before it in the record can change it
    if policy is None and kind not in _OF_SIGNING:
        return
    if policy is None or kind in _OF_SIGNING:
        _check_signing(transaction, policy or _NOBODY, record, event)
    elif kind in _OF_NODES and event.data.sequence is not None:
        _check_node(transaction, policy, record, event)
    elif kind is not events.TransactionRequested or event.data.providers:
        _check_operator(transaction, policy, record, event)


def must_sign(policy: SigningRow | None, cell: str, root: str) -> bool:
    """Whether the events of a node need a signature."""
    return policy is not None and any(
        _matches(nodes, root) and _matches(cells, cell) for cells, nodes in policy.required
    )


def own_consumers(transaction: Transaction, data: events.NodeReportedData) -> events.NodeReportedData:
    """For a node that must sign: its report with only those consumers that hold something of it."""
    if not data.consumers:
        return data
    # Each consumer and each provider is looked up once: a report may name a consumer of many parts very often.
    roots: dict[str, str | None] = {}
    own: dict[str, bool] = {}
    for consumer in data.consumers:
        if consumer not in own:
            row = transaction.get(ALLOCATIONS, transaction.key(consumer))
            parts = () if row is None else row.parts
            own[consumer] = any(_root_of(transaction, part.provider, roots) == data.root for part in parts)
    return data.model_copy(update={"consumers": tuple(one for one in data.consumers if own[one])})


def _root_of(transaction: Transaction, id_: str, known: dict[str, str | None]) -> str | None:
    if id_ not in known:
        provider = transaction.provider(id_)
        known[id_] = None if provider is None else provider.root
    return known[id_]


def check_parts(transaction: Transaction, data: events.NodeReportedData | events.NodeChangedData) -> None:
    """For a node that must sign: refuse its report if a provider in it is, or is a part of, another node with keys."""
    root = data.root
    for provider in data.providers:
        if provider.id == root:
            continue
        row = transaction.provider(provider.id)
        for owner in sorted({provider.id, provider.id if row is None else row.root} - {root}):
            keys = transaction.get(NODE_KEYS, transaction.key(owner))
            if keys is not None and keys.keys:
                raise InvalidRecord(
                    f"provider {provider.id} of node {root} belongs to node {owner}, which has keys of its own"
                )


def check_machine(transaction: Transaction, root: str, machine: str | None) -> None:
    """For a node that must sign: refuse its report if it would make its machine that of another node with keys, too. That would
    close the other node to new claims."""
    row = None if machine is None else transaction.get(MACHINE_NODES, transaction.key(machine))
    if row is None or root in row.roots:
        return
    for owner in row.roots:
        keys = transaction.get(NODE_KEYS, transaction.key(owner))
        if keys is not None and keys.keys:
            raise InvalidRecord(
                f"machine {machine} of node {root} belongs to node {owner}, which has keys of its own"
            )


def fold_policy_set(transaction: Transaction, event: events.SigningPolicySet) -> None:
    """Set who signs in the partition. `check_signature` has checked who says so."""
    data, before = event.data, transaction.get(SIGNING, PARTITION_KEY) or _NOBODY
    if _is_repeated(before, data.revision, event.id):
        return
    if data.required and not data.operators:
        raise InvalidRecord("nodes must sign, and no operator has a key: nobody could register theirs")
    operators, revoked = _changed(before.operators, before.revoked, data.operators)
    required = tuple(sorted({(one.cell, one.node) for one in data.required}))
    row = SigningRow(
        data.revision, operators, required, revoked, transaction.offset, _named(before.events, event.id)
    )
    transaction.put(SIGNING, PARTITION_KEY, row)


def fold_keys_set(transaction: Transaction, event: events.SigningKeysSet) -> None:
    """Set the keys of a node. `check_signature` has checked who says so."""
    key = transaction.key(event.data.root)
    before = transaction.get(NODE_KEYS, key) or _NO_KEYS
    if _is_repeated(before, event.data.revision, event.id):
        return
    keys, revoked = _changed(before.keys, before.revoked, event.data.keys)
    row = NodeKeysRow(event.data.revision, keys, revoked, transaction.offset, _named(before.events, event.id))
    transaction.put(NODE_KEYS, key, row)


# -- whose signature ------------------------------------------------------------------------------------------------


def _check_signing(transaction: Transaction, policy: SigningRow, record: Record, event: Any) -> None:
    """An event about keys is signed by an operator's key. The first policy pins keys: one of its own signs it."""
    if policy.operators:
        signed = _known_signature(record, policy.operators)
        if signed is None:
            raise InvalidRecord(f"{_unsigned(record)}: an operator's key must sign {event.type}")
        _use_operators_key(transaction, policy, signed)
        return
    if not isinstance(event, events.SigningPolicySet):
        raise InvalidRecord("no operator has a key in this partition: pin one first (vacancy signing pin)")
    if event.data.revision != policy.revision + 1:
        raise _not_next(event.data.revision, policy.revision)
    named, _ = _changed((), policy.revoked, event.data.operators)
    signed = _known_signature(record, named)
    if signed is None:
        raise InvalidRecord(f"{_unsigned(record)}: one of the keys that a first policy pins must sign it")
    _use_operators_key(transaction, replace(policy, operators=named), signed)


def _check_operator(transaction: Transaction, policy: SigningRow, record: Record, event: Any) -> None:
    signed = _known_signature(record, policy.operators)
    if signed is None:
        if any(_matches(cells, transaction.cell) for cells, _ in policy.required):
            raise InvalidRecord(
                f"{_unsigned(record)}: in cell {transaction.cell} an operator's key must sign {event.type}"
            )
    elif isinstance(event, events.TransactionRequested):
        # Its id is judged once, until its deadline has passed. So it cannot come again, and may overtake others: the processes of
        # one API share a key.
        _verify(transaction, signed, policy.operators[_index(policy.operators, signed)].public)
    else:
        _use_operators_key(transaction, policy, signed)


def _check_node(transaction: Transaction, policy: SigningRow, record: Record, event: Any) -> None:
    root = event.data.root
    required = must_sign(policy, transaction.cell, root)
    key = transaction.key(root)
    row = transaction.get(NODE_KEYS, key) or _NO_KEYS
    signed = _known_signature(record, row.keys)
    if signed is None:
        if required:
            no_key = "" if row.keys else ", which has none,"
            raise InvalidRecord(f"{_unsigned(record)}: a key of node {root}{no_key} must sign {event.type}")
        return
    at = _index(row.keys, signed)
    known, runs = row.keys[at], type(event) is events.NodeRunning
    _verify(transaction, signed, known.public, known.running if runs else known.last)
    transaction.must_sign = required
    used = known._replace(running=signed.number) if runs else known._replace(last=signed.number)
    transaction.put(NODE_KEYS, key, replace(row, keys=(*row.keys[:at], used, *row.keys[at + 1 :])))


def _use_operators_key(transaction: Transaction, policy: SigningRow, signed: Signature) -> None:
    at = _index(policy.operators, signed)
    known = policy.operators[at]
    _verify(transaction, signed, known.public, known.last)
    used = (*policy.operators[:at], known._replace(last=signed.number), *policy.operators[at + 1 :])
    transaction.put(SIGNING, PARTITION_KEY, replace(policy, operators=used))


def _verify(transaction: Transaction, signed: Signature, public: bytes, last: int = -1) -> None:
    if signed.number <= last:
        raise InvalidRecord(
            f"it was presented before: key {signed.key} has signed number {last}, and this is number {signed.number}"
        )
    message = signed_message(
        transaction.partition.log, transaction.cell, signed.key, signed.number, signed.body
    )
    if not verifies(public, signed.raw, message):
        raise InvalidRecord(
            f"the signature of key {signed.key} is not of this event, in cell {transaction.cell} of this log"
        )


def _known_signature(record: Record, keys: Sequence[SigningKey]) -> Signature | None:
    """The record's signature, if it names one of these keys."""
    signed = split_signature(record.value)
    return signed if signed is not None and _index(keys, signed) >= 0 else None


def _index(keys: Sequence[SigningKey], signed: Signature) -> int:
    return next((at for at, one in enumerate(keys) if _id(one.public) == signed.key), -1)


def _unsigned(record: Record) -> str:
    signed = split_signature(record.value)
    return "it is not signed" if signed is None else f"it is signed by key {signed.key}"


_id = lru_cache(maxsize=65_536)(key_id)


# -- what is set ----------------------------------------------------------------------------------------------------


def _is_repeated(before: SigningRow | NodeKeysRow, revision: int, event: str) -> bool:
    """Whether the event was applied before. Raises `InvalidRecord` if it does not follow what is there."""
    if revision == before.revision + 1:
        return False
    if event in before.events:
        return True
    raise _not_next(revision, before.revision)


def _not_next(revision: int, before: int) -> InvalidRecord:
    return InvalidRecord(f"revision {revision} does not follow {before}: somebody changed it meanwhile")


def _named(known: tuple[str, ...], event: str) -> tuple[str, ...]:
    return (event, *known)[:_EVENTS_KEPT]


def _changed(
    before: Sequence[SigningKey], revoked: Sequence[str], named: Iterable[str]
) -> tuple[tuple[SigningKey, ...], tuple[str, ...]]:
    """The keys, with the numbers of those that stay, and the ids of revoked ones."""
    known = {one.public: one for one in before}
    after: dict[bytes, SigningKey] = {}
    for text in named:
        public = bytes.fromhex(text)
        if problem := key_error(public):
            raise InvalidRecord(f"key {text} cannot be used: {problem}")
        if public not in known and key_id(public) in revoked:
            raise InvalidRecord(f"key {key_id(public)} was revoked: make a new one")
        after[public] = known.get(public) or SigningKey(public)
    if len({key_id(public) for public in after}) < len(after):
        raise InvalidRecord("two keys have the same id: make another one")
    gone = (key_id(public) for public in sorted(known.keys() - after.keys()))
    return tuple(after[public] for public in sorted(after)), (*gone, *revoked)[:REVOKED_KEPT]


def _matches(pattern: str, name: str) -> bool:
    """Whether a name is the pattern; `*` in it stands for any characters."""
    first, star, last = pattern.partition("*")
    if not star:
        return name == pattern
    return len(name) >= len(first) + len(last) and name.startswith(first) and name.endswith(last)
