"""The log with every event, every rejection and every kind of dead letter, made by a script without chance.

Each scenario of `tests/resources/fold/scenarios` gets a partition of its own, and keeps its offsets and times. After them
come a partition for what the scenarios leave out, and others that are made from seeds: by a `RandomEvents` that keeps to no
rule, and by nodes whose devices and NUMA cells change (`hardware`).
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.recorded_logs.folding import DeadLetter
from tests.recorded_logs.hardware import hardware
from tests.recorded_logs.recording import Recording, recorded
from tests.resources.fold.scenario import Scenario
from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import (
    LOG,
    START_MS,
    Tape,
    claim,
    claims,
    event,
    opened,
    provider,
    released,
    reported,
)
from tests.support.random_logs.random_events import RandomEvents
from vacancy.resources.classes.numa.numa_cell import CPUS_MAX
from vacancy.resources.model.limits import LIMITS_1
from vacancy.resources.model.names import AMOUNT_MAX
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.model.server_group import COPIES_MAX, MEMBERS_MAX

NAME: Final = "every_event"
LOG_UUID: Final = "0e7e2d7e5f4a4c0f9b1d3a5c7e9f1b2d"
SCENARIOS: Final = sorted((Path(__file__).parents[1] / "resources" / "fold" / "scenarios").glob("*.txt"))
SEEDS: Final = (1, 2, 3)
STEPS: Final = 400
HOUR_MS: Final = 3_600_000

KINDS: Final = {
    "key is no cell": "is not the name of a cell",
    "key of another partition": r"the record's key .* belongs to partition",
    "record too large": "the record is larger than",
    "opened as another log": "the log was opened before",
    "rules lowered": "rules are raised, never lowered",
    "not JSON": "Invalid JSON",
    "not an object": "Input should be an object",
    "no type": "Unable to extract tag using discriminator 'type'",
    "unknown type": "no event of the log's rules is",
    "wrong specversion": r"specversion: Input should be '1\.0'",
    "field missing": "Field required",
    "field unknown": "Extra inputs are not permitted",
    "text has another pattern": "String should match pattern",
    "text too long": "String should have at most",
    "number too small": "Input should be greater than or equal to",
    "number too large": "Input should be less than or equal to",
    "value is no attribute": "Input should be text of up to",
    "wrong type of value": "Input should be a valid|Input should be '",
    "too few items": "should have at least 1 item",
    "too many items": r"should have at most \d+ item",
    "membership cannot be meant": "max_per_node is for anti-affinity",
    "group of a request named twice": "two groups of one request have the same name",
    "request asks for nothing": "a request asks for at least one resource",
    "server group named twice": "is named twice: nobody is in a group more than once",
    "server groups of two cells": "a request goes to one",
    "copies apart and together": "copies on distinct nodes cannot be on one node",
    "too many copies": r"copies of its groups are \d+ allocations",
    "too many allocations": r"its groups may take \d+ allocations",
    "group asks for nothing": "may be served by several providers, but asks for nothing",
    "same_subtree names nothing": "same_subtree names no group",
    "same_subtree names no known group": "which is not there",
    "same_subtree names a spread group": "which several providers may serve",
    "incarnation not opened": "no full report opened incarnation",
    "removes what it reports": "removes a provider that it also reports, or its root",
    "provider reported twice": "a provider is reported twice in one event",
    "provider of another node": "is already a part of",
    "attribute changed its type": r"attribute \w+ was .* and is now",
    "root missing": r"root .* is not among its providers",
    "root has a parent": r"root .* is not a root",
    "cycle of parents": "is its own ancestor",
    "parent unknown": "which is not in the tree of",
    "second root": "has no parent, and",
    "class unknown": "unknown resource class",
    "class not allowed": "is not allowed by the log's rules",
    "reserved more than total": "is more than total",
    "min_unit more than max_unit": "is more than max_unit",
    "inventory of devices": "an inventory is {'devices': {name: attributes}}",
    "name of a device": "cannot name a device",
    "attributes of a device": r"the attributes of .* are no object",
    "too many attributes of a device": r"has more than \d+ attributes",
    "attribute of a device": "cannot have an attribute",
    "parent of a device": "is not the name of another device",
    "grandparent of a device": "has a parent itself",
    "types of a vGPU": "does not say which types it can run",
    "amount of a vGPU type": "does not say how many of",
    "total of a share": r"the total of .* is not a number",
    "CPU in two cores": "a CPU is in two cores",
    "CPU shared twice": "a CPU is shared or reserved twice",
    "too many CPUs": r"CPUs are more than the \d+ of a cell",
    "size of hugepages": "there are no hugepages of",
    "NUMA cell cannot be meant": "NUMA_CELL: (Expected|Object)",
    "ports cannot be meant": "is not a list of ports",
    "nothing to override": "has nothing that an operator can override",
    "override cannot be meant": r"override of \w+: ",
    "quantity cannot be meant": r"[A-Z_]+: (Expected|Object)",
    "revision of someone else": "was set by someone else",
    "revision does not follow": "does not follow",
    "request of another partition": r"request .* belongs to partition",
    "claim made before": "was made before with other content",
}
"""Kind of dead letter -> what its reason matches; the first that does counts.

