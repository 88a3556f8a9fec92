"""What `expect` lines of a scenario say, word by word.

expect n1 VCPU total 8 used 4 free 4        expect n1 VCPU gone
expect n1 traits A,B aggregates rack-1 disabled members n1,gpu0
expect node n1 incomplete                   expect consumer i1 holds n1 VCPU:4
expect verdict c1 gone                      expect request r1 placed
expect verdict c1 grants n1 PORTS:[80]
expect group web i1:n1,n1-gpu i2:n2;n3 (of i2 two copies)
expect contested n1 dropped 2 reports 1 at @9   expect contested n1 over
expect contested n1 until decided: TEXT     expect machine n1 A other B refused C,D waiting
expect 2 dead letters                       expect time 90s
expect proposals p1:3:1/2 (version 3, supported by 1 store, lacked by 2)
expect quota p used INSTANCE:VCPU:4 shares VCPU:8#1   expect quota p gone   expect quota p user u used …
expect ledger p VCPU limit 100 shares 0:60#2,1:40#1<30   (partition 1 is to lower its share to 30)
expect move m1 i1 from a c1 to b open       expect move m1 gone
expect answer s1 @3 lacks A,B               expect answer s1 @3 gone
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.claims.quota_ledgers import quota_limit_id
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.state.rows import UNTIL_DECIDED, AllocationPart, ClassRow, ProviderRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CELL_MOVES,
    CONTESTED,
    DEAD_LETTERS,
    FACTS,
    GROUPS,
    MACHINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROPOSAL_ANSWERS,
    PROPOSALS,
    PROVIDERS,
    QUOTA_LIMITS,
    QUOTAS,
    REQUESTS,
    VERDICTS,
    Table,
    answer_key,
    dead_letter_key,
    quota_key,
)

Get = Callable[[Table[Any], bytes], Any]


class Expectations:
    """Checks one expectation against a state, read by `get`. Raises `AssertionError`."""

    def __init__(self, get: Get, registry: Registry, cell: str, start_ms: int) -> None:
        self.get, self.registry, self.cell, self.start_ms = get, registry, cell, start_ms

    def check(self, words: list[str]) -> None:
        kinds: dict[str, Callable[[list[str]], None]] = {
            "node": self._node,
            "consumer": self._consumer,
            "verdict": self._verdict,
            "request": self._request,
            "facts": self._facts,
            "time": self._time,
            "rules": self._rules,
            "proposals": self._proposals,
            "answer": self._answer,
            "group": self._group,
            "letter": self._letter,
            "ledger": self._ledger,
            "quota": self._quota,
            "move": self._cell_move,
            "contested": self._contested,
            "machine": self._machine,
        }
        if words[1:3] == ["dead", "letters"]:
            same(self.get(PARTITION, PARTITION_KEY).dead_letters, int(words[0]))
        elif words[0] in kinds:
            kinds[words[0]](words[1:])
        elif words[1][0].isupper():
            self._class(words)
        else:
            self._provider(words)

    def _key(self, id_: str) -> bytes:
        return f"{self.cell}\0{id_}".encode()

    def _class(self, words: list[str]) -> None:
        table = self.registry.table(words[1])
        row: ClassRow | None = self.get(table, table.prefix + self._key(words[0]))
        if words[2] == "gone":
            same(row, None)
            return
        assert row is not None, "there is no such inventory"
        values = dict(zip(table.resource_class.columns, table.resource_class.row(row.record), strict=True))
        for name, said in zip(words[2::2], words[3::2], strict=True):
            if name in ("taken", "changed"):
                same(getattr(row, name), int(said.lstrip("@")))
            elif name in values:
                same(values[name], int(said))
            else:
                same(getattr(row.record, name), int(said) if said.lstrip("-").isdigit() else _ports(said))

    def _provider(self, words: list[str]) -> None:
        row: ProviderRow | None = self.get(PROVIDERS, self._key(words[0]))
        if words[1] == "gone":
            same(row, None)
            return
        assert row is not None, "there is no such provider"
        rest = iter(words[1:])
        for name in rest:
            if name in ("enabled", "disabled"):
                same("disabled" if row.disabled else "enabled", name)
            elif name in ("reported", "unreported"):
                same("reported" if row.reported else "unreported", name)
            elif name in ("changed", "root", "parent"):
                same(str(getattr(row, name)), next(rest).lstrip("@"))
            elif name == "taints":
                told = [("" if taint.repels else "~") + taint.text for taint in row.taints]
                same(",".join(told) or "none", next(rest))
            elif name == "attributes":
                told = [f"{key}:{json.dumps(value)}" for key, value in sorted(row.attributes.items())]
                same(",".join(told) or "none", next(rest))
            else:
                found = sorted(row.traits) if name == "traits" else sorted(getattr(row, name))
                said = next(rest)
                same(found, [] if said == "none" else sorted(said.split(",")))

    def _node(self, words: list[str]) -> None:
        row = self.get(NODES, self._key(words[0]))
        if words[1] == "lives":
            same(len(row.incarnations), int(words[2]))
            return
        states = {(True, False): "complete", (False, False): "incomplete"}
        same("gone" if row is None else states.get((row.complete, row.retired), "retired"), words[1])

    def _contested(self, words: list[str]) -> None:
        row = self.get(CONTESTED, self._key(words[0]))
        if words[1] == "over":
            same(row.until_ms, 0)
            return
        assert row is not None, "there was no conflict"
        assert row.until_ms > 0, "it is over"
        if words[1:3] == ["until", "decided:"]:
            same([row.until_ms, row.reason], [UNTIL_DECIDED, " ".join(words[3:])])
            return
        same([row.dropped, row.dropped_reports, f"@{row.offset}"], [int(words[2]), int(words[4]), words[6]])

    def _machine(self, words: list[str]) -> None:
        row = self.get(MACHINES, self._key(words[0]))
        if words[1] == "unknown":
            same(row, None)
            return
        assert row is not None, "its machine is not known"
        found = [row.machine or "none", *(["other", row.other] if row.other else [])]
        found += ["refused", ",".join(row.refused)] if row.refused else []
        same([*found, *(["waiting"] if row.waiting else [])], words[1:])

    def _consumer(self, words: list[str]) -> None:
        row = self.get(ALLOCATIONS, self._key(words[0]))
        if words[1:] == ["holds", "nothing"]:
            same(row, None)
            return
        assert row is not None, "it holds nothing"
        if words[1] == "generation":
            same(row.generation, int(words[2]))
        elif words[1] == "is":
            same("held" if row.hold_until_ms else "confirmed", words[2])
        else:
            same(_parts(row.parts), " ".join(words[2:]))

    def _verdict(self, words: list[str]) -> None:
        row = self.get(VERDICTS, self._key(words[0]))
        if words[1] == "grants":
            same(_parts(row.grants), " ".join(words[2:]))
            return
        same("gone" if row is None else "accepted" if row.accepted else row.reason, words[1])

    def _request(self, words: list[str]) -> None:
        row = self.get(REQUESTS, words[0].encode())
        same("gone" if row is None else row.outcome or "open", words[1])

    def _facts(self, words: list[str]) -> None:
        row = self.get(FACTS, self._key(words[0]))
        same([row.revision, row.events[0], row.status], [int(words[2]), words[4], words[5]])

    def _group(self, words: list[str]) -> None:
        row = self.get(GROUPS, self._key(words[0]))
        told = [f"{m.consumer}:{';'.join(map(','.join, m.places))}" for m in row.members] if row else ["gone"]
        same(told, words[1:])

    def _time(self, words: list[str]) -> None:
        same(f"{(self.get(PARTITION, PARTITION_KEY).time_ms - self.start_ms) / 1000:g}s", words[0])

    def _rules(self, words: list[str]) -> None:
        row = self.get(PARTITION, PARTITION_KEY)
        same([str(row.rules_version), ",".join(row.classes) or "none"], words)

    def _proposals(self, words: list[str]) -> None:
        row = self.get(PROPOSALS, PARTITION_KEY)
        found = () if row is None else row.open
        same([f"{p.id}:{p.version}:{p.supporting}/{p.lacking}" for p in found] or ["none"], words)

    def _answer(self, words: list[str]) -> None:
        """`answer s1 @3 supports`: of store s1 to the proposal at offset 3."""
        row = self.get(PROPOSAL_ANSWERS, answer_key(int(words[1][1:]), words[0]))
        if words[2] == "gone":
            same(row, None)
            return
        same((row.store, row.host), (words[0], f"host-of-{words[0]}"))
        same(["lacks", ",".join(row.missing)] if row.missing else ["supports"], words[2:])

    def _quota(self, words: list[str]) -> None:
        user = words[2] if words[1] == "user" else None
        row = self.get(QUOTAS, quota_key("" if words[0] == "default" else words[0], user))
        rest = words[3:] if user is not None else words[1:]
        if rest == ["gone"]:
            same(row, None)
            return
        assert row is not None, "it has no row"
        said = dict(zip(rest[::2], rest[1::2], strict=True))
        found = {
            "used": ",".join(f"{kind}:{unit}:{amount}" for kind, unit, amount in row.used) or "nothing",
            "shares": ",".join(
                f"{one.consumer_type + ':' if one.consumer_type else ''}{one.unit}:{one.amount}#{one.number}"
                for one in row.shares
            ),
            "below": ",".join(f"{kind}:{unit}:{amount}" for kind, unit, amount in row.below) or "nothing",
            "parent": row.parent or "none",
            "children": str(row.children),
        }
        same({name: found[name] for name in said}, said)

    def _ledger(self, words: list[str]) -> None:
        scope = QuotaScope(project=words[0], unit=words[1])
        row = self.get(QUOTA_LIMITS, quota_limit_id(scope).encode())
        shares = ",".join(
            f"{one.partition}:{one.amount}#{one.number}{f'<{one.recalled}' if one.recalled >= 0 else ''}"
            for one in row.shares
        )
        same([str(row.limit), shares or "none"], [words[3], words[5]])

    def _cell_move(self, words: list[str]) -> None:
        row = self.get(CELL_MOVES, words[0].encode())
        if words[1] == "gone":
            same(row, None)
            return
        assert row is not None, "there is no such move"
        found = [row.consumer, "from", row.source, row.claim, "to", row.destination, row.outcome or "open"]
        same(found, words[1:])

    def _letter(self, words: list[str]) -> None:
        """`letter 3 is @7`: the place in the ring, and the record that is kept there."""
        same(f"@{self.get(DEAD_LETTERS, dead_letter_key(int(words[0]))).offset}", words[2])


def _parts(parts: tuple[AllocationPart, ...]) -> str:
    """`n1 VCPU:4 n1 PORTS:[80,81]`."""
    return " ".join(
        f"{p.provider} {p.resource_class}:{json.dumps(p.grant, separators=(',', ':'))}" for p in parts
    )


def _ports(said: str) -> tuple[int, ...]:
    return () if said == "none" else tuple(int(port) for port in said.split(","))


def same(found: object, said: object) -> None:
    assert found == said, f"it is {found}, not {said}"
