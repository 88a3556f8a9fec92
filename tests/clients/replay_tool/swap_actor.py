"""What the tests of swaps kill."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from tests.clients.replay_tool.replay_site import REGISTRY
from vacancy.clients.replay_tool import replay as module
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.replay_tool.swap import swap_store
from vacancy.streams.log import open_log


def swap(parent: Connection, url: str, store: Path) -> None:
    """Swap the store, with a fold in bulk."""
    module.BULK_RECORDS = 1
    parent.send("begins")
    swap_store(url, store, REGISTRY, processes=1)
    parent.send("ended")


def fold(parent: Connection, url: str, store: Path) -> None:
    """Fold the log in bulk, in many commits."""
    module.BULK_RECORDS, module.BATCH = 1, 50
    parent.send("begins")
    with open_log(url) as log:
        replay(log, store, REGISTRY)
    parent.send("ended")


def impatient(parent: Connection, url: str, store: Path) -> None:
    """Swap the store, and wait a moment only for workers."""
    swap_store(url, store, REGISTRY, processes=1, timeout_s=0.2)
    parent.send("ended")
