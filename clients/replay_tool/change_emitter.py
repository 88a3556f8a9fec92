"""One side of a comparison of two builds: folds what it is asked to, and answers with hashes of the rows that changed.

Requests and answers are JSON objects, one a line. Version 1 of the protocol:

| request | answer |
|---|---|
| (at the start) | `{"protocol": 1, "build": VERSION, "position": {PARTITION: OFFSET}}` |
| `{"fold": PARTITION, "end": OFFSET}` | Keep what was folded before, and fold up to OFFSET: `{"position": OFFSET, "changes": HASH}` |
| `{"records": PARTITION}` | Fold the same records again: `{"records": [HASH of each]}` |
| `{"rows": PARTITION, "at": OFFSET}` | The rows that this record changes: `{"rows": [{"table", "key", "hash", "row"}]}`; without a row `hash` and `row` are null |

Where a record cannot be folded, `position` is its offset, and `error` the reason; `records` ends before it. Hashes of single
records and `rows` leave out rows that are written again as they were: two builds may differ in that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from vacancy.clients.replay_tool.replay import BATCH
from vacancy.clients.replay_tool.row_text import comparable_bytes, key_text, row_fields
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.projections.store.metadata import checksum
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import Halt, LogError, UsageError
from vacancy.resources.model.record import Record
from vacancy.resources.state.transaction import Changes
from vacancy.streams.log import Log

PROTOCOL: Final = 1


def emit_changes(
    log: Log, store: Path, registry: Registry, requests: Iterable[str], send: Callable[[str], None]
) -> None:
    """Answer requests until there are no more. Raises as `open_store` and `fold_up_to` do, and `UsageError` for a line that is
    no request."""
    with open_store(store, log, registry, bulk=True) as tables:
        spare_collector()
        emitter = ChangeEmitter(log, tables)
        position = {str(p): offset for p, offset in tables.position().items()}
        for partition in tables.opened:
            tables.release(partition)  # another process of this build may fold it
        send(json.dumps({"protocol": PROTOCOL, "build": version("vacancy"), "position": position}))
        for line in requests:
            send(json.dumps(emitter.answer(_parsed(line))))


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(
            "a line is no request of `vacancy replay --against`", do="compare builds with that command"
        )
    return found


class ChangeEmitter:
    """Folds the records of `log` into `store`, and keeps the last batch of each partition apart until the next is asked for, so
    that it can be folded again."""

    def __init__(self, log: Log, store: Store) -> None:
        self._log, self._store = log, store
        self._batches: dict[int, list[Record]] = {}
        self._folded: dict[int, int] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        if "fold" in request:
            return self._fold(int(request["fold"]), int(request["end"]))
        if "records" in request:
            partition = int(request["records"])
            return {"records": [_hash(changes).hexdigest() for _, changes in self._again(partition)]}
        partition, at = int(request["rows"]), int(request["at"])
        for record, changes in self._again(partition):
            if record.offset == at:
                return {"rows": list(_rows(changes))}
        return {"rows": []}

    def _fold(self, partition: int, end: int) -> dict[str, Any]:
        self._keep(partition)
        position = self._store.partition(partition).local.position
        batch = self._batches[partition] = self._read(partition, position, end)
        tables, store = self._store.partition(partition), self._store
        whole, folded, error = blake2b(digest_size=16), 0, None
        for record in batch:
            try:
                changes = fold(tables, record, store.registry, store.versions)
            except Halt as halt:
                error = str(halt)
                break
            _add(whole, changes)
            tables.stage(changes)
            folded += 1
        self._folded[partition] = folded
        found = {"position": position + folded, "changes": whole.hexdigest()}
        return found if error is None else {**found, "error": error}

    def _read(self, partition: int, position: int, end: int) -> list[Record]:
        found: list[Record] = []
        while position + len(found) < end:
            at = position + len(found)
            records = self._log.read(partition, at, min(BATCH, end - at), timeout_s=10.0)
            if not records:
                raise LogError(
                    f"the log ends at offset {at}, before {end}",
                    where=f"{self._log.name}, partition {partition}",
                    do="give an earlier position, or restore the log",
                )
            found += records
        return found

    def _keep(self, partition: int) -> None:
        """Commit the last batch."""
        batch, folded = self._batches.pop(partition, []), self._folded.pop(partition, 0)
        if folded:
            last, tables = batch[folded - 1], self._store.partition(partition)
            tables.commit(last.offset + 1, self._store.log_time_ms(partition), checksum(last))

    def _again(self, partition: int) -> Iterator[tuple[Record, Changes]]:
        """Fold the last batch again: each record with the rows that are others after it."""
        tables, store = self._store.partition(partition), self._store
        tables.abandon()
        for record in self._batches.get(partition, ())[: self._folded.get(partition, 0)]:
            changes = fold(tables, record, store.registry, store.versions)
            yield (
                record,
                {
                    table: {
                        key: row
                        for key, row in rows.items()
                        if comparable_bytes(table, row) != comparable_bytes(table, tables.get(table, key))
                    }
                    for table, rows in changes.items()
                },
            )
            tables.stage(changes)


def _hash(changes: Changes) -> Any:
    found = blake2b(digest_size=16)
    _add(found, changes)
    return found


def _add(whole: Any, changes: Changes) -> None:
    for table, rows in sorted(changes.items(), key=lambda one: one[0].name):
        name = table.name.encode()
        for key, row in sorted(rows.items()):
            data = comparable_bytes(table, row)
            size = 2**32 - 1 if data is None else len(data)
            whole.update(b"%d %d %d " % (len(name), len(key), size) + name + key + (data or b""))


def _rows(changes: Changes) -> Iterator[dict[str, Any]]:
    for table, rows in sorted(changes.items(), key=lambda one: one[0].name):
        for key, row in sorted(rows.items()):
            data = comparable_bytes(table, row)
            hashed = None if data is None else blake2b(data, digest_size=16).hexdigest()
            yield {"table": table.name, "key": key_text(key), "hash": hashed, "row": row_fields(row)}
