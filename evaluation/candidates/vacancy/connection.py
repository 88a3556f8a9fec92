"""A scheduler of vacancy as a `Connection`: calls that are under way at once share the pipeline of `Scheduler.place_many`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from evaluation.candidates.candidate import ATTEMPTS, Fleet, Held, Json, NotOffered, Outcome, Request, Whole
from evaluation.candidates.myriad_fleet import is_myriad
from evaluation.candidates.vacancy.myriad import myriad_order, myriad_spec
from vacancy.clients.inspection.lookup import show_consumer, show_provider, show_request
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome as Placed
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.order import Order
from vacancy.resources.model import events
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import Receipt, open_log

INCARNATION: Final = f"{170:016x}"
"""That of the nodes that `fill` reports."""

_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.0005
_RELEASES_TOGETHER: Final = 64

Waiting = asyncio.Future[Placed]


def spec_of(request: Request) -> RequestSpec:
    """The RequestSpec of a request. Raises `NotOffered` for a quality that the adapter does not know."""
    if is_myriad(request):
        return myriad_spec(request)
    if request.qualities:
        raise NotOffered(f"the adapter does not know {', '.join(request.qualities)}")
    return RequestSpec(groups=(RequestGroup(resources=dict(request.resources), required=request.required),))


class VacancyConnection:
    """A scheduler on the store of this host."""

    def __init__(self, description: Json) -> None:
        self._log = open_log(description["log"])
        self._scheduler = Scheduler(
            self._log,
            Path(description["store"]),
            installed_registry(),
            name=f"scheduler-{description['number']}",
            seed=description["number"],
            attempts=ATTEMPTS,
        )
        self._myriad_order: Order | None = None
        self._compiled: dict[tuple[Any, ...], CompiledRequest] = {}
        self._new: deque[PlacementRequest] = deque()
        self._calls: dict[str, Waiting] = {}
        self._wake = asyncio.Event()
        self._pump = asyncio.create_task(self._run())
        self._placed: dict[str, Placed] = {}
        self._releases: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._releasing: asyncio.Task[None] | None = None
        self._sequences: dict[str, int] = {}
        self._beats: list[NewRecord] = []
        self._beating: asyncio.Task[None] | None = None

    def _compile(self, request: Request) -> CompiledRequest:
        known = (*request.resources.items(), *request.required, *map(str, request.qualities.items()))
        found = self._compiled.get(known)
        if found is None:
            found = self._compiled[known] = self._scheduler.compile(spec_of(request))
        return found

    def _order(self, request: Request) -> Order | None:
        """The order of a request of the myriad qualities."""
        if "order" not in request.qualities:
            return None
        if self._myriad_order is None:
            self._myriad_order = myriad_order(request)
        return self._myriad_order

    # -- place ----------------------------------------------------------------------------------------------------

    async def query(self, request: Request, limit: int) -> list[str]:
        """See `Connection.query`."""
        compiled = self._compile(request)
        if not is_myriad(request):
            found = self._scheduler.candidates(compiled, limit=limit).candidates
            return [candidate.root for candidate in found]
        found = self._scheduler.candidates(
            compiled, limit=1 if compiled.spec.copies > 1 else limit, order=self._order(request)
        ).candidates
        each = (one for candidate in found for one in candidate.copies or (candidate,))
        return list(dict.fromkeys(one.root for one in each))

    async def place(self, consumer: str, request: Request) -> Outcome:
        """See `Connection.place`."""
        self._new.append(PlacementRequest(self._compile(request), consumer=consumer))
        waiting: Waiting = asyncio.get_running_loop().create_future()
        self._calls[consumer] = waiting
        self._wake.set()
        try:
            placed = await waiting
        except LogUnavailable as error:
            return Outcome("unavailable", reason=str(error))
        conflicts = placed.lost_claims
        if placed.status == "placed":
            self._placed[consumer] = placed
            return Outcome("placed", placed.root, conflicts)
        if placed.status == "lost":
            was_sent = placed.rejected is not None
            return Outcome(
                "conflict" if was_sent else "unavailable", conflicts=conflicts, reason=placed.reason
            )
        found_none = placed.status in ("no_valid_host", "gave_up")
        return Outcome("no_room" if found_none else "unknown", conflicts=conflicts, reason=placed.reason)

    def _source(self, most: int) -> Iterator[PlacementRequest | None]:
        """New calls as they come. It ends once there are more at once than the pipeline has room for: then a larger one is
        made."""
        while len(self._calls) <= most:
            yield self._new.popleft() if self._new else None

    async def _run(self) -> None:
        """Run the pipeline while calls are under way. After each outcome its caller runs, and may call again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            most = len(self._calls)
            outcomes = self._scheduler.place_many(
                self._source(most), in_flight=max(1, most), timeout_s=_TIMEOUT_S
            )
            try:
                await self._deliver(outcomes)
            except LogUnavailable as error:
                for waiting in self._calls.values():
                    waiting.set_exception(error)
                self._calls.clear()
                self._new.clear()
            finally:
                outcomes.close()

    async def _deliver(self, outcomes: Generator[Placed, None, None]) -> None:
        while self._calls:
            outcome = next(outcomes, None)
            if outcome is None:
                self._wake.set()
                return
            self._calls.pop(outcome.consumer).set_result(outcome)
            await asyncio.sleep(0)

    # -- release --------------------------------------------------------------------------------------------------

    async def release(self, consumer: str) -> bool:
        """See `Connection.release`. It returns once the tables of this host show it. Calls at the same time share a record."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._releases.append((consumer, done))
        if self._releasing is None:
            self._releasing = asyncio.create_task(self._release())
        return await done

    async def _release(self) -> None:
        try:
            await asyncio.sleep(0)  # other callers come
            while self._releases:
                together = list(islice(self._releases, _RELEASES_TOGETHER))
                for _ in together:
                    self._releases.popleft()
                released = await self._release_all([consumer for consumer, _ in together])
                for _, done in together:
                    done.set_result(released)
        finally:
            self._releasing = None

    async def _release_all(self, consumers: list[str]) -> bool:
        try:
            self._scheduler.release([self._placed.pop(one, one) for one in consumers], timeout_s=_TIMEOUT_S)
        except LogUnavailable:
            return False
        end = time.monotonic() + _TIMEOUT_S
        while any(map(self._scheduler.allocations, consumers)):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    # -- others ---------------------------------------------------------------------------------------------------

    async def heartbeat(self, node: str) -> None:
        """See `Connection.heartbeat`. Heartbeats at the same time are sent together, and it returns once the log has them."""
        sequence = self._sequences[node] = self._sequences.get(node, 1) + 1
        data = {"root": node, "incarnation": INCARNATION, "sequence": sequence}
        value = events.encode_plain("vacancy.node.heartbeat.v1", f"{node}-{sequence}", f"/node/{node}", data)
        self._beats.append(NewRecord(cell_for(node, self._log.partitions), value))
        beating = self._beating
        if beating is None:
            beating = self._beating = asyncio.create_task(self._beat())
        await beating

    async def _beat(self) -> None:
        await asyncio.sleep(0)  # other callers come
        beats, self._beats, self._beating = self._beats, [], None
        try:
            receipt: Receipt = self._log.send(beats)
            while not receipt.done:
                await asyncio.sleep(_POLL_S)
            receipt.wait(0.0)
        except LogUnavailable as error:
            raise ConnectionError(str(error)) from error

    async def whole(self, consumer: str) -> Whole:
        """See `Connection.whole`. All three are rows of this host's tables, as of one position."""
        reader = self._scheduler.reader
        (held,) = show_consumer(reader, consumer)
        request = show_request(reader, str(held.request))
        (group,) = request.spec["groups"]
        asked = Request(group["resources"], tuple(group.get("required", ())))
        provider = held.holdings[0].provider
        shown = show_provider(reader, provider, cell=held.cell)
        totals = {one.resource_class: one.capacity for one in shown.providers[0].inventories}
        resources = {one.resource_class: one.grant for one in held.holdings}
        return Whole(asked, Held(consumer, provider, resources), totals, 1)

    async def close(self) -> None:
        """Close the scheduler and the log."""
        self._pump.cancel()
        self._scheduler.close()
        self._log.close()


