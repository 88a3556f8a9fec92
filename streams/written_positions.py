"""A log that remembers up to where it was written through it, so that others can wait for these records."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vacancy.resources.model.record import NewRecord
from vacancy.streams.forwarding_log import ForwardingLog
from vacancy.streams.log import SEND_S, AppendedAt, Log, Receipt


class WrittenLog(ForwardingLog):
    """See `Log`; all calls go to `log`. `written` is the position after the acknowledged records: partition -> next offset, of the
    partitions that were written. `on_close` is called once, when this is closed."""

    def __init__(self, log: Log, on_close: Callable[[], None]) -> None:
        super().__init__(log)
        self._on_close = on_close
        self.written: dict[int, int] = {}
        self._closed = False

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """See `Log.send`."""
        return _WrittenReceipt(self._log.send(entries, timeout_s), self._note)

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 30.0) -> list[AppendedAt]:
        """See `Log.append`."""
        return self._note(self._log.append(entries, timeout_s))

    def _note(self, places: list[AppendedAt]) -> list[AppendedAt]:
        for one in places:
            self.written[one.partition] = max(self.written.get(one.partition, 0), one.offset + 1)
        return places

    def close(self) -> None:
        """See `Log.close`."""
        super().close()
        if not self._closed:
            self._closed = True
            self._on_close()


class _WrittenReceipt(Receipt):
    """The receipt of one `WrittenLog.send`."""

    def __init__(self, receipt: Receipt, note: Callable[[list[AppendedAt]], list[AppendedAt]]) -> None:
        self._receipt, self._note = receipt, note

    @property
    def done(self) -> bool:
        return self._receipt.done

    def wait(self, timeout_s: float = 30.0) -> list[AppendedAt]:
        return self._note(self._receipt.wait(timeout_s))
