"""The page with a large fleet, in a real browser: the time until the map is drawn, the bytes, frames a second while records are folded.

It makes a fleet and its store, starts `vacancy worker` and `vacancy ui`, and opens the page in Debian's Chromium. It needs the
packages of the tests (`pip install playwright`).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from vacancy.clients.demo.synthetic_fleet import make_fleet, node_reports
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model import events
from vacancy.streams.log import Log

_BLOCK = 5_000
_WAIT_MS = 180_000

_PAN = """async (ms) => {
  const map = globalThis.fleetMap, times = [];
  map.zoom(2);
  const until = performance.now() + ms;
  let before = performance.now();
  for (let turn = 0; performance.now() < until; turn += 1) {
    map.move(turn % 40 < 20 ? 6 : -6, turn % 60 < 30 ? 3 : -3);
    if (turn % 120 === 60) map.zoom(1.3);
    if (turn % 120 === 0) map.zoom(1 / 1.3);
    const now = await new Promise((next) => requestAnimationFrame(next));
    times.push(now - before);
    before = now;
  }
  return times;
}"""
"""Pans and zooms for some time; returns the time of each frame in ms."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--nodes", type=int, default=100_000, help="nodes of the fleet (default: 100000)")
    parser.add_argument("--rate", type=int, default=1_000, help="records a second (default: 1000)")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="how long frames are counted (default: 20)"
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="first views, of which the median counts (default: 3)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the figures as JSON."""
    with TemporaryDirectory(prefix="vacancy-page-") as home:
        print(json.dumps(_measured(Path(home), arguments), indent=1))
    return 0


def _measured(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    log, roots = _made(home, arguments.nodes)
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    with ExitStack() as opened:
        opened.enter_context(log)
        opened.enter_context(_command(home, "worker", "--web-port", "off", until="caught up"))
        said = opened.enter_context(_command(home, "ui", "--port", "0", until="http://"))
        found = re.search(r"http://\S+/", said)  # a `;` follows it
        assert found is not None, said  # noqa: S101 - the command has just written it
        playwright = opened.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        opened.callback(browser.close)
        views = [_first_view(browser, found[0]) for _ in range(arguments.runs)]
        frames = _frames(browser, found[0], log, roots, arguments)
    return {
        "nodes": len(roots),
        "first_view_ms": median(one["first_view_ms"] for one in views),
        "bytes_to_the_browser": median(one["bytes"] for one in views),
        **frames,
    }


def _made(home: Path, nodes: int) -> tuple[Log, list[str]]:
    """A log with the reports of a fleet, folded into the store; and the nodes."""
    registry = installed_registry()
    log = new_log(f"sqlite://{home}/log.db", 4, registry)
    fleet = make_fleet(nodes, 0, 1)
    reports = list(node_reports([node.tree for node in fleet.nodes], 4))
    for at in range(0, len(reports), _BLOCK):
        log.append(reports[at : at + _BLOCK])
    replay(log, home / "store", registry)
    return log, [node.root for node in fleet.nodes]


@contextmanager
def _command(home: Path, *words: str, until: str) -> Iterator[str]:
    """A command of this build that runs until the block ends; yields the line that has `until` in it."""
    place = ("--log", f"sqlite://{home}/log.db", "--store", str(home / "store"))
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("vacancy")), *words, *place],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None  # noqa: S101 - it is a pipe
    try:
        line = next(line for line in process.stderr if until in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line
    finally:
        process.terminate()
        process.wait()


def _first_view(browser: Any, address: str) -> dict[str, float]:
    """A browser without a cache opens the page: ms until the map is drawn, and bytes received."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    began = time.perf_counter()
    _open(page, address, wait_until="commit")
    took_ms = (time.perf_counter() - began) * 1000
    size = page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".reduce((sum, one) => sum + one.transferSize, 0)"
    )
    context.close()
    return {"first_view_ms": round(took_ms, 1), "bytes": size}


def _open(page: Any, address: str, **how: Any) -> None:
    """Open the fleet, and wait until the map is drawn."""
    answer = page.goto(f"{address}fleet?class=VCPU", **how)
    if answer is None or not answer.ok:
        raise RuntimeError(f"{page.url} answered {answer and answer.status}")
    page.wait_for_selector("body[data-drawn]", timeout=_WAIT_MS)


def _frames(browser: Any, address: str, log: Log, roots: list[str], arguments: Any) -> dict[str, Any]:
    """Frames a second while the map is moved, and records come at a rate."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    _open(page, address)
    stop = threading.Event()
    sent: list[int] = []
    sender = threading.Thread(target=_send, args=(log, roots, arguments.rate, stop, sent))
    sender.start()
    began = time.perf_counter()
    try:
        times = page.evaluate(_PAN, arguments.seconds * 1000)
    finally:
        stop.set()
        sender.join()
    took_s = time.perf_counter() - began
    context.close()
    ordered = sorted(times)
    return {
        "frames_a_second": round(1000 * len(times) / sum(times), 1),
        "frame_ms_p50": round(ordered[len(ordered) // 2], 1),
        "frame_ms_p99": round(ordered[int(len(ordered) * 0.99)], 1),
        "records_a_second": round(sum(sent) / took_s),
    }


def _send(log: Log, roots: list[str], rate: int, stop: threading.Event, sent: list[int]) -> None:
    """Reports of one node after the other, a tenth of a second's at once."""
    at, block = 0, max(1, rate // 10)
    next_at = time.monotonic()
    while not stop.is_set():
        trees = [
            (
                events.ProviderReport(
                    id=roots[one % len(roots)], inventories={"VCPU": {"total": 8 + one % 64}}
                ),
            )
            for one in range(at, at + block)
        ]
        at += block
        batch = list(node_reports(trees, 4))
        log.append(batch)
        sent.append(len(batch))
        next_at += 0.1
        stop.wait(max(0.0, next_at - time.monotonic()))
