"""Temporary stores for tests, on an in-memory file system if there is one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG
from vacancy.projections.store.store import Store
from vacancy.resources.fold.rules_versions import RULES_VERSION

FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
"""These tests open a few hundred stores; in memory they need not wait for a disk."""


@contextmanager
def opened_store(partitions: int = 1) -> Iterator[Store]:
    with (
        tempfile.TemporaryDirectory(prefix="vacancy-test-", dir=FAST) as directory,
        Store(
            Path(directory), log=LOG, partitions=partitions, registry=REGISTRY, first_rules=RULES_VERSION
        ) as store,
    ):
        yield store