# -- the fleet as events ------------------------------------------------------------------------------------------------


def fleet_records(fleet: Fleet, partitions: int) -> Iterator[NewRecord]:
    """A full report of each node."""
    for provider in fleet.providers():
        name = provider.name
        inventories = {cls: {"total": total} for cls, total in provider.totals.items()}
        only = {
            "id": name,
            "parent": None,
            "inventories": inventories,
            "traits": sorted(provider.traits),
        }
        data = {"root": name, "incarnation": INCARNATION, "sequence": 1, "providers": [only]}
        value = events.encode_plain("vacancy.node.reported.v1", f"{name}-1", f"/node/{name}", data)
        yield NewRecord(cell_for(name, partitions), value)


def filler_records(fleet: Fleet, used_share: float, partitions: int, deadline_ms: int) -> Iterator[NewRecord]:
    """Claims for what the nodes have before the tests, 64 a record."""
    from vacancy.resources.model.encoding.event_encoding import AllocationWire, ClaimWire, encode_claims

    ready: dict[str, list[ClaimWire]] = {}
    count = 0
    for held in fleet.fillers(used_share):
        claim = ClaimWire(
            f"claim-{held.consumer}",
            held.consumer,
            deadline_ms,
            [AllocationWire(held.provider, held.resources)],
        )
        cell = cell_for(held.provider, partitions)
        claims = ready.setdefault(cell, [])
        claims.append(claim)
        if len(claims) == events.BATCH_MAX:
            count += 1
            yield NewRecord(cell, encode_claims(f"fill-{count}", "/fill", ready.pop(cell)))
    for cell, claims in ready.items():
        count += 1
        yield NewRecord(cell, encode_claims(f"fill-{count}", "/fill", claims))
