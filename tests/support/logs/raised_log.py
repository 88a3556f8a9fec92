"""A log of one partition whose rules are raised while it is folded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import (
    Tape,
    claim,
    claims,
    event,
    opened,
    provider,
    reported,
    rules_in_steps,
)
from tests.support.models.memory_state import MemoryState
from vacancy.clients.auditor.auditor import AuditReport, audit
from vacancy.resources.fold.fold import fold
from vacancy.resources.state.rows import AllocationRow, PartitionRow, VerdictRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    PARTITION,
    PARTITION_KEY,
    VERDICTS,
    dead_letter_key,
)

CELL = "auto-0"


class RaisedLog:
    """The log, folded after each record by the rules of this build."""

    def __init__(self, version: int = 3, classes: Sequence[str] = ("PORTS",)) -> None:
        self.tape, self.state = Tape(version=version), MemoryState()
        records = self.tape.records[0]
        records[0] = records[0]._replace(value=opened(classes=classes, version=version))
        self._count = 0
        self._fold()

    def _fold(self) -> None:
        position = getattr(self, "position", 0)
        for record in self.tape.records[0][position:]:
            self.state.commit(fold(self.state, record, REGISTRY))
        self.position = len(self.tape.records[0])

    def say(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event, and fold it."""
        self.put(event(kind, data, f"e{self.position}"))

    def put(self, value: bytes) -> None:
        """Append a record, and fold it."""
        self.tape.append(CELL, value)
        self._fold()

    def raise_rules(self, version: int = 4) -> None:
        """Raise the rules as `vacancy rules activate` does."""
        if self.partition.rules_version < 3:
            self.say("rules.activated.v1", {"version": version, "classes": ["PORTS"]})
        else:
            for value in rules_in_steps(version, ["PORTS"]):
                self.put(value)
        assert self.partition.rules_version == version, self.letters()

    def report(self, root: str = "n1", sequence: int = 1, **classes: Any) -> None:
        """A full report of a node with one provider."""
        self.put(reported(root, [provider(root, **(classes or {"VCPU": 10}))], sequence=sequence))

    def claim(self, consumer: str, resources: Any = 1, *, on: str = "n1", **more: Any) -> VerdictRow:
        """A claim for VCPU or other resources; the claim's id is `c-CONSUMER`. Returns the verdict."""
        asked = {"VCPU": resources} if isinstance(resources, int) else resources
        id_ = more.pop("id_", f"c-{consumer}")
        self.put(claims(claim(id_, consumer, on, asked, self.tape.now_ms + 60_000, **more)))
        return self.verdict(id_)

    def move(self, consumer: str, resources: Any = 1, *, on: str = "n1", **more: Any) -> VerdictRow:
        """A replacement of what a consumer holds."""
        held = self.held(consumer)
        assert held is not None
        asked = {"VCPU": resources} if isinstance(resources, int) else resources
        self._count += 1
        id_ = f"m{self._count}-{consumer}"
        found = claim(id_, consumer, on, asked, self.tape.now_ms + 60_000, **more)
        self.say(
            "consumer.replaced.v3", {**found, "replaces": held.claim, "consumer_generation": held.generation}
        )
        return self.verdict(id_)

    def release(self, *consumers: str) -> None:
        """Consumers give back all."""
        found = {name: self.held(name) for name in consumers}
        releases = [{"consumer": name, "claim": held.claim} for name, held in found.items() if held]
        self.say("consumers.released.v1", {"releases": releases})

    def update(self, consumer: str, **changes: Any) -> None:
        """Another project, user or type."""
        held = self.held(consumer)
        assert held is not None
        self.say("consumer.updated.v1", {"consumer": consumer, "claim": held.claim, **changes})

    def count(self, *consumers: str) -> None:
        """Count what these consumers hold."""
        self.say("quota.counted.v1", {"consumers": list(consumers)})

    def held(self, consumer: str) -> AllocationRow | None:
        """What a consumer holds."""
        return self.state.get(ALLOCATIONS, f"{CELL}\0{consumer}".encode())

    def verdict(self, claim_id: str) -> VerdictRow:
        """The verdict on a claim."""
        found = self.state.get(VERDICTS, f"{CELL}\0{claim_id}".encode())
        assert found is not None, self.letters()
        return found

    @property
    def partition(self) -> PartitionRow:
        """The row of the partition."""
        found = self.state.get(PARTITION, PARTITION_KEY)
        assert found is not None
        return found

    def letters(self) -> list[str]:
        """The reasons of all dead letters, in order."""
        rows = (self.state.get(DEAD_LETTERS, dead_letter_key(n)) for n in range(self.partition.dead_letters))
        return [row.reason for row in rows if row is not None]

    def audit(self) -> AuditReport:
        """What the auditor finds."""
        return audit(self.tape.records, self.verdicts())

    def verdicts(self) -> list[dict[str, Any]]:
        """All verdicts, as a store exports them for the auditor."""
        found = []
        for key, row in self.state.rows(VERDICTS):
            cell, _, id_ = key.decode().partition("\0")
            one = {"claim": id_, "cell": cell, "partition": 0, "offset": row.offset, "accepted": row.accepted}
            found.append({**one, "reason": row.reason, "grants": [part._asdict() for part in row.grants]})
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]
