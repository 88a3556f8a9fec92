"""Schedulers with their own copies: there is no store. Each scheduler keeps the state of all nodes in its memory.

It gets all of it when it connects, and then what the nodes report. It decides on its copy, counts its own claims at once,
and sends the claim to the node, which confirms or refuses it. After a refusal it tries another node. This is how OpenStack
Nova scheduled before it had Placement (a filter scheduler with the resource tracker and the retries of the compute nodes),
with a delay of a second in place of a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from evaluation.candidates import client_filter
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
from evaluation.candidates.client_filter import Hosts, expressed_by_filter
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.copies import nodes as copies_nodes
from evaluation.candidates.copies.nodes import CLASSES, REPORT_S
from evaluation.candidates.myriad_fleet import MyriadFleet, is_myriad
from evaluation.candidates.processes import StoreProcess, footprint, free_ports, port_answers

_LIMIT: Final = 1 << 26
_ROOT: Final = Path(__file__).parents[3]
_REVIEW: Final = (
    "A design and not a product, so it is compared with what Nova's documentation says of it: one connection a scheduler with many calls"
    " under way, no index (a scheduler looks at its nodes one after the other from a random one on, as the filter scheduler did), claims"
    " that arrive together at a node share one sync of its journal. The nodes confirm, and their journal survives a power failure,"
    " which Nova had in its database. All nodes are agents in one process: real ones would have their own processors, and a network."
)


class _Lost(Exception):
    """The connection was lost after a message was sent."""


class CopiesConnection:
    """A scheduler's copy, and its connection to the nodes."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._reported: list[list[int]] = []
        self._own: dict[int, list[int]] = {}
        """Node -> what the claims in flight of this scheduler ask for, together."""
        self._traits: list[frozenset[str]] = []
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._next = 0
        self._where: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._hosts: Hosts | None = None

    async def open(self) -> None:
        """Connect and get the state of all nodes. Raises `ConnectionError`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_LIMIT)
        writer.write(b'{"do": "subscribe"}\n')
        reported: list[list[int]] = []
        traits: list[frozenset[str]] = []
        kept: dict[tuple[str, ...], frozenset[str]] = {}
        while True:
            line = await reader.readline()
            if not line:
                raise ConnectionResetError("the nodes closed the connection")
            message = json.loads(line)
            if "end" in message:
                break
            for _, free, names in message["rows"]:
                reported.append(free)
                traits.append(kept.setdefault(tuple(names), frozenset(names)))
        self._reported, self._traits, self._own = reported, traits, {}
        self._writer = writer
        self._receiving = asyncio.create_task(self._receive(reader))

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        """Apply reports, and give answers to who waits for them."""
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                for number, free in message.get("changed", ()):
                    self._reported[number] = free
                if "free" in message:
                    self._reported[message["node"]] = message["free"]
                if "id" in message:
                    self._waiting.pop(message["id"]).set_result(message)
        self._writer = None
        for waiting in self._waiting.values():
            waiting.set_exception(_Lost("the connection to the nodes was lost"))
        self._waiting.clear()

    async def _call(self, **message: Any) -> Json:
        """Send a message to a node and return its answer. Raises `ConnectionError` if nothing was sent, `_Lost` after that."""
        await self._connected()
        writer = self._writer
        if writer is None:
            raise ConnectionResetError("the connection to the nodes was lost")
        self._next += 1
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = waiting
        writer.write(json.dumps({"id": self._next, **message}).encode() + b"\n")
        return await waiting

    async def _connected(self) -> None:
        if self._writer is None:
            async with self._opening:
                if self._writer is None:
                    await self.open()

    # -- the copy -------------------------------------------------------------------------------------------------

    def _find(self, amounts: list[int], required: frozenset[str], limit: int) -> list[int]:
        """Up to `limit` nodes of the copy that match, from a random one on."""
        found: list[int] = []
        size = len(self._reported)
        start = self._random.randrange(size) if size else 0
        for at in range(size):
            number = (start + at) % size
            if required <= self._traits[number]:
                own = self._own.get(number, (0, 0, 0))
                free = self._reported[number]
                if all(free[n] - own[n] >= amounts[n] for n in range(len(CLASSES))):
                    found.append(number)
                    if len(found) == limit:
                        break
        return found

    async def _copy_hosts(self) -> Hosts:
        """Get the documents of the hosts with many qualities. They report like the nodes; nothing of them changes here."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_LIMIT)
        writer.write(b'{"do": "hosts"}\n')
        documents: list[Json] = []
        while "rows" in (message := json.loads(await reader.readline())):
            documents += message["rows"]
        writer.close()
        pools = documents.pop()["pools"] if documents else {}
        return Hosts(documents, pools)

    def _count(self, number: int, amounts: list[int], sign: int) -> None:
        own = self._own.get(number, [0] * len(CLASSES))
        own = [has + sign * asked for has, asked in zip(own, amounts, strict=True)]
        if any(own):
            self._own[number] = own
        else:
            self._own.pop(number, None)

    async def query(self, request: Request, limit: int) -> list[str]:
        """See `Connection.query`: from the copy, without the nodes."""
        if is_myriad(request):
            if self._hosts is None:
                self._hosts = await self._copy_hosts()
            return self._hosts.find(request, limit, self._random)
        return [Fleet.name(number) for number in self._find(*_asked(request), limit)]

    async def place(self, consumer: str, request: Request) -> Outcome:
        """See `Connection.place`."""
        amounts, required = _asked(request)
        conflicts = 0
        while conflicts < ATTEMPTS:
            try:
                await self._connected()
            except ConnectionError as error:
                return Outcome("unavailable", conflicts=conflicts, reason=str(error))
            found = self._find(amounts, required, QUERY_LIMIT)
            if not found:
                return Outcome("no_room", conflicts=conflicts)
            number = self._random.choice(found)
            self._count(number, amounts, 1)
            try:
                answer = await self._call(do="claim", consumer=consumer, node=number, amounts=amounts)
            except ConnectionError as error:
                return Outcome("unavailable", conflicts=conflicts, reason=str(error))
            except _Lost as error:
                return Outcome("unknown", conflicts=conflicts, reason=str(error))
            finally:
                self._count(number, amounts, -1)
            if answer["done"]:
                self._where[consumer] = number
                return Outcome("placed", Fleet.name(number), conflicts)
            conflicts += 1
        return Outcome("conflict", conflicts=conflicts)

    async def release(self, consumer: str) -> bool:
        """See `Connection.release`. Other schedulers see it with the node's next report."""
        try:
            answer = await self._call(do="release", consumer=consumer, node=self._where.pop(consumer))
        except (ConnectionError, _Lost):
            return False
        return bool(answer["done"])

    async def heartbeat(self, node: str) -> None:
        """See `Connection.heartbeat`: the node reports to every scheduler."""
        try:
            await self._call(do="heartbeat", node=Fleet.number(node))
        except _Lost as error:
            raise ConnectionError(str(error)) from error

    async def whole(self, consumer: str) -> Whole:
        """Not offered."""
        raise NotOffered(
            "there is no store: the request is with the scheduler that placed it, the allocation with its node"
        )

    async def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        if self._receiving is not None:
            self._receiving.cancel()


