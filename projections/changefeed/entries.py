"""The change feed: what a commit changed, for readers that keep columns in memory.

One entry a commit: after-images of the fed tables, grouped by table so that a reader can take a class's rows as
one array. Entries are numbered without gaps; old ones are trimmed, and a reader that finds its next one gone
reloads its view. A store that lost commits folds those records again and uses the numbers again, with other limits
between the commits. So an entry also carries where it starts, and a reader takes it only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from vacancy.resources.state.tables import GROUPS, NODES, PROVIDERS, VERDICTS

ENTRIES_MAX = 65_536
BYTES_MAX = 64 * 1024 * 1024

Images = tuple[str, list[bytes], list[bytes | None]]
"""(table, keys, encoded rows or None where they went)."""


class FeedEntry(msgspec.Struct, frozen=True, array_like=True):
    """One commit: the position and log time after it, what changed, the version of the rules in force after it, the
    position before it, and the checksum of the last record in it. Entries of earlier builds lack the last two."""

    position: int
    time_ms: int
    images: list[Images]
    rules_version: int = 1
    start: int = -1
    checksum: int = -1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FeedEntry).decode


def encode_entry(entry: FeedEntry) -> bytes:
    """One entry as bytes."""
    return _encode(entry)


def decode_entry(data: bytes) -> FeedEntry:
    """What `encode_entry` wrote."""
    return _decode(data)


def joins(position: int, entries: Iterable[FeedEntry]) -> bool:
    """Whether the first of these entries starts at this position, and each other one where the one before it ends."""
    for entry in entries:
        if entry.start != position:
            return False
        position = entry.position
    return True


_IN_ORDER = frozenset((NODES.name, PROVIDERS.name, GROUPS.name))
"""Tables whose images must come between those of other tables where they came: they make and drop what those are of."""


def verdicts(entries: Iterable[FeedEntry]) -> list[tuple[bytes, bytes]]:
    """(key, encoded row) of the verdicts among these commits, also of those that expired in a later one."""
    return [
        (key, data)
        for entry in entries
        for table, keys, values in entry.images
        if table == VERDICTS.name
        for key, data in zip(keys, values, strict=True)
        if data is not None
    ]


def joined(entries: Iterable[FeedEntry]) -> Iterator[Images]:
    """The images of these commits in their order, verdicts left out, those of a class's rows from several commits as
    one, with the newest of each row: applying many rows at once costs little more than a few."""
    rows: dict[str, dict[bytes, bytes | None]] = {}
    for entry in entries:
        for images in entry.images:
            table, keys, values = images
            if table in _IN_ORDER:
                yield from _taken(rows)
                yield images
            elif table != VERDICTS.name:
                rows.setdefault(table, {}).update(zip(keys, values, strict=True))
    yield from _taken(rows)


def _taken(rows: dict[str, dict[bytes, bytes | None]]) -> Iterator[Images]:
    for table, newest in rows.items():
        yield table, list(newest), list(newest.values())
    rows.clear()
