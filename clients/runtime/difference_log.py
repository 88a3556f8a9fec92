"""A worker's log lines about stores of other hosts whose state is another one."""

from __future__ import annotations

import structlog

from vacancy.projections.store.state_digests import ComparedStore, difference_text

_events = structlog.get_logger("vacancy.worker")


def log_difference(partition: int, one: ComparedStore) -> None:
    """Log that a store differs: at the first of its events, and then ever more rarely."""
    if one.differed & (one.differed - 1):  # not the 1st, 2nd, 4th, 8th and so on
        return
    _events.error(
        "state differs from that of another host",
        partition=partition,
        store=one.store,
        host=one.host,
        equal=one.equal,
        differs=one.differs,
        events=one.differed,
        offset=one.offset,
        error=f"{difference_text(one)}; run `vacancy verify` on both hosts",
    )