Out of reach: rules of a lower version, because the lowest is 1, and this build folds none above it. What makes a
partition halt (rules of version 2, a class that the build lacks, a partition that starts otherwise than with
`log.opened`) cannot be in a log that was folded to its end.
"""


def kinds_of(letters: Iterable[DeadLetter]) -> dict[str, list[tuple[int, int]]]:
    """Kind -> (partition, offset) of the dead letters of that kind. Raises KeyError where one is of none."""
    found = defaultdict(list)
    for letter in letters:
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, letter.reason)), None)
        if kind is None:
            raise KeyError(f"dead letter of no kind: {letter}")
        found[kind].append((letter.partition, letter.offset))
    return dict(found)


def every_event() -> Recording:
    """Make the log."""
    # One partition for each scenario, one for the gaps, three for each seed.
    partitions = len(SCENARIOS) + 1 + 3 * len(SEEDS)
    records: dict[int, list[Record]] = {}
    for partition, path in enumerate(SCENARIOS):
        chapter = Chapter(path, partition, partitions)
        chapter.play()
        records[partition] = list(chapter.records.values())
    gaps = _Gaps(len(SCENARIOS), partitions)
    gaps.write()
    records[gaps.partition] = gaps.records
    for number, seed in enumerate(SEEDS):
        first = gaps.partition + 1 + 3 * number
        records |= _world(seed, (first, first + 1), partitions)
        records[first + 2] = hardware(first + 2, partitions, f"{NAME} hardware {seed}")
    ours = LOG_UUID.encode()
    named = {
        partition: [one._replace(value=one.value.replace(LOG.encode(), ours)) for one in those]
        for partition, those in records.items()
    }
    return recorded(NAME, named, (Ports.name,))


def name_in(partition: int, partitions: int, prefix: str) -> str:
    """The first of `prefix-0`, `prefix-1`, … whose home is that partition."""
    names = (f"{prefix}-{number}" for number in range(1_000_000))
    return next(name for name in names if partition_for(name, partitions) == partition)


class Chapter(Scenario):
    """A scenario whose records are written down in a partition of a larger log. Nothing is checked."""

    opens_with = 1
    """The version of the rules."""

    def __init__(self, path: Path, partition: int, partitions: int) -> None:
        super().__init__(path, Path())
        self.partition, self.partitions = partition, partitions

    def play(self) -> None:
        """Write the records down."""
        for _, lines in self._statements():
            self._statement(lines)

    def _statement(self, lines: list[str]) -> None:
        verb, _, rest = lines[0].partition(" ")
        if verb == "log":
            self._settings(rest)
        elif verb == "cell":
            self.cell = name_in(self.partition, self.partitions, rest)
            if not self.records:
                self._fold({}, opened(self.partition, self.partitions, self.classes, self.opens_with))
        elif verb != "expect":
            super()._statement(lines)

    def _settings(self, rest: str) -> None:
        partition, partitions = self.partition, self.partitions
        super()._settings(rest)
        self.partition, self.partitions = partition, partitions

    def _open(self) -> None:
        self.cell = covering_cells(self.partitions)[self.partition]
        self._fold({}, opened(self.partition, self.partitions, self.classes, self.opens_with))

    def _judged(
        self, verb: str, options: dict[str, str], value: bytes, told: list[str], outcomes: list[str]
    ) -> None:
        if not outcomes[0].startswith("halt"):
            self._fold(options, value)

    def _fold(self, options: dict[str, str], value: bytes) -> None:
        key = options.get("cell", self.cell).encode()
        self.records[self.offset] = Record(self.partition, self.offset, self.now_ms, key, value)
        self.offset += 1


def _world(seed: int, homes: tuple[int, int], partitions: int) -> dict[int, list[Record]]:
    """A seeded world over two partitions, the first with two cells."""
    tape = Tape(partitions)
    cells = covering_cells(partitions)
    tape.cells = (cells[homes[0]], cells[homes[1]], name_in(homes[0], partitions, "b"))
    world = RandomEvents(random.Random(f"{NAME} {seed}").choice, tape, wild=True)
    world.settle()
    for _ in range(STEPS):
        world.step()
    return {partition: tape.records[partition] for partition in homes}


class _Gaps:
    """One partition with what the scenarios leave out."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.cell = covering_cells(partitions)[partition]
        self.now_ms = START_MS
        self.records: list[Record] = []

    def write(self) -> None:
        """Write it all."""
        self.say(opened(self.partition, self.partitions, ()))
        self.say(reported("n", [provider("n", VCPU=2_000, DISK_GB=100), provider("n-a", "n", PGPU=2)]))
        for value in (*_envelopes(), *_schemas(), *self._requests_refused(), *_claims_refused()):
            self.say(value)
        for inventory in _inventories():
            self.say(reported("m", [provider("m", **inventory)]))
        self._places()
        self._rules()
        self._requests()
        self._full_group()
        self._life()
        self._days()

    def say(self, value: bytes, *, key: bytes | None = None) -> None:
        """Append a record."""
        there = self.cell.encode() if key is None else key
        self.records.append(Record(self.partition, len(self.records), self.now_ms, there, value))
        self.now_ms += 10

    def _places(self) -> None:
        self.say(event("tick.v1", {}), key=b"\xff\xfe")
        self.say(event("tick.v1", {}), key=b"")
        elsewhere = covering_cells(self.partitions)[self.partition - 1]
        self.say(event("tick.v1", {}), key=elsewhere.encode())
        self.say(b" " * (LIMITS_1.record_bytes + 1))

    def _rules(self) -> None:
        bid = claim("p-1", "ports-1", "n", {"PORTS": 1}, self.now_ms + 60_000)
        self.say(claims(bid))
        self.say(reported("n2", [provider("n2", PORTS={"ports": [80]})]))
        self.say(event("rules.activated.v1", {"version": 1, "classes": [Ports.name]}))
        self.say(reported("n2", [provider("n2", PORTS={"ports": [80]})]))
        for number in (2, 3):
            ask = {"PORTS": {"ports": [80]}}
            self.say(claims(claim(f"p-{number}", f"ports-{number}", "n2", ask, self.now_ms + 60_000)))
        self.say(event("rules.activated.v1", {"version": 1, "classes": []}))
        self.say(event("log.opened.v1", {"log": "another", "partition": self.partition, "partitions": 1}))

    def _requests_refused(self) -> Iterator[bytes]:
        """Invalid requests."""
        here = name_in(self.partition, self.partitions, "refused")
        one = {"resources": {"VCPU": 1}}
        near, apart = {"group": "c/g", "policy": "affinity"}, {"group": "d/g", "policy": "anti-affinity"}
        spread = {"name": "s", "same_provider": False}
        many = {f"CUSTOM_{number}": 1 for number in range(100)}
        specs: tuple[dict[str, Any], ...] = (
            {"groups": [one, one]},
            {"groups": [{"resources": {}}]},
            {"groups": [one], "memberships": [near, near]},
            {"groups": [one], "memberships": [near, apart]},
            {"groups": [one], "memberships": [{**near, "max_per_node": 2}]},
            {"groups": [one], "memberships": [near], "copies": 2, "copies_on": "distinct"},
            {"groups": [{"name": str(n), **one} for n in range(8)], "copies": COPIES_MAX},
            {"groups": [{**spread, "name": n, "resources": many} for n in "abc"]},
            {"groups": [one, spread]},
            {"groups": [one], "same_subtree": [[]]},
            {"groups": [one], "same_subtree": [["x"]]},
            {"groups": [one, {**spread, **one}], "same_subtree": [["s"]]},
        )
        for spec in specs:
            yield event("requests.received.v1", {"requests": [{"id": here, "spec": spec}]})
        elsewhere = name_in(self.partition - 1, self.partitions, "elsewhere")
        yield event("requests.received.v1", {"requests": [{"id": elsewhere, "spec": {"groups": [one]}}]})
        yield event("requests.closed.v1", {"requests": [{"id": elsewhere, "outcome": "failed"}]})

    def _requests(self) -> None:
        outcomes = ("placed", "no_valid_host", "failed", "unknown", "")
        for number, outcome in enumerate(outcomes):
            id_ = name_in(self.partition, self.partitions, f"q{number}")
            spec = {"groups": [{"resources": {"VCPU": 1}, "required": ["CUSTOM_X"]}], "copies": 2}
            self.say(event("requests.received.v1", {"requests": [{"id": id_, "spec": spec}]}))
            closed: dict[str, Any] = {
                "id": id_,
                "outcome": outcome,
                "claim": "c",
                "cell": self.cell,
                "reason": "ü \N{SNOWMAN}",
            }
            closed |= {"as_of": {"0": 1}, "in_flight": ["a", "b"], "heard_since_ms": START_MS}
            if outcome:
                self.say(event("requests.closed.v1", {"requests": [closed]}))

    def _full_group(self) -> None:
        """As many members as a group can have, and one more."""
        group = {"group": f"{self.cell}/crowd", "policy": "anti-affinity", "hard": False}
        copies = [
            {"provider": "n", "resources": {"VCPU": 1}, "group": f"#{copy}"} for copy in range(COPIES_MAX)
        ]
        for number in range(MEMBERS_MAX // COPIES_MAX + 1):
            more = {"allocations": copies, "memberships": [group], "hold_until_ms": self.now_ms + 2 * HOUR_MS}
            self.say(claims(claim(f"m-{number}", f"crowd-{number}", "", {}, self.now_ms + 300_000, **more)))

    def _life(self) -> None:
        """Holds that end and holds that stay, a release before its claim, a replaced consumer, a lost event."""
        soon = self.now_ms + 60_000
        for number in range(4):
            bid = claim(f"h-{number}", f"held-{number}", "n", {"DISK_GB": 5}, soon, hold_until_ms=soon)
            self.say(claims(bid))
        self.say(event("consumer.confirmed.v1", {"consumer": "held-1", "claim": "h-1"}))
        parts = [provider("n", VCPU=2_000, DISK_GB=8), provider("n-a", "n", PGPU=2)]
        self.say(reported("n", parts, sequence=2, consumers=["held-2"]))
        self.say(released("late", "l-1", soon))
        self.say(claims(claim("l-1", "late", "n", {"DISK_GB": 1}, soon)))
        self.say(claims(claim("g-1", "gpu", "n-a", {"PGPU": 1}, soon)))
        smaller = claim("h-4", "held-1", "n", {"DISK_GB": 4}, soon, consumer_generation=1)
        self.say(event("consumer.replaced.v1", smaller))
        node: dict[str, Any] = {"root": "n", "incarnation": f"{1:016x}"}
        self.say(event("node.changed.v1", {**node, "sequence": 3, "removed": ["n-a"]}))
        self.say(event("node.heartbeat.v1", {**node, "sequence": 5}))
        self.say(claims(claim("i-1", "incomplete", "n", {"VCPU": 1}, soon)))
        self.say(event("node.heartbeat.v1", {**node, "sequence": 4}))
        self.say(reported("n", parts[:1], life=2))
        self.say(event("node.heartbeat.v1", {**node, "sequence": 9}))
        facts: dict[str, Any] = {
            "status": "draining",
            "aggregates": ["rack"],
            "overrides": {"VCPU": {"reserved": 3}},
        }
        self.say(event("facts.set.v1", {"provider": "n", "revision": 1, "facts": facts}))
        self.say(claims(claim("i-2", "drained", "n", {"VCPU": 1}, soon)))
        self.say(released("gpu", "g-1"))

    def _days(self) -> None:
        """Time goes back, stands still, and leaps; a node is retired and forgotten a week later."""
        now_ms = self.now_ms
        for at_ms in (now_ms - 5_000, -1, 0, now_ms + 90_000):
            self.now_ms = at_ms
            self.say(event("tick.v1", {}))
        self.say(event("node.retired.v1", {"root": "n2", "incarnation": f"{1:016x}", "sequence": 2}))
        self.now_ms += 100 * HOUR_MS  # which counts as one hour
        for _ in range(8 * 24):
            self.say(event("tick.v1", {}))
            self.now_ms += HOUR_MS


# -- what is refused ------------------------------------------------------------------------------------------


def _envelopes() -> Iterator[bytes]:
    """Records that are no events."""
    yield from (b"", b"{", b"\xff\xfe\x00", b"[]", b"{}", b"[" * 3000, b'{"a":NaN}')
    tick: dict[str, Any] = {
        "specversion": "1.0",
        "type": "vacancy.tick.v1",
        "id": "e",
        "source": "/t",
        "data": {},
    }
    for wrong in ({"type": "vacancy.tick.v9"}, {"specversion": "0.3"}, {"id": "a b"}, {"source": "s" * 513}):
        yield json.dumps(tick | wrong).encode()
    for missing in ("id", "source"):
        yield json.dumps({name: value for name, value in tick.items() if name != missing}).encode()
    yield event("tick.v1", {"colour": 1})


def _schemas() -> Iterator[bytes]:
    """Events whose data has another shape."""
    node = {"root": "n", "incarnation": f"{9:016x}", "sequence": 1}
    yield event("node.heartbeat.v1", {**node, "sequence": 0})
    yield event("node.heartbeat.v1", {**node, "sequence": 2**53})
    yield event("node.heartbeat.v1", {**node, "sequence": "1"})
    yield event("node.heartbeat.v1", node)
    yield event("node.changed.v1", {**node, "incarnation": f"{1:016x}", "sequence": 2, "removed": ["n"]})
    yield event("node.reported.v1", {**node, "providers": []})
    yield event("consumers.released.v1", {"releases": [{"consumer": "i", "claim": "c"}] * 65})
    n_a = provider("n-a", "n")
    for parts in (
        [provider("x")],
        [provider("n", "n-a"), n_a],
        [provider("n"), provider("n-a")],
        [provider("n"), provider("n-a", "n-b"), provider("n-b", "n-a")],
        [provider("n"), provider("n-a", "nowhere")],
        [provider("n"), n_a, n_a],
    ):
        yield reported("n", parts, life=9)
    yield reported("m", [provider("m"), n_a])
    refused: tuple[dict[str, Any], ...] = (
        {"a": 1.5},
        {"A": 1},
        {"a": "x" * 256},
        {f"a{n}": 1 for n in range(257)},
    )
    for attributes in refused:
        yield reported("n", [{"id": "n", "attributes": attributes}], life=9)
    for number, cores in enumerate((4, True)):
        yield reported("typed", [{"id": "typed", "attributes": {"cores": cores}}], sequence=number + 1)
    for number, overrides in enumerate(({"VCPU": {"total": 1}}, {"GPU_SHARE": {"reserved": 1}}, {"X": {}})):
        facts = {"overrides": overrides}
        yield event("facts.set.v1", {"provider": "f", "revision": 1, "facts": facts}, f"f-{number}")
    for id_, revision in (("f-a", 1), ("f-b", 1), ("f-c", 3)):
        yield event("facts.set.v1", {"provider": "f", "revision": revision, "facts": {}}, id_)


def _claims_refused() -> Iterator[bytes]:
    """Claims that are no claims, and one id for two of them."""
    soon = START_MS + 60_000
    for ask in (1.5, "4", True, None, [1]):
        yield claims(claim("r", "i", "n", {"VCPU": ask}, soon))
    yield claims(claim("r", "i", "n", {"vcpu": 1}, soon))
    yield claims(claim("r", "i", "n", {}, soon))
    yield claims(claim("r", "i", "n", {"VCPU": 1}, AMOUNT_MAX + 1))
    first, other = claim("twice", "i", "n", {"VCPU": 1}, soon), claim("twice", "j", "n", {"VCPU": 1}, soon)
    yield claims(first, other, first, other)


def _inventories() -> Iterator[dict[str, Any]]:
    """Invalid inventories, class by class."""
    yield {"NONSENSE": 1}
    for quantity in ({"total": -1}, {"total": 8, "reserved": 9}, {"total": 8, "min_unit": 9}, {"totals": 8}):
        yield {"VCPU": quantity}
    deep = {"1": {}, "2": {"parent": "1"}, "3": {"parent": "2"}}
    many = {"1": {f"a{number}": 1 for number in range(65)}}
    lists: tuple[Any, ...] = (
        [],
        {"a b": {}},
        {"1": 1},
        many,
        {"1": {"x": 1.5}},
        {"1": {"parent": "1"}},
        deep,
    )
    for devices in lists:
        yield {"PCI_DEVICE": {"devices": devices}}
    for types in ({}, {"t": 0}):
        yield {"VGPU": {"devices": {"1": {"types": types}}}}
    yield {"GPU_SHARE": {"devices": {"1": {"total": 0}}}}
    yield {"GPU_SHARE": 1000}
    for cell in (
        {"cores": [[0, 1], [1, 2]]},
        {"cores": [[0]], "shared_cpus": [0, 0]},
        {"cores": [list(range(CPUS_MAX + 1))]},
        {"hugepages": {"3": 1}},
        {"memory": 1},
    ):
        yield {"NUMA_CELL": cell}
