"""Events of rules version 7 beside those of version 6: keys, who must sign, and signatures, most of which are right."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.fuzz.events.version_6_events import Version6Events
from tests.support.logs.events_json import LOG, Tape
from tests.support.logs.signing import OF_NODES, OF_OPERATORS, key_of, public, signed
from vacancy.resources.state.tables import NODE_KEYS, PARTITION_KEY, SIGNING, key

OPERATORS = ("alice", "bob", "carol", "dora", "erin", "frank")


class Version7Events(Version6Events):
    """(key, value) of records of a cell of partition 1, without end. Most of them are taken."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str, *, raised: bool = False) -> None:
        super().__init__(rng, tape, cell, raised=raised)
        self._used: dict[str, int] = {}
        self._sent: list[tuple[str, bytes]] = []
        self._deeds = (*self._deeds, *(self._policy,) * 3, *(self._keys,) * 6)

    def __next__(self) -> tuple[str, bytes]:
        rng = self._rng
        if self._sent and rng.random() < 0.03:
            return rng.choice(self._sent)
        cell, value = super().__next__()
        content = json.loads(value)
        kind, data = content["type"], content["data"]
        if kind in OF_NODES:
            name = f"{data['root']}-{rng.choice((0, 0, 0, 1))}"
        elif kind in OF_OPERATORS or kind.startswith("vacancy.signing.") or data.get("providers"):
            name = rng.choice(self._operators())
        else:
            return cell, value
        if rng.random() < 0.1:
            return cell, value
        value = self._sign(cell, value, name)
        self._sent = [*self._sent[-20:], (cell, value)]
        return cell, value

    def _sign(self, cell: str, value: bytes, name: str) -> bytes:
        rng = self._rng
        number = self._used.get(name, 0) + rng.choice((1, 1, 1, 1, 1, 1, 1, 7, 0))
        self._used[name] = max(number, self._used.get(name, 0))
        as_cell = "another-cell" if rng.random() < 0.03 else cell
        made = signed(value, name, number, cell=as_cell, log=LOG)
        if rng.random() < 0.03:
            made = made.replace(key_of(name).id.encode(), key_of(rng.choice(OPERATORS)).id.encode())
        return made

    def _operators(self) -> tuple[str, ...]:
        row = self._now().get(SIGNING, PARTITION_KEY)
        known = {one.public for one in row.operators} if row is not None else set()
        return tuple(name for name in OPERATORS if key_of(name).public in known) or (self._first(),)

    def _first(self) -> str:
        """The first operator whose key was not revoked: a first policy can pin it."""
        row = self._now().get(SIGNING, PARTITION_KEY)
        revoked = row.revoked if row is not None else ()
        return next((name for name in OPERATORS if key_of(name).id not in revoked), OPERATORS[0])

    def _policy(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        row = self._now().get(SIGNING, PARTITION_KEY)
        revision = 1 if row is None else row.revision + rng.choice((1, 1, 1, 1, 0))
        names = {self._first(), *(rng.sample(OPERATORS, 1) if rng.random() < 0.7 else ())}
        if rng.random() < 0.1:
            names = set()
        scopes = rng.choice(
            (
                [],
                [{"cell": self._cell, "node": "n1*"}],
                [{"cell": self._cell}],
                [{"cell": f"{self._cell}*", "node": "*"}],
            )
        )
        return "signing.policy.set.v1", {
            "revision": revision,
            "operators": sorted(public(name) for name in names),
            "required": scopes,
        }

    def _keys(self) -> tuple[str, dict[str, Any]]:
        rng, root = self._rng, self._root()
        row = self._now().get(NODE_KEYS, key(self._cell, root))
        revision = 1 if row is None else row.revision + rng.choice((1, 1, 1, 1, 0))
        names = rng.choice((("0",), ("0",), ("0", "1"), ("1",), ()))
        keys = [public(f"{root}-{name}") for name in names]
        return "signing.keys.set.v1", {"root": root, "revision": revision, "keys": keys}
