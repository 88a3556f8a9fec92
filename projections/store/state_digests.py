"""The digests of a partition at boundaries, and what the stores of other hosts say of theirs.

A boundary is the position after a mark (`vacancy.state.marked.v1`) that the fold has accepted. Each store ends a commit there, so
all stores of the log can have a digest of the same position. A store that has computed one says it in the log
(`vacancy.state.digested.v1`), and the others compare. What is kept here is no part of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord

KEPT: Final = 64
"""Own digests that are kept."""

STORES_MAX: Final = 64
"""Other stores of which is kept what they said. Those that differ stay longest."""

DIGESTS_KEY: Final = b"digests"

EVENT_BYTES_MAX: Final = 1024
EVENT_MARK: Final = b"vacancy.state."
"""A record is looked at here if its value is no longer than that, and has this in it: all that stores write is."""


class OwnDigest(NamedTuple):
    """The digest of this store at a position."""

    position: int
    digest: str


class SaidDigest(NamedTuple):
    """What another store said, at `offset`, of a position of which this store has no digest yet."""

    offset: int
    store: str
    host: str
    build: str
    position: int
    digest: str


class ComparedStore(NamedTuple):
    """What another store said. `equal` is the last position at which it had this store's digest, or -1. `differs` is the first one
    after that at which it had another one, or -1; then `ours` and `theirs` are the two digests, `offset` is that of its
    event, and `differed` counts its events that differed."""

    store: str
    host: str
    build: str
    equal: int
    differs: int
    ours: str
    theirs: str
    offset: int
    differed: int


class DigestsRow(msgspec.Struct, frozen=True, array_like=True):
    """Kept in the family `local`. `marked` is the last boundary, 0 where there was none, and `events` counts the digests that
    were read since then. `said` is the position of the last own digest that was read in the log. `compared` counts comparisons."""

    marked: int = 0
    events: int = 0
    said: int = 0
    compared: int = 0
    own: tuple[OwnDigest, ...] = ()
    waiting: tuple[SaidDigest, ...] = ()
    stores: tuple[ComparedStore, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DigestsRow).decode


def decode_digests(data: bytes | None) -> DigestsRow:
    """The row from its bytes. Where there is none, or one of another build, an empty one."""
    try:
        return DigestsRow() if data is None else _decode(data)
    except msgspec.MsgspecError:
        return DigestsRow()


@cache
def _parser() -> Callable[[bytes], Any]:
    return events.event_parser((events.StateMarked, events.StateDigested))


def parse_state_event(value: bytes) -> events.StateMarked | events.StateDigested | None:
    """A mark or a digest; None for any other event."""
    try:
        event: events.StateMarked | events.StateDigested = _parser()(value)
    except InvalidRecord:
        return None
    return event


class StateDigests:
    """The row of a partition that is open for writing. `encoded` is what the next commit writes."""

    def __init__(self, data: bytes | None) -> None:
        self.row = self._written = decode_digests(data)
        self._taken = self.row.said

    def changes(self, position: int) -> int:
        """How many records there are since the last boundary, without digests."""
        return position - self.row.marked - self.row.events

    def mark(self, position: int) -> None:
        """There is a boundary at this position: the one after a mark."""
        self._set(marked=position, events=0)

    def read(self, offset: int, store: str, said: events.StateDigestedData) -> ComparedStore | None:
        """Another store says its digest, or this one, whose id is `store`, reads its own. Returns what is known of the other one
        where it differs; None where it is equal or cannot be compared yet."""
        self._set(events=self.row.events + 1)
        if said.store == store:
            self._set(said=max(self.row.said, said.position))
        one = SaidDigest(offset, said.store, said.host, said.build, said.position, said.digest)
        here = next((own for own in reversed(self.row.own) if own.position == said.position), None)
        if here is not None:
            return self._compare(one, here)
        others = [other for other in self.row.waiting if other.store != one.store]
        self._set(waiting=(*others, one)[-STORES_MAX:])
        return None

    def add(self, position: int, digest: str) -> list[ComparedStore]:
        """This store has computed its digest of a boundary. Returns the stores that have said another one."""
        here = OwnDigest(position, digest)
        waiting = self.row.waiting
        self._set(
            own=(*self.row.own, here)[-KEPT:],
            waiting=tuple(one for one in waiting if one.position > position),
        )
        found = [self._compare(one, here) for one in waiting if one.position == position]
        return [one for one in found if one is not None]

    def _compare(self, said: SaidDigest, here: OwnDigest) -> ComparedStore | None:
        known = {one.store: one for one in self.row.stores}
        before = known.pop(said.store, None)
        named = (said.store, said.host, said.build)
        if said.digest == here.digest:
            now = ComparedStore(*named, here.position, -1, "", "", said.offset, 0)
        elif before is not None and before.differed:
            now = before._replace(host=said.host, build=said.build, differed=before.differed + 1)
        else:
            equal = -1 if before is None else before.equal
            now = ComparedStore(*named, equal, here.position, here.digest, said.digest, said.offset, 1)
        others = sorted(known.values(), key=lambda one: (one.differed > 0, one.offset))
        self._set(stores=(*others, now)[-STORES_MAX:], compared=self.row.compared + 1)
        return now if now.differed else None

    def unsaid(self) -> OwnDigest | None:
        """The newest own digest, if it is not in the log yet. It is returned once."""
        newest = self.row.own[-1] if self.row.own else None
        if newest is None or newest.position <= max(self._taken, self.row.said):
            return None
        self._taken = newest.position
        return newest

    def _set(self, **fields: Any) -> None:
        self.row = msgspec.structs.replace(self.row, **fields)

    @property
    def encoded(self) -> bytes | None:
        """The row's bytes, if it is not what was written."""
        return None if self.row is self._written else _encode(self.row)

    def written(self) -> None:
        """A commit wrote the row."""
        self._written = self.row

    def abandon(self) -> None:
        """Forget what no commit wrote."""
        self.row = self._written


def difference_text(one: ComparedStore) -> str:
    """What to tell people of a store that differs."""
    since = "they were never compared before" if one.equal < 0 else f"they were equal at {one.equal:,}"
    host = one.host or "an unnamed host"
    return (
        f"store {one.store} on {host} (vacancy {one.build or 'of an unknown version'}) differs from this one at position"
        f" {one.differs:,}: it has digest {one.theirs}, this one {one.ours}; {since}"
    )
