"""The scheduler's side of Cassandra: the tables, claims as lightweight transactions; and the bulk load and the list of all allocations."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import cassandra
import msgspec
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import ConstantReconnectionPolicy, RoundRobinPolicy

from evaluation.candidates.candidate import (
    ATTEMPTS,
    QUERY_LIMIT,
    Fleet,
    Held,
    Json,
    NotOffered,
    Outcome,
    Request,
    Whole,
)
from evaluation.candidates.cassandra import myriad as cassandra_myriad
from evaluation.candidates.myriad_fleet import is_myriad

CLASSES: Final = ("VCPU", "MEMORY_MB", "DISK_GB")
"""Each has a column with its free amount. Another class needs one `ALTER TABLE`."""

_FREE: Final = {name: f"free_{name.lower()}" for name in CLASSES}
SCHEMA: Final = (
    "CREATE KEYSPACE cell WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE cell.providers (name text PRIMARY KEY, generation bigint, totals frozen<map<text, bigint>>, traits set<text>, "
    + ", ".join(f"{column} bigint" for column in _FREE.values())
    + ", allocations map<text, text>)",
    "CREATE INDEX traits ON cell.providers (traits) USING 'sai'",
    "CREATE INDEX consumers ON cell.providers (KEYS(allocations)) USING 'sai'",
    "CREATE TABLE cell.heartbeats (node text PRIMARY KEY, at timestamp) WITH default_time_to_live = 600",
)
_FREE_LIST: Final = ", ".join(_FREE.values())
_SET_FREE: Final = ", ".join(f"{column} = ?" for column in _FREE.values())
_INSERT: Final = (
    f"INSERT INTO cell.providers (name, generation, totals, traits, {_FREE_LIST}, allocations)"
    f" VALUES (?, 1, ?, ?, {', '.join('?' * len(CLASSES))}, ?)"
)
_READ: Final = f"SELECT name, generation, {_FREE_LIST} FROM cell.providers WHERE name = ?"
_CLAIM: Final = f"UPDATE cell.providers SET generation = ?, {_SET_FREE}, allocations[?] = ? WHERE name = ? IF generation = ?"
_RELEASE: Final = f"UPDATE cell.providers SET generation = ?, {_SET_FREE}, allocations = allocations - ? WHERE name = ? IF generation = ?"
_WHOLE: Final = "SELECT name, totals, allocations FROM cell.providers WHERE allocations CONTAINS KEY ?"
_HEARTBEAT: Final = "INSERT INTO cell.heartbeats (node, at) VALUES (?, ?)"

LOADS_AT_ONCE: Final = 128
_RECONNECT_S: Final = 0.1
_ANSWER_S: Final = 10.0
_CONNECT_S: Final = 30.0
_TOKENS: Final = 1 << 63


class AllocationText(msgspec.Struct):
    """The value of a consumer in the map of allocations: what it holds, and its request as it was asked."""

    resources: dict[str, int]
    request: Json


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AllocationText).decode


def make_tables(port: int) -> None:
    """Make the tables of an empty node."""
    with cluster(port) as connected:
        session = connected.connect()
        for statement in SCHEMA:
            session.execute(statement)


def load(port: int, fleet: Fleet, used_share: float) -> None:
    """Load a fleet, one INSERT a provider, `LOADS_AT_ONCE` at once."""
    with cluster(port) as connected:
        session = connected.connect()
        insert = session.prepare(_INSERT)
        rows = (_row(fleet, number, used_share) for number in range(fleet.size))
        while block := list(itertools.islice(rows, 10_000)):
            execute_concurrent_with_args(session, insert, block, concurrency=LOADS_AT_ONCE)


def held(port: int) -> Iterator[Held]:
    """All allocations."""
    with cluster(port) as connected:
        for row in connected.connect().execute("SELECT name, allocations FROM cell.providers"):
            for consumer, text in (row.allocations or {}).items():
                yield Held(consumer, row.name, _decode(text).resources)


class CassandraConnection:
    """One scheduler's session. The driver's thread serves the connection, the event loop of the scheduler gets the answers."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._cluster = cluster(port)
        self._session = self._cluster.connect()
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._read, self._claim, self._release, self._whole, self._heartbeat = map(
            self._session.prepare, (_READ, _CLAIM, _RELEASE, _WHOLE, _HEARTBEAT)
        )
        self._queries: dict[str, Any] = {}
        self._placed: dict[str, tuple[str, dict[str, int]]] = {}
        self._busy: set[str] = set()

    async def query(self, request: Request, limit: int) -> list[str]:
        """The names of up to `limit` providers that match and have room."""
        if is_myriad(request):
            return await cassandra_myriad.find(self._prepared, request, limit, self._rng)
        refuse_qualities(request)
        return [row.name for row in await self._find(request, limit)]

    async def _prepared(self, text: str, parameters: Sequence[Any]) -> list[Any]:
        """Run a statement, which is prepared the first time."""
        if text not in self._queries:
            self._queries[text] = await asyncio.to_thread(self._session.prepare, text)
        return await self._execute(self._queries[text], parameters)

    async def place(self, consumer: str, request: Request) -> Outcome:
        """Claim one of the providers that a query finds; see `Connection.place`."""
        refuse_qualities(request)
        conflicts = 0
        text = _encode(AllocationText(dict(request.resources), request.as_json())).decode()
        while conflicts < ATTEMPTS:
            try:
                found = await self._find(request, QUERY_LIMIT)
            except _ERRORS as error:
                return Outcome("unavailable", conflicts=conflicts, reason=_reason(error))
            if not found:
                return Outcome("no_room", conflicts=conflicts)
            # First those without a claim of this scheduler under way: a second claim would only conflict with it.
            found.sort(key=lambda row: row.name in self._busy)
            for row in found[: ATTEMPTS - conflicts]:
                parameters = [
                    *_changed(row, request.resources, -1),
                    *(consumer, text, row.name, row.generation),
                ]
                try:
                    with self._claiming(row.name):
                        (answer,) = await self._execute(self._claim, parameters)
                except _ERRORS as error:
                    return Outcome("unknown", row.name, conflicts, _reason(error))
                if answer.applied:
                    self._placed[consumer] = (row.name, dict(request.resources))
                    return Outcome("placed", row.name, conflicts)
                conflicts += 1
        return Outcome("conflict", conflicts=conflicts)

    async def release(self, consumer: str) -> bool:
        """Give back what was placed for the consumer; tries again while other claims change the provider."""
        name, resources = self._placed[consumer]
        try:
            applied = False
            while not applied:
                (row,) = await self._execute(self._read, [name])
                parameters = [*_changed(row, resources, 1), {consumer}, name, row.generation]
                (answer,) = await self._execute(self._release, parameters)
                applied = answer.applied
        except _ERRORS:
            return False
        del self._placed[consumer]
        return True

    async def heartbeat(self, node: str) -> None:
        """Write the time of the node. A row that is not written again expires."""
        try:
            await self._execute(self._heartbeat, [node, int(time.time() * 1000)])
        except _ERRORS as error:
            raise ConnectionError(_reason(error)) from error

    async def whole(self, consumer: str) -> Whole:
        """What is stored about a placed consumer, in one read by the index of consumers."""
        (row,) = await self._execute(self._whole, [consumer])
        allocation = _decode(row.allocations[consumer])
        return Whole(
            Request.from_json(allocation.request),
            Held(consumer, row.name, allocation.resources),
            dict(row.totals),
            1,
        )

    async def close(self) -> None:
        """Close the session."""
        await asyncio.to_thread(self._cluster.shutdown)

    async def _find(self, request: Request, limit: int) -> list[Any]:
        """Providers from a random place of the ring on, in a random order. Waits while the node is away: nothing was claimed."""
        if not set(request.resources) <= set(CLASSES):
            return []
        token = self._rng.randrange(-_TOKENS, _TOKENS)
        found: list[Any] = []
        for comparison in (">", "<="):
            text = query_text(request, comparison)
            if text not in self._queries:
                self._queries[text] = await asyncio.to_thread(self._session.prepare, text)
            amounts = [request.resources[name] for name in CLASSES if name in request.resources]
            parameters = [token, *request.required, *amounts, limit - len(found)]
            found += await self._patiently(self._queries[text], parameters)
            if len(found) >= limit:
                break
        self._rng.shuffle(found)
        return found

    async def _patiently(self, statement: Any, parameters: Sequence[Any]) -> list[Any]:
        end = time.monotonic() + _CONNECT_S
        while True:
            try:
                return await self._execute(statement, parameters)
            except _ERRORS:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(_RECONNECT_S)

    async def _execute(self, statement: Any, parameters: Sequence[Any]) -> list[Any]:
        answer: asyncio.Future[list[Any]] = self._loop.create_future()

        def done(outcome: Any, set_outcome: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_set, answer, set_outcome, outcome)

        sent = self._session.execute_async(statement, parameters)
        sent.add_callbacks(
            lambda rows: done(list(rows or ()), answer.set_result),
            lambda error: done(error, answer.set_exception),
        )
        return await answer

    @contextlib.contextmanager
    def _claiming(self, name: str) -> Iterator[None]:
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)


