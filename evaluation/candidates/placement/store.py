"""OpenStack Placement on MariaDB: set up as its own gate jobs do it, and at its best on two cores.

A scheduler does what Nova's does: it gets allocation candidates, claims one of them with its generation, and on a conflict
tries again or takes the next one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from evaluation.candidates.candidate import (
    ATTEMPTS,
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
    Outcome,
    Request,
    Setting,
    Whole,
)
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.installed import missing_parts
from evaluation.candidates.myriad_fleet import MyriadFleet, is_myriad
from evaluation.candidates.placement import fill as placement_fill
from evaluation.candidates.placement import http as placement_http
from evaluation.candidates.placement import mariadb as mariadb_server
from evaluation.candidates.placement import myriad as placement_myriad
from evaluation.candidates.placement import names as placement_names
from evaluation.candidates.placement import server as placement_server
from evaluation.candidates.placement.http import CONCURRENT_UPDATE, CONFLICT, Answer, NotSent, PlacementApi
from evaluation.candidates.placement.mariadb import PACKAGE, PROGRAMS, mariadb_version
from evaluation.candidates.placement.myriad import MyriadQueries
from evaluation.candidates.placement.names import name_of, uuid_of
from evaluation.candidates.placement.server import BEST, GATE, PlacementProfile, PlacementServer
from evaluation.candidates.processes import footprint, pause, resume

_TRIES_OF_ONE: Final = 4
"""How often Nova sends a claim that met a concurrent update (`retries` in nova/scheduler/client/report.py). Its pauses of up to
some seconds between them are left out, which is in Placement's favour."""

_PAUSE_S: Final = 0.1
_PATIENCE_S: Final = 20.0
_REVIEW: Final = (
    "Tables and indexes are Placement's own. The pool of 25 connections and 100 more a process, as in its gate job, is never used up."
    " HTTP without keep-alive: uWSGI's `--http-keepalive` stalls each GET for 40 ms. `limit` is given with each query, as Nova"
    " does, so that an answer is small; Nova's own default is 1,000. Claims have no batch in this API for consumers that come one by"
    " one. MariaDB syncs its redo log at each commit. The version is the newest release; the database is Debian's MariaDB 10.11,"
    " where the gate job has Ubuntu's MySQL."
)


