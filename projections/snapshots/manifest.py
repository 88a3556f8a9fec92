"""The manifest of a snapshot: what it is a snapshot of, and what each of its files must be.

It is written last, so a snapshot without one is not finished. It has one form only: what `encode_manifest` writes for
it. So a bit that was changed anywhere in it is found.
"""

from __future__ import annotations

import re
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from vacancy.resources.model.errors import StoreCorrupt, StoreMismatch

FORMAT = 1
"""The format of snapshots that this build writes, and the only one that it reads."""

MANIFEST = "manifest.json"
"""The name of its file."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class SnapshotFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a partition's RocksDB directory: its name there, its size, and size and SHA-256 (hexadecimal) of
    the compressed file that is kept."""

    name: str
    size: int
    stored_size: int
    sha256: str


class SnapshotPartition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One partition: its position (the next offset), a checksum of the record before it, log time in ms since 1970, the
    version of the rules in force there, the digest of its tables, and its files."""

    partition: int
    position: int
    checksum: int
    time_ms: int
    rules_version: int
    digest: str
    files: tuple[SnapshotFile, ...]


class SnapshotManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`id`: the name of the snapshot. `made_ms`: when it was made, by the clock of `host`. `build`: the version of
    vacancy that made it. `store`, `log`: the ids of the store and of its log. `store_format`: the format of the store's
    files. `classes`: plugin classes that have tables. `digest`: that of the store. `checksum`: SHA-256 of all the rest."""

    format: int
    id: str
    made_ms: int
    host: str
    build: str
    store: str
    log: str
    store_format: int
    classes: tuple[str, ...]
    digest: str
    partitions: tuple[SnapshotPartition, ...]
    checksum: str = ""

    @property
    def position(self) -> dict[int, int]:
        """Partition -> the next offset."""
        return {one.partition: one.position for one in self.partitions}

    @property
    def stored_size(self) -> int:
        """The bytes of all files, as they are kept."""
        return sum(file.stored_size for one in self.partitions for file in one.files)


def encode_manifest(manifest: SnapshotManifest) -> bytes:
    """The manifest as it is written, with its checksum."""
    plain = msgspec.json.encode(replace(manifest, checksum=""))
    data = msgspec.json.encode(replace(manifest, checksum=sha256(plain).hexdigest()))
    return msgspec.json.format(data, indent=1) + b"\n"


def decode_manifest(data: bytes, name: str, where: str) -> SnapshotManifest:
    """What `encode_manifest` wrote for the snapshot called `name`. Raises `StoreMismatch` where it has another format,
    `StoreCorrupt` where it is damaged."""
    try:
        found = msgspec.json.decode(data)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] != FORMAT:
            raise StoreMismatch(
                f"the snapshot has format {found['format']}, this build reads {FORMAT}",
                where=where,
                do="use the build that made it, or fold the log instead",
            )
        manifest = msgspec.convert(found, SnapshotManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _damaged("the manifest of the snapshot does not read back", where) from None
    if encode_manifest(manifest) != data:
        raise _damaged("the manifest of the snapshot is not what was written", where)
    if manifest.id != name:
        raise _damaged(f"the manifest is that of snapshot {manifest.id}", where)
    if not _is_consistent(manifest):
        raise _damaged("the manifest of the snapshot contradicts itself", where)
    return manifest


def _is_consistent(manifest: SnapshotManifest) -> bool:
    names = [(one.partition, file.name) for one in manifest.partitions for file in one.files]
    return (
        [one.partition for one in manifest.partitions] == list(range(len(manifest.partitions)))
        and len(set(names)) == len(names)
        and all(_FILE_NAME.fullmatch(name) for _, name in names)
    )


def _damaged(what: str, where: str) -> StoreCorrupt:
    return StoreCorrupt(
        what, where=where, do="use another snapshot, and remove this one with `vacancy snapshot prune ID`"
    )
