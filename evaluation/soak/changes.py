"""What the schedulers of a soak test change besides placing and releasing: consumers that they hold, taints, limits.

A change that may have been interrupted is settled once log time has passed its deadline: then the tables have what the
consumer holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vacancy.clients.admin.operator import (
    Change,
    SettingsChangedByOthers,
    exclude,
    set_operator_settings,
    taints,
)
from vacancy.clients.inspection.lookup import nodes
from vacancy.clients.runtime.bootstrap import installed_registry, tick_entry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.moves.cell_moves import CellMoves
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import (
    ClaimLost,
    LogUnavailable,
    NoValidHost,
    OutcomeUnknown,
    OverQuota,
    SearchGivenUp,
    UsageError,
)
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import Ask, RequestGroup, RequestSpec, RequestSpecV2
from vacancy.resources.model.taints import Taint, Toleration
from vacancy.streams.log import Log

LIMITED: Final = "limited"
"""The project whose `VCPU` are limited."""

LIMIT: Final = 60
TAINT: Final = "soak"
KINDS: Final = ("move", "move", "resize", "resize", "update", "cell", "keep")

GPUS: Final[dict[str, dict[str, str]]] = {
    f"8{number}:00.0": {"model": "AB"[number % 2]} for number in range(4)
}
"""The devices of the nodes that have some."""

_GPU_ASKS: Final[tuple[Ask, ...]] = (
    1,
    {"count": 1, "where": {"model": "B"}},
    {"count": 2, "match": ["model"]},
    {"count": 3},
)
_LIMITED_SHARE, _TOLERATING_SHARE, _GPU_SHARE = 0.2, 0.1, 0.1

REFUSED: Final = (NoValidHost, ClaimLost, OverQuota, SearchGivenUp)
"""Then nothing was changed."""

UNKNOWN: Final = (OutcomeUnknown, LogUnavailable)


@contextmanager
def once_more_later() -> Iterator[None]:
    """Leave out what a restarted broker or another scheduler interrupts: it is done again in a later round."""
    with suppress(*UNKNOWN, SettingsChangedByOthers, OverQuota):
        yield


def set_limit(log: Log, store: Path) -> None:
    """Limit the VCPU of a project, so that its claims are for shares of the limit."""
    with StoreReader(store, installed_registry(), with_view=False) as reader:
        Quotas(log, reader, timeout_s=60.0).set_limit(QuotaScope(project=LIMITED, unit="VCPU"), LIMIT)


class Changes:
    """Changes of one scheduler: of `nodes`, of those with GPUs, and of the consumers that it is given. `choose` decides what is
    done."""

    def __init__(
        self,
        scheduler: Scheduler,
        choose: random.Random,
        nodes: Sequence[str],
        with_gpus: Sequence[str],
        timeout_s: float,
    ) -> None:
        self._scheduler, self._choose, self._timeout_s = scheduler, choose, timeout_s
        self._nodes, self._with_gpus = nodes, with_gpus
        self._kinds: list[str] = []

    def knows_all_nodes(self) -> bool:
        """Whether the store has all nodes: what is not reported yet cannot be changed."""
        known = {node.root for node in nodes(self._scheduler.reader)}
        return known.issuperset((*self._nodes, *self._with_gpus))

    # -- what is asked for --------------------------------------------------------------------------------------

    def request(self, consumer: str, most_vcpu: int = 6) -> PlacementRequest:
        """A request of some VCPU, and of memory or a GPU. Some are of the limited project, and some tolerate the taint."""
        amounts: dict[str, Ask] = {
            "VCPU": self._choose.randint(1, most_vcpu),
            "MEMORY_MB": 256 * self._choose.randint(1, 4),
        }
        if self._choose.random() < _GPU_SHARE:
            amounts = {"VCPU": 1, "PGPU": self._choose.choice(_GPU_ASKS)}
        spec = RequestSpec(groups=(RequestGroup(resources=amounts),))
        if self._choose.random() < _TOLERATING_SHARE:
            spec = RequestSpecV2(groups=spec.groups, tolerations=(Toleration(key=TAINT),))
        project = LIMITED if self._choose.random() < _LIMITED_SHARE else "-"
        return PlacementRequest(spec, consumer=consumer, project=project)

    def fetch_quota(self, outcome: Outcome) -> None:
        """Move the share of a limit that a claim lacked to its partition, if another one does not use it."""
        if outcome.rejected is not None:
            with once_more_later():
                self._scheduler.fetch_quota(outcome.rejected, timeout_s=self._timeout_s)

    # -- what operators do --------------------------------------------------------------------------------------

    def taint_one(self) -> None:
        """Set the taint on one of the nodes, or remove it."""
        taint = Taint(key=TAINT, value=str(self._choose.randint(0, 1)))
        change = taints(add=[taint]) if self._choose.random() < 0.5 else taints(remove=[Taint(key=TAINT)])
        self._set(self._choose.choice(self._nodes), change)

    def exclude_one(self) -> None:
        """Take one of the GPUs out of service, or put it back."""
        reason = "ECC errors" if self._choose.random() < 0.5 else None
        change = exclude("PGPU", self._choose.choice(sorted(GPUS)), reason)
        self._set(self._choose.choice(self._with_gpus), change)

    def _set(self, node: str, change: Change) -> None:
        with once_more_later():
            set_operator_settings(
                self._scheduler.log, self._scheduler.reader, node, change, timeout_s=self._timeout_s
            )

    # -- what consumers hold ------------------------------------------------------------------------------------

    def change(self, held: Outcome) -> Outcome | None:
        """Change a consumer in one of several ways. Returns what it holds then; None: that is not known yet."""
        if not self._kinds:  # so that a short load has all of them
            self._kinds = self._choose.sample(KINDS, len(KINDS))
        kind = self._kinds.pop()
        try:
            if kind == "update":
                project = self._choose.choice((LIMITED, "-"))
                self._scheduler.update(held.consumer, project=project, timeout_s=self._timeout_s)
                return held
            if kind == "cell":
                self._scheduler.move_to_cell(held.consumer, timeout_s=self._timeout_s)
                return self.settled(held.consumer)
            if kind == "keep":
                self._scheduler.move(held.consumer, keep=True, timeout_s=self._timeout_s)
                to = self._choose.choice(self._roots(held.consumer))
                return self._scheduler.move(held.consumer, to=to, timeout_s=self._timeout_s)
            if kind == "resize":
                amount = self._choose.randint(1, 2)
                return self._scheduler.resize(
                    held.consumer, {"VCPU": amount}, elsewhere=True, timeout_s=self._timeout_s
                )
            return self._scheduler.move(held.consumer, timeout_s=self._timeout_s)
        except REFUSED:
            # Where a consumer holds two places, or is between cells, it is looked up again.
            return None if kind in ("cell", "keep") else held
        except UNKNOWN:
            return None

    def _roots(self, consumer: str) -> list[str]:
        return sorted(
            {part.provider for _, row in self._scheduler.allocations(consumer) for part in row.parts}
        )

    def has_passed(self, consumer: str, deadline_ms: int) -> bool:
        """Whether log time has passed this where the consumer holds something, so that no claim with this deadline replaces it
        any more. Where nothing else lets log time pass, a tick does. In other partitions it may stand still: moves between cells
        are settled by what is in the log."""
        reader, log = self._scheduler.reader, self._scheduler.log
        cells = [cell for cell, _ in self._scheduler.allocations(consumer)]
        partitions = {partition_for(cell, reader.manifest.partitions) for cell in cells}
        behind = [one for one in partitions if reader.log_time_ms(one) <= deadline_ms]
        if behind and log.clock.now_ms() > deadline_ms:
            with once_more_later():
                log.send([tick_entry(one, log.partitions) for one in behind])
        return not behind

    def settled(self, consumer: str) -> Outcome | None:
        """What a consumer holds, once all claims for it are decided; a move between cells is finished or undone first. None:
        it is not known yet, or it holds nothing, or something in two cells."""
        try:
            CellMoves(self._scheduler.log, self._scheduler.query, timeout_s=self._timeout_s).resume_open(
                consumer
            )
            roots = self._roots(consumer)
            if len(roots) > 1:  # a move that kept the place that it leaves
                return self._scheduler.move(consumer, to=roots[0], timeout_s=self._timeout_s)
        except (*UNKNOWN, *REFUSED, UsageError):
            return None
        found = self._scheduler.allocations(consumer)
        if len(found) != 1:
            return None
        ((cell, row),) = found
        return Outcome("placed", "", consumer, cell=cell, claim=row.claim)
