"""The whole way of a resource class from another package: `python tests/docs/plugin_walkthrough.py DIRECTORY`.

Run with the package on PYTHONPATH; prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vacancy.clients.admin.rules import RaiseOptions, activate_classes
from vacancy.clients.inspection.lookup import show_consumer, show_provider
from vacancy.clients.inspection.status import dead_letters
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.replay_tool.replay import digest, replay
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.request_language.placement_syntax import RequestText, parse
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import run_worker
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import VERDICTS, key
from vacancy.streams.log import Log

CLASS = "FPGA_REGION"
(CELL,) = covering_cells(1)
CARD = {
    "id": "node-1:card0",
    "parent": "node-1",
    "inventories": {CLASS: {"regions": {"r1": "aes", "r0": "aes"}}},
}
VIDEO = {"id": "node-1:card1", "parent": "node-1", "inventories": {CLASS: {"regions": {"r2": "video"}}}}
NODE = {"id": "node-1", "inventories": {"VCPU": {"total": 8}}}
WAIT_S = 90.0


def spec(ask: Any) -> RequestSpec:
    """Two cores of the node, and an ask of one card."""
    groups = [{"resources": {"VCPU": 2}}, {"name": "card", "resources": {CLASS: ask}}]
    return RequestSpec.model_validate_json(json.dumps({"groups": groups}))


def report(log: Log, directory: Path, *providers: dict[str, Any]) -> None:
    """The node says that it has these."""
    reports = [events.ProviderReport.model_validate_json(json.dumps(one)) for one in providers]
    with Outbox(directory / "outbox.db") as outbox:
        publisher = Publisher(log, "node-1", CELL, outbox)
        publisher.report(reports)
        publisher.flush()


@contextmanager
def worker(log: Log, store: Path) -> Iterator[None]:
    """A worker on another thread, once it has caught up."""
    stop: SimpleQueue[None] = SimpleQueue()
    ready = threading.Event()
    options = {"on_ready": lambda _: ready.set(), "stop": stop}
    thread = threading.Thread(target=run_worker, args=(log.url, store), kwargs=options)
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield
    finally:
        stop.put(None)
        thread.join(WAIT_S)


def allowed(directory: Path) -> dict[str, Any]:
    """On a log that allows the class: reported, found, granted, shown, released; rebuilt the same at each step."""
    registry = installed_registry()
    store = directory / "store"
    found: dict[str, Any] = {"plugins": registry.plugins, "equal": []}

    def compare(name: str) -> None:
        here = digest(store, registry)
        found["equal"].append(replay(log, directory / name, registry, until=here.position) == here)

    with closing(new_log(f"sqlite://{directory}/log.db", 1, registry)) as log:
        report(log, directory, NODE, CARD, VIDEO)
        with worker(log, store), Scheduler(log, store, registry, seed=1) as scheduler:
            video = {"count": 1, "bitstream": "video"}
            by_text = parse(RequestText(resources=[f"{CLASS}:1[video]", "VCPU:2"]), registry)
            found["by_text"] = by_text.spec.groups[0].resources
            (candidate,) = scheduler.candidates(spec(video)).candidates
            found["serves"] = {served.group: served.provider for served in candidate.allocations}
            found["too_many"] = len(scheduler.candidates(spec({"count": 2, "bitstream": "video"})).candidates)
            scheduler.place(PlacementRequest(spec(video), consumer="a"), timeout_s=WAIT_S)
            scheduler.place(PlacementRequest(spec(2), consumer="b"), timeout_s=WAIT_S)
            found["left"] = len(scheduler.candidates(spec(1)).candidates)
            granted = (h for c in "ab" for one in show_consumer(scheduler.reader, c) for h in one.holdings)
            found["granted"] = {f"{h.consumer} {h.provider}": h.grant for h in granted if h.group == "card"}
            compare("while-held")
            report(log, directory, NODE, VIDEO)  # the card is pulled out while it is held
            scheduler.release(["a"])
            _until(lambda: not scheduler.allocations("a"))
            found["on_pulled"] = [p.id for p in show_provider(scheduler.reader, "node-1").providers]
            scheduler.release(["b"])
            _until(lambda: not scheduler.allocations("b"))
            found["after"] = [p.id for p in show_provider(scheduler.reader, "node-1").providers]
            inventory = show_provider(scheduler.reader, "node-1:card1").providers[0].inventories[0]
            found["free"] = inventory.free
            compare("after-release")
        audit = verify(log, store, registry).audit
        found["audit"] = {name: getattr(audit, name) for name in ("accepted", "unverifiable", "problems")}
    return found


def refused(directory: Path) -> dict[str, Any]:
    """On a log that does not allow it: a dead letter, a claim rejected; and granted once it is activated."""
    registry = installed_registry()
    store = directory / "store"
    with closing(new_log(f"sqlite://{directory}/log.db", 1, Registry())) as log:
        report(log, directory, NODE)
        report(log, directory, NODE, CARD)
        claim = events.Claim(
            id="c",
            consumer="a",
            allocations=(events.Allocation(provider="node-1", resources={CLASS: 1}),),
            deadline_ms=int(time.time() * 1000) + 60_000,
        )
        data = events.ClaimsRequestedData(claims=(claim,))
        log.append(
            [NewRecord(CELL, events.encode(events.ClaimsRequested(id="e", source="/tests", data=data)))]
        )
        before = replay(log, store, registry)
        with StoreReader(store, registry) as reader:
            verdict = reader.get(VERDICTS, key(CELL, "c"))
            assert verdict is not None
            found: dict[str, Any] = {
                "position": before.position[0] + 2,  # of the activation, after the proposal and its answer
                "dead": [letter.reason for letter in dead_letters(reader)],
                "claim": verdict.reason,
            }
        with worker(log, store), StoreReader(store, registry) as reader:
            found["activated"] = activate_classes(log, reader, RaiseOptions(WAIT_S)).classes
            report(log, directory, NODE, CARD)
            with Scheduler(log, store, registry) as scheduler:
                _until(lambda: bool(scheduler.candidates(spec(2)).candidates))
                found["placed"] = scheduler.place(PlacementRequest(spec(2)), timeout_s=WAIT_S).status
        found["digest"] = replay(log, directory / "again", registry, until={0: found["position"]}).whole
    return found


def _until(holds: Any) -> None:
    until = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > until:
            raise VacancyError("it did not come to that in time")
        time.sleep(0.01)


def main() -> None:
    """Both, each in a directory of its own."""
    found = {}
    for part in (allowed, refused):
        directory = Path(sys.argv[1]) / part.__name__
        directory.mkdir()
        found[part.__name__] = part(directory)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
