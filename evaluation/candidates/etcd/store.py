"""etcd with compare-and-swap transactions: one key for each provider, one for each allocation.

A claim is one transaction. It compares the revision of the provider's key and that the consumer has no key, then writes both. So it
is atomic although etcd knows nothing of amounts. Each scheduler keeps a copy of the providers (`etcd_copy.py`).
"""

from __future__ import annotations

import asyncio
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
    Request,
)
from evaluation.candidates.client_filter import expressed_by_filter
from evaluation.candidates.code_lines import code_lines
from evaluation.candidates.etcd import server as etcd_server
from evaluation.candidates.etcd.server import PACKAGE, SETTINGS, EtcdServer, etcd_version
from evaluation.candidates.installed import missing_parts
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.candidates.processes import footprint, pause, resume

if TYPE_CHECKING:
    from evaluation.candidates.etcd.client import EtcdConnection

_CLIENT: Final = (
    str(Path(__file__).with_name("client.py")),
    str(Path(__file__).with_name("copy.py")),
    client_filter.__file__,
)
_REVIEW: Final = (
    "One connection a scheduler carries all calls (https://etcd.io/docs/v3.4/learning/design-client/). Providers are found in a copy"
    " that a watch keeps, not by range reads. No index is needed: the copy has one list for each set of traits in use. A claim is"
    " one transaction of two comparisons and two writes, the fewest that are safe. etcd writes the entries of concurrent requests"
    " to its log together, so claims in flight share a sync of the disk. One member: an acknowledgement waits for one disk, where"
    " the recommended three members also wait for a second one. 3.4 is the version of Debian 12; 3.5 and later are faster at"
    " concurrent reads, which are not used here."
)


class EtcdCandidate:
    """See the module. The libraries of the client are imported only when they are used: `missing` says if they are absent."""

    name = "etcd"

    def __init__(self) -> None:
        self._server: EtcdServer | None = None
        self._workdir = Path()

    def missing(self) -> str | None:
        """One line that says what is not installed; None if all is there."""
        return missing_parts(["etcd"], PACKAGE, {"aetcd": "aetcd", "grpc": "grpcio"})

    def about(self) -> About:
        """What the report prints beside each figure."""
        return About(
            version=f"etcd {etcd_version()}, grpcio {version('grpcio')} with the stubs of aetcd {version('aetcd')}",
            settings=SETTINGS,
            acknowledgement="the only member has appended the transaction to its write-ahead log, synced the log (fdatasync), and"
            " applied the transaction",
            durability="a kill of etcd, a restart of the machine; not the loss of the disk",
            replicas=1,
            processes="one etcd server",
            code_lines=code_lines(__file__, etcd_server.__file__, *_CLIENT),
            review=_REVIEW,
        )

    def start(self, workdir: Path) -> None:
        """Start the server with its data in `workdir`."""
        self._workdir = workdir
        self._server = EtcdServer(workdir)
        self._server.start()

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """Load a fleet with transactions of 128 writes."""
        from evaluation.candidates.etcd import client as etcd_client

        started = time.monotonic()
        etcd_client.load(self._running().port, fleet, used_share)
        return Fill(time.monotonic() - started, f"transactions of {etcd_client.OPERATIONS} writes")

    def connection(self, scheduler_number: int) -> Json:
        """What a scheduler's process needs to connect."""
        return {"port": self._running().port, "seed": scheduler_number}

    @staticmethod
    async def connect(description: Json) -> EtcdConnection:
        """Open a connection, and make its copy of the providers."""
        from evaluation.candidates.etcd.client import EtcdConnection

        connection = EtcdConnection(description["port"], random.Random(description["seed"]))
        await connection.open()
        return connection

    def kill(self) -> str:
        """Kill the server."""
        self._running().kill()
        return "the only etcd server"

    def restart(self) -> None:
        """Start the server again."""
        self._running().start()

    def held(self) -> Iterator[Held]:
        """All allocations."""
        from evaluation.candidates.etcd import client as etcd_client

        return etcd_client.held(self._running().port)

    def footprint(self) -> Footprint:
        """What the server uses now."""
        return footprint(self._running().pids, self._workdir)

    def rebuild(self) -> float:
        """The seconds until a new scheduler has its copy of all providers, which is the replica that serves queries."""
        return asyncio.run(self._time_copy())

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """Load the hosts with many qualities with transactions of 128 writes."""
        from evaluation.candidates.etcd import client as etcd_client

        started = time.monotonic()
        etcd_client.load_myriad(self._running().port, fleet)
        return Fill(time.monotonic() - started, f"transactions of {etcd_client.OPERATIONS} writes")

    def express(self, request: Request) -> Expression:
        """The filter over the copy: etcd has no query for what is in values."""
        return expressed_by_filter(request)

    def cut_off(self) -> CutOff:
        """Stop the only member."""
        pause(self._running().pids)
        return CutOff("the only etcd server", has_cells=False)

    def heal(self) -> None:
        """Let it go on."""
        resume(self._running().pids)

    def stop(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.stop()

    async def _time_copy(self) -> float:
        started = time.monotonic()
        connection = await self.connect(self.connection(0))
        seconds = time.monotonic() - started
        await connection.close()
        return seconds

    def _running(self) -> EtcdServer:
        assert self._server is not None  # noqa: S101 - `start` comes first
        return self._server