_ERRORS: Final = (cassandra.DriverException, cassandra.RequestExecutionException, NoHostAvailable, OSError)


def refuse_qualities(request: Request) -> None:
    """Raise `NotOffered` if a request asks for more than amounts and traits."""
    if request.qualities:
        raise NotOffered(f"the schema has nothing for {', '.join(request.qualities)}")


def query_text(request: Request, comparison: str) -> str:
    """The statement that finds providers on one side of a token."""
    terms = [
        f"token(name) {comparison} ?",
        *("traits CONTAINS ?" for _ in request.required),
        *(f"{_FREE[name]} >= ?" for name in CLASSES if name in request.resources),
    ]
    return (
        f"SELECT name, generation, {_FREE_LIST} FROM cell.providers"
        f" WHERE {' AND '.join(terms)} LIMIT ? ALLOW FILTERING"
    )


def _changed(row: Any, resources: Mapping[str, int], sign: int) -> list[int]:
    """The generation and the free amounts of a provider after a change."""
    free = [getattr(row, _FREE[name]) + sign * resources.get(name, 0) for name in CLASSES]
    return [row.generation + 1, *free]


def _row(fleet: Fleet, number: int, used_share: float) -> tuple[Any, ...]:
    provider = fleet.provider(number)
    filler = fleet.filler(provider, used_share)
    used = {} if filler is None else dict(filler.resources)
    free = [provider.totals.get(name, 0) - used.get(name, 0) for name in CLASSES]
    allocations = {}
    if filler is not None:
        allocations[filler.consumer] = _encode(AllocationText(used, Request(used).as_json())).decode()
    return (provider.name, dict(provider.totals), set(provider.traits), *free, allocations)


def _set(answer: asyncio.Future[list[Any]], set_outcome: Any, outcome: Any) -> None:
    if not answer.done():
        set_outcome(outcome)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def cluster(port: int) -> Cluster:
    """A connection to the node."""
    profile = ExecutionProfile(RoundRobinPolicy(), request_timeout=_ANSWER_S)
    return Cluster(
        ["127.0.0.1"],
        port=port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(_RECONNECT_S, max_attempts=None),
        connect_timeout=_ANSWER_S,
    )
