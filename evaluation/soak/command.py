"""A soak test: two hosts under a constant load, while processes are killed (SIGKILL) and restarted, one every minute.

The worker and the scheduler of the first host, the publisher and the broker are killed in turn. The worker and the
scheduler of the second host are not killed, so that their memory can be measured over the whole time: all resident
memory, including mapped and shared pages, after a warm-up that fills memtables and rings once. At the end the log is
folded again and compared with both stores, every claim is audited, and the journal of each process is compared with the
log.

Without --log a Kafka broker is started, as in the tests. A broker that was named with --log is not killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import psutil

from evaluation.soak.changes import set_limit
from evaluation.soak.processes import PARTITIONS, SoakSite, publish, schedule
from evaluation.soak.report import Sample, by_tenths, judge_memory, judge_state
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import Log

EXIT_DIFFERENCE = 5
GROWTH_MAX = 0.05
JUDGED_FROM_MINUTES = 10.0
"""In shorter soaks memory is reported but not judged, because the warm-up dominates."""

HOSTS = ("one", "two")
_SAMPLE_S = 5.0
_AWAY_S = 3.0
_MORE_S = 90.0
_STOP_S = 170.0
_READY_S = 180.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--log",
        help="kafka://host:port/NAME; creates the log NAME-soak-xxxx (default: start a Kafka broker)",
    )
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="duration of the load (default: %(default)s)"
    )
    parser.add_argument(
        "--warm-up",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="duration of the same load before memory is measured, in addition to --minutes (default: %(default)s)",
    )
    parser.add_argument("--rate", type=int, default=500, help="records per second (default: %(default)s)")
    parser.add_argument(
        "--every",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time between kills (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the order of kills (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the soak test and print the result."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vacancy-soak-")))
        broker = None
        servers = arguments.log
        if servers is None:
            broker = stack.enter_context(_own_broker(home / "kafka"))
            servers = f"kafka://{broker.servers}/own"
        log = stack.enter_context(made_log(f"{servers}-soak-{uuid4().hex[:6]}"))
        site = SoakSite(log.url, home, arguments.rate, int(time.time() * 1000))
        found = Soak(site, log, broker, arguments).run()
    print(json.dumps(found))
    return 0 if found["ok"] else EXIT_DIFFERENCE


def made_log(url: str) -> Log:
    """Create the log of a soak test. Its rules have moves, quotas, taints and gangs."""
    return new_log(url, PARTITIONS, installed_registry(), replication=1)


class Broker(Protocol):
    """A broker that can be killed."""

    @property
    def servers(self) -> str: ...

    def kill(self, node: int) -> None: ...

    def restart(self, node: int) -> None: ...


@contextmanager
def _own_broker(directory: Path) -> Iterator[Any]:
    # Imported only here: with --log a soak test needs neither Java nor the tests.
    from tests.support.processes.kafka_server import KafkaCluster, KafkaNotStarted

    try:
        cluster = KafkaCluster(directory)
    except KafkaNotStarted as error:
        raise VacancyError(str(error), do="or give the URL of a log with --log") from None
    with cluster:
        yield cluster


class Soak:
    """All processes of a soak test, from their start to the result."""

    def __init__(
        self,
        site: SoakSite,
        log: Log,
        broker: Broker | None,
        arguments: argparse.Namespace,
        *,
        enough: Callable[[], bool] = lambda: True,
    ) -> None:
        """`enough`: whether the load may end once its time is over; otherwise it goes on for up to `_MORE_S` (a test)."""
        self._enough = enough
        self._site, self._log, self._arguments = site, log, arguments
        self._stores = [site.home / f"store-{host}" for host in HOSTS]
        self._workers = [Worker(f"worker {h}", site.log, s) for h, s in zip(HOSTS, self._stores, strict=True)]
        self._schedulers = [
            Process(f"scheduler {host}", schedule, site, f"scheduler-{host}", store, arguments.seed + number)
            for number, (host, store) in enumerate(zip(HOSTS, self._stores, strict=True))
        ]
        self._publisher = Process("publisher", publish, site)
        self._broker = broker
        self._samples: list[Sample] = []
        self._kills = Counter[str]()
        self._started = 0.0

    def run(self) -> dict[str, Any]:
        """Run the soak test; returns the result."""
        seconds = (self._arguments.warm_up + self._arguments.minutes) * 60
        parts = [*self._workers, self._publisher, *self._schedulers]
        with ExitStack() as stack:
            for part in parts:
                part.start()
                stack.callback(part.kill)
                if isinstance(part, Worker):
                    part.wait_ready()  # before that there is no store to read
                if part is self._workers[-1]:
                    set_limit(self._log, self._stores[-1])
            self._started = time.monotonic()
            self._kill_and_watch(seconds)
            took = time.monotonic() - self._started
            records = sum(self._log.end().values())
            for part in (*self._schedulers, self._publisher):
                part.stop()
            self._settle()
            for worker in self._workers:
                worker.stop()
        watched = took - self._arguments.warm_up * 60
        memory = judge_memory(self._samples, watched, self._kills)
        tenths = by_tenths(self._samples, watched)
        print(f"{took:.0f} s: {records} records, memory {json.dumps(memory)}", file=sys.stderr, flush=True)
        names = [f"scheduler-{host}" for host in HOSTS]
        state = judge_state(self._site, self._log, self._stores, names)
        flat = all(one["growth"] is None or one["growth"] < GROWTH_MAX for one in memory.values())
        judged = self._arguments.minutes >= JUDGED_FROM_MINUTES
        return {
            "benchmark": "soak",
            "cores": os.cpu_count(),
            "warm_up_minutes": self._arguments.warm_up,
            "minutes": round(watched / 60, 2),
            "records_per_s": round(records / took),
            "kills": dict(self._kills),
            "memory": memory,
            "memory_mb_by_tenths": tenths,
            "memory_flat": flat if judged else None,
            **state,
            "ok": state["ok"] and (flat or not judged),
        }

    def _kill_and_watch(self, seconds: float) -> None:
        choose = random.Random(self._arguments.seed)
        turns: list[Callable[[], str]] = []
        kill_at = self._arguments.every
        while (at := time.monotonic() - self._started) < seconds or (
            at < seconds + _MORE_S and not self._enough()
        ):
            self._sample(at)
            # The last kill is early enough for every process to run again before the load ends.
            if at >= kill_at and at < seconds - min(10.0, self._arguments.every / 2):
                kill_at += self._arguments.every
                if not turns:
                    turns = self._turns()
                    choose.shuffle(turns)
                killed = turns.pop()()
                self._kills[killed] += 1
                print(f"{at:.0f} s: killed {killed}", file=sys.stderr, flush=True)
            rest = seconds - at if at < seconds else _SAMPLE_S
            time.sleep(min(_SAMPLE_S, max(0.0, kill_at - at) or _SAMPLE_S, rest) + 0.001)
        self._sample(time.monotonic() - self._started)

    def _turns(self) -> list[Callable[[], str]]:
        turns: list[Callable[[], str]] = [
            self._workers[0].kill_and_start,
            self._schedulers[0].kill_and_start,
            self._publisher.kill_and_start,
        ]
        return turns if self._broker is None else [*turns, self._kill_broker]

    def _kill_broker(self) -> str:
        assert self._broker is not None  # noqa: S101 - it is in the list of turns only if there is one
        self._broker.kill(1)
        time.sleep(_AWAY_S)
        # Started from this thread: a broker is killed when the thread that started it ends.
        self._broker.restart(1)
        return "broker"

    def _sample(self, at_s: float) -> None:
        for part in (*self._workers, *self._schedulers):
            mb = rss_of(part.pid)
            if mb is not None and at_s >= self._arguments.warm_up * 60:
                watched_s = at_s - self._arguments.warm_up * 60
                self._samples.append(Sample(part.name, part.life, watched_s, part.age_s, mb))

    def _settle(self) -> None:
        """Wait until both stores have reached the end of the log."""
        give_up_at = time.monotonic() + 180
        for store in self._stores:
            with StoreReader(store, installed_registry(), with_view=False) as reader:
                while True:
                    reader.catch_up()
                    if all(reader.position[p] >= end for p, end in self._log.end().items()):
                        break
                    if time.monotonic() > give_up_at:
                        raise VacancyError("the stores do not reach the end of the log", where=str(store))
                    time.sleep(0.1)


# -- processes that are killed and restarted ------------------------------------------------------------------


class SoakProcess(ABC):
    """A process that is killed and restarted. `life` counts its starts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.life = 0
        self._born = 0.0

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The id of the current process."""

    @property
    def age_s(self) -> float:
        """The seconds since the last start."""
        return time.monotonic() - self._born

    def start(self) -> None:
        """Start the process."""
        self.life += 1
        self._born = time.monotonic()
        self._start()

    def kill_and_start(self) -> str:
        """Kill the process and start it again; returns its name. Raises its error if it had already ended."""
        self.check()
        self.kill()
        self.start()
        return self.name

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def check(self) -> None:
        """Raise its error if it has ended without being killed."""

    @abstractmethod
    def kill(self) -> None:
        """Kill it with SIGKILL."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it cleanly. Raises its error if it failed."""