def _asked(request: Request) -> tuple[list[int], frozenset[str]]:
    """The amounts in the order of the copy, and the traits. Raises `NotOffered` for what nodes do not report."""
    unknown = [*(name for name in request.resources if name not in CLASSES), *request.qualities]
    if unknown:
        raise NotOffered(f"the nodes do not report {', '.join(unknown)}")
    return [request.resources.get(name, 0) for name in CLASSES], frozenset(request.required)


class Copies:
    """The nodes, in one process; the copies are in the processes of the schedulers."""

    name = "copies"

    def __init__(self) -> None:
        self._workdir = Path()
        self._port = 0
        self._process: StoreProcess | None = None

    def missing(self) -> str | None:
        """See `Candidate.missing`: it needs Python only."""
        return None

    def about(self) -> About:
        """See `Candidate.about`."""
        return About(
            version=f"Python {sys.version.split()[0]}, asyncio",
            settings=(
                Setting(
                    "delay of reports",
                    f"{REPORT_S:g} s",
                    "a minute is the default of Nova's update_resources_interval; a second favours this candidate",
                ),
                Setting(
                    "fsync", "of each group of claims that arrive together", "comparable to the other stores"
                ),
            ),
            acknowledgement="the node has accepted the claim and its journal is on disk (fsync)",
            durability="a kill of any process and a power failure; the loss of a node's disk loses its allocations",
            replicas=1,
            processes="one process with the agents of all nodes; a copy in each scheduler",
            code_lines=code_lines(__file__, copies_nodes.__file__, client_filter.__file__),
            review=_REVIEW,
        )

    def start(self, workdir: Path) -> None:
        """See `Candidate.start`."""
        self._workdir = workdir
        self._port = free_ports(1)[0]
        self.restart()

    def restart(self) -> None:
        """See `Candidate.restart`. The nodes read their journal."""
        command = [sys.executable, "-m", "evaluation.candidates.copies.nodes"]
        command += [str((self._workdir / "journal").absolute()), str(self._port)]
        process = StoreProcess("the nodes", command, self._workdir / "output.log", directory=_ROOT)
        self._process = process
        process.wait_until(lambda: port_answers(self._port), 600.0)

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """See `Candidate.fill`."""
        began = time.monotonic()
        asked = {"id": 0, "do": "fill", "fleet": fleet.as_json(), "used_share": used_share}
        list(self._ask(asked))
        return Fill(time.monotonic() - began, "each node knows itself; schedulers copy all when they connect")

    def _ask(self, message: Json) -> Iterator[Json]:
        """The answers to one message, up to the last one."""
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=600) as connection,
            connection.makefile("rwb") as stream,
        ):
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()
            for line in stream:
                answer: Json = json.loads(line)
                if "id" in answer or "end" in answer:
                    return
                yield answer

    def connection(self, scheduler_number: int) -> Json:
        """See `Candidate.connection`."""
        return {"port": self._port, "seed": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> CopiesConnection:
        """See `Candidate.connect`."""
        made = CopiesConnection(description["port"], description["seed"])
        await made.open()
        return made

    def kill(self) -> str:
        """See `Candidate.kill`."""
        assert self._process is not None  # noqa: S101 - it was started
        self._process.kill()
        return "the agents of all nodes at once; the schedulers keep their copies"

    def held(self) -> Iterator[Held]:
        """See `Candidate.held`."""
        for answer in self._ask({"do": "held"}):
            for consumer, number, amounts in answer["rows"]:
                resources = {cls: amount for cls, amount in zip(CLASSES, amounts, strict=True) if amount}
                yield Held(consumer, Fleet.name(number), resources)

    def footprint(self) -> Footprint:
        """See `Candidate.footprint`."""
        assert self._process is not None  # noqa: S101 - it was started
        return footprint([self._process.pid], self._workdir)

    def rebuild(self) -> float:
        """See `Candidate.rebuild`: the copy of a new scheduler."""

        async def copy() -> None:
            connection = await self.connect(self.connection(0))
            await connection.query(Request({"VCPU": 1}), 1)
            await connection.close()

        began = time.monotonic()
        asyncio.run(copy())
        return time.monotonic() - began

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """See `Candidate.fill_myriad`."""
        began = time.monotonic()
        list(self._ask({"id": 0, "do": "myriad", "fleet": fleet.as_json()}))
        return Fill(
            time.monotonic() - began, "each host knows itself; schedulers copy all at their first query"
        )

    def express(self, request: Request) -> Expression:
        """See `Candidate.express`."""
        return expressed_by_filter(request)

    def cut_off(self) -> CutOff:
        """See `Candidate.cut_off`."""
        list(self._ask({"id": 0, "do": "cut", "off": True}))
        return CutOff(
            "every fourth node: its messages are delayed",
            has_cells=True,
            contains=lambda name: copies_nodes.is_cut_off(Fleet.number(name)),
        )

    def heal(self) -> None:
        """See `Candidate.heal`."""
        list(self._ask({"id": 0, "do": "cut", "off": False}))

    def stop(self) -> None:
        """See `Candidate.stop`."""
        if self._process is not None:
            self._process.kill()
        self._process = None
