"""Stores for tests: made on a file system in memory where there is one, and gone when done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.events_json import LOG
from tests.support.ports_class import REGISTRY
from vacancy.projections.store.store import Store

FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
"""These tests open a few hundred stores; there they wait for no disk."""


@contextmanager
def opened_store(partitions: int = 1) -> Iterator[Store]:
    with (
        tempfile.TemporaryDirectory(prefix="vacancy-test-", dir=FAST) as directory,
        Store(Path(directory), log=LOG, partitions=partitions, registry=REGISTRY) as store,
    ):
        yield store
