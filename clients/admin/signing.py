"""What operators decide of signatures: their own keys, which nodes must sign, and the keys of nodes (rules version 7).

Who signs is set for each partition: every partition gets the same events. The log must be opened with an operator's key
(`OperatorLog`). Nothing here reads a private key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from vacancy.clients.admin.operator import SOURCE
from vacancy.clients.inspection.lookup import NotFound
from vacancy.clients.inspection.signing import NodeSigning, cells_of, partition_signing
from vacancy.clients.runtime.folded_log import FoldedLog
from vacancy.clients.scheduler.needed_rules import check_rules
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.signatures import must_sign
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.signatures import (
    SigningKeysData,
    SigningPolicyData,
    SigningScope,
    key_error,
    key_id,
)
from vacancy.resources.state.rows import NodeKeysRow, SigningRow
from vacancy.resources.state.tables import NODE_KEYS, NODES, PARTITION_KEY, SIGNING, key, split_key
from vacancy.streams.log import Log

_LOOK = "`vacancy signing show`"


class SigningPolicy(NamedTuple):
    """Who signs in a partition. `operators` are public keys, 64 hexadecimal digits each. `required`: which nodes must sign."""

    operators: tuple[str, ...] = ()
    required: tuple[SigningScope, ...] = ()


def set_policy(
    log: Log,
    reader: StoreReader,
    change: Callable[[SigningPolicy], SigningPolicy],
    *,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> tuple[int, ...]:
    """Change who signs in each partition: `change` makes the new policy from the one that there is. Returns the partitions that
    were changed. Raises `UsageError` for an invalid policy, and as `FoldedLog` does."""
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    check_rules(reader, lambda rules: SIGNING in rules.tables, "signatures need")
    entries = {}
    for partition, cell in cells_of(reader).items():
        row = reader.get(SIGNING, PARTITION_KEY, cell=cell)
        before = SigningPolicy() if row is None else SigningPolicy(*partition_signing(partition, row)[2:])
        after = change(before)
        if (set(after.operators), set(after.required)) == (set(before.operators), set(before.required)):
            continue
        if after.required and not after.operators:
            raise UsageError(
                "nodes must sign, and no operator would have a key",
                where=f"partition {partition}",
                do="require no signatures first: `vacancy signing require --none`",
            )
        try:
            data = SigningPolicyData(
                revision=1 if row is None else row.revision + 1,
                operators=tuple(sorted(set(after.operators))),
                required=tuple(sorted(set(after.required), key=lambda one: (one.cell, one.node))),
            )
        except ValidationError as error:
            raise _invalid(error, "the policy") from None
        event = events.SigningPolicySet(id=uuid4().hex, source=SOURCE, data=data)
        entries[partition] = NewRecord(cell, events.encode(event))
    if entries:
        folded.write(list(entries.values()), "the policy of signatures", _LOOK)
    return tuple(entries)


def set_node_keys(
    log: Log,
    reader: StoreReader,
    node: str,
    change: Callable[[tuple[str, ...]], Iterable[str]],
    *,
    cell: str | None = None,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> NodeSigning:
    """Change the keys of a node: `change` makes the new public keys from those that it has. `cell` is needed for a node that has not
    reported yet, unless its cell is that of `auto`. Raises `UsageError`, and as `FoldedLog` does."""
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    check_rules(reader, lambda rules: SIGNING in rules.tables, "signatures need")
    there = _node_cell(reader, node, cell)
    row = reader.get(NODE_KEYS, key(there, node), cell=there)
    before = () if row is None else tuple(one.public.hex() for one in row.keys)
    after = tuple(dict.fromkeys(change(before)))
    for one in after:
        if one not in before:
            check_public_key(one)
            _check_not_revoked(row, one, node)
    if set(after) != set(before):
        try:
            data = SigningKeysData(root=node, revision=1 if row is None else row.revision + 1, keys=after)
        except ValidationError as error:
            raise _invalid(error, f"the keys of {node}") from None
        event = events.SigningKeysSet(id=uuid4().hex, source=SOURCE, data=data)
        folded.write([NewRecord(there, events.encode(event))], f"the keys of {node}", _LOOK)
    policy = reader.get(SIGNING, PARTITION_KEY, cell=there)
    return NodeSigning(node, there, after, must_sign(policy, there, node), 0)


def parse_scopes(words: Iterable[str], *, every: bool, none: bool) -> tuple[SigningScope, ...]:
    """Which nodes must sign: `CELL:NODE` words, all of them, or none. Raises `UsageError`."""
    given = tuple(words)
    if bool(given) + every + none != 1:
        raise UsageError(
            "it is not said which nodes must sign", do="name CELL:NODE patterns, or give --all or --none"
        )
    if every:
        return (SigningScope(),)
    found = []
    for word in given:
        cell, colon, node = word.partition(":")
        try:
            found.append(SigningScope(cell=cell, node=node))
        except ValidationError:
            colon = ""
        if not (colon and cell and node):
            raise UsageError(
                f"{word!r} does not name nodes", do="write CELL:NODE, with at most one * in each: '*:rack7-*'"
            )
    return tuple(found)


def check_have_signed(reader: StoreReader, scopes: Iterable[SigningScope]) -> None:
    """Raise `VacancyError` if a live node that would have to sign has not signed anything: its events would be refused."""
    policy = SigningRow(0, (), tuple((one.cell, one.node) for one in scopes), (), -1)
    silent = []
    for _, at, node in reader.scan(NODES):
        cell, name = split_key(at)
        if node.retired or not must_sign(policy, cell, name):
            continue
        row = reader.get(NODE_KEYS, at)
        if row is None or not any(one.last for one in row.keys):
            silent.append(name)
    if silent:
        names = ", ".join(sorted(silent)[:5]) + (" and others" if len(silent) > 5 else "")
        raise VacancyError(
            f"nodes that would have to sign have not signed yet ({len(silent)}): {names}",
            where=f"store {reader.path}",
            do="register their keys and let their publishers sign, or add --despite-missing",
        )


def check_public_key(text: str) -> None:
    """Raise `UsageError` unless the text is a public key that can be used."""
    try:
        public = bytes.fromhex(text)
    except ValueError:
        public = b""
    problem = "it does not have 64 hexadecimal digits" if len(public) != 32 else key_error(public)
    if problem or text != text.lower():
        raise UsageError(
            f"{text[:80]!r} is not a public key: {problem or 'write its digits in lower case'}",
            do="`vacancy signing make-key` and `vacancy signing public-key` print it",
        )


def _check_not_revoked(row: NodeKeysRow | None, text: str, node: str) -> None:
    if row is not None and key_id(bytes.fromhex(text)) in row.revoked:
        raise UsageError(
            f"key {key_id(bytes.fromhex(text))} of {node} was revoked, and never comes back",
            do="make a new one with `vacancy signing make-key`",
        )


def _node_cell(reader: StoreReader, node: str, cell: str | None) -> str:
    if cell == "auto":
        return cell_for(node, reader.manifest.partitions)
    if cell is not None:
        return cell
    for at in chain((at for _, at, _ in reader.scan(NODES)), (at for _, at, _ in reader.scan(NODE_KEYS))):
        there, name = split_key(at)
        if name == node:
            return there
    raise NotFound(
        f"node {node!r} has not reported yet, so its cell is not known",
        where=f"store {reader.path}",
        do="name it with --cell, or --cell auto if its publisher chooses it so",
    )


def _invalid(error: ValidationError, what: str) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return UsageError(f"{what} cannot be: {path}: {first['msg']}", do="correct it")
