"""Where an archive is kept: a directory, or any URL that fsspec opens.

```text
URL/p00000/00000000000000000000-0123456789abcdef.parquet   a segment: its first offset, and the begin of its SHA-256
URL/archive.json                                            the manifest: what it does not name is not in the archive
```
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from vacancy.resources.model.errors import LogError, UsageError, VacancyError
from vacancy.streams.archive.manifest import (
    MANIFEST,
    ArchiveManifest,
    Segment,
    damaged,
    decode_manifest,
    encode_manifest,
)
from vacancy.streams.files.file_modes import DIRECTORY_MODE, FILE_MODE

_LOCK: Final = "export.lock"


class ArchiveStorage:
    """The archive at a URL (`log_url.archive_place`). All methods raise `LogError` where it cannot be read or written."""

    def __init__(self, url: str) -> None:
        """Raises `UsageError` for a URL that fsspec does not know, or whose package is not installed."""
        import fsspec  # here, because most programs open no archive

        self.url = url.partition("?")[0]
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
                f"the URL of the archive is invalid: {error}",
                where=self.url,
                do="write it as s3://bucket/path",
            ) from None
        except Exception as error:
            raise self._refused(error) from error
        self._root = root.rstrip("/")
        self._is_local = "file" in (self._files.protocol, *self._files.protocol)
        self._last = b""

    # -- reading ----------------------------------------------------------------------------------------------

    def manifest(self) -> ArchiveManifest | None:
        """The manifest, or None if there is no archive. Raises as `decode_manifest` does."""
        data = self._cat(MANIFEST)
        self._last = data or b""
        return None if data is None else decode_manifest(data, f"{self.url}/{MANIFEST}")

    def read_segment(self, segment: Segment) -> bytes:
        """The file of a segment. Raises `LogError`, with its name, where it is missing or damaged."""
        data = self._cat(segment.path)
        where = f"{self.url}/{segment.path}"
        if data is None:
            raise damaged(
                f"a segment of the archive is missing: offsets {segment.first} to {segment.end} of partition"
                f" {segment.partition}",
                where,
            )
        if (len(data), sha256(data).hexdigest()) != (segment.size, segment.sha256):
            raise damaged("a segment of the archive is damaged: its checksum does not match", where)
        return data

    def _cat(self, name: str) -> bytes | None:
        with self._translated():
            try:
                data: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return data

    # -- writing ----------------------------------------------------------------------------------------------

    def write_segment(self, segment: Segment, data: bytes) -> None:
        """Keep the file of a segment. It is in the archive once the manifest names it."""
        path = self._path(segment.path)
        with self._translated():
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._write(path, data)

    def write_manifest(self, manifest: ArchiveManifest) -> None:
        """Replace the manifest. Raises `LogError` if another program has written it since it was read here."""
        path = self._path(MANIFEST)
        if (self._cat(MANIFEST) or b"") != self._last:
            raise self._two_exports()
        data = encode_manifest(manifest)
        with self._translated():
            self._files.makedirs(self._root, exist_ok=True)
            self._write(f"{path}.part", data)
            self._files.mv(f"{path}.part", path)
            if self._is_local:
                _sync_directory(self._root)
        self._last = data

    def _write(self, path: str, data: bytes) -> None:
        with self._files.open(path, "wb") as kept:
            kept.write(data)
            if self._is_local:
                kept.flush()
                os.fsync(kept.fileno())
        if self._is_local:
            _sync_directory(path.rpartition("/")[0])

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time write the archive, where it is in a directory of this host. Elsewhere
        `write_manifest` notices a second one. Raises `LogError` where another process has it."""
        if not self._is_local:
            yield
            return
        with self._translated():
            os.makedirs(self._root, DIRECTORY_MODE, exist_ok=True)  # noqa: PTH103 - fsspec has it as text
            lock = os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise self._two_exports() from None
            yield
        finally:
            os.close(lock)

    # -- helpers ----------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _two_exports(self) -> LogError:
        return LogError(
            "another export is writing this archive",
            where=self.url,
            do="wait for it; then run this again if records are missing",
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Each kind of storage has exceptions of its own."""
        try:
            yield
        except VacancyError:
            raise
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> LogError:
        text = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
        return LogError(
            f"the archive cannot be read or written: {text or type(error).__name__}",
            where=str(getattr(error, "filename", None) or self.url),
            do="check the URL, the credentials and the room there",
        )


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
