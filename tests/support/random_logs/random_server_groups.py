"""Random claims with server groups, and a simple model of the affinity rules.

The model shares no code with the fold: it computes the members of each group from the accepted claims in the log.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, claim, claims, event, provider, released, reported
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_events import Pick
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import ALLOCATIONS, GROUPS, VERDICTS, split_key
from vacancy.resources.state.transaction import Changes

NODES = ("n0", "n1", "n2", "n3")
RACKS = ("rack-a", "rack-b")
CELL = "auto-0"
RULES: Mapping[str, dict[str, Any]] = {
    "near": {"policy": "affinity"},
    "apart": {"policy": "anti-affinity"},
    "pairs": {"policy": "anti-affinity", "max_per_node": 2},
    "cage": {"policy": "affinity", "scope": "rack-"},
    "racks": {"policy": "anti-affinity", "scope": "rack-", "max_per_node": 2},
    "soft": {"policy": "anti-affinity", "hard": False},
}


SPREADS: Mapping[str, dict[str, Any]] = {
    "even": {"policy": "spread", "scope": "rack-"},
    "loosely": {"policy": "spread", "scope": "rack-", "max_skew": 2},
}
"""Rules that only the newest rules of a log have."""


class RandomServerGroupEvents:
    """Random events in one cell of four nodes. With `upheaval`, nodes change racks or are disabled, and providers change
    nodes. With `newest`, the log follows the newest rules, and most groups are spread."""

    def __init__(self, pick: Pick, *, upheaval: bool, newest: bool = False) -> None:
        self.pick, self.newest = pick, newest
        self.tape = Tape(version=RULES_VERSIONS.newest.version) if newest else Tape()
        self.rules = {**RULES, **SPREADS} if newest else RULES
        self.names = (*RULES, *(name for name in SPREADS for _ in RULES)) if newest else tuple(RULES)
        self.sequence = Counter[str]()
        self.revisions = Counter[str]()
        self.issued: list[dict[str, Any]] = []
        self.homes = {f"part-{n}": n for n in NODES[:2]}
        for node in NODES:
            self.say(self.report(node))
        for number, node in enumerate(NODES[:3]):
            self.say(self.rack(node, RACKS[number // 2]))
        deeds: list[Callable[[], bytes | None]] = [
            *(self.claim,) * 6,
            *(self.replace,) * 2,
            self.release,
            self.tick,
        ]
        self.deeds = (*deeds, *((self.change_rack, self.change_home) if upheaval else ()))
        if upheaval and newest:
            self.deeds = (*self.deeds, self.disable, self.change_rack)

    def say(self, value: bytes | None) -> None:
        if value is not None:
            self.tape.append(CELL, value)

    def step(self) -> None:
        self.say(self.pick(self.deeds)())
        self.tape.now_ms += self.pick((0, 0, 1_000, 20_000))

    # -- nodes ----------------------------------------------------------------------------------------------

    def report(self, node: str) -> bytes:
        self.sequence[node] += 1
        parts = [provider(part, node, VCPU=8) for part, home in self.homes.items() if home == node]
        return reported(node, [provider(node, VCPU=8), *parts], sequence=self.sequence[node])

    def rack(self, node: str, *racks: str, status: str = "enabled") -> bytes:
        self.revisions[node] += 1
        facts = {"aggregates": [*racks, "other"], "status": status}
        return event(
            "facts.set.v1",
            {"provider": node, "revision": self.revisions[node], "facts": facts},
            f"{node}-{self.revisions[node]}",
        )

    def change_rack(self) -> bytes:
        return self.rack(self.pick(NODES), *self.pick(((), RACKS[:1], RACKS[1:], RACKS)))

    def disable(self) -> bytes:
        return self.rack(self.pick(NODES), *self.pick((RACKS[:1], RACKS[1:])), status="disabled")

    def change_home(self) -> bytes | None:
        """A provider is removed from its node and then reported by another one."""
        part, node = self.pick(tuple(self.homes)), self.pick(NODES)
        before, self.homes[part] = self.homes[part], node
        if before == node:
            return None
        self.say(self.report(before))
        return self.report(node)

    # -- schedulers -----------------------------------------------------------------------------------------

    def bid(self, consumer: str, **more: Any) -> dict[str, Any]:
        number = len(self.issued)
        copies = self.pick((1, 1, 1, 2, 3))
        places = (*NODES, *self.homes)
        allocations = [
            {"provider": self.pick(places), "resources": {"VCPU": 1}, "group": f"{part}#{copy}"}
            for copy in range(copies)
            for part in range(self.pick((1, 1, 2)))
        ]
        names = {self.pick(self.names) for _ in range(self.pick((0, 1, 1, 2)))}
        memberships = [{"group": f"{CELL}/{name}", **self.rules[name]} for name in sorted(names)]
        oddly = self.pick((False, False, False, False, True))
        if memberships and oddly:
            odd: tuple[dict[str, Any], ...] = (
                {"group": "elsewhere/near", "policy": "affinity"},
                *({"group": f"{CELL}/mixed", **rule} for rule in self.rules.values()),
                memberships[-1],
            )
            memberships[0] = self.pick(odd)
        self.issued.append(
            claim(
                f"c{number}",
                consumer,
                "",
                {},
                self.tape.now_ms + self.pick((0, 60_000, 300_000)),
                allocations=allocations,
                memberships=memberships,
                hold_until_ms=self.tape.now_ms + 30_000 if self.pick((False, False, True)) else None,
                **more,
            )
        )
        return self.issued[-1]

    def claim(self) -> bytes:
        bids = [self.bid(self.pick((f"i{len(self.issued)}", "i0", "i1"))) for _ in range(self.pick((1, 2)))]
        return event("claims.requested.v2", {"claims": bids}) if self.newest else claims(*bids)

    def replace(self) -> bytes | None:
        if not self.issued:
            return None
        before = self.pick(self.issued)
        bid = self.bid(before["consumer"], consumer_generation=self.pick((1, 2)))
        if not self.newest:
            return event("consumer.replaced.v1", bid)
        named = {one["group"] for one in bid["memberships"]}
        leaves = sorted({f"{CELL}/{name}" for name in (*self.rules, "mixed")} - named)
        return event("consumer.replaced.v3", {**bid, "replaces": before["id"], "leaves": leaves})

    def release(self) -> bytes | None:
        if not self.issued:
            return None
        one = self.pick(self.issued)
        return released(one["consumer"], one["id"], self.pick((None, one["deadline_ms"])))

    def tick(self) -> bytes:
        return event("tick.v1", {})


# -- the model --------------------------------------------------------------------------------------------------

Copy = frozenset[str]


class Model:
    """Folds a log and computes the members of each group from the accepted claims."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.claims: dict[str, tuple[int, dict[str, Any]]] = {}
        self.verdicts: list[dict[str, Any]] = []
        self.kinds = Counter[str]()

    def fold(self, record: Record) -> None:
        changes = fold(self.state, record, REGISTRY)
        self.state.commit(changes)
        data = json.loads(record.value)["data"]
        for one in data.get("claims", [data]):
            if "allocations" in one and self._judged(one, record, changes):
                self.claims[one["consumer"]] = (record.offset, one)

    def _judged(self, one: Mapping[str, Any], record: Record, changes: Changes) -> bool:
        row = changes.get(VERDICTS, {}).get(f"{CELL}\0{one['id']}".encode())
        if row is None or row.offset != record.offset:
            return False
        self.kinds[row.reason or "accepted"] += 1
        self.verdicts.append(
            {
                "claim": one["id"],
                "cell": CELL,
                "partition": 0,
                "offset": record.offset,
                "accepted": row.accepted,
                "reason": row.reason,
            }
        )
        return bool(row.accepted)

    def members(self) -> dict[str, list[tuple[str, int, list[Copy]]]]:
        """Group name -> (consumer, offset, providers of each copy) of the current allocations."""
        found: dict[str, list[tuple[str, int, list[Copy]]]] = {}
        for row_key, row in self.rows(ALLOCATIONS):
            consumer = split_key(row_key)[1]
            offset, one = self.claims[consumer]
            assert (row.claim, row.offset) == (one["id"], offset)
            copies: dict[str, set[str]] = {}
            for allocation in one["allocations"]:
                copies.setdefault(allocation["group"].split("#")[1], set()).add(allocation["provider"])
            for membership in one["memberships"]:
                name = membership["group"].split("/")[1]
                found.setdefault(name, []).append((consumer, offset, [frozenset(c) for c in copies.values()]))
        return {name: sorted(them, key=lambda m: m[0]) for name, them in found.items()}

    def table(self) -> dict[str, list[tuple[str, int, list[Copy]]]]:
        """The same, from the table of server groups."""
        return {
            split_key(row_key)[1]: sorted(
                ((m.consumer, m.offset, [frozenset(p) for p in m.places]) for m in row.members),
                key=lambda m: m[0],
            )
            for row_key, row in self.rows(GROUPS)
        }

    def rows(self, table: Any) -> Iterator[tuple[bytes, Any]]:
        for family, row_key, data in self.state.items():
            if family == table.family:
                yield row_key, table.decode(data)


def broken_rules(
    members: Mapping[str, Sequence[tuple[str, int, list[Copy]]]], homes: Mapping[str, str]
) -> list[str]:
    """Violations of hard rules, for logs without `upheaval`."""
    racks = {"n0": "rack-a", "n1": "rack-a", "n2": "rack-b"}
    wrong = []
    for name, them in members.items():
        if name not in RULES:
            continue
        rule = RULES[name]
        copies = [copy for _, _, some in them for copy in some]
        nodes = [{homes.get(id_, id_) for id_ in copy} for copy in copies]
        if "scope" in rule:
            nodes = [{racks.get(node, node) for node in some} for some in nodes]
        if rule["policy"] == "affinity" and len(set().union(*nodes)) > 1:
            wrong.append(f"{name}: {nodes} are not together")
        counts = Counter(node for some in nodes for node in some)
        most = (
            rule.get("max_per_node", 1)
            if rule["policy"] == "anti-affinity" and rule.get("hard", True)
            else 10**6
        )
        wrong += [f"{name}: {count} on {node}" for node, count in counts.items() if count > most]
    return wrong
