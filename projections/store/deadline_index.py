"""What waits for log time, in order, without reading over what is gone already.

RocksDB keeps a marker for each deleted key until compaction, and an iterator steps over all of them. The queue
therefore remembers up to where it has emptied the table (`_floor`) and begins there, and it asks RocksDB only
when the next deadline it knows has come. A fold in bulk deletes many before it commits: what is only staged as deleted is
stepped over once (`_passed`; what is staged again is in the heap). Where many deadlines are due, the rules end some of them at each record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

from rocksdict import Rdict

from vacancy.projections.store.rocksdb import scan_keys
from vacancy.resources.model.limits import NO_LIMIT

NEVER = 2**63 - 1


class DeadlineIndex:
    """The `DEADLINES` family (keys begin with milliseconds, big-endian), with what is staged but not written."""

    def __init__(self, db: Rdict) -> None:
        self._db = db
        self._staged: dict[bytes, bool] = {}
        self._heap: list[bytes] = []
        self._floor = self._passed = _bound(0)
        self._returned: list[bytes] = []
        self._next = self._first_written()

    def due(self, until_ms: int, most: int = NO_LIMIT) -> list[bytes]:
        """Keys up to and including `until_ms`, ascending: the first `most` of them. The caller deletes all that are
        returned, or the first of them."""
        if self._returned:
            self._pass_deleted()
        if until_ms < self._next:
            return []
        end = _bound(until_ms + 1)
        found: set[bytes] = set()
        for key in self._written(end):
            if self._staged.get(key, True):
                found.add(key)
                if len(found) == most:
                    break
        popped: set[bytes] = set()
        while self._heap and self._heap[0] < end and len(popped) < most:
            key = heappop(self._heap)
            if self._staged.get(key):
                popped.add(key)
        for one in popped:
            heappush(self._heap, one)  # the caller may leave it for later
        self._returned = sorted(found | popped)[:most]
        if self._returned:
            self._next = _time(self._returned[0])
        else:
            self._set_next(end)
        return list(self._returned)

    def stage(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Deadlines were set or, where there is None, taken away."""
        for key, row in rows.items():
            self._staged[key] = there = row is not None
            if there:
                heappush(self._heap, key)
                if key < self._floor:  # what is due may be put back, to continue at the next record
                    self._floor = key
        if self._heap:
            self._next = min(self._next, _time(self._heap[0]))

    def commit(self) -> None:
        """What was staged is in the table now."""
        self._pass_deleted()
        self._staged, self._heap = {}, []
        self._passed = _bound(0)

    def abandon(self) -> None:
        """Forget what was staged and what was returned as due: the table has what waits."""
        self._staged, self._heap, self._returned = {}, [], []
        self._floor = self._passed = _bound(0)
        self._next = self._first_written()

    def next_ms(self) -> int | None:
        """The earliest deadline. It may be one that was taken away: then it passes and nothing happens."""
        self._pass_deleted()
        return None if self._next == NEVER else self._next

    def _pass_deleted(self) -> None:
        """Move the floor past the first of the returned deadlines that were deleted since."""
        count = 0
        for key in self._returned:
            if self._staged.get(key, True):
                break
            count += 1
        if count:
            floor = self._returned[count - 1] + b"\0"  # the first key after it
            del self._returned[:count]
            if self._heap:
                floor = min(floor, self._heap[0])  # set by the same record, and before what it ended
            if self._returned:
                self._floor, self._next = floor, min(_time(floor), _time(self._returned[0]))
            else:
                self._set_next(floor)

    def _set_next(self, floor: bytes) -> None:
        """Nothing waits before `floor`."""
        self._floor = max(self._floor, floor)
        while self._heap and not self._staged.get(self._heap[0]):
            heappop(self._heap)
        self._next = self._first_written()
        if self._heap:
            self._next = min(self._next, _time(self._heap[0]))

    def _first_written(self) -> int:
        for key in self._written(None):
            if self._staged.get(key, True):
                self._passed = key
                return _time(key)
        self._passed = _bound(NEVER)
        return NEVER

    def _written(self, end: bytes | None) -> Iterator[bytes]:
        for key in scan_keys(self._db, max(self._floor, self._passed)):
            if end is not None and key >= end:
                return
            yield key


def _time(key: bytes) -> int:
    return int.from_bytes(key[:8], "big")


def _bound(ms: int) -> bytes:
    return min(ms, NEVER).to_bytes(8, "big")
