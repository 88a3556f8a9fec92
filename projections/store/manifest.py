"""The store's manifest: which log it is folded from, and which tables it has.

`STORE/store.json` is written once, before the first partition, and again only when a plugin's class comes.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vacancy.projections.store.rocksdb import DIRECTORY_MODE
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import StoreCorrupt, StoreError, StoreMismatch

FORMAT = 1
FILE = "store.json"


class Manifest(BaseModel):
    """What a store records of itself. `store` is its own id: a restored or new store has a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    store: str
    log: str
    partitions: int
    classes: tuple[str, ...]


def read_manifest(store: Path) -> Manifest | None:
    """The manifest, or None where there is no store. Raises `StoreCorrupt` or `StoreMismatch`."""
    path = store / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if any(store.glob("p[0-9]*")):
            raise StoreCorrupt("the store has no manifest", where=str(path), do=_REBUILD) from None
        return None
    except OSError as error:
        raise StoreError(f"the store cannot be read: {error.strerror}", where=str(path), do=_ROOM) from None
    try:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("format") != FORMAT:
            raise StoreMismatch(
                f"the store has format {found.get('format')}, this build reads {FORMAT}",
                where=str(path),
                do=f"use the build that made it, or {_REBUILD}",
            )
        return Manifest.model_validate(found)
    except ValueError:  # of JSON, of UTF-8, of the model
        raise StoreCorrupt("the store's manifest does not read back", where=str(path), do=_REBUILD) from None


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Write the manifest so that a crash leaves the old one or the new one."""
    path = store / FILE
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        store.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        with open(scratch, "w", opener=_private) as file:
            file.write(manifest.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise StoreError(
            f"the store cannot be written: {error.strerror}", where=str(path), do=_ROOM
        ) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def check_manifest(path: Path, manifest: Manifest, log: str, partitions: int, registry: Registry) -> Manifest:
    """The manifest that this build continues with. Raises `StoreMismatch` where it belongs to another log or
    needs a class that this build lacks."""
    where = str(path)
    if manifest.log != log:
        raise StoreMismatch(
            f"the store was folded from log {manifest.log}, this is log {log}",
            where=where,
            do="name the log it came from, another --store, or rebuild it: `vacancy replay --rebuild`",
        )
    if manifest.partitions != partitions:
        raise StoreMismatch(
            f"the store has {manifest.partitions} partitions, the log has {partitions}",
            where=where,
            do="a log's partitions never change: make a new log and let the nodes report to it",
        )
    missing = set(manifest.classes) - set(registry.plugins)
    if missing:
        raise StoreMismatch(
            f"the store has tables of resource class {', '.join(sorted(missing))}, which this build does not have",
            where=where,
            do="install the package that provides it",
        )
    return manifest.model_copy(update={"classes": registry.plugins})


_ROOM = "see that the directory is there, may be written, and has room"
_REBUILD = "rebuild it from the log: `vacancy replay --rebuild`"
