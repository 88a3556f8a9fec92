"""What the pages read: the tables of this host, tables of the past, and the log. Nothing here writes to any of them.

A reader of tables is for one thread. So there is one thread for all tables, one for short reads of the log, one for long ones, one
that asks the log where it ends, and one that makes tables of the past. Handlers of requests wait for them, and block nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, TypeVar

from vacancy.clients.past.historical_store import HistoricalStore, Progress, historical_store
from vacancy.clients.past.points import parse_point, point_text, resolve
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogError, UsageError, VacancyError
from vacancy.streams.log import Log, open_log
from vacancy.streams.settings import Settings
from vacancy.ui.health import SILENT_S
from vacancy.ui.latency import LatencyWatch
from vacancy.ui.past import PastTables
from vacancy.ui.rates import Rates
from vacancy.ui.tables import Tables

T = TypeVar("T")
Position = dict[int, int]

_LOG_S: Final = 3.0
_BEGIN_AGAIN_S: Final = 60.0
"""How often it looks for the first record that the log still has: old ones are deleted."""

_SEARCH_S: Final = 30.0
"""How long one request may read the log."""


class TookTooLong(VacancyError):
    """A search in the log was given up."""


_THREADS: Final = ("tables", "log", "search", "ends", "past")


@dataclass(frozen=True)
class SiteOptions:
    """How a site is shown. `redacted`: amounts only, no names. `silent_s`: see `health`. `flags` are the options that a command
    line needs to read the same store, for example `("--store", "/srv/store")`."""

    redacted: bool = False
    silent_s: float = SILENT_S
    flags: tuple[str, ...] = ()


class Site:
    """Opens the store at once, and the log when it is needed. Raises `StoreError` where there is no store."""

    def __init__(self, settings: Settings, registry: Registry, options: SiteOptions | None = None) -> None:
        self.settings, self.registry, self.options = settings, registry, options or SiteOptions()
        self._threads = {name: ThreadPoolExecutor(1, name) for name in _THREADS}
        self._logs: dict[str, Log] = {}
        self._listening = ExitStack()
        self._past = PastTables(
            self._make, self._open_past, makers=self._threads["past"], readers=self._threads["tables"]
        )
        self._closing = False
        self._begin_s = -_BEGIN_AGAIN_S
        self.begin_ms = 0
        """The time of the first record that the log still has, in ms since 1970, UTC; 0 where it is not known."""
        self.rates = Rates()
        self.latency = LatencyWatch(() if self.options.redacted else settings.schedulers)
        self.ends: Position | None = None
        """Where the log ended when it was asked last; None where it did not answer."""
        try:
            self._now = self._threads["tables"].submit(self._open_now).result()
        except BaseException:
            self.close()
            raise

    def _open_now(self) -> Tables:
        query = StoreQuery(self.settings.store, self.registry, view_memory_mb=self.settings.view_memory_mb)
        tables = Tables(query, self.options.silent_s)
        self._listening.enter_context(query.reader.listening(self.rates.count))
        names = tables.nodes.classes()
        if names:  # so that the first view need not wait for it
            tables.nodes.amounts(names[0], tables.nodes.index())
        return tables

    # -- tables -----------------------------------------------------------------------------------------------------

    async def read(self, as_of: str, function: Callable[[Tables], T]) -> T:
        """What a function finds in the tables: those of now, or of a position as text. Raises `BeingMade` where they are not
        there yet, and what the function and `historical_store` raise."""
        if not as_of:
            return await self._run("tables", self._read_now, function)
        await self._past.wait(as_of)
        return await self._run("tables", lambda: function(self._past.read(as_of)))

    def _read_now(self, function: Callable[[Tables], T]) -> T:
        self._now.reader.catch_up()
        return function(self._now)

    def _make(self, as_of: str, progress: Progress) -> HistoricalStore:
        position = parse_point(as_of).position
        if position is None:
            raise UsageError(f"{as_of!r} is not a position", do="write it as 0:7,1:1")
        return historical_store(self.settings, self.registry, dict(position), progress=progress)

    def _open_past(self, store: HistoricalStore) -> Tables:
        query = StoreQuery(store.path, self.registry, view_memory_mb=self.settings.view_memory_mb, still=True)
        return Tables(query, self.options.silent_s)

    # -- the log ------------------------------------------------------------------------------------------------------

    async def position_of(self, point: str) -> str:
        """The position that a point in time stands for, as text; '' for ''. Raises as `parse_point` and `resolve` do."""
        if not point:
            return ""
        parsed = parse_point(point)
        return point_text(await self.read_log(lambda log: resolve(parsed, log)))

    async def read_log(self, function: Callable[[Log], T]) -> T:
        """What a function finds in the log. Raises `LogError` where it cannot be read, and what the function raises."""
        return await self._run("log", lambda: function(self._log("log")))

    async def search_log(self, function: Callable[[Log, Callable[[], None]], T]) -> T:
        """As `read_log`, for functions that may read much: others do not wait for them. They call what they are given now and
        again, which raises `TookTooLong` when it is time to stop."""

        until_s = time.monotonic() + _SEARCH_S

        def search() -> T:
            def go_on() -> None:
                if self._closing or time.monotonic() > until_s:
                    raise TookTooLong(
                        f"the search in the log was given up after {_SEARCH_S:.0f} s",
                        do="ask for less, or use the command line: `vacancy history`, `vacancy log tail`",
                    )

            return function(self._log("search"), go_on)

        return await self._run("search", search)

    async def ask_ends(self) -> None:
        """Note where the log ends now, and now and again where it begins."""
        try:
            self.ends = await self._run("ends", self._ask_ends)
        except VacancyError:
            self.ends = None

    def _ask_ends(self) -> dict[int, int]:
        log, now_s = self._log("ends"), time.monotonic()
        ends = log.end()
        if now_s - self._begin_s >= _BEGIN_AGAIN_S or not self.begin_ms:
            self.begin_ms, self._begin_s = _begin_ms(log, ends), now_s
        return ends

    def _log(self, thread: str) -> Log:
        """The log that one thread reads."""
        if thread not in self._logs:
            opened = open_log(self.settings.log, _LOG_S, **self.settings.log_options)
            try:
                if opened.identity().log != self._now.reader.manifest.log:
                    raise LogError(
                        "the store was folded from another log",
                        where=self.settings.log,
                        do="give its own log with --log",
                    )
            except BaseException:
                opened.close()
                raise
            self._logs[thread] = opened
        return self._logs[thread]

    # -- threads ------------------------------------------------------------------------------------------------------

    async def _run(self, thread: str, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads[thread], function, *arguments)

    def close(self) -> None:
        """Wait for what is being read, then close everything. Searches and tables of the past are given up."""
        self._closing = True
        self._past.stop()
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
        self._past.close()
        self._listening.close()
        if hasattr(self, "_now"):
            self._now.query.close()
        for log in self._logs.values():
            log.close()


def _begin_ms(log: Log, ends: Position) -> int:
    times = [
        records[0].timestamp_ms
        for partition, first in log.start().items()
        if first < ends[partition] and (records := log.read(partition, first, 1, _LOG_S))
    ]
    return min(times, default=0)
