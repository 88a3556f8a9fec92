"""A recorded log folded in memory, record by record, and what came up on the way."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from hashlib import blake2b
from typing import NamedTuple

from tests.recorded_logs.recording import Recording
from tests.support.models.memory_state import MemoryState
from vacancy.clients.replay_tool.replay import Digest
from vacancy.projections.store.digest import as_scan, partition_digest, store_digest
from vacancy.resources.fold.fold import fold
from vacancy.resources.state.tables import DEAD_LETTERS, VERDICTS


class DeadLetter(NamedTuple):
    """A record, or one claim of it, that was refused."""

    partition: int
    offset: int
    reason: str


class Folded(NamedTuple):
    """What a log says. `events` counts records by type, those alone that were no dead letters; `reasons` counts
    claims by the reason of their rejection, or `accepted`. `verdicts` is a hash of all rows of verdicts in the order
    of the log. Verdicts are deleted at their deadline, so they are taken when they are written."""

    digest: Digest
    events: Counter[str]
    reasons: Counter[str]
    verdicts: str
    dead_letters: list[DeadLetter]


def fold_in_memory(recording: Recording) -> Folded:
    """Fold a recording from its first record."""
    registry = recording.registry
    states: defaultdict[int, MemoryState] = defaultdict(MemoryState)
    events, reasons = Counter[str](), Counter[str]()
    verdicts = blake2b(digest_size=16)
    letters: list[DeadLetter] = []
    for record in recording.records:
        state = states[record.partition]
        changes = fold(state, record, registry)
        for key, row in sorted(changes.get(VERDICTS, {}).items()):
            if row is not None and row.offset >= 0:  # not where a release came before its claim
                reasons["accepted" if row.accepted else row.reason] += 1
                data = VERDICTS.encode(row)
                verdicts.update(b"%d %d " % (len(key), len(data)) + key + data)
        refused = [row for row in changes.get(DEAD_LETTERS, {}).values() if row is not None]
        letters += [DeadLetter(record.partition, row.offset, row.reason) for row in refused]
        if not refused:
            events[json.loads(record.value)["type"]] += 1
        state.commit(changes)
    digests = tuple(partition_digest(as_scan(states[p].items), registry) for p in sorted(states))
    digest = Digest(store_digest(digests), digests, recording.ends)
    return Folded(digest, events, reasons, verdicts.hexdigest(), letters)
