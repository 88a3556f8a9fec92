"""The tail of the log: its newest records, or those up to a position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vacancy.clients.history.log_reading import RecordFilter, newest
from vacancy.clients.history.record_view import RecordView, view_record
from vacancy.clients.past.points import parse_point
from vacancy.resources.model.errors import UsageError
from vacancy.streams.log import Log
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site

_SHOWN, _SHOWN_MAX = 50, 500


@dataclass(frozen=True)
class _Patient(RecordFilter):
    """A filter that calls `go_on` for each record: there may be millions before the first that is wanted."""

    go_on: Callable[[], None] = lambda: None

    def passes(self, value: bytes) -> bool:
        self.go_on()
        return super().passes(value)


async def page(site: Site, ask: Ask) -> Page:
    """The newest records, the newest first."""
    count = ask.count("limit", _SHOWN, _SHOWN_MAX)
    type_, partition = ask.get("type"), ask.partition()
    until = parse_point(ask.as_of).position if ask.as_of else None

    def read(log: Log, go_on: Callable[[], None]) -> list[RecordView]:
        wanted = _Patient(types=frozenset((type_,)), go_on=go_on) if type_ else RecordFilter()
        if partition is not None and partition >= log.partitions:
            raise UsageError(f"there is no partition {partition}", do=f"choose 0 to {log.partitions - 1}")
        partitions = None if partition is None else (partition,)
        found = newest(log, count, until=until, partitions=partitions, wanted=wanted)
        return [view_record(one.record) for one in reversed(found)]

    if type_:
        found = await site.search_log(read)
    else:
        found = await site.read_log(lambda log: read(log, lambda: None))
    health = await site.read(ask.as_of, lambda tables: tables.health(site.ends))
    of = ("--type", type_) if type_ else ()
    in_one = () if partition is None else ("--partition", str(partition))
    return Page(
        "log",
        "Log",
        [one.as_json() for one in found],
        ("log", "tail", *of, *in_one, "--count", str(count)),
        {"health": health, "records": found, "type": type_, "partition": ask.get("partition")},
        takes_as_of=False,
    )
