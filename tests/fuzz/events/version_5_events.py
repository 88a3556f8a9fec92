"""Events of rules version 5 beside those of version 4: what stores say of their states, and nodes of what they run."""

from __future__ import annotations

import random
from typing import Any

from tests.fuzz.events.version_4_events import Version4Events
from tests.support.logs.events_json import Tape

STORES = ("store-a", "store-b")


class Version5Events(Version4Events):
    """(key, value) of records of a cell of partition 1, without end. Most of them are taken."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str, *, raised: bool = False) -> None:
        super().__init__(rng, tape, cell, raised=raised)
        self._lists: dict[str, int] = {}
        self._deeds = (*self._deeds, self._mark, *(self._digest,) * 2, *(self._running,) * 5)

    def _mark(self) -> tuple[str, dict[str, Any]]:
        host = {"host": "host"} if self._rng.random() < 0.8 else {}
        return "state.marked.v1", {"store": self._rng.choice(STORES), **host}

    def _digest(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        data = {
            "store": rng.choice(STORES),
            "position": rng.choice((0, 8, len(self._tape.records[1]))),
            "digest": f"{rng.getrandbits(128):032x}",
        }
        if rng.random() < 0.8:
            data |= {"host": "host", "build": "0.1.0"}
        return "state.digested.v1", data

    def _running(self) -> tuple[str, dict[str, Any]]:
        rng, root = self._rng, self._root()
        self._lists[root] = number = max(1, self._lists.get(root, 0) + rng.choice((1, 1, 1, 0, -1)))
        held = [consumer for consumer, row in self._held() if any(one.provider == root for one in row.parts)]
        runs = [consumer for consumer in held if rng.random() < 0.8]
        if rng.random() < 0.2:
            runs.append(f"unknown-{rng.randrange(9)}")
        life = rng.choice((1, 1, 1, 1, 2, 3))
        said = {"root": root, "incarnation": f"{life:016x}", "sequence": number}
        return "node.running.v1", {**said, "consumers": runs}
