"""Apache Cassandra with lightweight transactions: one row for each provider, which a claim changes if nobody else did.

So Leafe's proof of concept for OpenStack did it. A row has the free amount of each resource class, a generation, and a map of its
allocations. A claim is one conditional UPDATE of one row, so it is atomic: Cassandra has no transaction over several partitions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evaluation.candidates import client_filter
from evaluation.candidates.candidate import (
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
)
from evaluation.candidates.cassandra import server as cassandra_server
from evaluation.candidates.cassandra.server import PACKAGE, SETTINGS, SHORT_RUNS, VERSION, CassandraServer
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.installed import missing_parts
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.candidates.processes import footprint, pause, resume

if TYPE_CHECKING:
    from evaluation.candidates.cassandra.client import CassandraConnection

_CLIENT: Final = (
    str(Path(__file__).with_name("client.py")),
    str(Path(__file__).with_name("myriad.py")),
    client_filter.__file__,
)
_REVIEW: Final = (
    "One session a scheduler, prepared statements, many requests in flight on one connection, as the driver's manual recommends."
    " The partition key is the provider, so a claim is one lightweight transaction in one partition; a logged batch over two tables would"
    " not be conditional. Providers are found from a random token on, with the storage-attached index of traits if the request"
    " has traits; the free amounts are filtered behind it, because an index of values that change with each claim costs more than it"
    " saves. Rows are loaded one by one: batches over partitions are advised against. One node: with the usual three, each"
    " transaction needs answers from two. Allocations are a map in the row, which the documentation allows for small collections;"
    " a node has at most some hundreds. That a consumer holds something on one node only is not enforced: it would be a condition over"
    " several partitions."
)


class CassandraCandidate:
    """See the module. The driver is imported only when it is used: `missing` says if it is absent."""

    name = "cassandra"

    def __init__(self) -> None:
        self._server: CassandraServer | None = None
        self._workdir = Path()
        self._short_runs = False

    def prepare_for_short_runs(self) -> None:
        """See `WarmsUp`."""
        self._short_runs = True

    def missing(self) -> str | None:
        """One line that says what is not installed; None if all is there."""
        return missing_parts(["java", "mvn"], PACKAGE, {"cassandra": "cassandra-driver"})

    def about(self) -> About:
        """What the report prints beside each figure."""
        return About(
            version=f"Apache Cassandra {VERSION}, cassandra-driver {version('cassandra-driver')}",
            settings=(
                *SETTINGS,
                *([SHORT_RUNS] if self._short_runs else []),
            ),
            acknowledgement="the only node has accepted and committed the Paxos round, and has synced its commit log (fsync)",
            durability="a kill of Cassandra, a restart of the machine; not the loss of the disk",
            replicas=1,
            processes="one Java process",
            code_lines=code_lines(__file__, cassandra_server.__file__, *_CLIENT),
            review=_REVIEW,
        )

    def start(self, workdir: Path) -> None:
        """Start the node with its data in `workdir`, and make the tables."""
        from evaluation.candidates.cassandra import client as cassandra_client

        self._workdir = workdir
        self._server = CassandraServer(workdir, short_runs=self._short_runs)
        self._server.start()
        cassandra_client.make_tables(self._server.port)

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """Load a fleet, one INSERT a provider."""
        from evaluation.candidates.cassandra import client as cassandra_client

        started = time.monotonic()
        cassandra_client.load(self._running().port, fleet, used_share)
        return Fill(
            time.monotonic() - started, f"one INSERT a provider, {cassandra_client.LOADS_AT_ONCE} at once"
        )

    def connection(self, scheduler_number: int) -> Json:
        """What a scheduler's process needs to connect."""
        return {"port": self._running().port, "seed": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> CassandraConnection:
        """Open a connection."""
        from evaluation.candidates.cassandra.client import CassandraConnection

        return CassandraConnection(description["port"], random.Random(description["seed"]))

    def kill(self) -> str:
        """Kill the node."""
        self._running().kill()
        return "the only Cassandra node"

    def restart(self) -> None:
        """Start the node again; it replays its commit log."""
        self._running().start()

    def held(self) -> Iterator[Held]:
        """All allocations."""
        from evaluation.candidates.cassandra import client as cassandra_client

        return cassandra_client.held(self._running().port)

    def footprint(self) -> Footprint:
        """What the node uses now."""
        return footprint(self._running().pids, self._workdir)

    def rebuild(self) -> float:
        """Not offered: there is one node."""
        raise NotOffered("this set-up has one node: a second one would need another 1.5 GB of memory")

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """Load the hosts with many qualities, one INSERT a host."""
        from evaluation.candidates.cassandra import client as cassandra_client
        from evaluation.candidates.cassandra import myriad as cassandra_myriad

        started = time.monotonic()
        with cassandra_client.cluster(self._running().port) as connected:
            cassandra_myriad.load(connected.connect(), fleet)
        return Fill(time.monotonic() - started, "one INSERT a host")

    def express(self, request: Request) -> Expression:
        """The statement, and the filter behind it if it does not compare everything."""
        from evaluation.candidates.cassandra import myriad as cassandra_myriad

        return cassandra_myriad.expressed(request)

    def cut_off(self) -> CutOff:
        """Stop the only node."""
        pause(self._running().pids)
        return CutOff("the only Cassandra node", has_cells=False)

    def heal(self) -> None:
        """Let it go on."""
        resume(self._running().pids)

    def stop(self) -> None:
        """End the node with SIGKILL: nobody needs its data any more, and to drain them takes some seconds."""
        if self._server is not None:
            self._server.kill()

    def _running(self) -> CassandraServer:
        assert self._server is not None  # noqa: S101 - `start` comes first
        return self._server
