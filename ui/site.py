"""What the pages read: the tables of this host, tables of the past, and the log. Nothing here writes to any of them.

A reader of tables is for one thread. So there is one thread for all tables, one for reading the log, one that asks the log where it
ends, and one that makes tables of the past. Handlers of requests wait for them, and block nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, TypeVar

from vacancy.clients.past.historical_store import HistoricalStore, historical_store
from vacancy.clients.past.points import parse_point, point_text, resolve
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogError, UsageError, VacancyError
from vacancy.streams.log import Log, open_log
from vacancy.streams.settings import Settings
from vacancy.ui.health import SILENT_S, Health, HealthWatch
from vacancy.ui.nodes import FleetNodes
from vacancy.ui.rates import Rates

T = TypeVar("T")
Position = dict[int, int]

_PAST_OPEN_MAX: Final = 3
_LOG_S: Final = 3.0
_SOON_S: Final = 1.5
"""How long a request waits for tables of the past before it says that they are being made."""


class BeingMade(Exception):
    """The tables of the past are being made: `done` of `total` records are folded."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__(f"{done} of {total} records")
        self.done, self.total = done, total


@dataclass(frozen=True)
class SiteOptions:
    """How a site is shown. `redacted`: amounts only, no names. `silent_s`: see `health`. `flags` are the options that a command
    line needs to read the same store, for example `("--store", "/srv/store")`."""

    redacted: bool = False
    silent_s: float = SILENT_S
    flags: tuple[str, ...] = ()


class Tables:
    """The tables of now, or of one position, with what the pages keep beside them. For the thread of the tables."""

    def __init__(self, query: StoreQuery, silent_s: float) -> None:
        self.query = query
        self.reader: StoreReader = query.reader
        self.nodes = FleetNodes(query.reader)
        self.watch = HealthWatch(query.reader, self.nodes, silent_s)

    def health(self, ends: Mapping[int, int] | None) -> Health:
        """The strip of these tables."""
        return self.watch.look(ends, time.monotonic())


@dataclass
class _Making:
    """Tables that are being made. `progress` is (records done, in all)."""

    future: Future[HistoricalStore]
    progress: tuple[int, int] = (0, 0)


@dataclass
class _Past:
    store: HistoricalStore
    tables: Tables = field(repr=False)

    def close(self) -> None:
        self.tables.query.close()
        self.store.close()


class Site:
    """Opens the store at once, and the log when it is needed. Raises `StoreError` where there is no store."""

    def __init__(self, settings: Settings, registry: Registry, options: SiteOptions | None = None) -> None:
        self.settings, self.registry, self.options = settings, registry, options or SiteOptions()
        self._threads = {name: ThreadPoolExecutor(1, name) for name in ("tables", "log", "ends", "past")}
        self._logs: dict[str, Log] = {}
        self._listening = ExitStack()
        self._past: OrderedDict[str, _Past] = OrderedDict()
        self._making: dict[str, _Making] = {}
        self._begin_ms = 0
        self.rates = Rates()
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
        await self._past_tables(as_of)
        return await self._run("tables", self._read_past, as_of, function)

    def _read_now(self, function: Callable[[Tables], T]) -> T:
        self._now.reader.catch_up()
        return function(self._now)

    def _read_past(self, as_of: str, function: Callable[[Tables], T]) -> T:
        past = self._past.get(as_of)
        if past is None:  # closed meanwhile, because others were asked for
            raise BeingMade(0, 0)
        self._past.move_to_end(as_of)
        return function(past.tables)

    async def _past_tables(self, as_of: str) -> None:
        if as_of in self._past:
            return
        making = self._making.get(as_of)
        if making is None:
            making = self._making[as_of] = _Making(Future())
            making.future = self._threads["past"].submit(self._make, as_of, making)
        try:
            store = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(making.future)), _SOON_S)
        except TimeoutError:
            raise BeingMade(*making.progress) from None
        except VacancyError:
            self._making.pop(as_of, None)
            raise
        self._making.pop(as_of, None)
        await self._run("tables", self._open_past, as_of, store)

    def _make(self, as_of: str, making: _Making) -> HistoricalStore:
        def progress(done: int, total: int) -> None:
            making.progress = done, total

        position = parse_point(as_of).position
        if position is None:
            raise UsageError(f"{as_of!r} is not a position", do="write it as 0:7,1:1")
        return historical_store(self.settings, self.registry, dict(position), progress=progress)

    def _open_past(self, as_of: str, store: HistoricalStore) -> None:
        if as_of in self._past:
            return
        query = StoreQuery(store.path, self.registry, view_memory_mb=self.settings.view_memory_mb, still=True)
        self._past[as_of] = _Past(store, Tables(query, self.options.silent_s))
        while len(self._past) > _PAST_OPEN_MAX:
            self._past.popitem(last=False)[1].close()

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

    async def ask_ends(self) -> None:
        """Note where the log ends now."""
        try:
            self.ends = await self._run("ends", lambda: self._log("ends").end())
        except LogError:
            self.ends = None

    async def begin_ms(self) -> int:
        """The time of the first record that the log still has, in ms since 1970, UTC; 0 where it is not known."""
        if not self._begin_ms:
            try:
                self._begin_ms = await self.read_log(_begin_ms)
            except LogError:
                return 0
        return self._begin_ms

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
        """Wait for what is being read, then close everything."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
        while self._past:
            self._past.popitem()[1].close()
        self._listening.close()
        if hasattr(self, "_now"):
            self._now.query.close()
        for log in self._logs.values():
            log.close()


def _begin_ms(log: Log) -> int:
    ends = log.end()
    times = [
        records[0].timestamp_ms
        for partition, first in log.start().items()
        if first < ends[partition] and (records := log.read(partition, first, 1, _LOG_S))
    ]
    return min(times, default=0)
