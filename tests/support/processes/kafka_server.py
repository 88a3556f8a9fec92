"""A real Kafka for the tests, without containers: brokers started from jars that Maven downloads once.

`KafkaCluster(directory, brokers=3)` starts brokers on free ports of the loopback interface; each can be killed and
restarted. The jars are kept in `~/.cache/vacancy-tests`, or in the directory `VACANCY_TEST_KAFKA_LIBS`.

`make kafka` starts one broker for people who try Kafka without Docker.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.processes.tcp_proxy import TcpProxy

VERSION: Final = "4.3.0"
POM: Final = Path(__file__).parent / "kafka_jars" / "pom.xml"
FORMATTED_FILE: Final = "bootstrap.checkpoint"
FORMATTED: Final = Path.home() / ".cache" / "vacancy-tests" / f"kafka-{VERSION}-{FORMATTED_FILE}"
"""The file that Kafka's tool writes into every storage that it formats; it depends on the version only."""

STARTUP_S: Final = 140.0
FAR: Final = "FAR"

SHARED: Final = {
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.min.isr": "1",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}
"""Settings of every broker, for any number of brokers; `compose.yaml` has the same."""

REPLICATED: Final = (
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "share.coordinator.state.topic.replication.factor",
)
"""The replication factors of the cluster's own topics."""

_LOG4J: Final = """\
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=STDOUT
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c)%n
"""


class KafkaNotStarted(Exception):
    """Kafka cannot be started here. The text is one line with the reason."""


def kafka_libs() -> Path:
    """The directory of Kafka's jars; downloaded with Maven the first time."""
    given = os.environ.get("VACANCY_TEST_KAFKA_LIBS")
    libs = Path(given) if given else Path.home() / ".cache" / "vacancy-tests" / f"kafka-{VERSION}"
    if any(libs.glob(f"kafka_*-{VERSION}.jar")):
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaNotStarted(
            "Kafka is downloaded with Maven, and there is no mvn: install it (Debian: apt install maven); for the tests, "
            "VACANCY_TEST_KAFKA=host:port names a broker that runs already"
        )
    libs.parent.mkdir(parents=True, exist_ok=True)
    # Downloaded to another directory and renamed, so that an interrupted download leaves no incomplete directory.
    with tempfile.TemporaryDirectory(dir=libs.parent) as draft:
        command = [
            maven,
            "-q",
            "-B",
            "-f",
            str(POM),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={draft}/libs",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            reason = " ".join((done.stdout + done.stderr).split())[:300]
            raise KafkaNotStarted(f"Maven could not fetch Kafka {VERSION}: {reason}")
        with contextlib.suppress(OSError):
            Path(draft, "libs").rename(libs)
    return libs


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface on which nothing listens. Until this process ends no other one that asks here gets them: it
    might use them before they are used here.

    They are below the ephemeral ports, so that the port of a stopped broker stays free until it is restarted.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0vacancy-tests-{port}")  # a name without a file, of the same network as the port
            with socket.socket() as one:
                one.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        mark.detach()  # it stays open: the kernel closes it when this process ends
        found.append(port)
    return found


def _new_id() -> str:
    """A new id, as Kafka writes them."""
    made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "A" + made[1:]  # with "-" it would be parsed as an option


def _keep(file: Path) -> None:
    """Keep a file that was formatted for the next cluster. Another process may do the same at the same time."""
    with contextlib.suppress(OSError):
        FORMATTED.parent.mkdir(parents=True, exist_ok=True)
        draft = FORMATTED.with_suffix(f".{os.getpid()}")
        shutil.copyfile(file, draft)
        draft.replace(FORMATTED)


def _die_with_parent() -> None:
    # If the test run is killed, its brokers must end too (PR_SET_PDEATHSIG is 1).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@dataclass
class _Broker:
    node: int
    port: int
    controller_port: int
    directory: Path
    more_ports: Mapping[str, int]
    process: subprocess.Popen[bytes] | None = None

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"


class KafkaCluster:
    """Running brokers. Nodes are numbered from 1. Raises KafkaNotStarted if they do not start."""

    def __init__(
        self,
        directory: Path,
        brokers: int = 1,
        *,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        far: bool = False,
        port: int = 0,
        java_options: Sequence[str] = (),
    ) -> None:
        """`listeners`: additional listeners of each broker: name -> security protocol. `properties`: their settings.
        `far`: an additional listener that clients reach only through a `TcpProxy` (see `proxies`).
        `port`: that of the first broker, instead of any free one. `java_options`: more options of their Java."""
        self._java_options = tuple(java_options)
        self._listeners, self._properties_more = dict(listeners or {}), dict(properties or {})
        self._far_ports: dict[int, int] = {}
        if far:
            self._listeners[FAR] = "PLAINTEXT"
        java = shutil.which("java")
        if java is None:
            raise KafkaNotStarted(
                "Kafka needs Java 17, and there is no java: install it (Debian: apt install openjdk-17-jre-headless); for "
                "the tests, VACANCY_TEST_KAFKA=host:port names a broker that runs already"
            )
        self._java, self._libs = java, kafka_libs()
        directory.mkdir(parents=True, exist_ok=True)
        self._log4j = directory / "log4j2.properties"
        self._log4j.write_text(_LOG4J)
        ports = iter(free_ports((2 + len(self._listeners)) * brokers))
        self._brokers = {
            node: _Broker(
                node,
                next(ports),
                next(ports),
                directory / f"broker-{node}",
                {name: next(ports) for name in self._listeners},
            )
            for node in range(1, brokers + 1)
        }
        if port:
            self._brokers[1].port = port
        if far:
            self._far_ports = dict(zip(self._brokers, free_ports(brokers), strict=True))
        try:
            self._format()
            for broker in self._brokers.values():
                self._start(broker)
            for broker in self._brokers.values():
                self._wait(broker)
        except BaseException:
            self.close()
            raise

    @property
    def servers(self) -> str:
        """The addresses of the brokers: `host:port[,host:port]`."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self._brokers.values())

    def servers_of(self, listener: str) -> str:
        """The addresses of the brokers' listener with this name."""
        return ",".join(f"127.0.0.1:{broker.more_ports[listener]}" for broker in self._brokers.values())

    @property
    def proxied_servers(self) -> str:
        """The addresses of the brokers behind `proxies`."""
        return ",".join(f"127.0.0.1:{port}" for port in self._far_ports.values())

    def proxies(self) -> list[TcpProxy]:
        """The proxies to all brokers, not started: the only connection for users of `proxied_servers`."""
        return [
            TcpProxy(self._far_ports[node], broker.more_ports[FAR]) for node, broker in self._brokers.items()
        ]

    def bring_up(self, node: int) -> None:
        """Start a broker if it does not run, and wait until it is ready."""
        if self._brokers[node].process is None:
            self._start(self._brokers[node])
        self._wait(self._brokers[node])

    def pid(self, node: int) -> int:
        """The process id of a running broker."""
        process = self._brokers[node].process
        assert process is not None
        return process.pid

    def kill(self, node: int) -> None:
        """Kill a broker with SIGKILL."""
        self._end(node, signal.SIGKILL)

    def stop(self, node: int) -> None:
        """Stop a broker cleanly (SIGTERM)."""
        self._end(node, signal.SIGTERM)

    def restart(self, node: int, *, wait: bool = True) -> None:
        """Restart a killed or stopped broker with the same ports and data."""
        broker = self._brokers[node]
        assert broker.process is None
        self._start(broker)
        if wait:
            self._wait(broker)

    def close(self) -> None:
        """Kill every broker."""
        for node in self._brokers:
            self.kill(node)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _format(self) -> None:
        cluster = _new_id()
        voters = ",".join(f"{b.node}@127.0.0.1:{b.controller_port}" for b in self._brokers.values())
        for broker in self._brokers.values():
            broker.directory.mkdir(parents=True)
            settings = self._properties(broker, voters)
            text = "".join(f"{name}={value}\n" for name, value in settings.items())
            broker.properties.write_text(text)
            data = broker.directory / "data"
            if not FORMATTED.exists():
                self._format_one(broker, cluster)
                _keep(data / FORMATTED_FILE)
                continue
            # Kafka's tool takes a second of the processor each time, and writes the same again but for these names.
            data.mkdir()
            shutil.copyfile(FORMATTED, data / FORMATTED_FILE)
            (data / "meta.properties").write_text(
                f"version=1\ncluster.id={cluster}\nnode.id={broker.node}\ndirectory.id={_new_id()}\n"
            )

    def _format_one(self, broker: _Broker, cluster: str) -> None:
        """Format the storage of a broker with Kafka's own tool."""
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(broker.properties)]
        done = subprocess.run(
            self._command(256, arguments), capture_output=True, text=True, timeout=STARTUP_S, check=False
        )
        if done.returncode:
            reason = " ".join((done.stdout + done.stderr).split())[-300:]
            raise KafkaNotStarted(f"Kafka's storage could not be formatted: {reason}")

    def _properties(self, broker: _Broker, voters: str) -> dict[str, str]:
        ports = {"PLAINTEXT": broker.port, **broker.more_ports}
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._listeners}
        listening = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
        if self._far_ports:
            ports[FAR] = self._far_ports[broker.node]
        advertised = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
        return {
            "process.roles": "broker,controller",
            "node.id": str(broker.node),
            "controller.quorum.voters": voters,
            "listeners": ",".join([*listening, f"CONTROLLER://127.0.0.1:{broker.controller_port}"]),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(broker.directory / "data"),
            "num.network.threads": "2",
            "num.io.threads": "4",
            **SHARED,
            **dict.fromkeys(REPLICATED, str(min(3, len(self._brokers)))),
            **self._properties_more,
        }

    def _command(self, heap_mb: int, arguments: list[str]) -> list[str]:
        options = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return [
            self._java,
            *options,
            *self._java_options,
            f"-Dlog4j2.configurationFile={self._log4j}",
            "-cp",
            f"{self._libs}/*",
            *arguments,
        ]

    def _start(self, broker: _Broker) -> None:
        with (broker.directory / "output.log").open("ab") as output:
            broker.process = subprocess.Popen(
                self._command(512, ["kafka.Kafka", str(broker.properties)]),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_parent,
            )

    def _wait(self, broker: _Broker) -> None:
        from kafka.errors import KafkaError

        from vacancy.resources.model.errors import LogError
        from vacancy.streams.kafka.client import connect
        from vacancy.streams.log_url import parse_log_url

        place = parse_log_url(f"kafka://127.0.0.1:{broker.port}/none")
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline:
            if broker.process is None or broker.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", broker.port), timeout=1).close()
                break
            time.sleep(0.1)
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaError, LogError):
                admin = connect("admin", place, {}, timeout_s=5.0)
                try:
                    known = {
                        one["broker_id"]
                        for one in admin.describe_cluster()["brokers"]
                        if not one.get("is_fenced")
                    }
                finally:
                    admin.close()
                if broker.node in known:
                    return
            if broker.process is None or broker.process.poll() is not None:
                break
            time.sleep(0.1)
        output = (broker.directory / "output.log").read_text(errors="replace")
        raise KafkaNotStarted(f"Kafka broker {broker.node} did not start: {' '.join(output.split())[-500:]}")

    def _end(self, node: int, how: signal.Signals) -> None:
        broker = self._brokers[node]
        if broker.process is not None:
            broker.process.send_signal(how)
            broker.process.wait(timeout=STARTUP_S)
            broker.process = None


def _end_once(number: int, _frame: object) -> None:
    """End `main`. `make` and a terminal may both send a signal: a second one must not stop the end."""
    for one_signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one_signal, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(port: int) -> int:
    """`make kafka`: one broker on a port of the loopback interface until Ctrl-C or SIGTERM. Its data is deleted at the end."""
    for one_signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one_signal, _end_once)
    with socket.socket() as one:
        if not one.connect_ex(("127.0.0.1", port)):
            print(f"port {port} is in use; choose another one: make kafka KAFKA_PORT={port + 1}")  # noqa: T201
            return 1
    print("starting Kafka; the first time Maven downloads it, which can take some minutes", flush=True)  # noqa: T201
    try:
        with (
            tempfile.TemporaryDirectory(prefix="vacancy-kafka-") as home,
            KafkaCluster(Path(home) / "kafka", port=port) as cluster,
        ):
            said = f"Kafka {VERSION} is at {cluster.servers}; stop with Ctrl-C, which deletes its data"
            print(said, flush=True)  # noqa: T201
            signal.pause()
    except KafkaNotStarted as error:
        print(error)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
