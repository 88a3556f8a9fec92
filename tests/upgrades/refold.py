"""What this build makes of a log from its first record, in memory: to fold into a store would take longer than the test."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.models.memory_state import MemoryState
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.projections.store.digest import as_scan, partition_digest, store_digest
from vacancy.resources.fold.fold import fold
from vacancy.streams.log import open_log


def refolded(url: str, until: Mapping[int, int] | None = None) -> str:
    """The digest of a whole log, or up to a position."""
    registry = installed_registry()
    digests = []
    with open_log(url) as log:
        for partition, end in sorted((until or log.end()).items()):
            state, at = MemoryState(), 0
            while at < end:
                for record in log.read(partition, at, end - at):  # a log may give fewer at a time
                    state.commit(fold(state, record, registry))
                    at = record.offset + 1
            digests.append(partition_digest(as_scan(state.items), registry))
    return store_digest(digests)
