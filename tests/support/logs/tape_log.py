"""Records in memory as a log to read: with keys, partitions and timestamps that no log of ours would write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import SEND_S, Log, Receipt


class TapeLog(Log):
    """A log of these records, by partition. Nothing can be appended to it."""

    def __init__(self, records: Mapping[int, Sequence[Record]]) -> None:
        self.url = self.name = "memory://tape"
        self.partitions = len(records)
        self._records = records
        self.clock = LogClock(self.name)

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        raise LogError("the log is only read", where=self.url, do="append nothing to it")

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        return list(self._records[partition][offset : offset + limit])

    def start(self) -> dict[int, int]:
        return dict.fromkeys(self._records, 0)

    def end(self) -> dict[int, int]:
        return {partition: len(records) for partition, records in self._records.items()}

    def close(self) -> None:
        pass
