"""A simulated cloud in one thread, controlled by one seed: nodes, operators, schedulers with stale views, and a worker
that is killed between commits.

Records are delivered more than once, partitions in any order, and producers retry. All choices depend on the seed, so
that a run can be repeated. `verify` checks what must hold at the end.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.simulator.cell_moves import DEADLINE_MS, HOLD_MS, CellMoves, begun
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, Tape, claim, claims, event, released, rules_in_steps
from tests.support.logs.signing import SignedTape
from tests.support.models.allocation_model import (
    AllocationModel,
    class_rows,
    rows_of,
    used_by_allocations,
    used_by_rows,
)
from tests.support.models.memory_state import MemoryState
from tests.support.models.quota_counts import counted, recounted
from tests.support.queries import find
from tests.support.random_logs.random_events import TRAITS, RandomEvents
from vacancy.clients.auditor import audit
from vacancy.projections.query.affinity.engine import memberships_of
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.projections.store.store import Store
from vacancy.projections.view.group_members import ReservedMembership
from vacancy.projections.view.reservations import Reservation
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.model.server_group import Policy, ServerGroupMembership
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CELL_MOVES,
    DEAD_LETTERS,
    GROUPS,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    QUOTA_AMOUNTS,
    QUOTAS,
    VERDICTS,
    key,
)
from vacancy.resources.state.transaction import Changes

PARTITIONS = 2
SCHEDULERS = 3
PROJECTS = ("p", "q")
NEWEST = RULES_VERSIONS.newest.version
LIES = re.compile(r"quotas partition|no valid host")
"""What these operators and schedulers say as they like: shares that no ledger gave, and how their requests ended."""

ORDERS = tuple(SIMPLE_ORDERS.values())


@dataclass
class Sent:
    """A claim that a scheduler sent, and the verdict that it read."""

    cell: str
    claim: dict[str, Any]
    taken: list[Reservation]
    verdict: VerdictRow | None = None
    logged: bool = False
    joined: list[ReservedMembership] = field(default_factory=list)


@dataclass
class Scheduler:
    """A scheduler: its own reader, and its open claims."""

    number: int
    reader: StoreReader
    rng: np.random.Generator
    under_way: dict[str, Sent] = field(default_factory=dict)
    holds: dict[str, Sent] = field(default_factory=dict)


class Simulation:
    """One run. `directory` is for the worker's store. Released rules of a version by the seed, or those of `version`. `raised`:
    midway they are raised to the newest ones."""

    def __init__(
        self, seed: int, directory: Path, version: int | None = None, *, raised: bool = False
    ) -> None:
        self.seed, self.directory, self.raised = seed, directory, raised
        self.rng = random.Random(seed)
        self.version = version or 1 + seed % RULES_VERSION
        self.newest = self.version == NEWEST
        self.tape = (
            SignedTape(PARTITIONS, version=self.version, seed=seed)
            if self.newest and seed % 2 == 0
            else Tape(PARTITIONS, version=self.version)
        )
        self.world = RandomEvents(self.rng.choice, self.tape)
        w = self.world
        self.world.deeds = (
            w.report,
            w.report,
            w.change,
            w.heartbeat,
            w.retire,
            w.facts,
            w.tick,
            w.request,
            w.close,
        )
        self.store = self._open()
        self.store.position()
        self.schedulers = [
            Scheduler(n, StoreReader(self.path, REGISTRY), np.random.default_rng((seed, n)))
            for n in range(SCHEDULERS)
        ]
        self.numbers = iter(range(10**9))
        self.cell_moves = CellMoves(self.tape, self.rng, self.fold_all)
        self.sent: dict[str, Sent] = {}
        self.delayed: list[list[Sent]] = []
        self.done: Counter[str] = Counter()

    @property
    def path(self) -> Path:
        return self.directory / "store"

    def _open(self) -> Store:
        return Store(self.path, log=LOG, partitions=PARTITIONS, registry=REGISTRY, first_rules=RULES_VERSION)

    def run(self, steps: int) -> None:
        self.world.settle()
        deeds = self.deeds()
        for number in range(steps):
            if self.raised and number == steps // 2:
                self.raise_rules()
                deeds = (*self.deeds(), self.count_held, self.count_held)
            deed = self.rng.choice(deeds)
            deed()
            self.done[deed.__name__] += 1
            self.tape.now_ms += self.rng.choice((0, 0, 0, 200, 1000, 5000))
        if self.newest:
            self.cell_moves.end(self.schedulers[0].reader)
        self.fold_all()

    def deeds(self) -> tuple[Callable[[], None], ...]:
        """What may happen under the rules in force."""
        return (
            *(self.others,) * 4,
            *(self.place,) * 8,
            *(self.look,) * 6,
            *(self.give_back,) * 2,
            *(self.fold,) * 6,
            *(self.send_again,) * 2,
            *(self.crash, self.restart_scheduler),
            *((self.share, self.share, self.parent, self.update, self.update) if self.newest else ()),
            *((self.transact,) * 3 if self.newest else ()),
            *((self.say_running, self.say_running, self.say_digest) if self.newest else ()),
            *((self.move_to_cell, self.move_to_cell, self.go_on, self.go_on) if self.newest else ()),
        )

    def close(self) -> None:
        for scheduler in self.schedulers:
            scheduler.reader.close()
        self.store.close()

    # -- nodes and operators --------------------------------------------------------------------------------

    def others(self) -> None:
        cell = self.rng.choice(self.tape.cells)
        value = self.rng.choice(self.world.deeds)(cell)
        if value is not None:
            self.tape.append(cell, value)

    def raise_rules(self) -> None:
        """An operator raises the rules in all partitions."""
        steps = rules_in_steps(NEWEST, ["PORTS"])
        for cell in self.tape.cells[:PARTITIONS]:
            for value in steps if self.version >= 3 else steps[-1:]:
                self.tape.append(cell, value)
        self.version, self.newest = NEWEST, True

    def count_held(self) -> None:
        """The command of that operator counts what some consumers hold since before."""
        cell = self.rng.choice(self.tape.cells)
        there = [one.claim["consumer"] for one in self.sent.values() if one.cell == cell]
        if there:
            some = self.rng.sample(there, min(len(there), 3))
            self.tape.append(cell, event("quota.counted.v1", {"consumers": some}))

    def share(self) -> None:
        """An operator changes what a project may hold in a partition."""
        cell, number = self.rng.choice(self.tape.cells), next(self.numbers) + 1
        amount = self.rng.choice((-1, 0, 4, 8))
        data = {"project": self.rng.choice(PROJECTS), "unit": "VCPU", "number": number, "amount": amount}
        self.tape.append(cell, event("quota.share.set.v1", data))

    def parent(self) -> None:
        """An operator sets the parent of a project in a partition."""
        cell, revision = self.rng.choice(self.tape.cells), next(self.numbers) + 1
        project, parent = self.rng.choice((("p", "q"), ("q", "p"), ("p", ""), ("q", "top"), ("q", "")))
        data = {"project": project, "parent": parent, "revision": revision}
        self.tape.append(cell, event("quota.parent.set.v1", data))

    def transact(self) -> None:
        """A client of transactions gives consumers other amounts, takes all from them, or lets two of them change places."""
        cell, rng = self.rng.choice(self.tape.cells), self.rng
        there = [one.claim["consumer"] for one in self.sent.values() if one.cell == cell]
        names = {*rng.sample(there, min(len(there), rng.choice((0, 1, 2)))), f"x{rng.randrange(6)}"}
        consumers: list[dict[str, Any]] = []
        for name in sorted(names):
            one = {"consumer": name, "generation": rng.choice(("any", "any", "absent", 1))}
            if rng.random() < 0.7:
                one["allocations"] = {f"n{rng.randrange(3)}": {"VCPU": rng.choice((1, 2, 4))}}
            consumers.append({**one, "project": rng.choice(PROJECTS), "user": rng.choice(("-", "u"))})
        number, until_ms = next(self.numbers), self.tape.now_ms + rng.choice((5_000, 30_000))
        data = {"id": f"t{number}", "deadline_ms": until_ms, "consumers": consumers}
        self.tape.append(cell, event("transaction.requested.v1", data))

    def say_running(self) -> None:
        """A node says what it runs; one that two reporters speak for says it in another order."""
        cell = self.rng.choice(self.tape.cells)
        there = [one.claim["consumer"] for one in self.sent.values() if one.cell == cell]
        data = {
            "root": f"n{self.rng.randrange(3)}",
            "incarnation": f"{self.rng.choice((1, 2)):016x}",
            "sequence": next(self.numbers) + 1 if self.rng.random() < 0.8 else 1,
            "consumers": self.rng.sample(there, min(len(there), 5)),
        }
        self.tape.append(cell, event("node.running.v1", data))

    def say_digest(self) -> None:
        """A store of another host asks for digests, or says its own, which may be a lie."""
        cell = self.rng.choice(self.tape.cells)
        position, digest = self.rng.choice((0, 8, 16)), f"{self.rng.getrandbits(64):032x}"
        if not position:
            self.tape.append(cell, event("state.marked.v1", {"store": "other"}))
        else:
            data = {"store": "other", "position": position, "digest": digest}
            self.tape.append(cell, event("state.digested.v1", data))

    # -- schedulers -----------------------------------------------------------------------------------------

    def place(self) -> None:
        """A scheduler claims what is free in its possibly stale view."""
        scheduler = self.rng.choice(self.schedulers)
        wanted = self.request()
        found = find(
            scheduler.reader.view,
            wanted,
            limit=self.rng.choice((1, 3)),
            order=self.rng.choice(ORDERS),
            rng=scheduler.rng,
        )
        if found:
            cell = found[0].cell
            them = [self.bid(scheduler, one, wanted) for one in found if one.cell == cell]
            self.send(them, self.delayed if self.rng.random() < 0.25 else None)

    def send(self, them: list[Sent], later: list[list[Sent]] | None = None) -> None:
        """Append claims to the log as one record, now or later."""
        if later is not None:
            later.append(them)
            return
        together = self.newest and len(them) > 1 and len({one.claim["consumer"] for one in them}) > 1
        if together and len({one.claim["deadline_ms"] for one in them}) == 1:
            self.done["gang"] += 1
            asked = event("gang.requested.v1", {"claims": [one.claim for one in them]})
        else:
            asked = claims(*(one.claim for one in them))
        self.tape.append(them[0].cell, asked)
        for one in them:
            one.logged = True

    def request(self) -> RequestSpec:
        asks: list[dict[str, Any]] = self.rng.choice(
            (
                [{"VCPU": 1}],
                [{"VCPU": 2, "MEMORY_MB": 1}],
                [{"CUSTOM_GPU": 1}],
                [{"VCPU": 1}, {"CUSTOM_GPU": 1}],
                [{"PORTS": 1}],
                [{"VCPU": 1, "PORTS": {"ports": [80]}}],
            )
        )
        required = (self.rng.choice(TRAITS),) if self.rng.random() < 0.2 else ()
        groups = [RequestGroup(name=str(n), resources=ask) for n, ask in enumerate(asks)]
        groups[0] = groups[0].model_copy(update={"required": required})
        memberships: tuple[ServerGroupMembership, ...] = ()
        if self.rng.random() < 0.4:
            name = self.rng.choice(("near", "apart"))
            policy: Policy = "affinity" if name == "near" else "anti-affinity"
            group = f"{self.rng.choice(self.tape.cells)}/{name}"
            memberships = (ServerGroupMembership(group=group, policy=policy),)
        return RequestSpec(groups=tuple(groups), memberships=memberships)

    def bid(self, scheduler: Scheduler, candidate: Candidate, wanted: RequestSpec) -> Sent:
        view, number = scheduler.reader.view, next(self.numbers)
        taken: list[Reservation] = []
        for served in candidate.allocations:
            row = view.row_of[key(candidate.cell, served.provider)]
            taken += [view.reserve(row, name, ask) for name, ask in served.resources.items()]
        allocations = [
            {"provider": s.provider, "resources": dict(s.resources), "group": s.group}
            for s in candidate.allocations
        ]
        hold = self.tape.now_ms + 20_000 if self.rng.random() < 0.3 else None
        made = claim(
            f"c{number}",
            f"i{number}" if self.rng.random() < 0.9 else f"i{self.rng.randrange(number + 1)}",
            "",
            {},
            self.tape.now_ms + (30_000 if self.newest else self.rng.choice((5_000, 30_000, 500_000))),
            allocations=allocations,
            hold_until_ms=hold,
            memberships=[one.model_dump() for one in wanted.memberships],
        )
        if self.newest:
            made |= {"project": self.rng.choice(PROJECTS), "user": self.rng.choice(("-", "u"))}
        sent = Sent(candidate.cell, made, taken)
        sent.joined = memberships_of(view, wanted, made["consumer"], candidate)
        view.groups.reserve(sent.joined)
        self.sent[made["id"]] = scheduler.under_way[made["id"]] = sent
        return sent

    def look(self) -> None:
        """A scheduler catches up and reads the verdicts on its claims."""
        scheduler = self.rng.choice(self.schedulers)
        scheduler.reader.catch_up()
        for id_, sent in list(scheduler.under_way.items()):
            partition = partition_for(sent.cell, PARTITIONS)
            sent.verdict = scheduler.reader.get(VERDICTS, key(sent.cell, id_))
            late = scheduler.reader.log_time_ms(partition) > sent.claim["deadline_ms"]
            if sent.verdict is None and not late:
                continue
            del scheduler.under_way[id_]
            view = scheduler.reader.view
            view.groups.unreserve(sent.joined)
            for one in sent.taken:
                view.unreserve(one)
            if sent.verdict is not None and sent.verdict.accepted:
                scheduler.holds[id_] = sent

    def give_back(self) -> None:
        """A scheduler releases, confirms or replaces an allocation, or cancels a claim of unknown outcome."""
        scheduler = self.rng.choice(self.schedulers)
        unsure = {one.claim["id"]: one for them in self.delayed for one in them}
        some = unsure if unsure and self.rng.random() < 0.5 else {**scheduler.holds, **scheduler.under_way}
        if not some:
            return
        id_ = self.rng.choice(list(some))
        sent = some[id_]
        scheduler.holds.pop(id_, None)
        consumer = sent.claim["consumer"]
        deed = self.rng.choice(("release", "cancel", "cancel", "confirm", "replace"))
        if deed == "confirm":
            self.tape.append(sent.cell, event("consumer.confirmed.v1", {"consumer": consumer, "claim": id_}))
        elif deed == "replace":
            other = {**sent.claim, "id": f"m{next(self.numbers)}", "consumer_generation": 1}
            other["deadline_ms"] = self.tape.now_ms + 30_000
            self.sent[other["id"]] = Sent(sent.cell, other, [], logged=True)
            if self.version < 3:
                self.tape.append(sent.cell, event("consumer.replaced.v1", other))
            else:
                self.tape.append(sent.cell, event("consumer.replaced.v2", {**other, "replaces": id_}))
        else:
            deadline = sent.claim["deadline_ms"] if deed == "cancel" else None
            self.tape.append(sent.cell, released(consumer, id_, deadline))

    def update(self) -> None:
        """A scheduler changes the project or the type of what it holds."""
        scheduler = self.rng.choice(self.schedulers)
        if scheduler.holds:
            sent = scheduler.holds[self.rng.choice(list(scheduler.holds))]
            data = {"consumer": sent.claim["consumer"], "claim": sent.claim["id"]}
            change = self.rng.choice(({"project": "p"}, {"project": "q"}, {"consumer_type": "MIGRATION"}))
            self.tape.append(sent.cell, event("consumer.updated.v1", {**data, **change}))

    def move_to_cell(self) -> None:
        """A scheduler begins to move what it holds to another cell. It may be killed before its claim is in the log."""
        scheduler = self.rng.choice(self.schedulers)
        able = [one for one in scheduler.holds.values() if not one.claim["memberships"]]
        if not able:
            return
        source = self.rng.choice(able)
        cell = self.rng.choice([one for one in self.tape.cells if one != source.cell])
        groups = [
            RequestGroup(name=str(number), resources=one["resources"])
            for number, one in enumerate(source.claim["allocations"])
        ]
        wanted = RequestSpec(groups=tuple(groups))
        view, order = scheduler.reader.view, self.rng.choice(ORDERS)
        found = find(view, wanted, limit=1, order=order, rng=scheduler.rng, cell=cell)
        if not found:
            return
        move = f"v{next(self.numbers)}"
        made = {
            **source.claim,
            "id": move,
            "deadline_ms": self.tape.now_ms + DEADLINE_MS,
            "hold_until_ms": self.tape.now_ms + HOLD_MS,
            "allocations": [
                {"provider": one.provider, "resources": dict(one.resources), "group": one.group}
                for one in found[0].allocations
            ],
        }
        self.tape.append(move, begun(move, (source.cell, source.claim["id"]), made, cell))
        if self.rng.random() < 0.8:
            self.sent[move] = scheduler.under_way[move] = Sent(cell, made, [])
            self.send([self.sent[move]], self.delayed if self.rng.random() < 0.25 else None)

    def go_on(self) -> None:
        """A scheduler does the next step of a move between cells that is open."""
        self.done["step"] += self.cell_moves.go_on(self.rng.choice(self.schedulers).reader)

    def send_again(self) -> None:
        """A producer sends delayed claims, or sends a record again."""
        if self.delayed:
            self.send(self.delayed.pop(self.rng.randrange(len(self.delayed))))
            return
        records = self.rng.choice(list(self.tape.records.values()))
        record = self.rng.choice(records[-10:])
        self.tape.append(record.key.decode(), record.value)

    def restart_scheduler(self) -> None:
        """A scheduler restarts without its state."""
        scheduler = self.rng.choice(self.schedulers)
        scheduler.reader.close()
        scheduler.reader = StoreReader(self.path, REGISTRY)
        scheduler.under_way, scheduler.holds = {}, {}

    # -- the worker -----------------------------------------------------------------------------------------

    def fold(self) -> None:
        """The worker commits one batch of one partition, which may start before its position."""
        partition = self.rng.randrange(PARTITIONS)
        position = self.store.position()[partition]
        first = max(0, position - self.rng.choice((0, 0, 1, 5)))
        self.store.apply(
            partition, self.tape.records[partition][first : position + self.rng.choice((1, 3, 10, 40))]
        )

    def fold_all(self) -> None:
        """The worker commits all that there is."""
        for partition, records in self.tape.records.items():
            self.store.apply(partition, records)

    def crash(self) -> None:
        """The worker is killed; another one continues with its files as they are, unflushed."""
        copy = self.directory / "copy"
        for _ in range(10):
            shutil.rmtree(copy, ignore_errors=True)
            with contextlib.suppress(shutil.Error):  # a compaction deleted a file during the copy
                shutil.copytree(self.path, copy)
                break
        else:
            raise AssertionError("the store's files change too often to be copied")
        self.store.close()
        shutil.rmtree(self.path)
        copy.rename(self.path)
        self.store = self._open()
        self.store.position()
        for scheduler in self.schedulers:
            pending, under_way = scheduler.reader.view.reservations, scheduler.reader.view.groups.reserved
            scheduler.reader.close()
            scheduler.reader = StoreReader(self.path, REGISTRY)
            scheduler.reader.view.restore_reservations(pending)
            scheduler.reader.view.groups.reserved = under_way


# -- what must hold ---------------------------------------------------------------------------------------------


class Audit:
    """A replay of the log in memory, compared with a model that shares no code with the fold."""

    def __init__(self, records: list[Record]) -> None:
        self.state, self.ledger = MemoryState(), AllocationModel()
        self.exported: list[dict[str, Any]] = []
        self.verdicts: dict[str, list[VerdictRow]] = {}
        self.late: set[str] = set()
        self.problems: list[str] = []
        for record in records:
            changes = fold(self.state, record, REGISTRY)
            if record.offset:
                self._note(record, changes)
                self.problems += [
                    f"offset {record.offset}: {told}" for told in over_shares(self.state, changes)
                ]
            self.state.commit(changes)
            if used_by_rows(self.state, REGISTRY) != used_by_allocations(self.state):
                self.problems.append(f"offset {record.offset}: rows and allocations differ")
            self.problems += [f"offset {record.offset}: {told}" for told in broken_rules(self.state)]
            if counted(self.state) != recounted(self.state, REGISTRY) and record_rules(self.state) == NEWEST:
                self.problems.append(f"offset {record.offset}: quotas count something else than is held")

    def _note(self, record: Record, changes: Changes) -> None:
        time_ms, cell = changes[PARTITION][PARTITION_KEY].time_ms, record.key.decode()
        said = json.loads(record.value)["data"]
        for key_, row in changes.get(VERDICTS, {}).items():
            if row is not None and row.offset == record.offset:
                of_cell, id_ = key_.decode().split("\0")
                self.verdicts.setdefault(id_, []).append(row)
                self.exported.append(_exported(record, of_cell, id_, row))
        for one in said.get("claims", [said]):
            if isinstance(one, dict) and {"id", "deadline_ms"} <= one.keys() and one["deadline_ms"] < time_ms:
                self.late.add(one["id"])

        def accepted(cell: str, claim_: str) -> bool:
            row = changes.get(VERDICTS, {}).get(key(cell, claim_))
            return row is not None and row.accepted and row.offset == record.offset

        def capacity(slot: tuple[str, str, str]) -> int:
            found = class_rows(self.state, REGISTRY).get(slot)
            if found is None:
                return 0
            reserved = found.reserved_override if found.reserved_override != -1 else found.reserved
            ratio = found.ratio_milli_override if found.ratio_milli_override != -1 else found.ratio_milli
            room: int = max(0, (found.total - reserved) * ratio // 1000)
            return room

        sound = DEAD_LETTERS not in changes or "claims" in said
        told = record if sound else record._replace(value=event("tick.v1", {}))
        self.problems += self.ledger.note(told, time_ms, accepted, capacity)
        if "root" in said and said.get("consumers") and key(cell, said["root"]) in changes.get(NODES, {}):
            self.ledger.confirmed(cell, said["consumers"])

    @property
    def digest(self) -> str:
        return partition_digest(as_scan(self.state.items), REGISTRY)


def _exported(record: Record, cell: str, id_: str, row: VerdictRow) -> dict[str, Any]:
    """A verdict as `audit` reads it."""
    place = {"claim": id_, "cell": cell, "partition": record.partition, "offset": record.offset}
    grants = [part._asdict() for part in row.grants]
    return {**place, "accepted": row.accepted, "reason": row.reason, "grants": grants}


def broken_rules(state: MemoryState) -> list[str]:
    """Violations of hard group rules, and members without allocations. Providers never change their node here."""
    wrong = []
    allocations = rows_of(state, ALLOCATIONS)
    providers = rows_of(state, PROVIDERS)
    for at, row in rows_of(state, GROUPS).items():
        cell, name = at.decode().split("\0")
        roots: Counter[str] = Counter()
        for member in row.members:
            held = allocations.get(key(cell, member.consumer))
            if held is None or name not in held.groups:
                wrong.append(f"{member.consumer} is in {name} and holds nothing")
                continue
            roots.update({providers[key(cell, part.provider)].root for part in held.parts})
        if len(roots) > 1 if row.policy == "affinity" else max(roots.values()) > row.max_per_node:
            wrong.append(f"group {name}: {roots}")
    members = {(at, member.consumer) for at, row in rows_of(state, GROUPS).items() for member in row.members}
    held_in = {
        (key(at.decode().split("\0")[0], name), at.decode().split("\0")[1])
        for at, row in allocations.items()
        for name in row.groups
    }
    return wrong if members == held_in else [*wrong, "groups and allocations differ"]


def record_rules(state: MemoryState) -> int:
    """The version of the rules that hold."""
    row = state.get(PARTITION, PARTITION_KEY)
    return 0 if row is None else row.rules_version


def over_shares(state: MemoryState, changes: Changes) -> list[str]:
    """Rows of quotas that hold more than a share after a record than before it. A change of a parent may do that, and what was
    not counted before."""
    wrong: list[str] = []
    if counts_earlier(state, changes):
        return wrong
    for at, after in changes.get(QUOTAS, {}).items():
        before = state.get(QUOTAS, at)
        if (
            after is None
            or before is None
            or (before.shares, before.children) != (after.shares, after.children)
        ):
            continue
        for share in after.shares:
            held = [
                sum(
                    n
                    for kind, unit, n in row.used
                    if unit == share.unit and share.consumer_type in ("", kind)
                )
                for row in (before, after)
            ]
            if share.amount >= 0 and held[1] > max(share.amount, held[0]):
                wrong.append(f"{at!r} holds {held[1]}, and its share is {share.amount}")
    return wrong


def counts_earlier(state: MemoryState, changes: Changes) -> bool:
    """Whether a record counts or replaces what was held before the rules were raised."""
    partition = state.get(PARTITION, PARTITION_KEY)
    before = [state.get(ALLOCATIONS, at) for at in changes.get(ALLOCATIONS, {})]
    since = 0 if partition is None else partition.quotas_from
    return any(row.offset < since for row in before if row is not None) or QUOTA_AMOUNTS in changes


def verify(simulation: Simulation) -> Counter[str]:
    """Check what must hold after a run. Returns counts of what happened, to check that enough happened."""
    seen: Counter[str] = Counter(simulation.done)
    audits = {p: Audit(records) for p, records in simulation.tape.records.items()}
    for partition, one in audits.items():
        assert one.problems == []
        live = partition_digest(simulation.store.partition(partition).scan, REGISTRY)
        assert live == one.digest, f"partition {partition}: live and replayed differ"
        consumers = Counter(key_ for key_ in rows_of(one.state, ALLOCATIONS))
        assert all(count == 1 for count in consumers.values())
        seen.update(row.outcome for row in rows_of(one.state, CELL_MOVES).values())
        seen["counted later"] += len(rows_of(one.state, QUOTA_AMOUNTS))
        assert not simulation.raised or record_rules(one.state) == NEWEST
    audited = audit(simulation.tape.records, [verdict for one in audits.values() for verdict in one.exported])
    assert [problem for problem in audited.problems if not LIES.search(problem)] == []
    assert audited.open_moves == []
    verdicts = {id_: rows for one in audits.values() for id_, rows in one.verdicts.items()}
    late = {id_ for one in audits.values() for id_ in one.late}
    for id_, sent in simulation.sent.items():
        rows = verdicts.get(id_, [])
        none_due = not sent.logged or id_ in late
        assert len(rows) == 1 or (not rows and none_due), f"claim {id_} has {len(rows)} verdicts"
        seen["accepted" if rows and rows[0].accepted else rows[0].reason if rows else "late"] += 1
        if sent.verdict is not None and sent.verdict.offset >= 0:
            assert sent.verdict == rows[0], f"claim {id_}: a scheduler read another verdict"
            seen["verdict read"] += 1
    if isinstance(simulation.tape, SignedTape):
        refused = {
            (p, one.offset)
            for p, audit in audits.items()
            for one in rows_of(audit.state, DEAD_LETTERS).values()
        }
        assert simulation.tape.forged - refused == set()
        seen["forged"] += len(simulation.tape.forged)
    for scheduler in simulation.schedulers:
        scheduler.reader.catch_up()
        assert scheduler.reader.position == simulation.store.position()
    return seen
