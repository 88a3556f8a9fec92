"""The manifest of an archive: of which log it is, and what each of its segments must be.

It is written after the segments that it names, under another name first, so an archive never has a part of a segment. It
has one form only: what `encode_manifest` writes. So a bit that was changed anywhere in it is found.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from zlib import crc32

import msgspec
from msgspec.structs import replace

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import Record

FORMAT: Final = 1
"""The format of archives that this build writes, and the only one that it reads."""

MANIFEST: Final = "archive.json"
"""The name of its file."""

RESTORE: Final = "restore the archive from a copy, or export the log again to another place"

_place = struct.Struct("<3q").pack


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: the records `first` to `end` (exclusive) of a partition; the timestamps of the first and of the last of
    them, and the latest of all (ms since 1970); the checksum of the last (`record_checksum`); size and SHA-256 (hexadecimal) of the
    file."""

    partition: int
    first: int
    end: int
    first_ms: int
    last_ms: int
    latest_ms: int
    last_checksum: int
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Its path in the archive. Files of other content have other names."""
        return f"p{self.partition:05d}/{self.first:020d}-{self.sha256[:16]}.parquet"


class ArchiveManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`log`: the id of the log. `partitions`: their number. `segments`: by partition and offset, without gaps. `checksum`:
    SHA-256 of all the rest."""

    format: int
    log: str
    partitions: int
    segments: tuple[Segment, ...] = ()
    checksum: str = ""

    def of_partition(self, partition: int) -> list[Segment]:
        """The segments of a partition, in order."""
        return [one for one in self.segments if one.partition == partition]

    @property
    def start(self) -> dict[int, int]:
        """Partition -> its first offset; 0 where it has no records."""
        found = dict.fromkeys(range(self.partitions), 0)
        found.update({one.partition: one.first for one in reversed(self.segments)})
        return found

    @property
    def end(self) -> dict[int, int]:
        """Partition -> the offset after its last record."""
        found = dict.fromkeys(range(self.partitions), 0)
        found.update({one.partition: one.end for one in self.segments})
        return found

    def with_segment(self, segment: Segment) -> ArchiveManifest:
        """This with one more segment."""
        segments = sorted((*self.segments, segment), key=lambda one: (one.partition, one.first))
        return replace(self, segments=tuple(segments))


def record_checksum(record: Record) -> int:
    """CRC-32 of a record: its place and its timestamp, its key, its value. A SQLite log keeps the same."""
    place = _place(record.partition, record.offset, record.timestamp_ms)
    return crc32(record.value, crc32(record.key, crc32(place)))


def encode_manifest(manifest: ArchiveManifest) -> bytes:
    """The manifest as it is written, with its checksum."""
    plain = msgspec.json.encode(replace(manifest, checksum=""))
    data = msgspec.json.encode(replace(manifest, checksum=sha256(plain).hexdigest()))
    return msgspec.json.format(data, indent=1) + b"\n"


def decode_manifest(data: bytes, where: str) -> ArchiveManifest:
    """What `encode_manifest` wrote. Raises `LogError` where it has another format or is damaged."""
    try:
        found = msgspec.json.decode(data)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] != FORMAT:
            raise LogError(
                f"the archive has format {found['format']}, this build reads {FORMAT}",
                where=where,
                do="use the build that made it, or upgrade vacancy",
            )
        manifest = msgspec.convert(found, ArchiveManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise damaged("the manifest of the archive does not read back", where) from None
    if encode_manifest(manifest) != data:
        raise damaged("the manifest of the archive is not what was written", where)
    problem = _contradiction(manifest)
    if problem:
        raise damaged(f"the manifest of the archive contradicts itself: {problem}", where)
    return manifest


def _contradiction(manifest: ArchiveManifest) -> str:
    if not manifest.log or manifest.partitions < 1:
        return "it has no log id or no partitions"
    if any(not 0 <= one.partition < manifest.partitions for one in manifest.segments):
        return "a segment is of a partition that the log does not have"
    for partition in {one.partition for one in manifest.segments}:
        problem = _gap(partition, manifest.of_partition(partition))
        if problem:
            return problem
    return ""


def _gap(partition: int, segments: Sequence[Segment]) -> str:
    expected = segments[0].first
    for one in segments:
        if one.first != expected or not 0 <= one.first < one.end:
            return f"partition {partition} lacks the segment at offset {expected}"
        expected = one.end
    return ""


def damaged(what: str, where: str) -> LogError:
    """The error for an archive that is not what was written."""
    return LogError(what, where=where, do=RESTORE)
