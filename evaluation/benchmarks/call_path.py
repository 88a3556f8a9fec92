"""Which modules one placement passes: those whose code runs from the call of `Scheduler.place` to its return.

The request has one group. The scheduler is embedded and warm: it has placed the same request before. Only the calling thread
is looked at, for the worker folds the claim in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import JsonValue

WARM_UP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON (the only form there is)")


def run(_: argparse.Namespace) -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="vacancy-call-path-") as directory:
        modules = modules_of_a_placement(Path(directory))
    print(json.dumps({"benchmark": "call-path", "count": len(modules), "modules": modules}, indent=1))
    return 0


def modules_of_a_placement(directory: Path) -> list[str]:
    """The modules, in the order of their first call."""
    from vacancy.clients.demo.synthetic_fleet import node_reports
    from vacancy.clients.replay_tool.replay import replay
    from vacancy.clients.runtime.bootstrap import installed_registry, new_log
    from vacancy.clients.runtime.worker_process import WorkerProcess
    from vacancy.clients.scheduler.client import Scheduler
    from vacancy.resources.model.events import ProviderReport
    from vacancy.resources.model.request import RequestSpec

    url, store, registry = f"sqlite://{directory}/log.db", directory / "store", installed_registry()
    spec = RequestSpec.model_validate_json('{"groups": [{"resources": {"VCPU": 1, "MEMORY_MB": 256}}]}')
    inventories: dict[str, dict[str, JsonValue]] = {"VCPU": {"total": 64}, "MEMORY_MB": {"total": 65_536}}
    nodes = [(ProviderReport(id=f"node-{number}", inventories=inventories),) for number in range(20)]
    with new_log(url, 1, registry) as log:
        log.append(list(node_reports(nodes, 1)))
        replay(log, store, registry)
        with WorkerProcess(url, store), Scheduler(log, store, registry, seed=1) as scheduler:
            for _ in range(WARM_UP):
                scheduler.place(spec)
            return _modules_of(lambda: scheduler.place(spec))


def _modules_of(call: Any) -> list[str]:
    seen: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            name = frame.f_globals.get("__name__", "")
            if name.startswith("vacancy.") and not frame.f_code.co_filename.startswith("<"):
                seen.setdefault(name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(seen)
