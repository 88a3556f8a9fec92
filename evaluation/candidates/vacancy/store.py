"""What the candidates with vacancy have in common: a log, and a store of this host with its worker."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import (
    CutOff,
    Expression,
    Fill,
    Fleet,
    Footprint,
    Held,
    Json,
    Request,
    Setting,
)
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.candidates.processes import footprint, pause, resume
from evaluation.candidates.vacancy import connection as vacancy_connection
from evaluation.candidates.vacancy import myriad as vacancy_myriad
from evaluation.candidates.vacancy.connection import (
    VacancyConnection,
    filler_records,
    fleet_records,
    spec_of,
)
from evaluation.candidates.vacancy.myriad import myriad_order, myriad_records
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import LogUnavailable, VacancyError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import ALLOCATIONS, split_key
from vacancy.streams.log import Log, open_log

PARTITIONS: Final = 4
SETTINGS: Final = (
    Setting(
        "partitions",
        str(PARTITIONS),
        "docs/operating.md: a log has as many partitions as it may have workers",
    ),
    Setting(
        "workers", "1", "docs/measured.md: brokers, worker and schedulers share the cores of this machine"
    ),
    Setting("attempts of a scheduler", "32", "the default"),
)
"""Settings of both logs."""

REVIEW: Final = (
    "A scheduler asks its own copy of the columns, in its process, and has one pipeline for all of its calls: claims that are ready"
    " together go in one record, up to 64 (docs/operating.md). No index is chosen by hand. Nodes and what they have are loaded as events,"
    " like all later changes: there is no bulk load beside the log. One worker folds all partitions; on a host with more cores, as many"
    " workers as partitions could (docs/operating.md)."
)
"""Of both logs."""

_BATCH: Final = 1000
_CAUGHT_UP_S: Final = 1800.0
_READY_S: Final = 600.0
_ELECTED_S: Final = 120.0
_ELSEWHERE: Final = 100
"""Added to the numbers of schedulers on another host."""

_DEADLINE_MS: Final = 590_000


class VacancyStore:
    """A log at `self.url`, which a subclass makes, and a store of this host."""

    name = ""

    def __init__(self) -> None:
        self.url = ""
        self.workdir = Path()
        self.log: Log | None = None
        self._worker: WorkerProcess | None = None
        self._worker_elsewhere: WorkerProcess | None = None
        self._position_of_fill: dict[int, int] = {}

    @property
    def store(self) -> Path:
        """The directory of the store."""
        return self.workdir / "store"

    def missing(self) -> str | None:
        """See `Candidate.missing`."""
        return None

    def version(self) -> str:
        """The version of vacancy."""
        return f"vacancy {version('vacancy')}"

    def code_lines(self, *modules: str) -> int:
        """The lines of the adapter, with those of these modules."""
        return code_lines(__file__, vacancy_connection.__file__, vacancy_myriad.__file__, *modules)

    # -- processes ------------------------------------------------------------------------------------------------

    def start_at(self, url: str, workdir: Path, replication: int | None = None) -> None:
        """Make the log, start the worker, and wait until it is ready."""
        self.url, self.workdir = url, workdir
        self.log = new_log(url, PARTITIONS, installed_registry(), replication=replication)
        self.start_worker()

    def start_worker(self) -> None:
        """Start the worker, and wait until it has folded what is in the log."""
        self._worker = WorkerProcess(self.url, self.store)
        self._worker.start()
        self._worker.wait_ready(_READY_S)

    def kill_worker(self) -> None:
        """End the worker with SIGKILL."""
        assert self._worker is not None  # noqa: S101 - it was started
        self._worker.kill()

    def _worker_pids(self) -> list[int]:
        assert self._worker is not None  # noqa: S101 - it was started
        assert self._worker.pid is not None  # noqa: S101 - it was started
        return [self._worker.pid]

    def more_pids(self) -> Iterable[int]:
        """The processes of the log."""
        return ()

    def stop(self) -> None:
        """See `Candidate.stop`."""
        for worker in (self._worker, self._worker_elsewhere):
            if worker is not None and worker.pid is not None:
                worker.kill()
        self._worker = self._worker_elsewhere = None
        if self.log is not None:
            self.log.close()
        self.log = None

    # -- data -----------------------------------------------------------------------------------------------------

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """See `Candidate.fill`: a report of each node, then claims, all through the log and the fold."""
        assert self.log is not None  # noqa: S101 - it was started
        began = time.monotonic()
        self._append(fleet_records(fleet, PARTITIONS))
        deadline_ms = int(time.time() * 1000) + _DEADLINE_MS
        self._append(filler_records(fleet, used_share, PARTITIONS, deadline_ms))
        self.wait_caught_up()
        return Fill(
            time.monotonic() - began, "a report of each node and claims, appended to the log and folded"
        )

    def _append(self, records: Iterator[NewRecord]) -> None:
        assert self.log is not None  # noqa: S101 - it was started
        while some := list(islice(records, _BATCH)):
            self.log.append(some, 120.0)

    def wait_caught_up(self) -> None:
        """Wait until the store has folded all that is in the log."""
        assert self._worker is not None  # noqa: S101 - it was started
        until = time.monotonic() + _CAUGHT_UP_S
        ends = self._ends()
        with StoreReader(self.store, installed_registry(), with_view=False) as reader:
            while True:
                reader.catch_up()
                if all(reader.position[partition] >= end for partition, end in ends.items()):
                    return
                self._worker.check()
                if time.monotonic() > until:
                    raise VacancyError("the store does not catch up", where=str(self.store))
                time.sleep(0.01)

    def _ends(self) -> dict[int, int]:
        """The ends of the log's partitions. After a kill brokers take some time to elect leaders, so a new client asks again."""
        until = time.monotonic() + _ELECTED_S
        while True:
            try:
                with open_log(self.url) as log:
                    return log.end()
            except LogUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def held(self) -> Iterator[Held]:
        """See `Candidate.held`."""
        self.wait_caught_up()
        with StoreReader(self.store, installed_registry(), with_view=False) as reader:
            for _, row_key, row in reader.scan(ALLOCATIONS):
                by_provider: dict[str, dict[str, int]] = {}
                for part in row.parts:
                    by_provider.setdefault(part.provider, {})[part.resource_class] = part.grant
                for provider, resources in by_provider.items():
                    yield Held(split_key(row_key)[1], provider, resources)

    # -- the rest of `Candidate` ------------------------------------------------------------------------------------

    def connection(self, scheduler_number: int) -> Json:
        """See `Candidate.connection`."""
        return {"log": self.url, "store": str(self.store), "number": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> VacancyConnection:
        """See `Candidate.connect`."""
        return VacancyConnection(description)

    def footprint(self) -> Footprint:
        """See `Candidate.footprint`."""
        assert self._worker is not None  # noqa: S101 - it was started
        assert self._worker.pid is not None  # noqa: S101 - it was started
        return footprint([self._worker.pid, *self.more_pids()], self.workdir)

    def rebuild(self) -> float:
        """See `Candidate.rebuild`: the store of another host, replayed from the log by processes for all cores."""
        began = time.monotonic()
        store = self.workdir / "replica"
        replay_processes(self.url, store, installed_registry())
        with StoreQuery(store, installed_registry(), still=True):
            took = time.monotonic() - began
        shutil.rmtree(store)
        return took

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """See `Candidate.fill_myriad`."""
        began = time.monotonic()
        self._append(myriad_records(fleet, int(time.time() * 1000) + _DEADLINE_MS))
        self.wait_caught_up()
        return Fill(time.monotonic() - began, "a report, settings and a claim for each host")

    def express(self, request: Request) -> Expression:
        """See `Candidate.express`."""
        order = myriad_order(request)
        text = spec_of(request).model_dump_json(exclude_defaults=True)
        return Expression("one query", text if order is None else f"{text} in the order {order.name}")

    def cut_off(self) -> CutOff:
        """See `Candidate.cut_off`: the only worker, if there is no other host."""
        pause(self._worker_pids())
        return CutOff("the worker of this host, which folds all cells", has_cells=False)

    def heal(self) -> None:
        """See `Candidate.heal`."""
        resume(self._worker_pids())

    # -- another host -----------------------------------------------------------------------------------------------

    def connection_elsewhere(self, scheduler_number: int) -> Json:
        """See `HasHosts.connection_elsewhere`: a store of its own on the same log, with its worker."""
        store = self.workdir / "elsewhere"
        if self._worker_elsewhere is None:
            self._worker_elsewhere = WorkerProcess(self.url, store)
            self._worker_elsewhere.start()
            self._worker_elsewhere.wait_ready(_READY_S)
        return {"log": self.url, "store": str(store), "number": _ELSEWHERE + scheduler_number}

    def cut_off_host(self) -> CutOff:
        """See `HasHosts.cut_off_host`."""
        pause(self._worker_pids())
        return CutOff("the worker of one of two hosts, each with a store of its own", has_cells=True)

    def heal_host(self) -> None:
        """See `HasHosts.heal_host`."""
        resume(self._worker_pids())
