"""Scenarios: text tables of events and of what must be true after them, folded in memory and in RocksDB at once.

The examples in `scenarios/*.txt` show the language. A line that starts with `@3` is the record at offset 3;
lines that start with `|` belong to it; after `->` comes how it was judged. `expect` lines say what is there then.
`time 90s` sets the clock of the log to 90 s after its start, `cell b1` says whose records come next. What is not said is usual: the next event of a
node's life, a deadline a minute ahead, no dead letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.resources.fold.expectations import Expectations
from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import LOG, START_MS, event, opened
from tests.support.logs.signing import key_of, node_keys, policy, signed
from tests.support.models.memory_state import MemoryState
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.claims.quota_ledgers import PARENTS_ID, quota_limit_id
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import (
    DEAD_LETTERS,
    PARTITION,
    PARTITION_KEY,
    VERDICTS,
    Table,
    dead_letter_key,
)

Row = TypeVar("Row")

_SHORT = {
    "reserved": "reserved",
    "min": "min_unit",
    "max": "max_unit",
    "step": "step_size",
    "ratio": "allocation_ratio_milli",
}

_POLICIES = {"near": "affinity", "apart": "anti-affinity", "even": "spread"}


class Broken(AssertionError):
    """A line of a scenario does not hold."""


class Replicas:
    """One partition, twice: in memory and in a store. What they say must be the same."""

    def __init__(self, directory: Path, partition: int, partitions: int, plugins: bool) -> None:
        self.registry = Registry([Ports()] if plugins else [])
        self.partition = partition
        self.memory = MemoryState()
        self.store = Store(
            directory, log=LOG, partitions=partitions, registry=self.registry, first_rules=RULES_VERSION
        )

    def fold(self, record: Record) -> None:
        """Raises what the fold raises; then both are as they were."""
        halted: Halt | None = None
        try:
            self.memory.commit(fold(self.memory, record, self.registry))
        except Halt as halt:
            halted = halt
        try:
            self.store.apply(self.partition, [record])
        except Halt as halt:
            if str(halt) != str(halted):
                raise Broken(f"the store halts ({halt}), memory does not ({halted})") from halt
        if halted is not None:
            raise halted

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        found, stored = self.memory.get(table, key), self.store.partition(self.partition).get(table, key)
        if found != stored:
            raise Broken(f"memory has {found}, the store {stored}")
        return found

    def digest(self) -> str:
        found = partition_digest(as_scan(self.memory.items), self.registry)
        stored = partition_digest(self.store.partition(self.partition).scan, self.registry)
        if found != stored:
            raise Broken(f"memory's digest is {found}, the store's {stored}")
        return found

    def rows(self) -> list[tuple[str, bytes, bytes]]:
        """All rows but what the partition says of itself."""
        return [item for item in self.memory.items() if item[0] != PARTITION.name]


class Scenario:
    """Reads a scenario line by line, folds its records, and checks what it expects."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path, self.directory = path, directory
        self.now_ms, self.offset = START_MS, 0
        self.lives: dict[tuple[str, str], list[int]] = {}
        self.records: dict[int, Record] = {}
        self.numbers: dict[str, int] = {}
        self.partition, self.partitions, self.plugins, self.rules = 0, 1, True, 1
        self.classes: tuple[str, ...] = ("PORTS",)
        self.replicas: Replicas
        self.expectations: Expectations

    def run(self) -> int:
        """Raises `Broken` where a line does not hold. Returns the number of lines that say something."""
        count = 0
        for number, lines in self._statements():
            try:
                self._statement(lines)
            except Exception as error:
                told = "\n  ".join(lines)
                raise Broken(f"{self.path.name}:{number}: {error!r}\n  {told}") from error
            count += len(lines)
        self.replicas.digest()
        self.replicas.store.close()
        return count

    def _statements(self) -> Iterator[tuple[int, list[str]]]:
        statement: list[str] = []
        first = 0
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            text = re.sub(r"(^|[\s=,])([A-Za-z_]+)\{(\d+)\.\.(\d+)\}(\S*)", _series, line.strip())
            if not text or text.startswith("#"):
                continue
            if text.startswith("|"):
                statement.append(text[1:].strip())
                continue
            if statement:
                yield first, statement
            statement, first = [text], number
        yield first, statement

    def _statement(self, lines: list[str]) -> None:
        verb, _, rest = lines[0].partition(" ")
        if verb == "log":
            self._settings(rest)
            return
        if not self.records:
            self._open()
        if verb == "time":
            self.now_ms = START_MS + _ms(rest)
        elif verb == "cell":
            self.cell = self.expectations.cell = rest
        elif verb == "lost":
            self.lives[self.cell, rest][1] += 1
        elif verb == "expect":
            self.replicas.digest()
            self.expectations.check(rest.split())
        elif verb.startswith("@"):
            self._record(verb[1:], [rest, *lines[1:]])
        else:
            raise Broken(f"{verb} is no statement")

    def _settings(self, rest: str) -> None:
        options = dict(word.split("=") for word in rest.split())
        self.partition = int(options.get("partition", 0))
        self.partitions = int(options.get("partitions", 1))
        self.classes = tuple(filter(None, options.get("classes", "PORTS").split(",")))
        self.plugins = options.get("plugins", "yes") == "yes"
        self.rules = int(options.get("rules", 1))

    def _open(self) -> None:
        self.replicas = Replicas(self.directory, self.partition, self.partitions, self.plugins)
        self.cell = covering_cells(self.partitions)[self.partition]
        self.expectations = Expectations(self.replicas.get, self.replicas.registry, self.cell, START_MS)
        self._fold({}, opened(self.partition, self.partitions, self.classes, self.rules))

    # -- records ------------------------------------------------------------------------------------------

    def _record(self, numbers: str, lines: list[str]) -> None:
        first, _, last = numbers.partition("..")
        if int(first) != self.offset:
            raise Broken(f"the next record is @{self.offset}")
        parts = [line.partition("->") for line in lines]
        told = [said.strip() for said, _, _ in parts]
        outcomes = [outcome.strip() for _, _, outcome in parts]
        verb, _, rest = told[0].partition(" ")
        for _ in range(int(first), int(last or first) + 1):
            options = _options(rest.split()) if verb != "raw" else {}
            value = (
                rest.encode() if verb == "raw" else getattr(self, f"_{verb}")(rest.split(), options, told[1:])
            )
            value = self._signed(value, options)
            self._judged(verb, options, value, told, outcomes)

    def _signed(self, value: bytes, options: dict[str, str]) -> bytes:
        """`signed=alice`: by the key of that name, with its next number; `number=3` is another one, `as=alice` names her key as
        the signer, `in=b1` and `of=other-log` are the cell and the log that it is signed for."""
        name = options.get("signed")
        if name is None:
            return value
        number = int(options.get("number", self.numbers.get(name, 0) + 1))
        self.numbers[name] = max(number, self.numbers.get(name, 0))
        cell = options.get("in", options.get("cell", self.cell))
        made = signed(value, name, number, cell=cell, log=options.get("of", LOG))
        return made.replace(key_of(name).id.encode(), key_of(options.get("as", name)).id.encode())

    def _judged(
        self, verb: str, options: dict[str, str], value: bytes, told: list[str], outcomes: list[str]
    ) -> None:
        before, letters = self.replicas.rows(), self._dead_letters()
        outcome = outcomes[0]
        if outcome.startswith("halt"):
            try:
                self._fold(options, value)
            except Halt as halt:
                if outcome[5:] not in str(halt):
                    raise Broken(f"it halts, but says: {halt}") from None
                if self.replicas.rows() != before:
                    raise Broken("it halts, and yet something changed") from None
                return
            raise Broken("it does not halt")
        self._fold(options, value)
        found = self.replicas.get(DEAD_LETTERS, dead_letter_key(self._dead_letters() - 1))
        if outcome.startswith("dead letter"):
            if self._dead_letters() != letters + 1 or found is None:
                raise Broken("it is no dead letter")
            if outcome[12:] not in found.reason:
                raise Broken(f"it is a dead letter, but says: {found.reason}")
        elif self._dead_letters() != letters:
            raise Broken(f"it is a dead letter: {found and found.reason}")
        elif outcome == "nothing":
            if self.replicas.rows() != before:
                raise Broken("it changes something")
        else:
            for said, judged in zip(told, outcomes, strict=True):
                if judged:
                    self._check_verdict(said.split()[0 if verb in ("claims", "gang") else 1], judged)

    def _dead_letters(self) -> int:
        row = self.replicas.get(PARTITION, PARTITION_KEY)
        return 0 if row is None else row.dead_letters

    def _check_verdict(self, claim: str, outcome: str) -> None:
        row = self.replicas.get(VERDICTS, f"{self.cell}\0{claim}".encode())
        said = "no verdict" if row is None or row.offset != self.offset - 1 else _render_verdict(row)
        if said != outcome:
            raise Broken(f"verdict: {said}")

    def _fold(self, options: dict[str, str], value: bytes) -> None:
        key = options.get("cell", self.cell).encode()
        record = Record(self.partition, self.offset, self.now_ms, key, value)
        self.replicas.fold(record)
        self.records[self.offset] = record
        self.offset += 1

    # -- the events, by their verbs -----------------------------------------------------------------------

    def _said(self, root: str, options: dict[str, str], *, opens: bool = False) -> dict[str, Any]:
        life = self.lives.setdefault((self.cell, root), [1, 0])
        number = int(options.get("life", life[0]))
        if opens and number > life[0]:
            life[:] = [number, 0]
        sequence = int(options.get("sequence", life[1] + 1))
        if number == life[0]:
            life[1] = max(life[1], sequence)
        return {"root": root, "incarnation": f"{number:016x}", "sequence": sequence}

    def _node(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`node n1 machine=A VCPU=8`: with a machine it is an event of version 2. Incarnations are those of the machine."""
        data = self._said(words[0], options, opens=True)
        providers = [_provider(words), *(_provider(line.split()) for line in more)]
        if "confirms" in options:
            data["consumers"] = options["confirms"].split(",")
        if "machine" in options:
            return event("node.reported.v2", {**data, "providers": providers, "machine": options["machine"]})
        return event("node.reported.v1", {**data, "providers": providers})

    def _change(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        data = self._said(words[0], options)
        removed = [name for name in options.get("removed", "").split(",") if name]
        providers = [_provider(line.split()) for line in more]
        return event("node.changed.v1", {**data, "providers": providers, "removed": removed})

    def _heartbeat(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("node.heartbeat.v1", self._said(words[0], options))

    def _retire(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("node.retired.v1", self._said(words[0], options))

    def _retired(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`retired n1 life=2`: by an operator, who names the incarnation and no sequence."""
        life = int(options.get("life", self.lives.get((self.cell, words[0]), [1])[0]))
        return event("node.retired.v2", {"root": words[0], "incarnation": f"{life:016x}"})

    def _adopt(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("node.adopted.v1", {"root": words[0], "machine": words[1]})

    def _rename(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`rename n1 n2 consumers=i1,i2`, and a line with the old and the new name of each other provider."""
        names = {words[0]: words[1], **dict(line.split() for line in more)}
        consumers = [name for name in options.get("consumers", "").split(",") if name]
        data = {"root": words[0], "to": words[1], "providers": names, "consumers": consumers}
        return event("node.renamed.v1", data)

    def _facts(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        overrides = dict(_inventory(line.split()[1]) for line in more if line.startswith("override"))
        facts: dict[str, Any] = {"overrides": overrides, "status": options.get("status", "enabled")}
        facts["attributes"] = _attributes(options.get("attributes", ""))
        for name in ("aggregates", "traits"):
            facts[name] = [one for one in options.get(name, "").split(",") if one]
        form = 1
        if "taints" in options:
            facts["taints"], form = [_taint(one) for one in options["taints"].split(",") if one], 2
        data = {"provider": words[0], "revision": int(options["revision"]), "facts": facts}
        return event(f"facts.set.v{form}", data, f"{options.get('by', 'operator')}-{options['revision']}")

    def _claim(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return self._claims([], options, [" ".join(words)])

    def _claims(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """Where one of them tolerates a taint or is in a group that is spread, it is version 2."""
        bids = [self._bid(line.split()) for line in more]
        form = 2 if any(map(_is_newest, bids)) else 1
        return event(f"claims.requested.v{form}", {"claims": bids})

    def _gang(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """As `claims`, of which all are accepted or none."""
        return event("gang.requested.v1", {"claims": [self._bid(line.split()) for line in more]})

    def _replace(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`replace c2 for i1 replaces=c1 n1 VCPU:4`: with `replaces` it is version 2, with `leaves=web`, `tolerates=…` or
        `even …` version 3."""
        bid = self._bid(words)
        form = 3 if "leaves" in bid or _is_newest(bid) else 2 if "replaces" in bid else 1
        return event(f"consumer.replaced.v{form}", bid)

    def _update(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`update i1 c1 project=p user=u type=T`."""
        changed = {"consumer_type" if name == "type" else name: value for name, value in options.items()}
        return event("consumer.updated.v1", {"consumer": words[0], "claim": words[1], **changed})

    def _bid(self, words: list[str]) -> dict[str, Any]:
        """`c1 for i1 n1 VCPU:4 + n2 VCPU:2 as a#1 deadline=60s hold=30s generation=1 tolerates=dedicated:gpu,spot
        if n1 trait X unless n1 …
        near GROUP apart GROUP:2:rack- even GROUP:1:zone- softly-near …`; a group without a cell is of the cell whose records come."""
        if words[1] != "for":
            raise Broken("a claim reads: claim ID for CONSUMER PROVIDER CLASS:AMOUNT …")
        bid: dict[str, Any] = {"id": words[0], "consumer": words[2], "deadline_ms": self.now_ms + 60_000}
        allocations: list[dict[str, Any]] = []
        predicates: list[dict[str, Any]] = []
        memberships: list[dict[str, Any]] = []
        for name, value in _options(words[3:]).items():
            if name == "generation":
                bid["consumer_generation"] = int(value)
            elif name == "leaves":
                bid["leaves"] = [f"{self.cell}/{group}" for group in value.split(",")]
            elif name == "tolerates":
                bid["tolerations"] = [_toleration(one) for one in value.split(",") if one]
            elif name in ("project", "user", "type", "replaces"):
                bid["consumer_type" if name == "type" else name] = value
            else:
                bid[{"deadline": "deadline_ms", "hold": "hold_until_ms"}[name]] = START_MS + _ms(value)
        rest = iter(["+", *(word for word in words[3:] if not re.match("[a-z]+=", word))])
        for word in rest:
            if word == "+":
                allocations.append({"provider": next(rest), "resources": {}, "group": str(len(allocations))})
            elif word in ("if", "unless"):
                about = {"provider": next(rest), "kind": next(rest), "negate": word == "unless"}
                value = next(rest)
                if about["kind"] == "attribute":
                    predicates.append(
                        {"provider": about["provider"], "kind": "attribute", **_compared(value)}
                    )
                    continue
                predicates.append({**about, "value": int(value[1:]) if value.startswith("@") else value})
            elif word == "as":
                allocations[-1]["group"] = next(rest)
            elif word.removeprefix("softly-") in _POLICIES:
                memberships.append(self._membership(word, next(rest)))
            else:
                name, _, amount = word.partition(":")
                allocations[-1]["resources"][name] = json.loads(amount)
        if memberships:
            bid["memberships"] = memberships
        return {**bid, "allocations": allocations, "predicates": predicates}

    def _membership(self, word: str, said: str) -> dict[str, Any]:
        """`apart web:2:rack-`."""
        name, most, scope = [*said.split(":"), "", ""][:3]
        policy = _POLICIES[word.removeprefix("softly-")]
        return {
            "group": name if "/" in name else f"{self.cell}/{name}",
            "policy": policy,
            "hard": not word.startswith("softly-"),
            "max_skew" if policy == "spread" else "max_per_node": int(most or 1),
            "scope": scope or None,
        }

    def _release(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        deadline = START_MS + _ms(options["deadline"]) if "deadline" in options else None
        one = {"consumer": words[0], "claim": words[1], "deadline_ms": deadline}
        return event("consumers.released.v1", {"releases": [one]})

    def _confirm(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("consumer.confirmed.v1", {"consumer": words[0], "claim": words[1]})

    def _request(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`request r1 VCPU:4 or VCPU:2`: with alternatives it is version 2."""
        asks = [one.partition(":") for one in words[1::2]]
        specs: list[dict[str, Any]] = [
            {"groups": [{"resources": {name: int(amount)}}]} for name, _, amount in asks
        ]
        spec, *others = specs
        if others:
            spec["alternatives"] = others
            return event(
                "requests.received.v2", {"specs": [spec], "requests": [{"id": words[0], "spec_at": 0}]}
            )
        return event("requests.received.v1", {"requests": [{"id": words[0], "spec": spec}]})

    def _close(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        one = {"id": words[0], "outcome": words[1], "claim": options.get("claim")}
        return event("requests.closed.v1", {"requests": [one]})

    def _tick(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("tick.v1", {})

    def _open_again(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        value = opened(self.partition, self.partitions, self.classes, self.rules)
        return value.replace(LOG.encode(), options.get("log", LOG).encode())

    def _rules(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("rules.activated.v1", _rules_of(options))

    def _propose(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("rules.proposed.v1", _rules_of(options), words[0])

    def _answer(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`answer s1 p1`, `answer s1 p1 missing=A,B`: of store s1 to proposal p1."""
        missing = [one for one in options.get("missing", "").split(",") if one]
        data = {"store": words[0], "proposal": words[1], "host": f"host-of-{words[0]}", "missing": missing}
        return event("rules.supported.v1", data)

    def _withdraw(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("rules.withdrawn.v1", {"proposal": words[0]})

    def _policy(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`policy 1 alice,bob *:rack-*`: the operators with these keys, and which nodes must sign; `none` for no operator."""
        operators = tuple(one for one in words[1].split(",") if one != "none")
        required = (word for word in words[2:] if "=" not in word)
        return policy(int(words[0]), operators, *required, id_=options.get("id", "e"))

    def _keys(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`keys n1 1 n1-key,n1-new`; `none` for no key."""
        names = (one for one in words[2].split(",") if one != "none")
        return node_keys(words[0], int(words[1]), *names, id_=options.get("id", "e"))

    def _runs(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`runs n1 i1,i2 life=1 sequence=1`: what the node runs."""
        data: dict[str, Any] = {"root": words[0], "incarnation": f"{int(options.get('life', 1)):016x}"}
        data |= {"sequence": int(options["sequence"]), "consumers": words[1].split(",")}
        return event("node.running.v1", data)

    def _quota_limit(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`quota_limit p VCPU 100 revision=1 by=operator`; `default` for the project '', `user=u`, `user=default`."""
        scope = self._quota_scope(words, options)
        options["cell"] = quota_limit_id(QuotaScope.model_validate(scope))
        revision = int(options.get("revision", 1))
        data = {**scope, "limit": int(words[2]), "revision": revision}
        return event("quota.limit.set.v1", data, f"{options.get('by', 'operator')}-{revision}")

    def _quota_plan(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`quota_plan p VCPU 100 number=1 partition=0`: the ledger gives a share, or recalls some of it."""
        scope = self._quota_scope(words, options)
        options["cell"] = quota_limit_id(QuotaScope.model_validate(scope))
        return event("quota.share.planned.v1", self._quota_change(scope, words, options))

    def _quota_settle(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        scope = self._quota_scope(words, options)
        options["cell"] = quota_limit_id(QuotaScope.model_validate(scope))
        return event("quota.share.settled.v1", self._quota_change(scope, words, options))

    def _quota_share(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`quota_share p VCPU 100 number=1`: the partition takes or lowers its share."""
        data = self._quota_change(self._quota_scope(words, options), words, options)
        return event("quota.share.set.v1", {k: v for k, v in data.items() if k != "partition"})

    def _quota_plan_parent(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`quota_plan_parent p domain revision=1 by=operator`: decides on the parent, `none` for none."""
        options.setdefault("cell", PARENTS_ID)
        data = self._parent_of(words, options)
        return event(
            "quota.parent.planned.v1", data, f"{options.get('by', 'operator')}-{words[0]}-{data['revision']}"
        )

    def _quota_parent(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return event("quota.parent.set.v1", self._parent_of(words, options))

    def _parent_of(self, words: list[str], options: dict[str, str]) -> dict[str, Any]:
        parent = "" if words[1] == "none" else words[1]
        return {"project": words[0], "parent": parent, "revision": int(options.get("revision", 1))}

    def _quota_scope(self, words: list[str], options: dict[str, str]) -> dict[str, Any]:
        scope = {"project": "" if words[0] == "default" else words[0], "unit": words[1]}
        if "user" in options:
            scope["user"] = "" if options["user"] == "default" else options["user"]
        return {**scope, "consumer_type": options.get("type", "")}

    def _quota_change(
        self, scope: dict[str, Any], words: list[str], options: dict[str, str]
    ) -> dict[str, Any]:
        number, partition = int(options.get("number", 1)), int(options.get("partition", 0))
        return {**scope, "partition": partition, "number": number, "amount": int(words[2])}

    def _begin(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`begin m1 i1 a c1 b until=60s`: the move m1 of i1 from cell a, where it holds by c1, to cell b."""
        options.setdefault("cell", words[0])
        until_ms = START_MS + _ms(options.get("until", "60s"))
        data: dict[str, Any] = {
            "move": words[0],
            "consumer": words[1],
            "source": {"cell": words[2], "claim": words[3]},
        }
        data |= {"destination": words[4], "deadline_ms": until_ms, "hold_until_ms": until_ms}
        return event("cell.move.begun.v1", data)

    def _give_up(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`give_up m1 i1 until=60s`: withdraws the claim of the move in this cell."""
        data = {"move": words[0], "consumer": words[1]}
        deadline_ms = START_MS + _ms(options.get("until", "60s"))
        return event("cell.move.withdrawn.v1", {**data, "deadline_ms": deadline_ms})

    def _end(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        """`end m1 finished`."""
        options.setdefault("cell", words[0])
        return event("cell.move.ended.v1", {"move": words[0], "outcome": words[1]})

    def _again(self, words: list[str], options: dict[str, str], more: list[str]) -> bytes:
        return self.records[int(words[0][1:])].value


def _series(found: re.Match[str]) -> str:
    """`CUSTOM_{0..2}=1` is `CUSTOM_0=1 CUSTOM_1=1 CUSTOM_2=1`, and `traits=A{0..2}` is `traits=A0,A1,A2`."""
    before, name, first, last, after = found.groups()
    numbers = range(int(first), int(last) + 1)
    if before in ("=", ","):
        return before + ",".join(f"{name}{n}" for n in numbers) + after
    return before + " ".join(f"{name}{n}{after}" for n in numbers)


def _rules_of(options: dict[str, str]) -> dict[str, Any]:
    classes = [name for name in options.get("classes", "").split(",") if name]
    return {"version": int(options.get("version", 1)), "classes": classes}


def _ms(text: str) -> int:
    """`90s`, `10m`, `24h`, `7d` in milliseconds."""
    found = re.fullmatch(r"(-?[0-9]+)(ms|s|m|h|d)", text)
    if found is None:
        raise Broken(f"{text} is no time")
    return int(found[1]) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]


def _options(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (w.partition("=") for w in words if re.match("[a-z]+=", w))}


def _inventory(word: str) -> tuple[str, dict[str, Any]]:
    """`VCPU=8,reserved=1,ratio=1.5`; `PORTS=[80,81]`; `NUMA_CELL={"memory_mb":64}`."""
    name, _, told = word.partition("=")
    if told.startswith("["):
        return name, {"ports": json.loads(told)}
    if told.startswith("{"):
        said: dict[str, Any] = json.loads(told)
        return name, said
    inventory: dict[str, Any] = {}
    for part in told.split(","):
        key, _, value = part.rpartition("=")
        amount = round(float(value) * 1000) if key == "ratio" else int(value)
        inventory[_SHORT[key] if key else "total"] = amount
    return name, inventory


def _attributes(told: str) -> dict[str, Any]:
    """`cores:4,secure_boot:true,cpu_model:Milan,os:"24"`."""
    return {name: _value(value) for name, _, value in (one.partition(":") for one in told.split(",") if one)}


def _value(told: str) -> Any:
    try:
        return json.loads(told)
    except ValueError:
        return told


def _is_newest(bid: dict[str, Any]) -> bool:
    """Whether a claim has what only its newest form has."""
    return "tolerations" in bid or any("max_skew" in one for one in bid.get("memberships", ()))


def _taint(told: str) -> dict[str, Any]:
    """`dedicated:gpu`, `spot`; `~spot` only orders candidates."""
    key, _, value = told.removeprefix("~").partition(":")
    return {"key": key, "value": value, **({"effect": "prefer_no_schedule"} if told[0] == "~" else {})}


def _toleration(told: str) -> dict[str, Any]:
    """`dedicated:gpu`; `spot`, with any value."""
    key, named, value = told.partition(":")
    return {"key": key, **({"value": value} if named else {})}


def _compared(told: str) -> dict[str, Any]:
    """`cores:>=:4`, `hypervisor_version:<:version(8.2)`, `cores:has`."""
    name, operator, *value = told.split(":", 2)
    said: dict[str, Any] = {"name": name, "operator": operator}
    if value and value[0].startswith("version("):
        return {**said, "value": value[0][8:-1], "version": True}
    return {**said, "value": _value(value[0])} if value else said


def _provider(words: list[str]) -> dict[str, Any]:
    """`n1_gpu0 in n1 CUSTOM_GPU=1 traits=A,B`."""
    options = _options(words)
    parent = words[2] if words[1:2] == ["in"] else None
    return {
        "id": words[0],
        "parent": parent,
        "inventories": dict(_inventory(word) for word in words[1:] if re.match("[A-Z][A-Z0-9_]*=", word)),
        "traits": [one for one in options.get("traits", "").split(",") if one],
        "attributes": _attributes(options.get("attributes", "")),
    }


def _render_verdict(row: VerdictRow) -> str:
    """A verdict as scenarios tell it."""
    if row.accepted:
        return "accepted"
    where = " ".join(part for part in (row.provider, row.resource_class) if part)
    amounts = f" asked {row.asked} available {row.available}" if row.asked or row.available else ""
    taken = f" taken @{row.taken}" if row.taken >= 0 else ""
    group = f" in {row.group.rpartition('/')[2]}" if row.group else ""
    other = f" by {row.other}" if row.other else ""
    return f"rejected {row.reason}{' ' + where if where else ''}{amounts}{taken}{group}{other}"
