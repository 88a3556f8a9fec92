"""What programs import: `Publisher` for a compute node, `Scheduler` and `StoreQuery` for a scheduler host, `PastQueries` for
questions of the past, `replay` and `verify` for operators.

Names are imported when they are first used: `vacancy --help` must not load NumPy and RocksDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vacancy.clients.history.past_queries import PastQueries
    from vacancy.clients.publisher.publisher import Publisher
    from vacancy.clients.replay_tool.replay import replay
    from vacancy.clients.replay_tool.verify import verify
    from vacancy.clients.scheduler.client import Scheduler
    from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
    from vacancy.clients.scheduler.store_query import StoreQuery

__all__ = [
    "Outcome",
    "PastQueries",
    "PlacementRequest",
    "Publisher",
    "Scheduler",
    "StoreQuery",
    "replay",
    "verify",
]

_MODULES = {
    "Outcome": "scheduler.placement",
    "PastQueries": "history.past_queries",
    "PlacementRequest": "scheduler.placement",
    "Publisher": "publisher.publisher",
    "Scheduler": "scheduler.client",
    "StoreQuery": "scheduler.store_query",
    "replay": "replay_tool.replay",
    "verify": "replay_tool.verify",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
