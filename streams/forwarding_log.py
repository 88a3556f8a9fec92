"""A log that passes all calls on to another one: the base of logs that do something more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import SEND_S, Log, Receipt
from vacancy.streams.log_identity import LogIdentity


class ForwardingLog(Log):
    """See `Log`; all calls go to `log`. `append` sends with `send` and waits, as that of each log does."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.url, self.name, self.partitions, self.clock = log.url, log.name, log.partitions, log.clock

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """See `Log.send`."""
        return self._log.send(entries, timeout_s)

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`."""
        return self._log.read(partition, offset, limit, timeout_s)

    def unread(self, positions: Mapping[int, int]) -> Collection[int]:
        """See `Log.unread`."""
        return self._log.unread(positions)

    def wait(self, pause_s: float, longest_s: float) -> bool:
        """See `Log.wait`."""
        return self._log.wait(pause_s, longest_s)

    def start(self) -> dict[int, int]:
        """See `Log.start`."""
        return self._log.start()

    def end(self) -> dict[int, int]:
        """See `Log.end`."""
        return self._log.end()

    def offset_after(self, partition: int, time_ms: int) -> int:
        """See `Log.offset_after`."""
        return self._log.offset_after(partition, time_ms)

    def trim(self, partition: int, before: int) -> None:
        """See `Log.trim`."""
        self._log.trim(partition, before)

    def identity(self) -> LogIdentity:
        """See `Log.identity`."""
        return self._log.identity()

    def close(self) -> None:
        """See `Log.close`."""
        self._log.close()
