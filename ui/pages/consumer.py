"""One consumer: what it holds, where, since when, by which claim."""

from __future__ import annotations

from vacancy.clients.inspection.answers import ConsumerAnswer, RequestAnswer
from vacancy.clients.inspection.cell_moves import CellMove, cell_moves
from vacancy.clients.inspection.lookup import NotFound, show_consumer, show_request
from vacancy.resources.model.errors import LogError
from vacancy.streams.log import Log
from vacancy.ui.health import Health
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

_READ_S = 2.0


async def page(site: Site, ask: Ask) -> Page:
    """The page. Its JSON is that of `vacancy show consumer --json`, without the position."""
    id_ = ask.needed("id")

    def read(
        tables: Tables,
    ) -> tuple[list[ConsumerAnswer], list[CellMove], dict[str, RequestAnswer], Health]:
        found = show_consumer(tables.reader, id_)
        requests = {}
        for one in found:
            if one.request:
                try:
                    requests[one.request] = show_request(tables.reader, one.request)
                except NotFound:
                    continue  # requests are kept for a day
        return found, list(cell_moves(tables.reader, id_)), requests, tables.health(site.ends)

    found, moves, requests, health = await site.read(ask.as_of, read)
    try:
        times = await site.read_log(lambda log: {one.cell: _time(log, one) for one in found})
    except LogError:
        times = {}
    return Page(
        "consumer",
        f"{id_} · consumer",
        found,
        ("show", "consumer", id_),
        {
            "health": health,
            "id": id_,
            "answers": found,
            "moves": moves,
            "requests": requests,
            "times": times,
        },
    )


def _time(log: Log, one: ConsumerAnswer) -> int:
    """When its claim was appended, in ms since 1970, UTC; 0 where the log no longer has the record."""
    try:
        records = log.read(one.partition, one.offset, 1, _READ_S)
    except LogError:
        return 0
    return records[0].timestamp_ms if records else 0
