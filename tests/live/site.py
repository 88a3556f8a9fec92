"""Helpers for tests on a real Kafka: topics, workers as separate processes, and their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple

from tests.support.logs.events_json import provider, reported
from vacancy.clients.replay_tool.replay import Digest, digest, replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, worker_parts
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.record import NewRecord
from vacancy.streams.faust.app import WorkerApp, make_app
from vacancy.streams.faust.worker import run_app
from vacancy.streams.log import Log, open_log
from vacancy.streams.settings import WebAddress

VACANCY = Path(sys.executable).with_name("vacancy")
FAUST = Path(sys.executable).with_name("faust")
WAIT_S = 90.0


def new_topic(servers: str, partitions: int = 4) -> Log:
    """Create a log in a new topic."""
    return new_log(f"kafka://{servers}/live-{uuid.uuid4().hex[:12]}", partitions, installed_registry())


def report(cell: str, root: str, *, life: int = 1, sequence: int = 1, vcpus: int = 8) -> NewRecord:
    """A full report of a node."""
    parts = [provider(root, VCPU=vcpus, MEMORY_MB=16_384)]
    return NewRecord(cell, reported(root, parts, life=life, sequence=sequence))


def until(true: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Wait until `true` returns true; `what` is the message of the failure."""
    give_up_at = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.02)


def wait_for(store: Path, position: Mapping[int, int], wait_s: float = WAIT_S) -> None:
    """Wait until the store is at `position`."""
    with StoreReader(store, installed_registry(), with_view=False) as reader:

        def there() -> bool:
            reader.catch_up()
            return all(reader.position[p] >= offset for p, offset in position.items())

        until(there, f"the store is not at {position}", wait_s)


def rebuilt(log: Log, store: Path, until: Mapping[int, int] | None = None) -> Digest:
    """The digest of a new store, folded from the log by replay."""
    return replay(log, store, installed_registry(), until=until)


def said(store: Path) -> Digest:
    """The digest of the store."""
    return digest(store, installed_registry())


class Answer(NamedTuple):
    """An HTTP answer."""

    code: int
    text: str


@dataclass
class Ended:
    """The exit code of a process and the lines of its standard error."""

    code: int
    lines: list[str]


class WorkerCommand:
    """A process of `vacancy worker`, or of another command that serves the same pages."""

    def __init__(
        self, log: Log | str, store: Path, *more: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = [
            str(VACANCY),
            "worker",
            "--log",
            log if isinstance(log, str) else log.url,
            "--store",
            str(store),
            "--web-port",
            "0",
            *more,
        ]
        self._environment = {**os.environ, **(environment or {})}
        self._lines: list[str] = []
        self._address = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process; it was started."""
        assert self._process is not None
        return self._process

    def start(self) -> WorkerCommand:
        """Start the process without waiting."""
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self._environment
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        return self

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line.rstrip("\n"))
            if "status at http://" in line:
                self._address = line.partition("http://")[2].partition("/")[0].strip()
        self.process.stderr.close()

    def said(self, text: str) -> bool:
        """Whether a line of its standard error contains this text."""
        return any(text in line for line in self._lines)

    def wait_ready(self) -> WorkerCommand:
        """Wait until it reports that it has caught up."""
        until(lambda: bool(self._address) or self.process.poll() is not None, "not ready")
        assert self._address, self._lines
        return self

    def get(self, page: str) -> Answer:
        """One of its pages."""
        try:
            with urllib.request.urlopen(f"http://{self._address}{page}", timeout=60) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())

    def status(self) -> dict[str, Any]:
        """The answer of /status."""
        found: dict[str, Any] = json.loads(self.get("/status").text)
        return found

    def partitions(self) -> list[int]:
        """The partitions that it owns."""
        return [one["partition"] for one in self.status()["partitions"]]

    def end(self, how: signal.Signals = signal.SIGTERM) -> Ended:
        """Send a signal and wait until it ends."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.ended()

    def ended(self, wait_s: float = WAIT_S) -> Ended:
        """Wait until it ends."""
        try:
            code = self.process.wait(wait_s)
        finally:
            self.process.kill()
            self.process.wait()
            self._listener.join()
        return Ended(code, self._lines)

    def __enter__(self) -> WorkerCommand:
        return self.start().wait_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self.end()
        if error is None:
            assert ended.code in (0, -signal.SIGKILL), ended


@contextmanager
def worker_here(url: str, store: Path, **client_settings: str) -> Iterator[WorkerApp]:
    """Run a worker in another thread of this process; yields once it has caught up."""
    stop_signal: SimpleQueue[None] = SimpleQueue()
    ready = threading.Event()
    failed: list[BaseException] = []
    with open_log(url, **client_settings) as log:
        app = make_app(log, worker_parts(log, store), client_settings, WebAddress(port="off"))

        def run() -> None:
            try:
                run_app(app, stop_signal, lambda _: ready.set())
            except BaseException as error:
                failed.append(error)
                ready.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert ready.wait(WAIT_S)
            yield app
        finally:
            stop_signal.put(None)
            thread.join(WAIT_S)
        assert not thread.is_alive()
        if failed:
            raise failed[0]
