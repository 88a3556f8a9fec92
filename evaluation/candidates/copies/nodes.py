"""The agents of all nodes, for the candidate `copies`: `python -m evaluation.candidates.copies.nodes JOURNAL PORT`.

Each node knows what it has and who holds it. It accepts or refuses claims, and reports its state to every scheduler that is
connected, at most once in `REPORT_S`. One process plays the agents of all nodes. Messages are JSON objects, one a line.
What a node accepted is in the journal on disk (fsync) before it answers; claims that arrive together share one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from evaluation.candidates.candidate import Fleet, Json
from evaluation.candidates.myriad_fleet import MyriadFleet

CLASSES: Final = ("VCPU", "MEMORY_MB", "DISK_GB")
REPORT_S: Final = 1.0
"""How often a node that has changed reports to the schedulers."""

_CHUNK: Final = 2000
_CELLS: Final = 4


def is_cut_off(number: int) -> bool:
    """Whether a node is in the quarter of them that can be cut off, as the nodes behind one switch."""
    return number % _CELLS == 0


class Nodes:
    """The state of all nodes, and the journal."""

    def __init__(self, journal: Path) -> None:
        self.free: list[list[int]] = []
        self.traits: list[tuple[str, ...]] = []
        self.held: dict[str, tuple[int, list[int]]] = {}
        self.changed: dict[asyncio.StreamWriter, set[int]] = {}
        self._ready: list[tuple[asyncio.StreamWriter, Json]] = []
        self._lines: list[Json] = []
        self._hosts: Json = {}
        self._is_cut_off = False
        self._delayed: list[tuple[Json, asyncio.StreamWriter]] = []
        if journal.exists():
            for line in journal.read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # the last line may be cut: it was not acknowledged
                    self._apply(json.loads(line))
        self._journal = journal.open("ab")

    def _apply(self, entry: Json) -> None:
        """Apply an entry of the journal."""
        if "fleet" in entry:
            self._fill(Fleet.from_json(entry["fleet"]), entry["used_share"])
        elif "claim" in entry:
            self._take(entry["claim"], entry["node"], entry["amounts"])
        else:
            self._give_back(entry["release"])

    def _fill(self, fleet: Fleet, used_share: float) -> None:
        for number, provider in enumerate(fleet.providers()):
            self.free.append([provider.totals[name] for name in CLASSES])
            self.traits.append(provider.traits)
            filler = fleet.filler(provider, used_share)
            if filler is not None:
                self._take(filler.consumer, number, [filler.resources[name] for name in CLASSES])

    def _take(self, consumer: str, number: int, amounts: list[int]) -> None:
        self.free[number] = [has - asked for has, asked in zip(self.free[number], amounts, strict=True)]
        self.held[consumer] = number, amounts

    def _give_back(self, consumer: str) -> int:
        number, amounts = self.held.pop(consumer)
        self.free[number] = [has + back for has, back in zip(self.free[number], amounts, strict=True)]
        return number

    def _has_changed(self, number: int) -> None:
        for numbers in self.changed.values():
            numbers.add(number)

    # -- messages -------------------------------------------------------------------------------------------------

    def receive(self, message: Json, writer: asyncio.StreamWriter) -> None:
        """Handle a message of a scheduler. Its answer is sent once the journal is on disk. A message to a node that is cut off arrives
        once it is there again."""
        if self._is_cut_off and "node" in message and is_cut_off(message["node"]):
            self._delayed.append((message, writer))
            return
        done = getattr(self, f"_on_{message['do']}")(message)
        number = message.get("node")
        state = {} if number is None else {"node": number, "free": self.free[number]}
        self._ready.append((writer, {"id": message["id"], "done": done, **state}))
        if len(self._ready) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _on_fill(self, message: Json) -> bool:
        entry = {"fleet": message["fleet"], "used_share": message["used_share"]}
        self._apply(entry)
        self._lines.append(entry)
        return True

    def _on_myriad(self, message: Json) -> bool:
        self._hosts = message["fleet"]
        return True

    def _on_cut(self, message: Json) -> bool:
        self._is_cut_off = message["off"]
        delayed, self._delayed = self._delayed, []
        for one, writer in delayed:
            self.receive(one, writer)
        return True

    def _on_claim(self, message: Json) -> bool:
        number, amounts = message["node"], message["amounts"]
        if message["consumer"] in self.held:
            return False
        if any(has < asked for has, asked in zip(self.free[number], amounts, strict=True)):
            return False
        self._take(message["consumer"], number, amounts)
        self._lines.append({"claim": message["consumer"], "node": number, "amounts": amounts})
        self._has_changed(number)
        return True

    def _on_release(self, message: Json) -> bool:
        if message["consumer"] not in self.held:
            return False
        self._has_changed(self._give_back(message["consumer"]))
        self._lines.append({"release": message["consumer"]})
        return True

    def _on_heartbeat(self, message: Json) -> bool:
        self._has_changed(message["node"])
        return True

    def _flush(self) -> None:
        """Write the journal, then send the answers."""
        lines, self._lines = self._lines, []
        if lines:
            self._journal.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            self._journal.flush()
            os.fdatasync(self._journal.fileno())
        ready, self._ready = self._ready, []
        for writer, answer in ready:
            _send(writer, answer)

    # -- reports --------------------------------------------------------------------------------------------------

    def states(self) -> Iterator[list[Any]]:
        """[number, free amounts, traits] of every node."""
        for number, free in enumerate(self.free):
            yield [number, free, self.traits[number]]

    def holdings(self) -> Iterator[list[Any]]:
        """[consumer, number of the node, amounts] of every allocation."""
        for consumer, (number, amounts) in self.held.items():
            yield [consumer, number, amounts]

    def hosts(self) -> Iterator[Json]:
        """The documents of the hosts with many qualities, and the shared disks at the end."""
        if self._hosts:
            fleet = MyriadFleet.from_json(self._hosts)
            yield from (host.as_json() for host in fleet.hosts)
            yield {"pools": fleet.pools}

    def _reporting(self, numbers: set[int]) -> list[int]:
        """Those of the nodes that can report now."""
        return [number for number in numbers if not (self._is_cut_off and is_cut_off(number))]

    async def report(self) -> None:
        """Report nodes that have changed to each scheduler."""
        while True:
            await asyncio.sleep(REPORT_S)
            for writer, numbers in self.changed.items():
                if reporting := self._reporting(numbers):
                    _send(writer, {"changed": [[number, self.free[number]] for number in reporting]})
                    numbers.difference_update(reporting)


def _send(writer: asyncio.StreamWriter, message: Json) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


async def _serve(nodes: Nodes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: a scheduler (`subscribe`), or somebody who asks for all allocations (`held`)."""
    try:
        while line := await reader.readline():
            message = json.loads(line)
            if message["do"] in ("subscribe", "held", "hosts"):
                if message["do"] == "subscribe":
                    nodes.changed[writer] = set()
                every_row = {"subscribe": nodes.states, "held": nodes.holdings, "hosts": nodes.hosts}
                rows: Iterator[Any] = every_row[message["do"]]()
                # A list first: other connections change the tables while this one waits.
                every = iter(list(rows))
                while chunk := list(islice(every, _CHUNK)):
                    _send(writer, {"rows": chunk})
                    await writer.drain()
                _send(writer, {"end": True})
            else:
                nodes.receive(message, writer)
    except ConnectionError:
        pass
    finally:
        nodes.changed.pop(writer, None)
        writer.close()


async def _main(journal: Path, port: int) -> None:
    nodes = Nodes(journal)
    server = await asyncio.start_server(
        lambda reader, writer: _serve(nodes, reader, writer), "127.0.0.1", port, limit=1 << 26
    )
    async with server:
        await asyncio.gather(server.serve_forever(), nodes.report())


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
