"""PostgreSQL with a schema written for this job: one row a node with what is free, one statement a placement.

The statement starts at a random place of an index on a random number, takes the first node that matches and is not locked by
another transaction, subtracts, and writes the allocation with its request. `FOR NO KEY UPDATE SKIP LOCKED` lets schedulers
pass each other. Only where nothing is found that way, it looks at all nodes and waits for locked ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
    Outcome,
    Request,
    Setting,
    Whole,
)
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.myriad_fleet import MyriadFleet, is_myriad
from evaluation.candidates.postgresql import myriad as postgresql_myriad
from evaluation.candidates.processes import StoreProcess, footprint, free_ports, pause, port_answers, resume
from vacancy.resources.model.errors import VacancyError

if TYPE_CHECKING:
    import psycopg

CLASSES: Final = {"VCPU": "vcpus", "MEMORY_MB": "memory_mb", "DISK_GB": "disk_gb"}
"""Resource class -> column."""

SCHEMA: Final = """\
CREATE TABLE nodes (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    place double precision NOT NULL,
    traits text[] NOT NULL,
    vcpus integer NOT NULL, memory_mb integer NOT NULL, disk_gb integer NOT NULL,
    vcpus_free integer NOT NULL CHECK (vcpus_free >= 0),
    memory_mb_free integer NOT NULL CHECK (memory_mb_free >= 0),
    disk_gb_free integer NOT NULL CHECK (disk_gb_free >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE TABLE allocations (
    consumer text PRIMARY KEY,
    node integer NOT NULL,
    vcpus integer NOT NULL, memory_mb integer NOT NULL, disk_gb integer NOT NULL,
    request jsonb NOT NULL
);
CREATE TABLE heartbeats (
    node text PRIMARY KEY,
    heard timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
"""
INDEXES: Final = """\
CREATE INDEX ON nodes (place);
CREATE INDEX ON nodes USING gin (traits);
"""
"""Nothing that a placement changes is in an index of `nodes`, so that its updates stay on their pages (HOT)."""

_MATCHES: Final = """\
vcpus_free >= %(vcpus)s AND memory_mb_free >= %(memory_mb)s AND disk_gb_free >= %(disk_gb)s AND traits @> %(traits)s"""

_PLACE: Final = f"""\
WITH chosen AS (
    SELECT id FROM nodes WHERE place >= %(place)s AND {_MATCHES}
    ORDER BY place LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
), taken AS (
    UPDATE nodes SET vcpus_free = vcpus_free - %(vcpus)s, memory_mb_free = memory_mb_free - %(memory_mb)s,
        disk_gb_free = disk_gb_free - %(disk_gb)s
    FROM chosen WHERE nodes.id = chosen.id
    RETURNING nodes.id, name
), allocated AS (
    INSERT INTO allocations SELECT %(consumer)s, id, %(vcpus)s, %(memory_mb)s, %(disk_gb)s, %(request)s FROM taken
)
SELECT name FROM taken
"""
_PLACE_ANYWHERE: Final = _PLACE.replace(" SKIP LOCKED", "")

_QUERY: Final = f"""\
(SELECT name FROM nodes WHERE place >= %(place)s AND {_MATCHES} ORDER BY place LIMIT %(limit)s)
UNION ALL
(SELECT name FROM nodes WHERE place < %(place)s AND {_MATCHES} ORDER BY place LIMIT %(limit)s)
LIMIT %(limit)s
"""

_RELEASE: Final = """\
WITH released AS (DELETE FROM allocations WHERE consumer = %(consumer)s RETURNING *)
UPDATE nodes SET vcpus_free = vcpus_free + released.vcpus, memory_mb_free = memory_mb_free + released.memory_mb,
    disk_gb_free = disk_gb_free + released.disk_gb
FROM released WHERE nodes.id = released.node
"""

_WHOLE: Final = """\
SELECT request, name, a.vcpus, a.memory_mb, a.disk_gb, nodes.vcpus, nodes.memory_mb, nodes.disk_gb
FROM allocations a JOIN nodes ON nodes.id = a.node WHERE consumer = %(consumer)s
"""

_HEARTBEAT: Final = """\
INSERT INTO heartbeats VALUES (%(node)s, now()) ON CONFLICT (node) DO UPDATE SET heard = excluded.heard
"""

_SETTINGS: Final = (
    Setting(
        "shared_buffers", "1GB", "PostgreSQL 15, 20.4 Resource Consumption: a quarter of the memory or less"
    ),
    Setting("max_wal_size", "4GB", "PostgreSQL 15, 14.4.6 Populating a Database: increase max_wal_size"),
    Setting(
        "random_page_cost",
        "1.1",
        "PostgreSQL 15, 20.7.2: lower values for fast random reads; all data is in memory here",
    ),
    Setting("synchronous_commit", "on", "the default: a commit returns after its write-ahead log is flushed"),
    Setting("fsync", "on", "the default"),
    Setting("jit", "off", "PostgreSQL 15, 32.2: JIT is for long queries; these take less than a millisecond"),
)
_SCHEMA_SETTINGS: Final = (
    Setting(
        "fillfactor of nodes",
        "50",
        "PostgreSQL 15, 73.7 Heap-Only Tuples: leave room for updates on the page",
    ),
    Setting(
        "locking clause",
        "FOR NO KEY UPDATE SKIP LOCKED",
        "PostgreSQL 15, SELECT: avoids lock contention of several consumers",
    ),
    Setting(
        "connections a scheduler", "4", "two cores: more connections than about twice the cores only wait"
    ),
    Setting("prepared statements", "after 5 runs", "psycopg 3, Prepared statements: the default"),
    Setting(
        "synchronous_commit of heartbeats",
        "off",
        "PostgreSQL 15, 30.4 Asynchronous Commit: for data whose loss is harmless",
    ),
)

_REVIEW: Final = (
    "A pool of four connections a scheduler, 16 for four schedulers: more than about twice the cores only wait (PostgreSQL wiki, Number of"
    " database connections). A GIN index of the traits and a B-tree of the random places; the free amounts are in no index, so that"
    " updates stay on their pages (73.7 Heap-Only Tuples). A placement is one statement, one round trip and one commit; commits of several"
    " connections share a flush of the write-ahead log (30.5 WAL Configuration; `commit_delay` stays 0, its default). Statements are"
    " prepared after five runs. Rows are loaded with COPY, and indexes made after it (14.4 Populating a Database), then ANALYZE."
    " Durability is the default: fsync and synchronous_commit on. Version 15 is that of Debian 12; nothing used here is new in a later one."
)

_POOL: Final = 4
_START_S: Final = 60.0
_USER: Final = "postgres"
_BATCH: Final = 1000


def _programs() -> Path | None:
    """The directory with the programs: Debian's, or where `PATH` has them."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        places.append(Path(found).resolve().parent)
    needed = ("initdb", "postgres", "pg_basebackup")
    return next((one for one in places if all((one / name).exists() for name in needed)), None)


def _amounts(request: Request) -> Json:
    """The parameters for what a request asks for. Raises `NotOffered` for a class without a column."""
    unknown = [name for name in request.resources if name not in CLASSES]
    if unknown or request.qualities:
        raise NotOffered(f"the schema has no column for {', '.join([*unknown, *request.qualities])}")
    amounts: Json = {column: request.resources.get(name, 0) for name, column in CLASSES.items()}
    amounts["traits"] = list(request.required)
    return amounts


class PostgresqlConnection:
    """A scheduler's pool of connections, and one for heartbeats."""

    def __init__(self, dsn: str, seed: int) -> None:
        self._dsn = dsn
        self._random = random.Random(seed)
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._heartbeats: Any = None
        self._heartbeat_lock = asyncio.Lock()

    async def open(self) -> None:
        """Open all connections."""
        for _ in range(_POOL):
            self._idle.put_nowait(await self._connect())

    async def _connect(self, options: str = "") -> psycopg.AsyncConnection[Any]:
        import psycopg

        return await psycopg.AsyncConnection.connect(self._dsn + options, autocommit=True)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        """A new connection. Raises `ConnectionError` if the server does not answer; then nothing was sent."""
        import psycopg

        try:
            return await self._connect()
        except psycopg.OperationalError as error:
            raise ConnectionError(str(error)) from error

    async def _run(self, statement: str, parameters: Json) -> list[tuple[Any, ...]]:
        """Run a statement on an idle connection. Raises `psycopg.Error`, and `ConnectionError` if nothing was sent. A broken
        connection is replaced at its next use."""
        connection = await self._idle.get()
        try:
            if connection is None or connection.closed:
                connection = None
                connection = await self._connected()
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else [()] * cursor.rowcount
        finally:
            self._idle.put_nowait(connection)

    async def query(self, request: Request, limit: int) -> list[str]:
        """See `Connection.query`."""
        if is_myriad(request):
            found = await self._run(*postgresql_myriad.statement(request, limit, self._random.random()))
            return [name for (name,) in found]
        parameters = {**_amounts(request), "place": self._random.random(), "limit": limit}
        return [name for (name,) in await self._run(_QUERY, parameters)]

    async def place(self, consumer: str, request: Request) -> Outcome:
        """See `Connection.place`. Other schedulers are waited for and not run into, so there are no conflicts."""
        import psycopg

        parameters = {
            **_amounts(request),
            "place": self._random.random(),
            "consumer": consumer,
            "request": json.dumps(request.as_json()),
        }
        for statement, start in ((_PLACE, parameters["place"]), (_PLACE, 0.0), (_PLACE_ANYWHERE, 0.0)):
            try:
                found = await self._run(statement, {**parameters, "place": start})
            except ConnectionError as error:
                return Outcome("unavailable", reason=str(error))
            except psycopg.OperationalError as error:
                return Outcome("unknown", reason=str(error))
            if found:
                return Outcome("placed", found[0][0])
        return Outcome("no_room")

    async def release(self, consumer: str) -> bool:
        """See `Connection.release`."""
        import psycopg

        try:
            return bool(await self._run(_RELEASE, {"consumer": consumer}))
        except (ConnectionError, psycopg.OperationalError):
            return False

    async def heartbeat(self, node: str) -> None:
        """See `Connection.heartbeat`. Heartbeats have a table and a connection of their own."""
        import psycopg

        async with self._heartbeat_lock:
            try:
                if self._heartbeats is None or self._heartbeats.closed:
                    self._heartbeats = await self._connect(" options='-c synchronous_commit=off'")
                await self._heartbeats.execute(_HEARTBEAT, {"node": node})
            except psycopg.OperationalError as error:
                raise ConnectionError(str(error)) from error

    async def whole(self, consumer: str) -> Whole:
        """See `Connection.whole`: one statement."""
        ((request, name, *amounts),) = await self._run(_WHOLE, {"consumer": consumer})
        held, totals = amounts[:3], amounts[3:]
        asked = Request.from_json(request)
        resources = {cls: amount for cls, amount in zip(CLASSES, held, strict=True) if amount}
        return Whole(asked, Held(consumer, name, resources), dict(zip(CLASSES, totals, strict=True)), 1)

    async def close(self) -> None:
        """Close all connections."""
        while not self._idle.empty():
            connection = self._idle.get_nowait()
            if connection is not None:
                await connection.close()
        if self._heartbeats is not None:
            await self._heartbeats.close()


class Postgresql:
    """PostgreSQL on this machine, one primary."""

    name = "postgresql"

    def __init__(self) -> None:
        self._home: Path | None = None
        self._port = 0
        self._process: StoreProcess | None = None
        self._replica: StoreProcess | None = None

    def missing(self) -> str | None:
        """See `Candidate.missing`."""
        if _programs() is None:
            return "PostgreSQL is not installed: apt-get install postgresql"
        if find_spec("psycopg") is None:
            return "psycopg is not installed: pip install -e '.[evaluation]'"
        return None

    def about(self) -> About:
        """See `Candidate.about`."""
        programs = _programs()
        version = "not installed"
        if programs is not None:
            done = subprocess.run(
                [programs / "postgres", "--version"], capture_output=True, text=True, check=True
            )
            version = done.stdout.split()[2]
        return About(
            version=f"PostgreSQL {version}",
            settings=_SETTINGS + _SCHEMA_SETTINGS,
            acknowledgement="the transaction's write-ahead log is flushed to disk (fdatasync) by the server",
            durability="a kill of the server and a power failure; not the loss of the disk",
            replicas=1,
            processes="one server with a process for each connection, 5 for each scheduler",
            code_lines=code_lines(__file__, postgresql_myriad.__file__),
            review=_REVIEW,
        )

    def start(self, workdir: Path) -> None:
        """See `Candidate.start`. PostgreSQL refuses to run as root: then it runs as its own user, in a directory that this
        user can reach."""
        if os.geteuid() == 0:
            self._home = Path(tempfile.mkdtemp(prefix="vacancy-postgresql-"))
            shutil.chown(self._home, _USER, _USER)
        else:
            self._home = workdir
        self._port = free_ports(1)[0]
        self._run(
            "initdb",
            "-D",
            str(self._home / "data"),
            "-A",
            "trust",
            "-U",
            "vacancy",
            "-E",
            "UTF8",
            "--locale=C",
        )
        self._process = self._server(self._home / "data", self._port)
        with self._connect() as connection:
            connection.execute(SCHEMA)

    def _as_user(self) -> list[str]:
        if os.geteuid():
            return []
        return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]

    def _command(self, program: str, *arguments: str) -> list[str]:
        programs = _programs()
        assert programs is not None  # noqa: S101 - `missing` was asked
        return [*self._as_user(), str(programs / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        command = self._command(program, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._home)
        if done.returncode:
            raise VacancyError(f"{program} failed: {' '.join((done.stderr or done.stdout).split())[-300:]}")

    def _server(self, data: Path, port: int) -> StoreProcess:
        """Start a server on a data directory, and wait until it answers."""
        assert self._home is not None  # noqa: S101 - it was started
        options = [f"-c{one.name}={one.value}" for one in _SETTINGS]
        options += ["-h", "127.0.0.1", "-p", str(port), "-k", str(self._home)]
        process = StoreProcess(
            "postgres",
            self._command("postgres", "-D", str(data), *options),
            self._home / f"output-{port}.log",
            directory=self._home,
        )
        try:
            process.wait_until(lambda: port_answers(port) and _accepts(self._dsn(port)), _START_S)
        except BaseException:
            process.kill()
            raise
        return process

    def _dsn(self, port: int | None = None) -> str:
        return f"host=127.0.0.1 port={port or self._port} dbname=postgres user=vacancy"

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        return psycopg.connect(self._dsn(), autocommit=True)

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """See `Candidate.fill`. Indexes are made after the rows are copied, as the manual recommends."""
        began = time.monotonic()
        draw = random.Random(fleet.seed)
        with self._connect() as connection:
            with connection.cursor().copy("COPY nodes FROM STDIN") as copy:
                for number, provider in enumerate(fleet.providers()):
                    filler = fleet.filler(provider, used_share)
                    totals = [provider.totals[name] for name in CLASSES]
                    used = [0] * 3 if filler is None else [filler.resources[name] for name in CLASSES]
                    free = [total - gone for total, gone in zip(totals, used, strict=True)]
                    copy.write_row(
                        (number, provider.name, draw.random(), list(provider.traits), *totals, *free)
                    )
            with connection.cursor().copy("COPY allocations FROM STDIN") as copy:
                for filler in fleet.fillers(used_share):
                    amounts = [filler.resources[name] for name in CLASSES]
                    request = json.dumps(Request(filler.resources).as_json())
                    copy.write_row((filler.consumer, fleet.number(filler.provider), *amounts, request))
            connection.execute(INDEXES)
            connection.execute("VACUUM ANALYZE")
        return Fill(time.monotonic() - began, "COPY, then indexes")

    def connection(self, scheduler_number: int) -> Json:
        """See `Candidate.connection`."""
        return {"dsn": self._dsn(), "seed": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> PostgresqlConnection:
        """See `Candidate.connect`."""
        made = PostgresqlConnection(description["dsn"], description["seed"])
        await made.open()
        return made

    def kill(self) -> str:
        """See `Candidate.kill`."""
        assert self._process is not None  # noqa: S101 - it was started
        self._process.kill()
        return "the server and the processes of all its connections"

    def restart(self) -> None:
        """See `Candidate.restart`."""
        assert self._home is not None  # noqa: S101 - it was started
        self._process = self._server(self._home / "data", self._port)

    def held(self) -> Iterator[Held]:
        """See `Candidate.held`."""
        with self._connect() as connection, connection.transaction(), connection.cursor("held") as cursor:
            cursor.itersize = _BATCH
            cursor.execute(
                "SELECT consumer, name, a.vcpus, a.memory_mb, a.disk_gb FROM allocations a JOIN nodes ON nodes.id = a.node"
            )
            for consumer, name, *amounts in cursor:
                resources = {cls: amount for cls, amount in zip(CLASSES, amounts, strict=True) if amount}
                yield Held(consumer, name, resources)

    def footprint(self) -> Footprint:
        """See `Candidate.footprint`."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._home is not None  # noqa: S101 - it was started
        return footprint([self._process.pid], self._home / "data")

    def rebuild(self) -> float:
        """See `Candidate.rebuild`: a hot standby from a base backup."""
        assert self._home is not None  # noqa: S101 - it was started
        began = time.monotonic()
        data, port = self._home / "replica", free_ports(1)[0]
        source = ("-h", "127.0.0.1", "-p", str(self._port), "-U", "vacancy")
        self._run("pg_basebackup", "-D", str(data), "-X", "stream", "-c", "fast", "-R", *source)
        self._replica = self._server(data, port)
        took = time.monotonic() - began
        self._replica.stop()
        shutil.rmtree(data)
        return took

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """See `Candidate.fill_myriad`."""
        began = time.monotonic()
        with self._connect() as connection:
            postgresql_myriad.load(connection, fleet)
        return Fill(time.monotonic() - began, "COPY, then indexes")

    def express(self, request: Request) -> Expression:
        """See `Candidate.express`."""
        text, _ = postgresql_myriad.statement(request, QUERY_LIMIT, 0.5)
        return Expression("one query", text)

    def cut_off(self) -> CutOff:
        """See `Candidate.cut_off`."""
        assert self._process is not None  # noqa: S101 - it was started
        pause([self._process.pid])
        return CutOff("the server and the processes of all its connections", has_cells=False)

    def heal(self) -> None:
        """See `Candidate.heal`."""
        assert self._process is not None  # noqa: S101 - it was started
        resume([self._process.pid])

    def stop(self) -> None:
        """See `Candidate.stop`."""
        for process in (self._replica, self._process):
            if process is not None:
                process.kill()
        self._process = self._replica = None
        if self._home is not None and os.geteuid() == 0:
            shutil.rmtree(self._home, ignore_errors=True)
        self._home = None


def _accepts(dsn: str) -> bool:
    """Whether the server accepts connections."""
    import psycopg

    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
