"""Hosts as in a soak test: workers, schedulers with journals, and a publisher."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.soak.command import Process, SoakProcess, Worker
from evaluation.soak.journal import journal_of
from evaluation.soak.processes import SoakSite, publish, schedule
from evaluation.soak.report import judge_state
from tests.live.site import WAIT_S, until, wait_for
from vacancy.streams.log import Log

DEADLINE_S = 8.0
"""Of claims: when all is stopped, what is open is settled after that."""


@dataclass
class Host:
    """A host; `site.log` is the URL by which it connects to the log."""

    site: SoakSite
    name: str
    workers: list[Worker]
    scheduler: Process

    @property
    def store(self) -> Path:
        return self.site.home / self.name

    def journal_lines(self, *what: str) -> int:
        """The number of journal lines of these kinds that its scheduler has written."""
        return sum(line[0] in what for line in journal_of(self.site.journal(self.name)))

    def goes_on(self, wait_s: float = WAIT_S) -> None:
        """Wait until its scheduler has placed more consumers."""
        before = self.journal_lines("placed")
        until(lambda: self.journal_lines("placed") > before + 2, f"{self.name} places nothing", wait_s)


@dataclass
class Fleet:
    """All processes of a test."""

    log: Log
    hosts: list[Host]
    publisher: Process

    def conclude(self) -> dict[str, Any]:
        """Stop all processes cleanly and check the result. Other workers must have ended."""
        for host in self.hosts:
            host.scheduler.stop()
        self.publisher.stop()
        for host in self.hosts:
            for worker in host.workers:
                wait_for(host.store, self.log.end())
                worker.stop()
        site = self.hosts[0].site
        names = [host.name for host in self.hosts]
        found = judge_state(site, self.log, [host.store for host in self.hosts], names)
        assert found["ok"], found
        assert found["accepted"] > 0
        return found


@contextmanager
def fleet(log: Log, home: Path, urls: Sequence[str], *, rate: int = 100) -> Iterator[Fleet]:
    """Start a worker and a scheduler for each of these URLs of the log, and a publisher on the first."""
    sites = [SoakSite(url, home, rate, int(time.time() * 1000), DEADLINE_S) for url in urls]
    publisher = Process("publisher", publish, sites[0])
    hosts = []
    for number, site in enumerate(sites):
        name = f"host-{number}"
        worker = Worker(f"worker {name}", site.log, home / name)
        hosts.append(Host(site, name, [worker], Process(name, schedule, site, name, home / name, number)))
    with ExitStack() as stack:

        def run(part: SoakProcess) -> None:
            part.start()
            stack.callback(part.kill)

        run(publisher)
        for host in hosts:
            run(host.workers[0])
        for host in hosts:
            host.workers[0].wait_ready()
            run(host.scheduler)
        for host in hosts:
            host.goes_on()
        yield Fleet(log, hosts, publisher)
