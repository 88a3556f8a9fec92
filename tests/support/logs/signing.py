"""Keys with names, and events signed with them."""

from __future__ import annotations

import json
import random
from functools import cache
from hashlib import sha256
from typing import Any

from tests.support.logs.events_json import LOG, Tape, event
from vacancy.clients.signing.key_pair import KeyPair
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.model.signatures import sign_with


@cache
def key_of(name: str) -> KeyPair:
    """The key with this name: always the same."""
    return KeyPair.from_seed(sha256(name.encode()).digest())


def public(name: str) -> str:
    return key_of(name).public.hex()


def signed(value: bytes, name: str, number: int, *, cell: str, log: str = LOG) -> bytes:
    key = key_of(name)
    return sign_with(key.sign, key.public, value, log=log, cell=cell, number=number)


def policy(revision: int, operators: tuple[str, ...], *required: str, id_: str = "e") -> bytes:
    """The operators are names of keys; what is required is `CELL:NODE`."""
    scopes = [dict(zip(("cell", "node"), one.split(":"), strict=True)) for one in required]
    data: dict[str, Any] = {"revision": revision, "operators": [public(name) for name in operators]}
    return event("signing.policy.set.v1", {**data, "required": scopes}, id_)


def node_keys(root: str, revision: int, *names: str, id_: str = "e") -> bytes:
    data = {"root": root, "revision": revision, "keys": [public(name) for name in names]}
    return event("signing.keys.set.v1", data, id_)


OF_NODES = {
    *("vacancy.node.reported.v1", "vacancy.node.reported.v2", "vacancy.node.changed.v1"),
    *("vacancy.node.heartbeat.v1", "vacancy.node.retired.v1", "vacancy.node.running.v1"),
}
OF_OPERATORS = {
    *("vacancy.facts.set.v1", "vacancy.facts.set.v2", "vacancy.node.adopted.v1", "vacancy.node.renamed.v1"),
    *("vacancy.node.retired.v2",),
}


class SignedTape(Tape):
    """A log in which all nodes and operators sign, and a thief who may write to the log forges events of nodes. `forged` are the
    places of what the thief wrote."""

    def __init__(self, partitions: int, *, version: int, seed: int) -> None:
        self._rng = random.Random(f"thief {seed}")
        self._pinned: set[int] = set()
        self._registered: set[tuple[str, str]] = set()
        self._number = 0
        self.forged: set[tuple[int, int]] = set()
        super().__init__(partitions, version=version)

    def append(self, cell: str, value: bytes) -> Record:
        """Append one record, signed by who writes such events, and sometimes a forgery before it."""
        content = json.loads(value) if value.startswith(b'{"specversion": "1.0", "type": "vacancy.') else {}
        kind, data = content.get("type"), content.get("data", {})
        signs = kind in OF_OPERATORS or kind in OF_NODES
        if not signs:
            return super().append(cell, value)
        name = f"{cell} {data['root']}" if kind in OF_NODES else "operator"
        self._prepare(cell, data.get("root") if kind in OF_NODES else None)
        if self._rng.random() < 0.15:
            self._forge(cell, value, name)
        return super().append(cell, self._sign(cell, value, name))

    def _sign(self, cell: str, value: bytes, name: str) -> bytes:
        self._number += 1
        return signed(value, name, self._number, cell=cell)

    def _prepare(self, cell: str, root: str | None) -> None:
        partition = partition_for(cell, len(self.records))
        if partition not in self._pinned:
            self._pinned.add(partition)
            super().append(cell, self._sign(cell, policy(1, ("operator",), "*:*"), "operator"))
        if root is not None and (cell, root) not in self._registered:
            self._registered.add((cell, root))
            super().append(cell, self._sign(cell, node_keys(root, 1, f"{cell} {root}"), "operator"))

    def _forge(self, cell: str, value: bytes, name: str) -> None:
        """The thief has the login of a node, its key, and everything that was ever written."""
        partition = partition_for(cell, len(self.records))
        recorded = [one for one in self.records[partition] if b'"signature":"' in one.value]
        other = next(one for one in self.tape_cells(partition) if one != cell) if recorded else cell
        forgeries = [
            (cell, value),
            (cell, self._sign(cell, value, "thief")),
            (
                cell,
                self._sign(cell, value, "thief").replace(
                    key_of("thief").id.encode(), key_of(name).id.encode()
                ),
            ),
            (cell, self._sign(other, value, name)),
        ]
        if recorded:
            old = self._rng.choice(recorded)
            forgeries += [(old.key.decode(), old.value)] * 3
        key, forged = self._rng.choice(forgeries)
        there = super().append(key, forged)
        self.forged.add((there.partition, there.offset))

    def tape_cells(self, partition: int) -> tuple[str, str]:
        """Two names of cells of a partition."""
        names = (f"c{n}" for n in range(1000) if partition_for(f"c{n}", len(self.records)) == partition)
        return next(names), next(names)
