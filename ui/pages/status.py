"""The state of the store: partitions, what needs attention, what happens in each second."""

from __future__ import annotations

from collections.abc import Sequence

from vacancy.ui.health import Health
from vacancy.ui.latency import KEPT as LOOKS
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
    latency = None if ask.as_of else site.latency.read()
    return Page(
        "status",
        "Status",
        {"health": health, "rates": rates, "latency": latency},
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
            "latency": latency,
            "quick": {} if latency is None else {k: plot(v, LOOKS) for k, v in latency.p99_s.items()},
        },
    )


def plot(values: Sequence[float | None], looks: int = KEPT) -> tuple[str, float]:
    """A line in a picture of 600 by 60 that ends at its right edge, as the path of an SVG, and the largest value. `looks` values fill
    it. There is a gap where a value is None."""
    known = [one for one in values if one is not None]
    most = max(known, default=0.0)
    step = _WIDTH / (looks - 1)
    begin = _WIDTH - step * (len(values) - 1)
    path, drawn = [], False
    for at, value in enumerate(values):
        if value is not None:
            place = f"{begin + step * at:.1f},{_HEIGHT - (_HEIGHT - 2) * value / (most or 1):.1f}"
            path.append(f"L{place}" if drawn else f"M{place}h0")  # h0: a value alone is a dot
        drawn = value is not None
    return " ".join(path), most


def _verdicts(rates: list[Rate]) -> list[tuple[str, float]]:
    """What each verdict was a second on average, over what is kept."""
    sums: dict[str, float] = {}
    for one in rates:
        for name, value in one.verdicts.items():
            sums[name] = sums.get(name, 0.0) + value
    return sorted(((name, round(value / len(rates), 1)) for name, value in sums.items()), key=lambda x: -x[1])
