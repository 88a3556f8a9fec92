"""What ends at a log time, in the order in which it ends."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple


class Deadline(NamedTuple):
    """`at_ms` is the last log time at which the subject is still valid. `kind` is one byte; `subject` is a key."""

    at_ms: int
    kind: bytes
    subject: bytes


class Deadlines:
    """The deadlines that are set, earliest first; those of the same time by kind and subject."""

    def __init__(self) -> None:
        self._set: set[Deadline] = set()
        self._heap: list[Deadline] = []
        """It still has deadlines that were cleared, until their time comes."""

    def set(self, at_ms: int, kind: bytes, subject: bytes) -> None:
        """Set a deadline. The same deadline again changes nothing."""
        deadline = Deadline(at_ms, kind, subject)
        if deadline not in self._set:
            self._set.add(deadline)
            heapq.heappush(self._heap, deadline)

    def clear(self, at_ms: int, kind: bytes, subject: bytes) -> None:
        """Remove a deadline, if it is set."""
        self._set.discard(Deadline(at_ms, kind, subject))

    def take_past(self, now_ms: int) -> Iterator[Deadline]:
        """Take the deadlines before a log time, in order, as far as the caller iterates."""
        while self._heap and self._heap[0].at_ms < now_ms:
            deadline = heapq.heappop(self._heap)
            if deadline in self._set:
                self._set.discard(deadline)
                yield deadline
