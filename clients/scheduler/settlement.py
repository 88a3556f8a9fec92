"""Settling a claim whose outcome is not known: by its verdict, by what its consumer holds, or by its deadline.

Log time decides: a claim that comes after its deadline is never accepted. So once the tables have passed the deadline,
what they show of the consumer is final. Where nothing else lets log time pass, a tick is appended.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from vacancy.clients.runtime.bootstrap import tick_entry
from vacancy.clients.scheduler.claims import rejection_text
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import Log

_POLL_S: Final = 0.005
_TICK_S: Final = 1.0


class OpenClaim(NamedTuple):
    """What is known of a claim: its consumer, and the log time (ms) after which it cannot be accepted.

    Without `claim`, any claim for that consumer; without `cell`, in any cell.
    """

    consumer: str
    deadline_ms: int
    claim: str = ""
    cell: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a claim ended.

    `placed`: the consumer holds what `claim` asked for, in `cell`. `void`: it holds nothing by that claim and never
    will, so it may be placed again; `reason` has the explanation. `unknown`: it is not known yet. It will be once the log time of
    `waiting_for` (partition -> log time now, in ms) has passed `deadline_ms`.
    """

    status: Literal["placed", "void", "unknown"]
    consumer: str
    claim: str
    cell: str
    deadline_ms: int
    reason: str = ""
    waiting_for: dict[int, int] | None = None


def latest_deadline_ms(reader: StoreReader, deadline_ms: int, clock: LogClock | None = None) -> int:
    """The latest deadline, in log time, of a claim sent until now that may wait for `deadline_ms`. By the `clock` of the log
    where that was measured, and by this host's clock otherwise."""
    times = [reader.log_time_ms(partition) for partition in range(reader.manifest.partitions)]
    return max(wall_ms() if clock is None else clock.now_ms(), *times) + deadline_ms


def settle(
    reader: StoreReader, open_claim: OpenClaim, *, log: Log | None = None, timeout_s: float = 0.0
) -> Settlement:
    """Find out how a claim ended. Waits up to `timeout_s` until that is certain. Ticks are appended to `log`, where given,
    if nothing else lets log time pass.

    A consumer that was placed and then released counts as `void`: it holds nothing by that claim any more. Raises
    `StoreError`.
    """
    give_up_at = time.monotonic() + timeout_s
    tick_at = 0.0
    while True:
        found = _look(reader, open_claim)
        now = time.monotonic()
        if found.status != "unknown" or now >= give_up_at:
            return found
        if log is not None and now >= tick_at and log.clock.now_ms() > open_claim.deadline_ms:
            tick_at = now + _TICK_S
            with contextlib.suppress(LogUnavailable):  # it is asked again in a second
                log.send([tick_entry(partition, log.partitions) for partition in found.waiting_for or ()])
        time.sleep(_POLL_S)


def _look(reader: StoreReader, one: OpenClaim) -> Settlement:
    reader.catch_up()
    cells = [one.cell] if one.cell else sorted(cell.decode() for cell in reader.view.cells)
    for cell in cells:
        held = reader.get(ALLOCATIONS, key(cell, one.consumer))
        if held is not None and one.claim in ("", held.claim):
            return _placed(one, cell, held)
        verdict = reader.get(VERDICTS, key(cell, one.claim)) if one.claim else None
        if verdict is not None:
            reason = "it was released since" if verdict.accepted else rejection_text(verdict)
            return Settlement("void", one.consumer, one.claim, cell, one.deadline_ms, reason)
    partitions = range(reader.manifest.partitions)
    concerned = [partition_for(one.cell, len(partitions))] if one.cell else partitions
    waiting = {p: t for p in concerned if (t := reader.log_time_ms(p)) <= one.deadline_ms}
    if waiting:
        reason = f"log time has not passed {one.deadline_ms} ms"
        return Settlement("unknown", one.consumer, one.claim, one.cell, one.deadline_ms, reason, waiting)
    reason = "its deadline has passed, and it holds nothing"
    return Settlement("void", one.consumer, one.claim, one.cell, one.deadline_ms, reason)


def _placed(one: OpenClaim, cell: str, held: AllocationRow) -> Settlement:
    return Settlement("placed", one.consumer, held.claim, cell, one.deadline_ms)
