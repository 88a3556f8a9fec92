"""One node, or any provider: its tree, what each has and who holds it, its history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from vacancy.clients.history.history import History, Kind
from vacancy.clients.history.history import history as find_history
from vacancy.clients.inspection.answers import TreeAnswer
from vacancy.clients.inspection.lookup import show_provider
from vacancy.clients.past.historical_store import open_stores
from vacancy.clients.past.points import parse_point, resolve_beginning
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import StoreError, UsageError
from vacancy.streams.log import Log
from vacancy.ui.boxes import pictures
from vacancy.ui.health import Health
from vacancy.ui.heat_map.fleet import present_ms
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

_HISTORY_MAX = 200
_HISTORY_FROM = "-1d"


async def page(site: Site, ask: Ask) -> Page:
    """A provider and all below it."""
    id_, cell = ask.needed("id"), ask.get("cell") or None

    def read(tables: Tables) -> tuple[TreeAnswer, Health, int]:
        return show_provider(tables.reader, id_, cell=cell), tables.health(site.ends), present_ms(tables)

    tree, health, now_ms = await site.read(ask.as_of, read)
    shown = await asyncio.to_thread(pictures, tree)
    in_cell = ("--cell", cell) if cell else ()
    return Page(
        "node",
        f"{id_} · node" if id_ == tree.root else f"{id_} · provider",
        tree,
        ("show", "provider", *in_cell, id_),
        {
            "health": health,
            "tree": tree,
            "pictures": shown,
            "now_ms": now_ms,
            "kind": "node" if id_ == tree.root else "provider",
        },
    )


async def history(site: Site, ask: Ask) -> Page:
    """All that happened to a node, provider or consumer: of the last day, or from a point on."""
    name, kind = ask.needed("id"), ask.get("kind")
    start = ask.get("from", _HISTORY_FROM)
    until = parse_point(ask.as_of).position if ask.as_of else None
    if kind not in ("node", "provider", "consumer", ""):
        raise UsageError(f"{kind!r} has no history", do="choose node, provider or consumer")
    found = await site.search_log(lambda log, go_on: _history(site, log, go_on, name, kind, start, until))
    kinds = ("--kind", kind) if kind else ()
    to = ("--to", ask.as_of) if ask.as_of else ()
    return Page(
        "history",
        f"{name} · history",
        found,
        ("history", *kinds, "--from", start, *to, name),
        {"history": found, "from": start, "name": name, "kind": kind},
        takes_as_of=False,
        flags=_log_flags(site),
    )


def _log_flags(site: Site) -> tuple[str, ...]:
    """The options of the site without the store: the command has no such option."""
    flags = list(site.options.flags)
    if "--store" in flags:
        at = flags.index("--store")
        del flags[at : at + 2]
    return tuple(flags)


def _history(
    site: Site,
    log: Log,
    go_on: Callable[[], None],
    name: str,
    kind: str,
    start: str,
    until: Mapping[int, int] | None,
) -> History:
    of: Kind | None = None if not kind else ("node" if kind == "node" else "provider")
    if kind == "consumer":
        of = "consumer"
    begins = resolve_beginning(parse_point(start), log).position
    if until is not None:
        begins = {partition: min(offset, until[partition]) for partition, offset in begins.items()}
    with ExitStack() as opened:
        return find_history(
            log,
            name,
            site.registry,
            kind=of,
            start=begins,
            until=until,
            tables_before=lambda position: _tables_before(site, log, position, opened),
            limit=_HISTORY_MAX,
            progress=lambda *_: go_on(),
        )


def _tables_before(
    site: Site, log: Log, position: Mapping[int, int], opened: ExitStack
) -> StoreReader | None:
    """The tables to start with: those of the nearest snapshot or store of the past, None to start with the first record."""
    try:
        stores = open_stores(log, site.settings, site.registry)
        near = stores.nearest(position)
        if not any(near.values()):
            return None
        store = opened.enter_context(stores.at(near))
    except (StoreError, UsageError):
        return None
    return opened.enter_context(StoreReader(store.path, site.registry, with_view=False, still=True))