class Worker(SoakProcess):
    """The worker of a host."""

    def __init__(self, name: str, url: str, store: Path) -> None:
        super().__init__(name)
        self._url, self._store = url, store

    @property
    def pid(self) -> int | None:
        """See `SoakProcess`."""
        return self._process.pid

    def _start(self) -> None:
        self._process = WorkerProcess(self._url, self._store)
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the worker has caught up."""
        self._process.wait_ready(_READY_S)

    def check(self) -> None:
        """See `SoakProcess`."""
        self._process.check()

    def kill(self) -> None:
        """See `SoakProcess`."""
        self._process.kill()

    def stop(self) -> None:
        """See `SoakProcess`."""
        self._process.stop()


class Process(SoakProcess):
    """A process that calls `target(stop_pipe, site, *arguments)`; a message in the pipe requests a stop.

    Without `arguments` it passes the number of its life.
    """

    def __init__(self, name: str, target: Callable[..., None], site: SoakSite, *arguments: Any) -> None:
        super().__init__(name)
        self._target, self._site, self._arguments = target, site, arguments

    @property
    def pid(self) -> int | None:
        """See `SoakProcess`."""
        return self._child.pid

    def _start(self) -> None:
        arguments = self._arguments or (self.life,)
        self._child = ChildProcess(f"the {self.name}", self._target, self._site, *arguments)

    def check(self) -> None:
        """See `SoakProcess`."""
        if self._child.exit_code is not None:
            raise self._child.last_error()

    def kill(self) -> None:
        """See `SoakProcess`."""
        self._child.kill()

    def stop(self) -> None:
        """See `SoakProcess`."""
        if self._child.exit_code == 0:
            return
        self.check()
        self._child.send(None)
        self._child.join(_STOP_S)
        if self._child.exit_code != 0:
            raise VacancyError(f"the {self.name} ended with code {self._child.exit_code}")


def rss_of(pid: int | None) -> float | None:
    """The resident memory of a process in 10^6 bytes; None if it does not exist."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return None
