"""What can be compared: a point in time, a snapshot, the directory of a store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vacancy.clients.past.historical_store import Progress, historical_store
from vacancy.clients.past.points import FORMS, Point, parse_point
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.snapshots.restoring import restore_files
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.projections.store.manifest import read_manifest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.streams.settings import Settings

SNAPSHOT: Final = "snapshot:"


@contextmanager
def open_source(
    text: str, settings: Settings, registry: Registry, *, progress: Progress | None = None
) -> Iterator[StoreReader]:
    """Open the store that `text` stands for: the tables of the log at a point, `snapshot:ID` among the snapshots of the
    settings, or the directory of a store.

    A snapshot is restored to a temporary directory, which checks all of it. Raises `UsageError` for a text that stands for
    nothing, and as `historical_store`, `SnapshotStorage.manifest`, `restore_files` and `StoreReader` do.
    """
    if text.startswith(SNAPSHOT):
        storage = SnapshotStorage(settings.snapshots)
        manifest = storage.manifest(text.removeprefix(SNAPSHOT))
        with tempfile.TemporaryDirectory(prefix="vacancy-diff-") as scratch:
            path = Path(scratch) / "store"
            restore_files(storage, manifest, path, registry)
            with StoreReader(path, registry, with_view=False, still=True) as reader:
                yield reader
        return
    point = _point(text)
    if point is None:
        path = Path(text)
        if not path.is_dir() or read_manifest(path) is None:
            raise UsageError(
                f"{text!r} is no point in time, no snapshot and no store",
                do=f"write {FORMS}; snapshot:ID (`vacancy snapshot list`); or the directory of a store",
            )
        with StoreReader(path, registry, with_view=False) as reader:
            yield reader
        return
    with (
        historical_store(settings, registry, point, progress=progress) as store,
        StoreReader(store.path, registry, with_view=False, still=True) as reader,
    ):
        yield reader


def _point(text: str) -> Point | None:
    try:
        return parse_point(text)
    except UsageError:
        return None
