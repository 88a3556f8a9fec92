"""A small fleet with everything that a page can show, hostile texts among it, and a server for it in a thread."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.logs.events_json import claim, claims
from vacancy.clients.demo.synthetic_fleet import make_fleet, node_reports
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import Log
from vacancy.streams.settings import Settings
from vacancy.ui.http.server import make_app
from vacancy.ui.site import Site, SiteOptions

PARTITIONS = 2
NEVER_S = 1e9
"""When a node counts as silent: never, also where the tests take minutes."""
HOSTILE = '<script>globalThis.taken=1</script><img src=x onerror="globalThis.taken=1">'
NODE = "big"
"""A node with two NUMA cells and a device."""

_CELLS: dict[str, Any] = {
    "numa0": {"cell": 0, "cores": [[0, 8], [1, 9], [2, 10], [3, 11]], "reserved_cpus": [0, 8]},
    "numa1": {"cell": 1, "cores": [[4, 12], [5, 13], [6, 14], [7, 15]], "memory_mb": 4096},
}
_DEVICES: Any = {
    "devices": {
        "0000:81:00.0": {"kind": "network", "vendor": "8086"},
        "0000:82:00.0": {"kind": "network", "vendor": HOSTILE},
    }
}


def big_tree() -> tuple[events.ProviderReport, ...]:
    """The tree of `NODE`."""
    root = events.ProviderReport(
        id=NODE,
        inventories={"VCPU": {"total": 8, "reserved": 2}, "MEMORY_MB": {"total": 4096}},
        traits=("HW_CPU_X86_AVX2",),
        attributes={"motto": HOSTILE, "generation": 7},
    )
    cells = [
        events.ProviderReport(
            id=f"{NODE}:{name}",
            parent=NODE,
            inventories={"NUMA_CELL": cell, **({"PCI_DEVICE": _DEVICES} if name == "numa1" else {})},
        )
        for name, cell in _CELLS.items()
    ]
    return (root, *cells)


class Fleet:
    """A log, and a store that is folded from it when `fold` is called."""

    def __init__(self, home: Path, nodes: int = 60) -> None:
        self.home, self.registry = home, installed_registry()
        self.log: Log = new_log(f"sqlite://{home}/log.db", PARTITIONS, self.registry)
        self.settings = Settings(
            log=self.log.url,
            store=home / "store",
            history=home / "history",
            snapshots=str(home / "snapshots"),
        )
        self.cell = cell_for(NODE, PARTITIONS)
        trees = [node.tree for node in make_fleet(nodes, 0, 1).nodes]
        self.log.append(list(node_reports([big_tree(), *trees], PARTITIONS)))
        self.fold()

    def fold(self) -> None:
        """Fold what is new."""
        replay(self.log, self.settings.store, self.registry)

    def append(self, value: bytes, cell: str = "") -> None:
        """Append a record, of the cell of `NODE` unless another one is named."""
        self.log.append([NewRecord(cell or self.cell, value)])

    def claim(self, consumer: str, resources: dict[str, Any], provider: str = NODE, **more: Any) -> None:
        """Append a claim."""
        deadline_ms = wall_ms() + 300_000
        self.append(claims(claim(f"claim-{consumer}", consumer, provider, resources, deadline_ms, **more)))

    def disable(self, node: str, reason: str) -> None:
        """Append an operator's settings."""
        data = events.OperatorSettingsData(
            provider=node,
            revision=1,
            facts=events.OperatorSettings(status="disabled", reason=reason, aggregates=("rack-1",)),
        )
        event = events.OperatorSettingsSet(id=uuid.uuid4().hex, source="/operator", data=data)
        self.append(events.encode(event), cell_for(node, PARTITIONS))

    def other_digest(self) -> None:
        """Append what another host says of its tables: another digest than this one's."""
        other = events.StateMarkedData(store=uuid.uuid4().hex)
        mark = events.encode(events.StateMarked(id=uuid.uuid4().hex, source="/other", data=other))
        (at,) = self.log.append([NewRecord(self.cell, mark)])
        data = events.StateDigestedData(store=other.store, position=at.offset + 1, digest="0" * 32)
        self.append(events.encode(events.StateDigested(id=uuid.uuid4().hex, source="/other", data=data)))

    def refused(self) -> None:
        """Append a record that becomes a dead letter."""
        self.append(b"\xff\x00 " + HOSTILE.encode())

    def close(self) -> None:
        """Close the log."""
        self.log.close()


@contextmanager
def served(fleet: Fleet, **options: Any) -> Iterator[str]:
    """The address of a server for a fleet, in a thread."""
    site = Site(fleet.settings, fleet.registry, SiteOptions(**options))
    started, found = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(make_app(site), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(90)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        site.close()
