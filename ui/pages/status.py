"""The state of the store: partitions, what needs attention, what happens in each second."""

from __future__ import annotations

from vacancy.ui.health import Health
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.rates import KEPT, Rate
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

_WIDTH, _HEIGHT = 600.0, 60.0


async def page(site: Site, ask: Ask) -> Page:
    """The page. Its JSON is the strip of all pages, and the newest rates."""

    def read(tables: Tables) -> Health:
        return tables.health(site.ends)

    health = await site.read(ask.as_of, read)
    rates = [] if ask.as_of else list(site.rates.kept)
    return Page(
        "status",
        "Status",
        {"health": health, "rates": rates},
        ("status",),
        {
            "health": health,
            "partition": ask.get("partition"),
            "rate": rates[-1] if rates else None,
            "plots": {
                "records": plot([one.records for one in rates]),
                "accepted": plot([one.accepted for one in rates]),
                "rejected": plot([one.rejected for one in rates]),
            },
            "verdicts": _verdicts(rates),
        },
    )


def plot(values: list[float]) -> tuple[str, float]:
    """The points of a line in a picture of 600 by 60 that ends at its right edge, and the largest value."""
    most = max(values, default=0.0)
    step = _WIDTH / (KEPT - 1)
    begin = _WIDTH - step * (len(values) - 1)
    points = [
        f"{begin + step * at:.1f},{_HEIGHT - (_HEIGHT - 2) * value / (most or 1):.1f}"
        for at, value in enumerate(values)
    ]
    return " ".join(points), most


def _verdicts(rates: list[Rate]) -> list[tuple[str, float]]:
    """What each verdict was a second on average, over what is kept."""
    sums: dict[str, float] = {}
    for one in rates:
        for name, value in one.verdicts.items():
            sums[name] = sums.get(name, 0.0) + value
    return sorted(((name, round(value / len(rates), 1)) for name, value in sums.items()), key=lambda x: -x[1])
