"""Makes a store again from the log beside the one that is in use, and puts it in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.replay_tool.replay import Progress, fold_up_to
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.projections.store.swap import RELEASE_S, Swap
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import open_log

_NEAR = 2_000
"""Records that may be left when the workers are asked for the store: it takes less than a second to fold them."""

_ROUNDS = 10


class Swapped(NamedTuple):
    """Where the old store is now (None: there was none), and whether only the rest of an earlier call was done."""

    aside: Path | None
    finished_earlier: bool


def swap_store(
    url: str,
    store: Path,
    registry: Registry,
    *,
    prepare: Callable[[Path], None] | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    on_error: Callable[[int, VacancyError], None] | None = None,
    client_settings: Mapping[str, str] | None = None,
    timeout_s: float = RELEASE_S,
) -> Swapped:
    """Fold the log into `STORE.new`, and exchange it with the store at `store`, which workers may write meanwhile. A call that
    was killed is continued by the next one.

    Workers close the store for the last records and the exchange only; then they open the new one, which is not behind the old
    one. `prepare` is called with the path of the new store before the fold, and may make it of a snapshot. Raises `StoreInUse` where a
    worker does not close the store within `timeout_s`, or another process swaps it; and as `replay` does.
    """
    settings = dict(client_settings or {})
    with Swap(store) as swap:
        if swap.finished is not None:
            return Swapped(swap.finished, finished_earlier=True)
        if prepare is not None:
            prepare(swap.new)
        before: dict[int, int] = {}
        for _ in range(_ROUNDS):
            found = replay_processes(
                url,
                swap.new,
                registry,
                processes=processes,
                progress=progress,
                on_error=on_error,
                client_settings=settings,
            )
            if sum(found.position.values()) - sum(before.values()) <= _NEAR:
                break
            before = found.position
        with open_log(url, **settings) as log, swap.released(timeout_s):
            with open_store(swap.new, log, registry) as tables:
                for _ in fold_up_to(log, tables, log.end()):
                    pass
            return Swapped(swap.exchange(), finished_earlier=False)
