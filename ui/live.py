"""Looks at the tables once a second, and sends what is new to the browsers (server-sent events).

```text
health   the strip as HTML, and the sums of all classes
fleet    the nodes that changed, of the class that a browser shows
reload   the nodes themselves, or their groups, are others: fetch the fleet again
```
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.plain import plain
from vacancy.streams.clock import wall_ms
from vacancy.ui.fleet import heard_s
from vacancy.ui.health import Health
from vacancy.ui.payload import changes_text
from vacancy.ui.rates import Rate
from vacancy.ui.site import Site, Tables

LOOK_S: Final = 1.0
_HEARD_STEP_S: Final = 5
_WAITING_MAX: Final = 8
"""Events that wait for a slow browser. It misses the rest, and fetches the fleet again."""


@dataclass(eq=False)
class Subscriber:
    """One browser, and the class that it shows ('' for none)."""

    class_name: str
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_WAITING_MAX))
    missed: bool = False

    def send(self, event: str, data: Any) -> None:
        """Send it an event, unless it is too slow."""
        text = f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.missed = True


@dataclass
class _Look:
    """One look at the tables: the health, and what changed since the last one, by class."""

    health: Health | None
    rate: Rate
    generation: int
    changes: dict[str, Any]


class Live:
    """Looks at a site once a second from `run` on. `strip` renders the strip."""

    def __init__(self, site: Site, strip: Callable[[Health], str]) -> None:
        self._site, self._strip = site, strip
        self._subscribers: set[Subscriber] = set()
        self._generation = 0
        self._seen: dict[str, tuple[int, Any]] = {}
        """Class -> generation and columns at the last look. Only in the thread of the tables."""

    async def run(self) -> None:
        """Look until it is cancelled. What cannot be read is tried again."""
        while True:
            began = time.monotonic()
            with contextlib.suppress(VacancyError, TimeoutError):
                # A log that does not answer must not keep what the tables have from the browsers.
                await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self._site.ask_ends())), LOOK_S)
            with contextlib.suppress(VacancyError):
                await self._look()
            await asyncio.sleep(max(0.05, LOOK_S - (time.monotonic() - began)))

    async def _look(self) -> None:
        classes = {one.class_name for one in self._subscribers if one.class_name}
        wanted = bool(self._subscribers)
        look = await self._site.read("", lambda tables: self._read(tables, classes, wanted=wanted))
        if look.health is None:
            return
        health = {
            "strip": self._strip(look.health),
            "problems": [one.title for one in look.health.problems],
            "classes": plain(look.health.classes),
            "as_of": plain(look.health.as_of),
            "as_of_ms": look.health.as_of_ms,
            "nodes": look.health.nodes,
            "rate": plain(look.rate),
        }
        for one in tuple(self._subscribers):
            one.send("health", health)
            if not one.class_name:
                continue
            if look.generation != self._generation or one.missed:
                one.missed = False
                one.send("reload", {"generation": look.generation})
            elif (changes := look.changes.get(one.class_name)) is not None:
                one.send("fleet", {"generation": look.generation, **changes})
        self._generation = look.generation

    def _read(self, tables: Tables, classes: set[str], *, wanted: bool) -> _Look:
        now_s = time.monotonic()
        rate = self._site.rates.look(tables.reader.position, now_s, wall_ms())
        if not wanted:
            self._seen.clear()
            return _Look(None, rate, self._generation, {})
        health = tables.health(self._site.ends)
        index = tables.nodes.index(now_s * 1000)
        changes = {}
        for name in classes:
            now = (
                tables.nodes.amounts(name, index),
                heard_s(tables, index),
                tables.nodes.states(index),
            )
            generation, before = self._seen.get(name, (-1, None))
            if generation == index.generation:
                changes[name] = changes_text(before, now, _HEARD_STEP_S)
            self._seen[name] = index.generation, now
        for gone in set(self._seen) - classes:
            del self._seen[gone]
        return _Look(health, rate, index.generation, changes)

    async def events(self, class_name: str) -> AsyncIterator[str]:
        """The events for one browser, as text, until it is closed. A comment now and again shows that it is still there."""
        one = Subscriber(class_name)
        self._subscribers.add(one)
        try:
            yield "retry: 2000\n\n"
            while True:
                yield await one.queue.get()
        finally:
            self._subscribers.discard(one)
