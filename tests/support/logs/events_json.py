"""Events as plain JSON, made without the product's models, and an in-memory log of records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import Record

START_MS = 1_800_000_000_000
"""Log time at the start of every test log."""

LOG = "the-log"


def event(type_: str, data: Mapping[str, Any], id_: str = "e") -> bytes:
    """The value of a record; `type_` without the common prefix, for example `node.reported.v1`."""
    return json.dumps(
        {"specversion": "1.0", "type": f"vacancy.{type_}", "id": id_, "source": "/tests", "data": data}
    ).encode()


def opened(
    partition: int = 0, partitions: int = 1, classes: Sequence[str] = ("PORTS",), version: int = 1
) -> bytes:
    """The first record of a partition. `version` is that of its rules."""
    rules = {"version": version, "classes": list(classes)}
    return event(
        "log.opened.v1", {"log": LOG, "partition": partition, "partitions": partitions, "rules": rules}
    )


def provider(
    id_: str, parent: str | None = None, traits: Sequence[str] = (), **classes: Any
) -> dict[str, Any]:
    """A provider of a report; an integer means an inventory with that total."""
    inventories = {name: {"total": i} if isinstance(i, int) else i for name, i in classes.items()}
    return {"id": id_, "parent": parent, "inventories": inventories, "traits": list(traits)}


def reported(root: str, providers: Sequence[Any], *, life: int = 1, sequence: int = 1, **more: Any) -> bytes:
    """A full report. `life` is the number of the node's incarnation."""
    data = {"root": root, "incarnation": f"{life:016x}", "sequence": sequence, "providers": list(providers)}
    return event("node.reported.v1", {**data, **more})


def claim(
    id_: str, consumer: str, provider_: str, resources: Mapping[str, Any], deadline_ms: int, **more: Any
) -> dict[str, Any]:
    """A claim for one allocation; `allocations` in `more` replaces it."""
    allocations = [{"provider": provider_, "resources": dict(resources)}]
    whole = {"id": id_, "consumer": consumer, "allocations": allocations, "deadline_ms": deadline_ms, **more}
    return {name: value for name, value in whole.items() if value is not None}


def claims(*them: Mapping[str, Any]) -> bytes:
    """A record with these claims."""
    return event("claims.requested.v1", {"claims": list(them)})


def released(consumer: str, claim_: str, deadline_ms: int | None = None) -> bytes:
    """A record that releases or cancels one claim."""
    one = {"consumer": consumer, "claim": claim_, "deadline_ms": deadline_ms}
    return event("consumers.released.v1", {"releases": [one]})


def rules_in_steps(version: int, classes: Sequence[str] = ()) -> list[bytes]:
    """The records that raise the rules from version 3 on: proposed, supported by a store, activated."""
    rules = {"version": version, "classes": list(classes)}
    return [
        event("rules.proposed.v1", rules, "the-proposal"),
        event("rules.supported.v1", {"proposal": "the-proposal", "store": "a-newer-store"}),
        event("rules.activated.v1", rules),
    ]


def cells_of(partitions: int) -> tuple[str, ...]:
    """One cell per partition, and another cell in the first partition."""
    first = next(f"b{n}" for n in range(1000) if partition_for(f"b{n}", partitions) == 0)
    return (*covering_cells(partitions), first)


class Tape:
    """An in-memory log: records by partition. `version` is that of the rules it starts with."""

    def __init__(self, partitions: int = 1, *, version: int = 1) -> None:
        self.cells = cells_of(partitions)
        self.now_ms = START_MS
        self.records: dict[int, list[Record]] = {p: [] for p in range(partitions)}
        for partition in range(partitions):
            self.append(self.cells[partition], opened(partition, partitions, version=version))

    def append(self, cell: str, value: bytes) -> Record:
        """Append one record to the partition of its cell."""
        partition = partition_for(cell, len(self.records))
        there = self.records[partition]
        record = Record(partition, len(there), self.now_ms, cell.encode(), value)
        there.append(record)
        return record
