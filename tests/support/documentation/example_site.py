"""A host on which the examples of the command line's help are run: a temporary home with a log, a store and a worker.

`tests/support/documentation/example_runs.py` says how each example is run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

from tests.cli.command import EXECUTABLE, STARTED_S, Vacancy, log_of_version
from tests.placement_api.fake_keystone import fake_keystone, write_config
from tests.placement_api.transfer.placement_database import (
    Fleet,
    empty_database,
    fleet_database,
    random_fleet,
)
from tests.placement_api.transfer.placement_service import placement_service
from tests.support.documentation.example_fleet import PARTITIONS, write_fleet_log, write_node_files
from tests.support.processes.http_status import http_status
from tests.support.processes.kafka_server import free_ports
from vacancy.clients.past.points import point_text
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.placement_api.transfer.database import Database
from vacancy.placement_api.transfer.deployment import Deployment
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.streams.log import open_log

_Found = TypeVar("_Found")

REPLACED: Final[Mapping[str, str]] = {
    "s3://bucket/": "file://{home}/bucket/",  # docs/snapshots.md says what was tried with S3
    # One broker of the tests is less than `topics check` demands. tests/cli/test_kafka.py and tests/live run these commands on Kafka.
    "kafka://k1:9092,k2:9092/": "sqlite://{home}/on-kafka/",
    "kafka://k1:9092/": "sqlite://{home}/on-kafka/",
    "sqlite:///var/": "sqlite://{home}/var/",
    " /var/": " {home}/var/",
    " /etc/": " {home}/etc/",
    "/opt/vacancy-next": "{environment}",
    "mysql+pymysql://placement@db.example/placement": "{database}",
    "http://placement.example:8778": "{placement}",
    "2026-11-28T13:14:33Z": "{an_hour_ago}",
    "20261128T185324503Z-605d26f2": "{snapshot}",
    "f8f103cc713d4db4-2": "{claim}",
    " 4f1c": " {request}",
    # The sizes of demonstrations would take a minute. tests/recorded_logs has what `vacancy demo` makes.
    "--nodes 1000 --schedulers 4 --requests 2000": "--nodes 20 --schedulers 2 --requests 60",
    "--port 6067": "--port 0",
    "--port 6081": "--port 0",
}
"""What an example cannot name here -> what stands for it. In braces: a value of the site."""

_STATE: Final = "state/vacancy"
_NOTE: Final = r"vacancy: (as of \d+:\d+.*|{})"
"""A line on standard error that is expected after any command that reads."""


class Stays(NamedTuple):
    """What is seen of a command that runs until it is stopped: the status of answers by path, and what it writes (`then`, a
    pattern) after other commands, `meanwhile`."""

    answers: Mapping[str, int] = {}
    meanwhile: tuple[str, ...] = ()
    then: str = ""


class Run(NamedTuple):
    """How an example is run, and what shows that it did what it says.

    says: a pattern that is in its output. before: commands, and steps of `STEPS`, that make what it is about. notes: a pattern of
    lines that are expected on standard error. code: its exit code. more: options without which it would listen at a port that may
    be in use, or take long. file: a file that is there after it, as a pattern of names. stays: of a command that runs until it is stopped.
    """

    says: str
    before: tuple[str, ...] = ()
    notes: str = ""
    code: int = 0
    more: str = ""
    file: str = ""
    stays: Stays | None = None


class Group(NamedTuple):
    """Commands whose examples are run on one host, in this order. base: what the host has at first (`make_bases`). settings: its
    ./vacancy.toml."""

    base: str
    runs: Mapping[str, tuple[Run, ...]]
    settings: str = ""


def make_bases(directory: Path) -> None:
    """Make the homes that hosts begin with: `nothing`, `new` (an empty log), `older` (an empty log of rules version 4), and `fleet`."""
    for base in ("nothing", "new", "older", "fleet"):
        home = directory / base
        for name in (
            _STATE,
            "etc/placement",
            "var/lib/vacancy",
            "var/lib/node_exporter/textfile",
            "on-kafka",
        ):
            (home / name).mkdir(parents=True)
        write_node_files(home)
    log_of_version(RULES_VERSION, f"sqlite://{directory}/new/{_STATE}/log.db", PARTITIONS)
    log_of_version(4, f"sqlite://{directory}/older/{_STATE}/log.db", PARTITIONS)
    state = directory / "fleet" / _STATE
    write_fleet_log(state / "log.db")
    with open_log(f"sqlite://{state}/log.db") as log:
        replay(log, state / "store", installed_registry())


class ExampleSite:
    """The host. As a context it ends the processes that it started. All commands that end by themselves run in one process."""

    def __init__(self, home: Path, bases: Path) -> None:
        self.home, self._bases, self._settings = home, bases, ""
        self._vacancy = Vacancy(home)
        self._worker, self._placement = ExitStack(), ExitStack()
        self._database = self._served = ""
        self._asked: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._placement, self._worker:
            self._vacancy.close()

    def begin_group(self, group: Group) -> None:
        """Begin with a new home, as a group says."""
        self._settings = group.settings
        self.begin(group.base)

    def begin(self, base: str, *, worker: bool = True) -> None:
        """Begin with a new home, with the same settings."""
        self.stop_worker()
        self._placement.close()
        self._served = ""
        self._asked = {}
        for one in self.home.iterdir():
            if one.is_dir():
                shutil.rmtree(one)
            else:
                one.unlink()
        shutil.copytree(self._bases / base, self.home, dirs_exist_ok=True)
        state = self.home / _STATE
        (self.home / "etc/vacancy.toml").write_text(
            f'log = "sqlite://{state}/log.db"\nstore = "{state}/store"\n'
        )
        (self.home / "vacancy.toml").write_text(self._settings)
        if worker:
            self.start_worker()

    # -- one example ----------------------------------------------------------------------------------------------

    def run(self, line: str, how: Run) -> None:
        """Run an example. Raises `AssertionError` where it fails, or does not say what it should."""
        for step in how.before:
            if step in STEPS:
                STEPS[step](self)
            else:
                self._must(step)
        words = self._words(f"{line} {how.more}")
        if how.stays is not None:
            self._run_until_stopped(words, how, how.stays)
            return
        ended = self._vacancy.run_shared(*words)
        assert ended.code == how.code, (line, ended)
        assert re.search(how.says, ended.out, re.M), (line, ended)
        _check_notes(ended.err, how.notes, line)
        if how.file:
            assert list(self.home.glob(how.file)), line

    def _must(self, line: str) -> None:
        ended = self._vacancy.run_shared(*self._words(line))
        assert ended.code == 0, (line, ended)

    def _words(self, line: str) -> list[str]:
        """The words of a line, with what stands here for what it names."""
        for text, instead in REPLACED.items():
            line = line.replace(text, instead)
        return shlex.split(re.sub(r"\{(\w+)\}", lambda found: _VALUES[found[1]](self), line))

    def _run_until_stopped(self, words: list[str], how: Run, stays: Stays) -> None:
        outputs = [self.home / name for name in ("said.out", "said.err")]
        with outputs[0].open("wb") as out, outputs[1].open("wb") as err:
            process = subprocess.Popen(
                [EXECUTABLE, *words], stdout=out, stderr=err, cwd=self.home, env=self._vacancy.environment
            )

        def soon(find: Callable[[], _Found | None]) -> _Found:
            until = time.monotonic() + STARTED_S
            while not (found := find()):
                said = [file.read_text() for file in outputs]
                assert process.poll() is None, said
                assert time.monotonic() < until, said
                time.sleep(0.05)
            return found

        def says(pattern: str) -> re.Match[str] | None:
            return re.search(pattern, "".join(file.read_text() for file in outputs), re.M)

        try:
            ready = soon(lambda: says(how.says))
            for path, status in stays.answers.items():
                address = re.search(r"http://\S+?:(\d+)", ready[0])
                assert address is not None, ready
                port = int(address[1])
                found = soon(partial(http_status, port, path, STARTED_S))
                assert found == status, (words, path, found)
            for line in stays.meanwhile:
                self._must(line)
            soon(lambda: says(stays.then))
            if how.file:
                soon(lambda: list(self.home.glob(how.file)))
            process.terminate()
            assert process.wait(STARTED_S) == how.code, outputs[1].read_text()
        finally:
            process.kill()
            process.wait()
        _check_notes(outputs[1].read_text(), ".*", shlex.join(words))

    # -- steps ----------------------------------------------------------------------------------------------------

    def start_worker(self) -> None:
        """Start the worker of this host's store, and wait until it has caught up."""
        self._worker.enter_context(self._vacancy.worker())

    def stop_worker(self) -> None:
        """End the worker; it must end well."""
        self._worker.close()

    def remove_store(self) -> None:
        """As on a new host."""
        shutil.rmtree(self.home / _STATE / "store")

    def catch_up(self) -> None:
        """Wait until the store has all that the log has."""
        with open_log(f"sqlite://{self.home}/{_STATE}/log.db") as log:
            end = point_text(log.end())
        self._must(f"status --at-least {end} --timeout {STARTED_S}")

    def make_placement(self, *, fleet: bool = True, serves: bool = False) -> None:
        """A database of Placement that /etc/placement/placement.conf names. Without a fleet it is empty; `serves`: as Placement
        leaves it at its first start, so that it can be served."""
        self._placement.close()
        self._served = ""
        file = self.home / f"placement-{time.monotonic_ns()}.db"
        self._database = fleet_database(file, _new_fleet()) if fleet else empty_database(file)
        if serves:
            Database(self._database).fill(Deployment())
        lines = f"[placement_database]\nconnection = {self._database}\n"
        (self.home / "etc/placement/placement.conf").write_text(lines)

    def make_keystone(self) -> None:
        """A Keystone that /etc/placement/placement.conf names."""
        url = self._placement.enter_context(fake_keystone({}))
        write_config(self.home / "etc/placement", url)

    # -- values ---------------------------------------------------------------------------------------------------

    def database(self) -> str:
        return self._database

    def placement(self) -> str:
        """The URL of Placement on that database."""
        if not self._served:
            directory = self.home / "serving"
            directory.mkdir(exist_ok=True)
            self._served = self._placement.enter_context(placement_service(directory, self._database))
        return self._served

    def newest_snapshot(self) -> str:
        found = self._vacancy.json("snapshot", "list")["snapshots"]
        return str(found[-1]["id"])

    def asked(self, what: str) -> str:
        """The request or the claim of a consumer that was placed. The outcome of the request is in the store."""
        if not self._asked:
            self._asked = self._vacancy.json("place", "--resources", "VCPU:1", "--consumer", "asked-1")
            self.catch_up()
        return self._asked[what]

    def node_key(self) -> str:
        return self._vacancy("signing", "public-key", "node.key").strip()


