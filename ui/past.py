"""Tables of the past for the pages: made one after the other, and the last few kept open.

Making them can take minutes. So a request waits only for a moment, and says then that they are being made; those that nobody
asks for any more are given up, and only some may wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Final

from vacancy.clients.past.historical_store import HistoricalStore, Progress
from vacancy.resources.model.errors import VacancyError
from vacancy.ui.tables import Tables

_OPEN_MAX: Final = 3
_MAKING_MAX: Final = 8
"""Positions whose tables are made or wait to be made."""

_SOON_S: Final = 1.5
"""How long a request waits before it says that the tables are being made."""

_ASKED_S: Final = 180.0
"""Tables that nobody has asked for so long are not made. A page asks each second, in the background each minute."""


class BeingMade(Exception):
    """The tables of the past are being made: `done` of `total` records are folded."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__(f"{done} of {total} records")
        self.done, self.total = done, total


class Busy(VacancyError):
    """The tables of many points in time are being made already: try again later."""


class _GivenUp(Exception):
    """Nobody asks for these tables any more, or the site is closed."""


@dataclass
class _Making:
    """Tables that are being made. `progress` is (records done, in all); `error` is why they cannot be made."""

    asked_s: float
    progress: tuple[int, int] = (0, 0)
    error: Exception | None = None
    future: Future[None] = field(default_factory=Future)


@dataclass(frozen=True)
class _Open:
    store: HistoricalStore
    tables: Tables

    def close(self) -> None:
        self.tables.query.close()
        self.store.close()


class PastTables:
    """The tables of positions as text. `make` makes a store in the thread of `makers`; `open_` opens it in the thread of
    `readers`, where `read` must be called, too."""

    def __init__(
        self,
        make: Callable[[str, Progress], HistoricalStore],
        open_: Callable[[HistoricalStore], Tables],
        *,
        makers: Executor,
        readers: Executor,
    ) -> None:
        self._make_store, self._open_tables = make, open_
        self._makers, self._readers = makers, readers
        self._opened: OrderedDict[str, _Open] = OrderedDict()
        self._making: dict[str, _Making] = {}
        self._stopped = False

    async def wait(self, as_of: str) -> None:
        """Wait for the tables of a position. Raises `BeingMade` where they are not there soon, `Busy` where too many others
        wait, and why they cannot be made."""
        if as_of in self._opened:
            return
        making = self._making.get(as_of) or self._begin(as_of)
        making.asked_s = time.monotonic()
        await asyncio.wait([asyncio.wrap_future(making.future)], timeout=_SOON_S)
        if making.error is not None:
            self._making.pop(as_of, None)
            raise making.error
        if as_of not in self._opened:
            raise BeingMade(*making.progress)

    def _begin(self, as_of: str) -> _Making:
        for name in [name for name, one in self._making.items() if one.error is not None]:
            if len(self._making) >= _MAKING_MAX:
                del self._making[name]  # nobody came back for its error
        if len(self._making) >= _MAKING_MAX:
            raise Busy(
                "tables of many points in time are being made", do="try again when those before are there"
            )
        making = self._making[as_of] = _Making(time.monotonic())
        making.future = self._makers.submit(self._make, as_of, making)
        return making

    def _make(self, as_of: str, making: _Making) -> None:
        """Make the tables and open them. It raises nothing: what went wrong is kept for those who ask."""

        def progress(done: int, total: int) -> None:
            making.progress = done, total
            if self._stopped or time.monotonic() - making.asked_s > _ASKED_S:
                raise _GivenUp

        try:
            progress(0, 0)
            store = self._make_store(as_of, progress)
            try:
                self._readers.submit(self._open, as_of, store).result()
            except BaseException:
                store.close()
                raise
        except _GivenUp:
            pass
        except Exception as error:
            making.error = error
            return
        self._making.pop(as_of, None)

    def _open(self, as_of: str, store: HistoricalStore) -> None:
        self._opened[as_of] = _Open(store, self._open_tables(store))
        while len(self._opened) > _OPEN_MAX:
            self._opened.popitem(last=False)[1].close()

    def read(self, as_of: str) -> Tables:
        """The tables of a position that `wait` waited for."""
        found = self._opened.get(as_of)
        if found is None:  # closed meanwhile, because others were asked for
            raise BeingMade(0, 0)
        self._opened.move_to_end(as_of)
        return found.tables

    def stop(self) -> None:
        """Make no more tables."""
        self._stopped = True

    def close(self) -> None:
        """Close the tables, when both threads have ended."""
        while self._opened:
            self._opened.popitem()[1].close()
