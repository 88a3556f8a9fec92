"""Move a store aside, so that a new one can be built in its place. Nothing is deleted."""

from __future__ import annotations

import time
from pathlib import Path

from vacancy.projections.store.manifest import FILE
from vacancy.projections.store.rocksdb import is_locked
from vacancy.resources.model.errors import StoreError, StoreInUse


def set_aside(store: Path) -> Path | None:
    """Rename a store, whole or broken, to a name beside it. Returns that name, or None where nothing was.

    Raises `StoreInUse` while a worker writes it, and `StoreError` where it is no store or cannot be renamed:
    a directory named by mistake is left alone.
    """
    try:
        content = list(store.iterdir())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the store cannot be read: {error.strerror}", where=str(store)) from None
    if not content:
        return None
    partitions = [path for path in content if path.is_dir() and _is_partition(path.name)]
    if not partitions and not (store / FILE).exists():
        raise StoreError(
            "the directory is not empty, and no store", where=str(store), do="name the store's own directory"
        )
    for path in partitions:
        if is_locked(path):
            raise StoreInUse(
                "another process writes this store", where=str(path), do="stop that worker first"
            )
    aside = store.with_name(f"{store.name}.old-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{aside.name.partition('~')[0]}~{number}")
    try:
        store.rename(aside)
    except OSError as error:
        raise StoreError(
            f"the store cannot be moved aside: {error.strerror}",
            where=str(store),
            do="check the rights on its directory",
        ) from None
    return aside


def _is_partition(name: str) -> bool:
    return name.startswith("p") and name[1:].isdecimal()
