"""Whether the files of a partition's directory still belong together.

RocksDB takes the end of its manifest for the place where a writer died. So a manifest that was cut, or of which a
length was changed, opens without the tables that came after that place, and what the write-ahead log has is applied to
the older rows: a state that never was. Each commit therefore records what the manifest was, and a directory whose
manifest is less than that is refused, before it is opened for writing. A commit that came while the last tables were
written does not know of them: then the change feed lacks the entries that were in them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from time import sleep
from zlib import crc32

import msgspec
from rocksdict import Rdict

from vacancy.projections.store.metadata import (
    FEED_FAMILY,
    LOCAL_FAMILY,
    LOCAL_KEY,
    MetadataRow,
    decode_metadata,
)
from vacancy.projections.store.rocksdb import open_read_only, scan_keys, translated
from vacancy.resources.model.errors import StoreCorrupt, StoreError

FEED_CHECKED = 8_192
"""The newest entries of the feed, among which a hole is looked for. There are fewer commits while a flush lasts."""

_SEQUENCE = struct.Struct(">Q")
_READ_BYTES = 1024 * 1024
_TRIES = 5
_TRY_AGAIN_S = 0.005


def corrupt(what: str, path: Path) -> StoreCorrupt:
    """The error for a store that is not whole."""
    return StoreCorrupt(
        what, where=str(path), do="stop what uses it and rebuild it from the log: `vacancy replay --rebuild`"
    )


class ManifestFile:
    """RocksDB's manifest of a directory that is open for writing: its number, its size and a checksum of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._find()

    def state(self) -> tuple[int, int, int]:
        """(number, bytes, checksum) of what is there now; of a file that lost something, what it was before."""
        try:
            size = os.stat(self._file).st_size  # noqa: PTH116 - once a commit
        except OSError:  # RocksDB has begun another one, as the old one was large
            self._find()
        else:
            if size > self._bytes:
                self._read_on()
        return self._number, self._bytes, self._checksum

    def _find(self) -> None:
        self._number = current_manifest(self._path)
        self._file = str(manifest_file(self._path, self._number))
        self._bytes = self._checksum = 0
        self._read_on()

    def _read_on(self) -> None:
        try:
            read, self._checksum = _checksum_of(Path(self._file), self._bytes, None, self._checksum)
        except OSError:
            return
        self._bytes += read


def current_manifest(path: Path) -> int:
    """The number of the directory's manifest; 0 where its file `CURRENT` names none."""
    try:
        number = (path / "CURRENT").read_bytes().strip().removeprefix(b"MANIFEST-")
    except OSError:
        return 0
    return int(number) if number.isdigit() else 0


def manifest_file(path: Path, number: int) -> Path:
    """The manifest of this number."""
    return path / f"MANIFEST-{number:06d}"


def check_manifest(path: Path, row: MetadataRow) -> None:
    """Check that the manifest still has all that it had when the row was written. Raises `StoreCorrupt`."""
    if not row.manifest_bytes:  # the row of an earlier build
        return
    number = current_manifest(path)
    if number > row.manifest_number:  # the directory was opened since, and nothing was committed yet
        return
    file = manifest_file(path, number)
    try:
        found = _checksum_of(file, 0, row.manifest_bytes, 0)
    except OSError:
        found = (0, 0)
    if number == row.manifest_number and found == (row.manifest_bytes, row.manifest_checksum):
        return
    if current_manifest(path) == number:
        raise corrupt("RocksDB's manifest is not what it was at the store's last commit", file)
    check_manifest(path, row)


def _checksum_of(file: Path, start: int, size: int | None, checksum: int) -> tuple[int, int]:
    """(bytes, checksum that continues this one) of that many bytes from `start` on, or of all."""
    done = 0
    with file.open("rb") as there:
        there.seek(start)
        while data := there.read(_READ_BYTES if size is None else min(_READ_BYTES, size - done)):
            checksum = crc32(data, checksum)
            done += len(data)
    return done, checksum


def read_metadata(path: Path, families: Mapping[str, Rdict]) -> MetadataRow | None:
    """The store's own row; None where the directory has no rows at all. Raises `StoreCorrupt` where it has others."""
    with translated(path):
        data = families[LOCAL_FAMILY].get(LOCAL_KEY)
        if data is not None:
            try:
                return decode_metadata(data)
            except msgspec.MsgspecError:
                raise corrupt("the store's own row does not read back", path) from None
        for name, family in families.items():
            if any(True for _ in scan_keys(family, b"")):
                raise corrupt(f"the store has rows in table {name}, and its own row is missing", path)
    return None


def check_tables(path: Path, there: Collection[str], needed: Iterable[str]) -> None:
    """Check that none of these tables is missing. Raises `StoreCorrupt`."""
    missing = sorted(set(needed).difference(there))
    if missing:
        raise corrupt(f"the store lacks tables: {', '.join(missing)}", path)


def check_feed(path: Path, feed: Rdict, row: MetadataRow) -> None:
    """Check that none of the feed's newest entries is missing. Raises `StoreCorrupt`."""
    number = max(row.feed_first, row.feed_next - FEED_CHECKED)
    if number == row.feed_next:
        return
    with translated(path):
        for key in scan_keys(feed, _SEQUENCE.pack(number)):
            if key != _SEQUENCE.pack(number):
                break
            number += 1
            if number == row.feed_next:
                return
    raise feed_hole(path, number)


def feed_hole(path: Path, number: int) -> StoreCorrupt:
    """The error for an entry of the feed that is missing."""
    return corrupt(f"the change feed lacks entry {number}", path)


def check_directory(path: Path, there: Collection[str]) -> MetadataRow | None:
    """Check a directory that nobody writes, with these tables: once it is open for writing, its files say nothing of
    what was lost. Returns its own row. Raises `StoreCorrupt`."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return _check_directory(path, there)
        except StoreError:  # perhaps only because another worker is alive
            if not tries_left:
                raise
            sleep(_TRY_AGAIN_S)
    return None


def _check_directory(path: Path, there: Collection[str]) -> MetadataRow | None:
    if not _has_data(path):  # perhaps its writer was killed while it made the tables
        return None
    check_tables(path, there, (LOCAL_FAMILY, FEED_FAMILY))
    db = open_read_only(path, tuple(there), (FEED_FAMILY,))
    families = {name: db.get_column_family(name) for name in there}
    try:
        row = read_metadata(path, families)
        if row is not None:
            check_manifest(path, row)
            check_feed(path, families[FEED_FAMILY], row)
    finally:
        for one in (*families.values(), db):
            one.close()
    return row


def _has_data(path: Path) -> bool:
    with translated(path):
        files = list(path.iterdir())
    return any(file.suffix == ".sst" or (file.suffix == ".log" and file.stat().st_size) for file in files)
