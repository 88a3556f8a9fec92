"""A log that starts with rules version 1 and activates version 2 midway, made of one that was recorded before.

After the activation come records of before it again: claims that version 1 judged, as they were and with other
content, and an event that neither version has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from tests.recorded_logs.recording import Recording, recorded
from tests.support.logs.events_json import event
from vacancy.resources.model.record import Record

AGAIN = 10
"""Records with claims that come a second time in each partition."""


def activated_midway(base: Recording, name: str, version: int) -> Recording:
    """The records of `base`, with an activation in the middle of each partition."""
    partitions: defaultdict[int, list[Record]] = defaultdict(list)
    for record in base.records:
        partitions[record.partition].append(record)
    made = {partition: _numbered(_activated(found, version)) for partition, found in partitions.items()}
    return recorded(name, made, base.plugins)


def _activated(records: list[Record], version: int) -> Iterator[Record]:
    before, after = records[: len(records) // 2], records[len(records) // 2 :]
    last = before[-1]
    rules = json.loads(records[0].value)["data"].get("rules", {})
    yield from before
    yield last._replace(value=event("rules.activated.v1", {**rules, "version": version}))
    claims = [one for one in before if b'"vacancy.claims.requested.v1"' in one.value][-AGAIN:]
    for one in claims:
        yield one._replace(timestamp_ms=last.timestamp_ms)
    changed = json.loads(claims[-1].value)
    for claim in changed["data"]["claims"]:
        claim["project"] = "another"
    yield claims[-1]._replace(timestamp_ms=last.timestamp_ms, value=json.dumps(changed).encode())
    yield last._replace(value=event("note.taken.v1", {"text": "of no version"}))
    yield from after


def _numbered(records: Iterator[Record]) -> list[Record]:
    return [record._replace(offset=offset) for offset, record in enumerate(records)]
