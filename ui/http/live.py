"""Looks at the tables once a second, and sends what is new to the browsers (server-sent events).

```text
hello       the browser is connected: what changes from now on is sent, so fetch the fleet now
health      the strip as HTML, the sums of all classes, the generation of the nodes: fetch the fleet again where it is another one
fleet       the nodes that changed, of the class that a browser shows
reload      events were left out, or nodes are in other groups: fetch the fleet again
unreadable  the tables cannot be read now
```
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from vacancy.resources.model.encoding.plain import plain
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.clocks.clock import wall_ms
from vacancy.ui.health import Health
from vacancy.ui.heat_map.fleet import Fleet, heard_s
from vacancy.ui.heat_map.payload import changes_text
from vacancy.ui.nodes import NodeIndex
from vacancy.ui.rates import Rate
from vacancy.ui.regrouping import Regrouping
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

LOOK_S: Final = 1.0
SUBSCRIBERS_MAX: Final = 256
_HEARD_STEP_S: Final = 5
_WAITING_MAX: Final = 8
"""Events that wait for a slow browser. It misses the rest, and fetches the fleet again."""

_SIGN_S: Final = 15.0
"""How long nothing is sent to a browser: then a comment shows whether it is still there."""

_log = logging.getLogger("vacancy.ui")


def event_text(event: str, data: Any) -> str:
    """An event as a browser reads it."""
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


@dataclass(eq=False)
class Subscriber:
    """One browser, and the class and the grouping that it shows ('' for none)."""

    class_name: str
    group: str
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_WAITING_MAX))
    missed: bool = False

    def send(self, text: str) -> None:
        """Send it an event, unless it is too slow."""
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
    regrouped: set[str] = field(default_factory=set)


class Live:
    """Looks at a site once a second from `run` on. `strip` renders the strip."""

    def __init__(self, site: Site, strip: Callable[[Health], str]) -> None:
        self._site, self._strip = site, strip
        self._subscribers: set[Subscriber] = set()
        self._regrouping = Regrouping()
        self._asking: asyncio.Future[None] | None = None
        self._seen: dict[str, tuple[int, Any]] = {}
        """Class -> generation and columns at the last look. Only in the thread of the tables."""

    @property
    def is_full(self) -> bool:
        """Whether it serves as many browsers as it can."""
        return len(self._subscribers) >= SUBSCRIBERS_MAX

    async def run(self) -> None:
        """Look until it is cancelled. What cannot be read is tried again."""
        while True:
            began = time.monotonic()
            try:
                await self.ask_log()
                await self._look()
            except VacancyError:
                self._send_all(event_text("unreadable", {}))
            except Exception:
                _log.exception("the pages cannot look at the tables; trying again")
                self._send_all(event_text("unreadable", {}))
            await asyncio.sleep(max(0.05, LOOK_S - (time.monotonic() - began)))

    async def ask_log(self) -> None:
        """Ask the log where it ends. A log that does not answer keeps what the tables have from nobody, and is not asked again
        before it has answered."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._site.ask_ends())
        done, _ = await asyncio.wait([self._asking], timeout=LOOK_S)
        if done:
            answered, self._asking = self._asking, None
            answered.result()

    async def _look(self) -> None:
        classes = {one.class_name for one in self._subscribers if one.class_name}
        groups = {one.group for one in self._subscribers if one.group}
        wanted = bool(self._subscribers)
        look = await self._site.read("", lambda tables: self._read(tables, classes, groups, wanted=wanted))
        if look.health is None:
            return
        health = {
            "strip": self._strip(look.health),
            "problems": [one.title for one in look.health.problems],
            "classes": plain(look.health.classes),
            "as_of": plain(look.health.as_of),
            "as_of_ms": look.health.as_of_ms,
            "nodes": look.health.nodes,
            "generation": look.generation,
            "rate": plain(look.rate),
        }
        self._send_all(event_text("health", health))
        changes = {
            name: event_text("fleet", {"generation": look.generation, **change})
            for name, change in look.changes.items()
            if change is not None
        }
        for one in self._subscribers:
            if one.missed or one.group in look.regrouped:
                one.missed = False
                one.send(event_text("reload", {}))
            elif one.class_name in changes:
                one.send(changes[one.class_name])

    def _send_all(self, text: str) -> None:
        for one in self._subscribers:
            one.send(text)

    def _read(self, tables: Tables, classes: set[str], groups: set[str], *, wanted: bool) -> _Look:
        now_s = time.monotonic()
        rate = self._site.rates.look(tables.reader.position, now_s, wall_ms())
        if not wanted:
            self._seen.clear()
            return _Look(None, rate, 0, {})
        health = tables.health(self._site.ends)
        index = tables.nodes.index(now_s * 1000)
        changes = {}
        for name in classes.intersection(tables.nodes.classes()):
            now = _columns(tables, name, index)
            generation, before = self._seen.get(name, (-1, None))
            if generation == index.generation:
                changes[name] = changes_text(before, now, _HEARD_STEP_S)
            self._seen[name] = index.generation, now
        for gone in set(self._seen) - classes:
            del self._seen[gone]
        regrouped = self._regrouping.look(tables.nodes, index, groups)
        return _Look(health, rate, index.generation, changes, regrouped)

    def begin(self, tables: Tables, found: Fleet) -> None:
        """A browser fetches the nodes as they are now: whatever changes from now on is news. In the thread of the tables."""
        index = tables.nodes.index()
        if self._seen.get(found.name, (-1, None))[0] != index.generation:
            self._seen[found.name] = index.generation, _columns(tables, found.name, index)
        self._regrouping.begin(tables.nodes, index, found.group, found.grouping)

    async def events(self, class_name: str, group: str = "") -> AsyncGenerator[str, None]:
        """The events for one browser, as text, until it is closed. A comment now and again shows whether it is still there."""
        one = Subscriber(class_name, group)
        self._subscribers.add(one)
        try:
            yield "retry: 2000\n" + event_text("hello", {})
            while True:
                text = ":\n\n"
                with contextlib.suppress(TimeoutError):
                    text = await asyncio.wait_for(one.queue.get(), _SIGN_S)
                yield text
        finally:
            self._subscribers.discard(one)


def _columns(tables: Tables, name: str, index: NodeIndex) -> tuple[Any, Any, Any]:
    """What is compared from look to look."""
    return tables.nodes.amounts(name, index), heard_s(tables, index), tables.nodes.states(index)