class _Placement:
    """See the module."""

    name: str
    profile: PlacementProfile

    def __init__(self) -> None:
        self._server: PlacementServer | None = None
        self._workdir = Path()

    def missing(self) -> str | None:
        """One line that says what is not installed; None if all is there."""
        modules = {"placement": "openstack-placement", "pyuwsgi": "pyuwsgi", "pymysql": "pymysql"}
        return missing_parts(PROGRAMS, PACKAGE, modules)

    def about(self) -> About:
        """What the report prints beside each figure."""
        profile = self.profile
        modules = (
            *(mariadb_server, placement_fill, placement_http, placement_myriad),
            *(placement_names, placement_server),
        )
        return About(
            version=f"openstack-placement {version('openstack-placement')}, MariaDB {mariadb_version()},"
            f" uWSGI {version('pyuwsgi')}, PyMySQL {version('pymysql')}",
            settings=(
                Setting(
                    "uwsgi --processes, --threads", f"{profile.processes}, {profile.threads}", profile.why
                ),
                *profile.environment,
                *mariadb_server.SETTINGS,
            ),
            acknowledgement="MariaDB has committed the allocation, with its redo log synced (fsync), and Placement has answered 204",
            durability="a kill of Placement and of MariaDB, a restart of the machine; not the loss of the disk",
            replicas=1,
            processes=f"uWSGI with its router and {profile.processes} processes of {profile.threads} threads, one MariaDB server",
            code_lines=code_lines(__file__, *(str(module.__file__) for module in modules)),
            review=_REVIEW,
        )

    def start(self, workdir: Path) -> None:
        """Start MariaDB and Placement with their data in `workdir`."""
        self._workdir = workdir
        self._server = PlacementServer(workdir, self.profile)
        self._server.start()

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """Load a fleet: see `placement_fill.py`."""
        started = time.monotonic()
        server = self._running()
        how = placement_fill.load(server.port, server.database, fleet, used_share)
        return Fill(time.monotonic() - started, how)

    def connection(self, scheduler_number: int) -> Json:
        """What a scheduler's process needs to connect."""
        return {"port": self._running().port, "seed": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> PlacementConnection:
        """Open a connection."""
        return PlacementConnection(description["port"], random.Random(description["seed"]))

    def kill(self) -> str:
        """Kill the database: the API has no data."""
        self._running().database.kill()
        return "MariaDB, the only database"

    def restart(self) -> None:
        """Start the database again. Placement connects again by itself."""
        self._running().database.start()

    def held(self) -> Iterator[Held]:
        """All allocations."""
        return placement_fill.held(self._running().database)

    def footprint(self) -> Footprint:
        """What Placement and MariaDB use now."""
        return footprint(self._running().pids, self._workdir)

    def rebuild(self) -> float:
        """Not offered: there is one database."""
        raise NotOffered("Placement has no replicas: they would be those of its database")

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """Load the hosts with many qualities."""
        started = time.monotonic()
        server = self._running()
        asyncio.run(placement_myriad.load(server.port, server.database, fleet))
        return Fill(time.monotonic() - started, "bulk insert")

    def express(self, request: Request) -> Expression:
        """The query for allocation candidates."""
        return placement_myriad.expressed(request, QUERY_LIMIT)

    def cut_off(self) -> CutOff:
        """Stop the database."""
        pause(self._running().database.pids)
        return CutOff("MariaDB, the only database", has_cells=False)

    def heal(self) -> None:
        """Let it go on."""
        resume(self._running().database.pids)

    def stop(self) -> None:
        """Stop all processes."""
        if self._server is not None:
            self._server.stop()

    def _running(self) -> PlacementServer:
        assert self._server is not None  # noqa: S101 - `start` comes first
        return self._server


class PlacementAsInGate(_Placement):
    """Placement as its own performance jobs start it."""

    name = "placement-gate"
    profile = GATE


class PlacementAtBest(_Placement):
    """Placement with the fastest correct settings that were found."""

    name = "placement-best"
    profile = BEST


class PlacementConnection:
    """One scheduler's client."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._api = PlacementApi(port)
        self._myriad = MyriadQueries(self._api)
        self._rng = rng

    async def query(self, request: Request, limit: int) -> list[str]:
        """The names of up to `limit` providers that match and have room. Placement chooses them at random if it is set so."""
        if is_myriad(request):
            return await self._myriad.find(request, limit)
        return [_provider(one) for one in await self._candidates(request, limit)]

    async def place(self, consumer: str, request: Request) -> Outcome:
        """Claim one of the allocation candidates; see `Connection.place`."""
        conflicts = 0
        while conflicts < ATTEMPTS:
            try:
                found = await self._candidates(request, QUERY_LIMIT)
            except OSError as error:
                return Outcome("unavailable", conflicts=conflicts, reason=str(error))
            if not found:
                return Outcome("no_room", conflicts=conflicts)
            for one in found:
                try:
                    answer, refused = await self._claim(consumer, one, ATTEMPTS - conflicts)
                except NotSent as error:
                    return Outcome("unavailable", conflicts=conflicts, reason=str(error))
                except OSError as error:
                    return Outcome("unknown", _provider(one), conflicts, str(error))
                conflicts += refused
                if answer.ok:
                    return Outcome("placed", _provider(one), conflicts)
                if answer.status != CONFLICT:
                    return Outcome(
                        "unknown", _provider(one), conflicts, f"{answer.status}: {answer.body}"[:200]
                    )
                if conflicts >= ATTEMPTS:
                    break
        return Outcome("conflict", conflicts=conflicts)

    async def release(self, consumer: str) -> bool:
        """Delete the consumer's allocations; tries again after a concurrent update of the provider."""
        while True:
            try:
                answer = await self._api.call("DELETE", f"/allocations/{uuid_of(consumer)}")
            except OSError:
                return False
            if answer.status != CONFLICT:
                return answer.ok

    async def heartbeat(self, node: str) -> None:
        """Not offered."""
        raise NotOffered(
            "Placement does not record whether a node is alive; Nova has a table of services for that"
        )

    async def whole(self, consumer: str) -> Whole:
        """Not offered."""
        raise NotOffered("Placement does not store the request; Nova has it in another database")

    async def close(self) -> None:
        """Nothing to close: each request has its own connection."""

    async def _candidates(self, request: Request, limit: int) -> list[Json]:
        """Allocation candidates in a random order. Waits while the store is away: nothing was claimed."""
        path = candidates_path(request, limit)
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = await self._api.call("GET", path)
                if answer.ok:
                    break
                problem = ConnectionError(f"{answer.status}: {answer.body}"[:200])
            except ConnectionError as error:
                problem = error
            if time.monotonic() > end:
                raise problem
            await asyncio.sleep(_PAUSE_S)
        found: list[Json] = answer.body["allocation_requests"]
        self._rng.shuffle(found)
        return found

    async def _claim(self, consumer: str, candidate: Json, tries: int) -> tuple[Answer, int]:
        """Send a claim, again after a concurrent update. Returns the last answer, and how many were conflicts."""
        body = placement_fill.claim_body(candidate["allocations"])
        refused = 0
        for _ in range(min(_TRIES_OF_ONE, tries)):
            answer = await self._api.call("PUT", f"/allocations/{uuid_of(consumer)}", body)
            if answer.status != CONFLICT:
                break
            refused += 1
            if answer.code != CONCURRENT_UPDATE:
                break
        return answer, refused


def candidates_path(request: Request, limit: int) -> str:
    """A request as a query for allocation candidates. Raises `NotOffered` for what Placement's API cannot ask."""
    if request.qualities:
        raise NotOffered(f"the adapter has no query for {', '.join(request.qualities)}")
    parameters: dict[str, Any] = {
        "resources": ",".join(f"{name}:{amount}" for name, amount in request.resources.items())
    }
    if request.required:
        parameters["required"] = ",".join(request.required)
    parameters["limit"] = limit
    return f"/allocation_candidates?{urlencode(parameters, safe=':,')}"


def _provider(candidate: Json) -> str:
    """The name of the provider of an allocation candidate."""
    (uuid,) = candidate["allocations"]
    return name_of(uuid)
