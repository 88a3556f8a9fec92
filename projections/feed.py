"""The change feed: what a commit changed, for readers that keep columns in memory.

One entry a commit: after-images of the fed tables, grouped by table so that a reader can take a class's rows as
one array. Entries are numbered without gaps; old ones are trimmed, and a reader that finds its next one gone
loads its view anew.
"""

from __future__ import annotations

import msgspec

ENTRIES_MAX = 65_536
BYTES_MAX = 64 * 1024 * 1024

Images = tuple[str, list[bytes], list[bytes | None]]
"""(table, keys, encoded rows or None where they went)."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One commit: the position and log time after it, and what changed."""

    position: int
    time_ms: int
    images: list[Images]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def encode_entry(position: int, time_ms: int, images: list[Images]) -> bytes:
    """One entry as bytes."""
    return _encode((position, time_ms, images))


def decode_entry(data: bytes) -> Entry:
    """What `encode_entry` wrote."""
    return _decode(data)
