"""The tail of the log: its newest records, or those up to a position."""

from __future__ import annotations

from vacancy.clients.history.log_reading import ALL, RecordFilter, newest
from vacancy.clients.history.record_view import RecordView, view_record
from vacancy.clients.past.points import parse_point
from vacancy.resources.model.errors import UsageError
from vacancy.streams.log import Log
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site

_SHOWN, _SHOWN_MAX = 50, 500


async def page(site: Site, ask: Ask) -> Page:
    """The newest records, the newest first."""
    count = ask.count("limit", _SHOWN, _SHOWN_MAX)
    type_, partition = ask.get("type"), ask.get("partition")
    if partition and not partition.isdecimal():
        raise UsageError(f"partition={partition!r} is invalid", do="write its number")
    until = parse_point(ask.as_of).position if ask.as_of else None

    def read(log: Log) -> list[RecordView]:
        wanted = RecordFilter(types=frozenset((type_,))) if type_ else ALL
        partitions = None
        if partition:
            if int(partition) >= log.partitions:
                raise UsageError(f"there is no partition {partition}", do=f"choose 0 to {log.partitions - 1}")
            partitions = (int(partition),)
        found = newest(log, count, until=until, partitions=partitions, wanted=wanted)
        return [view_record(one.record) for one in reversed(found)]

    found = await site.read_log(read)
    health = await site.read(ask.as_of, lambda tables: tables.health(site.ends))
    of = ("--type", type_) if type_ else ()
    in_one = ("--partition", partition) if partition else ()
    return Page(
        "log",
        "Log",
        [one.as_json() for one in found],
        ("log", "tail", *of, *in_one, "--count", str(count)),
        {"health": health, "records": found, "type": type_, "partition": partition},
        takes_as_of=False,
    )
