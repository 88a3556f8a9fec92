"""Runs Apache Cassandra on this machine: one node, from jars that Maven downloads once into `~/.cache/vacancy-tests`."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import Setting
from evaluation.candidates.installed import program
from evaluation.candidates.processes import StoreProcess, free_ports, port_answers
from vacancy.resources.model.errors import VacancyError

VERSION: Final = "5.0.9"
PACKAGE: Final = "maven openjdk-17-jre-headless"
_POM: Final = Path(__file__).parent / "jars" / "pom.xml"
_START_S: Final = 120.0

_YAML_PAGE: Final = (
    "https://cassandra.apache.org/doc/5.0/cassandra/managing/configuration/cass_yaml_file.html"
)
_LATEST: Final = "conf/cassandra_latest.yaml of Cassandra 5.0, its recommended settings for new clusters"
SETTINGS: Final = (
    Setting(
        "commitlog_sync",
        "batch",
        f"{_YAML_PAGE}: a write is acknowledged after its sync; the default `periodic` acknowledges up to 10 s before",
    ),
    Setting("paxos_variant", "v2", f"{_YAML_PAGE}: `v2` is recommended; half the round trips of `v1`"),
    Setting("memtable", "TrieMemtable, offheap_objects", _LATEST),
    Setting("default_secondary_index", "sai", _LATEST),
    Setting(
        "num_tokens",
        "1",
        "https://cassandra.apache.org/doc/5.0/cassandra/getting-started/production.html#tokens; one node owns the whole ring",
    ),
    Setting(
        "concurrent_writes",
        "32",
        f"{_YAML_PAGE}: 8 for each core, which is 16 here; the default is kept, because a lightweight transaction holds its"
        " thread longer than a write",
    ),
    Setting(
        "-Xms, -Xmx",
        "1G",
        "https://cassandra.apache.org/doc/5.0/cassandra/managing/operating/hardware.html; both equal, as in"
        " conf/jvm-server.options; bounded because all candidates share one machine",
    ),
    Setting("garbage collector", "G1", "conf/jvm17-server.options of Cassandra 5.0"),
)
SHORT_RUNS: Final = Setting(
    "-XX:TieredStopAtLevel",
    "1",
    "of this comparison, for runs of a second or so only: the second compiler of Java needs half a minute of both cores before its code is"
    " used. Not set in a full comparison",
)
"""A setting of Java."""
_MEMTABLE: Final = """\
memtable:
  configurations:
    skiplist: {class_name: SkipListMemtable}
    trie: {class_name: TrieMemtable}
    default: {inherits: trie}
