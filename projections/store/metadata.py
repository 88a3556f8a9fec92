"""What a partition's store records of itself. It is not a part of the state, and not in the digest."""

from __future__ import annotations

import secrets
from zlib import crc32

import msgspec

from vacancy.resources.model.record import Record

LOCAL_FAMILY = "local"
FEED_FAMILY = "changes"
LOCAL_KEY = b"local"


class MetadataRow(msgspec.Struct, frozen=True, array_like=True):
    """Position (the next offset), a checksum of the record before it, the feed's bounds [first, next), the version of
    the rules in force at the position (a reader sees from it which tables there are), the epoch (a random number that
    each opening for writing draws), and what RocksDB's manifest was then (`integrity.ManifestFile`).

    Rows of earlier builds lack the last four fields."""

    store: str
    position: int = 0
    checksum: int = 0
    feed_first: int = 0
    feed_next: int = 0
    rules_version: int = 1
    epoch: int = 0
    manifest_number: int = 0
    manifest_bytes: int = 0
    manifest_checksum: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MetadataRow).decode


def encode_metadata(row: MetadataRow) -> bytes:
    """The row as bytes."""
    return _encode(row)


def decode_metadata(data: bytes) -> MetadataRow:
    """What `encode_metadata` wrote."""
    return _decode(data)


def new_epoch() -> int:
    """A number that no other opening has: a counter would come again where a directory is put back."""
    return secrets.randbits(63) + 1


def checksum(record: Record) -> int:
    """A checksum that differs where another log has another record at the same offset."""
    return crc32(record.value, crc32(record.key, record.timestamp_ms & 0xFFFFFFFF))
