"""Where snapshots are kept: a directory, or any URL that fsspec opens.

```text
URL/ID/p00000/NAME.gz    one file of partition 0
URL/ID/manifest.json     written last: without it ID is not a snapshot, whatever else is there
```
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from errno import ENOTDIR
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vacancy.projections.snapshots.manifest import (
    MANIFEST,
    SnapshotFile,
    SnapshotManifest,
    decode_manifest,
    encode_manifest,
)
from vacancy.projections.store.store import partition_path
from vacancy.resources.model.errors import StoreCorrupt, StoreError, UsageError, VacancyError

_ID = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{8}")
_CHUNK = 1024 * 1024
_LEVEL = 1
"""RocksDB compresses its blocks already: higher levels cost more time and save 2 %."""
_GZIP = 31


class FoundSnapshot(NamedTuple):
    """A snapshot that is there: its id, and its manifest or why that cannot be used."""

    id: str
    manifest: SnapshotManifest | None
    error: VacancyError | None


class SnapshotStorage:
    """The snapshots at a URL, or in a directory. All methods raise `StoreError` where it cannot be read or written."""

    def __init__(self, url: str) -> None:
        """Raises `UsageError` for a URL that fsspec does not know, or whose package is not installed."""
        if "://" not in url:
            url = str(Path(url).expanduser().absolute())
        self.url = re.sub(r"//[^/@]*@", "//", url).partition("?")[0]  # without a password
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise UsageError(
                f"the package for this URL is not installed: {error}",
                where=self.url,
                do="install it with pip",
            ) from None
        except ValueError as error:
            raise UsageError(
                f"the URL of the snapshots is invalid: {error}",
                where=self.url,
                do="write it as s3://bucket/path",
            ) from None
        except Exception as error:
            raise self._refused(error) from error
        self._root = root.rstrip("/")

    # -- what is there ----------------------------------------------------------------------------------------

    def snapshots(self) -> list[FoundSnapshot]:
        """All finished snapshots, damaged ones too, in the order of their ids: the oldest first."""
        found = []
        for name in self._names():
            try:
                found.append(FoundSnapshot(name, self.manifest(name), None))
            except NoSnapshot:
                continue
            except VacancyError as error:
                found.append(FoundSnapshot(name, None, error))
        return found

    def unfinished(self) -> list[str]:
        """The ids of snapshots without a manifest: they are being made, or were left behind."""
        with self._translated():
            return [name for name in self._names() if not self._is_finished(name)]

    def _is_finished(self, name: str) -> bool:
        try:
            self._files.info(self._path(name, MANIFEST))  # `exists` takes every error for a no
        except FileNotFoundError:
            return False
        return True

    def manifest(self, name: str) -> SnapshotManifest:
        """The manifest of a snapshot. Raises `NoSnapshot`, and as `decode_manifest` does."""
        if _ID.fullmatch(name) is None:
            raise NoSnapshot(
                f"{name!r} is not the id of a snapshot", where=self.url, do="see `vacancy snapshot list`"
            )
        with self._translated():
            try:
                data = self._files.cat_file(self._path(name, MANIFEST))
            except FileNotFoundError:
                raise NoSnapshot(
                    f"there is no snapshot {name}", where=self.url, do="see `vacancy snapshot list`"
                ) from None
        return decode_manifest(data, name, f"{self.url}/{name}/{MANIFEST}")

    def _names(self) -> list[str]:
        with self._translated():
            self._files.invalidate_cache()
            try:
                paths = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            if [path.rstrip("/") for path in paths] == [self._root] and self._files.isfile(self._root):
                raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), self._root)
        names = (path.rstrip("/").rpartition("/")[2] for path in paths)
        return sorted({name for name in names if _ID.fullmatch(name)})

    # -- writing ----------------------------------------------------------------------------------------------

    def write_file(self, name: str, partition: int, source: Path) -> SnapshotFile:
        """Keep a file of a partition, compressed. It counts once the manifest is written."""
        size = stored_size = 0
        checksum = sha256()
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        path = self._file(name, partition, source.name)
        with self._translated():
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with source.open("rb") as plain, self._opened(path) as kept:
                while chunk := plain.read(_CHUNK):
                    size += len(chunk)
                    stored_size += _put(kept, packer.compress(chunk), checksum)
                stored_size += _put(kept, packer.flush(), checksum)
        return SnapshotFile(source.name, size, stored_size, checksum.hexdigest())

    def finish(self, manifest: SnapshotManifest) -> None:
        """Write the manifest: from now on the snapshot is there."""
        path = self._path(manifest.id, MANIFEST)
        with self._translated():
            with self._opened(f"{path}.part") as kept:
                kept.write(encode_manifest(manifest))
            self._files.mv(f"{path}.part", path)
            if isinstance(self._files, LocalFileSystem):
                for directory in (path.rpartition("/")[0], self._root):
                    _sync_directory(directory)

    def remove(self, name: str) -> None:
        """Remove a snapshot, or what is left of one: the manifest first, so that it is never taken for a whole one."""
        with self._translated():
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(name, MANIFEST))
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(self._path(name), recursive=True)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[Any]:
        """A file to write, which is on the disk when this is left, if it is a local one."""
        with self._files.open(path, "wb") as kept:
            yield kept
            if isinstance(self._files, LocalFileSystem):
                kept.flush()
                os.fsync(kept.fileno())

    # -- reading ----------------------------------------------------------------------------------------------

    def read_file(self, name: str, partition: int, file: SnapshotFile, into: Path) -> None:
        """Restore a file of a partition to the directory `into`. Raises `StoreCorrupt`, with its name, where it is missing
        or is not what the manifest says."""
        where = f"{self.url}/{name}/{partition_path(Path(), partition)}/{file.name}.gz"
        with self._translated():
            try:
                kept = self._files.open(self._file(name, partition, file.name), "rb")
            except FileNotFoundError:
                raise _damaged("a file of the snapshot is missing", where) from None
            with kept, (into / file.name).open("wb") as plain:
                if not _unpack(kept, plain, file):
                    raise _damaged("a file of the snapshot is damaged", where)
                plain.flush()
                os.fsync(plain.fileno())

    # -- helpers ----------------------------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _file(self, name: str, partition: int, file: str) -> str:
        return self._path(name, str(partition_path(Path(), partition)), f"{file}.gz")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Each kind of storage has exceptions of its own."""
        try:
            yield
        except VacancyError:
            raise
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> StoreError:
        text = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
        return StoreError(
            f"the snapshots cannot be read or written: {text or type(error).__name__}",
            where=str(getattr(error, "filename", None) or self.url),
            do="check the URL, the credentials and the room there",
        )


class NoSnapshot(StoreError):
    """There is no such snapshot."""


def _damaged(what: str, where: str) -> StoreCorrupt:
    return StoreCorrupt(
        what, where=where, do="use another snapshot, and remove this one with `vacancy snapshot prune ID`"
    )


def _put(kept: Any, data: bytes, checksum: Any) -> int:
    kept.write(data)
    checksum.update(data)
    return len(data)


def _unpack(kept: Any, plain: Any, file: SnapshotFile) -> bool:
    """Whether the compressed file is that of the manifest. No more is written than the manifest says."""
    checksum, unpacker = sha256(), zlib.decompressobj(_GZIP)
    stored_size, left = 0, file.size
    while chunk := kept.read(_CHUNK):
        stored_size += len(chunk)
        checksum.update(chunk)
        while chunk and left >= 0:
            try:
                data = unpacker.decompress(chunk, left + 1)
            except zlib.error:
                return False
            left -= plain.write(data)
            chunk = unpacker.unconsumed_tail
    whole = unpacker.eof and left == 0
    return whole and (stored_size, checksum.hexdigest()) == (file.stored_size, file.sha256)


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