"""
_LOGBACK: Final = """\
<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDOUT"/></root>
</configuration>
"""
_G1: Final = (
    "-XX:+UseG1GC",
    "-XX:+ParallelRefProcEnabled",
    "-XX:MaxTenuringThreshold=1",
    "-XX:G1HeapRegionSize=16m",
    "-XX:G1RSetUpdatingPauseTimePercent=5",
    "-XX:MaxGCPauseMillis=300",
    "-XX:InitiatingHeapOccupancyPercent=70",
)
_EXPORTS: Final = (
    *(
        "java.base/jdk.internal.misc",
        "java.base/java.lang.ref",
        "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    ),
    *(
        "java.rmi/sun.rmi.registry",
        "java.rmi/sun.rmi.server",
        "java.sql/java.sql",
        "jdk.unsupported/sun.misc",
    ),
    *("jdk.compiler/com.sun.tools.javac.file", "jdk.attach/sun.tools.attach"),
)
_OPENS: Final = (
    *("java.base/java.lang.module", "java.base/jdk.internal.loader", "java.base/jdk.internal.ref"),
    *("java.base/jdk.internal.reflect", "java.base/jdk.internal.math", "java.base/jdk.internal.module"),
    *(
        "java.base/jdk.internal.util.jar",
        "java.base/sun.nio.ch",
        "java.base/java.io",
        "java.base/java.lang.reflect",
    ),
    *("java.base/java.lang", "java.base/java.util", "java.base/java.nio", "jdk.compiler/com.sun.tools.javac"),
    "jdk.management/com.sun.management.internal",
)


def jars() -> Path:
    """The directory of Cassandra's jars. Raises `VacancyError` if Maven cannot download them."""
    libs = Path.home() / ".cache" / "vacancy-tests" / f"cassandra-{VERSION}"
    if libs.exists():
        return libs
    libs.parent.mkdir(parents=True, exist_ok=True)
    # Downloaded to another directory and renamed, so that an interrupted download leaves no incomplete directory.
    with tempfile.TemporaryDirectory(dir=libs.parent) as draft:
        command = [program("mvn", PACKAGE), "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
        options = [f"-DoutputDirectory={draft}/libs", "-DincludeScope=runtime"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            reason = " ".join((done.stdout + done.stderr).split())[:300]
            raise VacancyError(f"Maven could not download Cassandra {VERSION}: {reason}")
        with contextlib.suppress(OSError):  # another process may have been first
            Path(draft, "libs").rename(libs)
    return libs


class CassandraServer:
    """One node, with its data in `directory`. They survive `kill`, `stop` and the next `start`. `short_runs`: with `SHORT_RUNS`."""

    def __init__(self, directory: Path, *, short_runs: bool = False) -> None:
        self._java = [f"{SHORT_RUNS.name}={SHORT_RUNS.value}"] if short_runs else []
        self.port, self._storage_port, self._ssl_port = free_ports(3)
        self._directory = directory
        self._process: StoreProcess | None = None

    @property
    def pids(self) -> list[int]:
        """The id of the running process."""
        return [] if self._process is None else [self._process.pid]

    def start(self, serves: Callable[[], bool] | None = None) -> None:
        """Start the node on the data that it had, and wait until `serves`: by default, until its port answers."""
        (self._directory / "cassandra.yaml").write_text(self._yaml())
        (self._directory / "logback.xml").write_text(_LOGBACK)
        self._process = StoreProcess(
            "Cassandra", self._command(), self._directory / "cassandra.log", directory=self._directory
        )
        self._process.wait_until(serves or (lambda: port_answers(self.port)), _START_S)

    def stop(self) -> None:
        """Stop the node with SIGTERM; it needs some seconds to drain."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill the node with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _yaml(self) -> str:
        plain = {
            "cluster_name": "candidate",
            "num_tokens": "1",
            "initial_token": '"0"',
            "auto_bootstrap": "false",
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "listen_address": "127.0.0.1",
            "rpc_address": "127.0.0.1",
            "storage_port": str(self._storage_port),
            "ssl_storage_port": str(self._ssl_port),
            "native_transport_port": str(self.port),
            "start_native_transport": "true",
            "commitlog_sync": "batch",
            "paxos_variant": "v2",
            "concurrent_reads": "32",
            "concurrent_writes": "32",
            "memtable_allocation_type": "offheap_objects",
            "default_secondary_index": "sai",
            "default_secondary_index_enabled": "true",
        }
        seeds = (
            "seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n"
            f'    parameters: [{{seeds: "127.0.0.1:{self._storage_port}"}}]\n'
        )
        return "".join(f"{name}: {value}\n" for name, value in plain.items()) + seeds + _MEMTABLE

    def _command(self) -> list[str]:
        libs = jars()
        (jamm,) = libs.glob("jamm-*.jar")
        return [
            program("java", PACKAGE),
            "-Xms1G",
            "-Xmx1G",
            *self._java,
            *_G1,
            *(f"--add-exports={one}=ALL-UNNAMED" for one in _EXPORTS),
            *(f"--add-opens={one}=ALL-UNNAMED" for one in _OPENS),
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            f"-javaagent:{jamm}",
            f"-Dcassandra.config=file://{self._directory}/cassandra.yaml",
            f"-Dcassandra.storagedir={self._directory}/data",
            f"-Dlogback.configurationFile=file://{self._directory}/logback.xml",
            # There is no other node to wait for.
            "-Dcassandra.ring_delay_ms=0",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-cp",
            f"{libs}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]
