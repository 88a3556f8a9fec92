"""Queries of the past for programs: the positions that were asked last are kept open, so that asking again is as fast as
asking the present."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from vacancy.clients.past.historical_store import HistoricalStore, HistoricalStores, Progress, open_stores
from vacancy.clients.past.points import Point, parse_point, resolve
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.resources.classes.registry import Registry
from vacancy.streams.log import Log, open_log

if TYPE_CHECKING:
    from vacancy.streams.settings import Settings

OPEN_MAX = 4
"""Positions that are kept open unless another number is given. Each needs the memory of a reader."""


class _Kept(NamedTuple):
    store: HistoricalStore
    query: StoreQuery

    def close(self) -> None:
        self.query.close()
        self.store.close()


class PastQueries:
    """The past of a log. `at` returns a `StoreQuery` of the tables as they were at a point. It is for one thread.

    `stores` makes the tables. The queries of the last `open_max` positions are kept open; when there are more, the
    least recently asked one is closed. `view_memory_mb` bounds the memory of each (`StoreReader`).
    """

    def __init__(
        self,
        log: Log,
        stores: HistoricalStores,
        registry: Registry,
        *,
        open_max: int = OPEN_MAX,
        view_memory_mb: int | None = None,
    ) -> None:
        self._log, self._stores, self._registry = log, stores, registry
        self._open_max, self._view_memory_mb = max(1, open_max), view_memory_mb
        self._kept: OrderedDict[tuple[int, ...], _Kept] = OrderedDict()
        self._opened = ExitStack()

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, open_max: int = OPEN_MAX) -> Self:
        """The past of the log in `settings`: those in force (`load_settings`) where None are given. `close` closes the log.
        Raises `LogError` and `LogUnavailable` where it cannot be opened."""
        from vacancy.clients.runtime.bootstrap import installed_registry
        from vacancy.streams.settings import load_settings

        used = load_settings() if settings is None else settings
        registry = installed_registry()
        log = open_log(used.log, **used.log_options)
        try:
            stores = open_stores(log, used, registry)
            made = cls(log, stores, registry, open_max=open_max, view_memory_mb=used.view_memory_mb)
        except BaseException:
            log.close()
            raise
        made._opened.callback(log.close)
        return made

    def at(self, as_of: str | Point | Mapping[int, int], progress: Progress | None = None) -> StoreQuery:
        """The tables as of a point: text (`0:7,1:1`, `2026-11-28T13:14:33Z`, `-2h`), a parsed one, or a position of all
        partitions. Its answers carry the position. It is closed when it is no longer kept, so ask again instead of keeping it.
        Raises as `parse_point`, `resolve` and `HistoricalStores.at` do."""
        position = self._position(as_of)
        key = tuple(offset for _, offset in sorted(position.items()))
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = self._open(position, progress)
            while len(self._kept) > self._open_max:
                self._kept.popitem(last=False)[1].close()
        self._kept.move_to_end(key)
        return kept.query

    def _position(self, as_of: str | Point | Mapping[int, int]) -> Mapping[int, int]:
        """The whole position of a point. For one that names all partitions the log is not asked."""
        point = parse_point(as_of) if isinstance(as_of, str) else as_of
        position = point.position if isinstance(point, Point) else point
        if position is not None and sorted(position) == list(range(self._log.partitions)):
            return position
        return resolve(point if isinstance(point, Point) else Point("", position=position), self._log)

    def _open(self, position: Mapping[int, int], progress: Progress | None) -> _Kept:
        store = self._stores.at(position, progress)
        try:
            memory_mb = self._view_memory_mb
            return _Kept(store, StoreQuery(store.path, self._registry, view_memory_mb=memory_mb, still=True))
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close all queries, and the log if `from_settings` opened it."""
        while self._kept:
            self._kept.popitem()[1].close()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