STEPS: Final[Mapping[str, Callable[[ExampleSite], None]]] = {
    "(a new log)": lambda site: site.begin("new"),
    "(the fleet, without a worker)": lambda site: site.begin("fleet", worker=False),
    "(a host without anything)": lambda site: site.begin("nothing", worker=False),
    "(start the worker)": ExampleSite.start_worker,
    "(stop the worker)": ExampleSite.stop_worker,
    "(no store)": ExampleSite.remove_store,
    "(the store has caught up)": ExampleSite.catch_up,
    "(a Placement with a fleet)": ExampleSite.make_placement,
    "(an empty database of Placement)": lambda site: site.make_placement(fleet=False),
    "(an empty Placement)": lambda site: site.make_placement(fleet=False, serves=True),
    "(a Keystone)": ExampleSite.make_keystone,
}
"""What is done before an example, besides commands."""

_VALUES: Final[Mapping[str, Callable[[ExampleSite], str]]] = {
    "home": lambda site: str(site.home),
    "environment": lambda _: str(EXECUTABLE.parents[1]),
    "an_hour_ago": lambda _: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3_600)),
    "port": lambda _: str(free_ports(1)[0]),
    "snapshot": ExampleSite.newest_snapshot,
    "claim": lambda site: site.asked("claim"),
    "request": lambda site: site.asked("request"),
    "node_key": ExampleSite.node_key,
    "database": ExampleSite.database,
    "placement": ExampleSite.placement,
}


def _check_notes(text: str, expected: str, example: str) -> None:
    unexpected = [line for line in text.splitlines() if not re.fullmatch(_NOTE.format(expected), line)]
    assert not unexpected, (example, unexpected)


def _new_fleet() -> Fleet:
    """A fleet whose providers were never changed: their generations cannot be set through Placement's API."""
    fleet = random_fleet(7, providers=8, consumers=8)
    fleet.providers = {uuid: (name, 0, parent) for uuid, (name, _, parent) in fleet.providers.items()}
    return fleet
