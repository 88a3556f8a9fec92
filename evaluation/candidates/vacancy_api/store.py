"""vacancy behind Placement's API: `vacancy placement serve` on a log in SQLite, with the client of the candidate Placement.

Schedulers send the same requests as to OpenStack Placement itself, so a difference between the two is one of the servers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import (
    QUERY_LIMIT,
    About,
    CutOff,
    Expression,
    Fill,
    Fleet,
    Footprint,
    Held,
    Json,
    NotOffered,
    Request,
    Setting,
)
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.installed import missing_parts
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.candidates.placement import http as placement_http
from evaluation.candidates.placement import myriad as placement_myriad
from evaluation.candidates.placement import names as placement_names
from evaluation.candidates.placement import store as placement_store
from evaluation.candidates.placement.store import PlacementConnection
from evaluation.candidates.processes import footprint, pause, resume
from evaluation.candidates.vacancy_api import fill as vacancy_api_fill
from evaluation.candidates.vacancy_api import server as vacancy_api_server
from evaluation.candidates.vacancy_api.server import PROCESSES, VacancyApiServer

_SETTINGS: Final = (
    Setting("vacancy placement serve --processes", str(PROCESSES), "as many as placement-best has"),
    Setting("partitions", "1", "docs/placement.md: a deployment is one cell, which is one partition"),
    Setting(
        "OS_PLACEMENT__RANDOMIZE_ALLOCATION_CANDIDATES",
        "True",
        "as with placement-best: otherwise schedulers get the same few providers and conflict there",
    ),
    Setting("synchronous", "FULL", "docs/operating.md: the SQLite log's fixed setting"),
)
_REVIEW: Final = (
    "Requests and client are those of placement-best, without keep-alive, though gunicorn offers it. One worker folds the only partition."
    " A claim is one transaction of the log; claims have no batch in this API for consumers that come one by one."
)


class PlacementOnVacancy:
    """See the module."""

    name = "placement-on-vacancy"

    def __init__(self) -> None:
        self._server: VacancyApiServer | None = None
        self._workdir = Path()

    def missing(self) -> str | None:
        """See `Candidate.missing`."""
        return missing_parts((), "", {"placement": "openstack-placement", "gunicorn": "gunicorn"})

    def about(self) -> About:
        """See `Candidate.about`."""
        modules = (
            *(placement_http, placement_myriad, placement_names, placement_store),
            *(vacancy_api_fill, vacancy_api_server),
        )
        return About(
            version=f"vacancy {version('vacancy')}, openstack-placement {version('openstack-placement')},"
            f" gunicorn {version('gunicorn')}",
            settings=_SETTINGS,
            acknowledgement="the transaction is in the SQLite log on disk (fsync), the worker has accepted it, and the API has answered 204",
            durability="a kill of any process and a power failure; not the loss of the disk",
            replicas=1,
            processes=f"gunicorn with {PROCESSES} processes, one worker; the log is a file that the API's processes write",
            code_lines=code_lines(__file__, *(str(module.__file__) for module in modules)),
            review=_REVIEW,
        )

    def start(self, workdir: Path) -> None:
        """See `Candidate.start`."""
        self._workdir = workdir
        self._server = VacancyApiServer(workdir)
        self._server.start()

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """See `Candidate.fill`."""
        began = time.monotonic()
        server = self._running()
        vacancy_api_fill.load(server.url, server.store, fleet, used_share)
        return Fill(time.monotonic() - began, "transactions of 100 providers and their allocations")

    def connection(self, scheduler_number: int) -> Json:
        """See `Candidate.connection`."""
        return {"port": self._running().port, "seed": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> PlacementConnection:
        """Open a connection: that of the candidate Placement."""
        return PlacementConnection(description["port"], random.Random(description["seed"]))

    def kill(self) -> str:
        """See `Candidate.kill`."""
        self._running().kill_worker()
        return "the worker; the log is in the processes of the API, which go on"

    def restart(self) -> None:
        """See `Candidate.restart`."""
        self._running().start_worker()

    def held(self) -> Iterator[Held]:
        """See `Candidate.held`."""
        server = self._running()
        server.wait_caught_up()
        return vacancy_api_fill.held(server.store)

    def footprint(self) -> Footprint:
        """See `Candidate.footprint`."""
        return footprint(self._running().pids, self._workdir)

    def rebuild(self) -> float:
        """Not measured here: another host makes its tables as every host of vacancy does."""
        raise NotOffered(
            "a second host replays the log as with vacancy-embedded, which the scenario measures; the API adds nothing to it"
        )

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """See `Candidate.fill_myriad`."""
        began = time.monotonic()
        server = self._running()
        vacancy_api_fill.load_myriad(server.url, server.store, fleet)
        return Fill(time.monotonic() - began, "transactions of 100 providers and their allocations")

    def express(self, request: Request) -> Expression:
        """The query for allocation candidates."""
        return placement_myriad.expressed(request, QUERY_LIMIT)

    def cut_off(self) -> CutOff:
        """Stop the worker."""
        pause(self._running().worker_pids)
        return CutOff("the worker; the API reads the tables that it has", has_cells=False)

    def heal(self) -> None:
        """Let it go on."""
        resume(self._running().worker_pids)

    def stop(self) -> None:
        """See `Candidate.stop`."""
        if self._server is not None:
            self._server.stop()

    def _running(self) -> VacancyApiServer:
        assert self._server is not None  # noqa: S101 - `start` comes first
        return self._server
