"""The fleet: the heat map of one class, the sums of all classes, the totals of each group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vacancy.resources.model.errors import UsageError
from vacancy.ui.health import Health
from vacancy.ui.heat_map.fleet import GROUPS_SHOWN, MEASURES, Fleet, as_bytes, as_json, fleet, group_names
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

REDACTED_GROUPS: Final = ("cell", "state")


def _group(site: Site, ask: Ask) -> str:
    group = ask.get("group", "cell")
    if site.options.redacted and group not in REDACTED_GROUPS:
        raise UsageError(
            "this page shows no names of aggregates and attributes", do="group by cell or by state"
        )
    return group


async def page(site: Site, ask: Ask) -> Page:
    """The page. Its JSON has a list for each column."""
    group, measure = _group(site, ask), ask.get("measure", "used")
    if measure not in MEASURES:
        raise UsageError(f"there is no measure {measure!r}", do=f"choose {', '.join(MEASURES)}")

    def read(tables: Tables) -> tuple[Fleet, Health]:
        return fleet(tables, ask.get("class"), group), tables.health(site.ends)

    found, health = await site.read(ask.as_of, read)
    names = dict(zip(found.grouping.names, group_names(found, redacted=site.options.redacted), strict=True))
    return Page(
        "fleet",
        f"{found.name or 'No class'} · fleet",
        lambda: as_json(found, redacted=site.options.redacted),
        ("show", "nodes"),
        {
            "fleet": found,
            "health": health,
            "measure": measure,
            "measures": MEASURES,
            "names": names,
            "groups": found.totals[:GROUPS_SHOWN],
            "groups_left_out": max(0, len(found.totals) - GROUPS_SHOWN),
            "choices": REDACTED_GROUPS if site.options.redacted else found.choices,
            "selected": ask.get("node"),
            "search": ask.get("search"),
        },
    )


async def payload(site: Site, ask: Ask, begin: Callable[[Tables, Fleet], None]) -> bytes:
    """The bytes for the heat map. `begin` is called when the nodes are of now (`Live.begin`)."""
    group = _group(site, ask)

    def read(tables: Tables) -> bytes:
        found = fleet(tables, ask.get("class"), group)
        if not ask.as_of:
            begin(tables, found)
        return as_bytes(found, redacted=site.options.redacted)

    return await site.read(ask.as_of, read)
