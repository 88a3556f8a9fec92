"""The checksums of a partition at agreed positions, and what the stores of other hosts say of theirs.

All stores of a log end a commit at the same positions, the *boundaries*: they depend only on the log. So each store has a
checksum there (`state_checksum`), and a worker can say its own in the log (`vacancy.state.digested.v1`) for the others to
compare. A boundary is before each record whose offset is a multiple of `STRIDE`, and before each record that looks like such
an event, unless the last boundary is fewer than `APART` records before.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from vacancy.projections.store.state_checksum import checksum_text
from vacancy.resources.model.events import StateDigestedData

STRIDE: Final = 4096
APART: Final = 8
KEPT: Final = 64
"""Boundaries whose checksums are kept."""

STORES_MAX: Final = 64
"""Other stores of which is kept what they said. Those that differ stay longest."""

DIGESTS_KEY: Final = b"digests"
EVENT_BYTES_MAX: Final = 1024
_MARK: Final = b"vacancy.state.digested."


class Boundary(NamedTuple):
    """A position at which all stores have a checksum. `changes` are the records before it, without events of this kind."""

    position: int
    checksum: int
    changes: int


class ComparedStore(NamedTuple):
    """What another store said. `equal` is the last position at which it had this store's checksum, or -1. `differs` is the
    first one after that at which it had another one, or -1; then `ours` and `theirs` are the two checksums, `offset` is that
    of its event, and `differed` counts its events that differed."""

    store: str
    host: str
    build: str
    equal: int
    differs: int
    ours: int
    theirs: int
    offset: int
    differed: int


class DigestsRow(msgspec.Struct, frozen=True, array_like=True):
    """Kept in the family `local`. `events` counts those that were read. `announced` are the `changes` of the boundary that
    this store announced last, or -1. `uncompared` counts events about positions that are no boundary any more."""

    boundaries: tuple[Boundary, ...] = ()
    events: int = 0
    announced: int = -1
    compared: int = 0
    uncompared: int = 0
    stores: tuple[ComparedStore, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DigestsRow).decode


def decode_digests(data: bytes | None) -> DigestsRow:
    """The row from its bytes. Where there is none, or one of another build, an empty one."""
    try:
        return DigestsRow() if data is None else _decode(data)
    except msgspec.MsgspecError:
        return DigestsRow()


def encode_digests(row: DigestsRow) -> bytes:
    """The row as bytes."""
    return _encode(row)


def looks_like_digest(value: bytes) -> bool:
    """Whether a record's value may be such an event. It is cheap, and says so of each that is one."""
    return len(value) <= EVENT_BYTES_MAX and _MARK in value


class StateDigests:
    """The row of a partition that is open for writing. `encoded` is what the next commit writes."""

    def __init__(self, data: bytes | None) -> None:
        self.row = self._written = decode_digests(data)
        self._last = self.row.boundaries[-1].position if self.row.boundaries else 0

    def is_boundary(self, offset: int, *, digested: bool) -> bool:
        """Whether there is a boundary before the record with this offset. `digested`: it looks like such an event."""
        if digested:
            apart = offset - max(self._last, offset - offset % STRIDE)
            return apart >= APART or not offset % STRIDE
        return not offset % STRIDE

    def pass_boundary(self, position: int, checksum: int) -> None:
        """The store is at a boundary and has this checksum there."""
        if position <= self._last:
            return
        one = Boundary(position, checksum, position - self.row.events)
        self._last = position
        self._set(boundaries=(*self.row.boundaries, one)[-KEPT:])

    def read(self, offset: int, store: str, said: StateDigestedData) -> ComparedStore | None:
        """An event that the fold has accepted, at this offset. `store` is this store's id. Returns what is known of the store
        that sent it where its checksum is another one than here, None where it is the same or cannot be compared."""
        row = self.row
        here = next((one for one in reversed(row.boundaries) if one.position == said.position), None)
        if said.store == store:
            self._set(events=row.events + 1, announced=row.announced if here is None else here.changes)
        elif said.position and here is None:
            self._set(events=row.events + 1, uncompared=row.uncompared + 1)
        else:
            self._set(events=row.events + 1, compared=row.compared + (here is not None))
        if here is None:
            return None
        return self._compare(offset, said, here)

    def _compare(self, offset: int, said: StateDigestedData, here: Boundary) -> ComparedStore | None:
        known = {one.store: one for one in self.row.stores}
        before = known.pop(said.store, None)
        theirs = int(said.checksum, 16)
        named = (said.store, said.host, said.build)
        if theirs == here.checksum:
            now = ComparedStore(*named, here.position, -1, 0, 0, offset, 0)
        elif before is not None and before.differed:
            now = before._replace(host=said.host, build=said.build, differed=before.differed + 1)
        else:
            equal = -1 if before is None else before.equal
            now = ComparedStore(*named, equal, here.position, here.checksum, theirs, offset, 1)
        others = sorted(known.values(), key=lambda one: (one.differed > 0, one.offset))
        self._set(stores=(*others, now)[-STORES_MAX:])
        return now if now.differed else None

    def _set(self, **fields: Any) -> None:
        self.row = msgspec.structs.replace(self.row, **fields)

    @property
    def encoded(self) -> bytes | None:
        """The row's bytes, if it is not what was written."""
        return None if self.row is self._written else encode_digests(self.row)

    def written(self) -> None:
        """A commit wrote the row."""
        self._written = self.row

    def abandon(self) -> None:
        """Forget what no commit wrote."""
        self.row = self._written
        self._last = self.row.boundaries[-1].position if self.row.boundaries else 0

    def due(self, position: int) -> Boundary | None:
        """What this store should announce at this position: its last boundary, if anything has changed since what it announced
        last; else None. Where it has no boundary, one of position 0 says that."""
        row = self.row
        if position - row.events <= max(row.announced, 0):
            return None
        return row.boundaries[-1] if row.boundaries else Boundary(0, 0, 0)


def difference_text(one: ComparedStore) -> str:
    """What to tell people of a store that differs."""
    since = "they were never compared before" if one.equal < 0 else f"they were equal at {one.equal:,}"
    host = one.host or "an unnamed host"
    return (
        f"store {one.store} on {host} (vacancy {one.build or 'of an unknown version'}) differs from this one at position"
        f" {one.differs:,}: it has checksum {checksum_text(one.theirs)}, this one {checksum_text(one.ours)}; {since}"
    )
