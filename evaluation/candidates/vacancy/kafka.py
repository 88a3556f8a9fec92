"""vacancy on Apache Kafka: one broker that flushes each append, or three that replicate."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import About, CutOff, Setting
from evaluation.candidates.processes import pause, resume
from evaluation.candidates.vacancy.store import REVIEW, SETTINGS, VacancyStore
from tests.support.processes.kafka_server import VERSION, KafkaCluster, KafkaNotStarted
from vacancy.resources.model.errors import VacancyError

_FLUSHED: Final = {"log.flush.interval.messages": "1"}
_FEW_CORES: Final = {"num.network.threads": "1", "num.io.threads": "2"}
_JAVA: Final = ("-XX:+UseTransparentHugePages",)
_BROKER: Final = (
    Setting(
        "num.network.threads, num.io.threads",
        "1, 2",
        "docs/operating.md, a broker on few cores: a request wakes fewer threads",
    ),
    Setting(
        "-XX:+UseTransparentHugePages",
        "on",
        "Java 17, the java command: large pages for the heap, where the system gives them on request (madvise)",
    ),
)
_CLIENT: Final = Setting(
    "acks, enable.idempotence",
    "all, true",
    "docs/operating.md: fixed for a log whose records must not be lost",
)
_KAFKA_REVIEW: Final = (
    "The producer is idempotent with acks=all, and sends what is ready at once (`linger.ms` 0), because a scheduler waits for the answer."
    " The client's `batch_size` is 256 KiB. Brokers run in KRaft mode with a heap of 512 MB and the settings of the tests of this project:"
    " the serial collector and the first compiler of Java (`-XX:TieredStopAtLevel=1`), where Kafka's own start script takes G1"
    " and both compilers, for machines with more cores than two. For the same reason a broker has one thread for its network, two for"
    f" requests, and large pages (`-XX:+UseTransparentHugePages`). Kafka {VERSION}."
)


class VacancyKafka1(VacancyStore):
    """One broker, which flushes each append."""

    name = "vacancy-kafka-1"
    brokers = 1

    def __init__(self) -> None:
        super().__init__()
        self._cluster: KafkaCluster | None = None

    def missing(self) -> str | None:
        """See `Candidate.missing`."""
        if shutil.which("java") is None or shutil.which("mvn") is None:
            return "Kafka is not installed: apt-get install openjdk-17-jre-headless maven (its jars come from Maven)"
        return None

    def about(self) -> About:
        """See `Candidate.about`."""
        flush = Setting(
            "log.flush.interval.messages",
            "1",
            "Kafka 4.3, Broker Configs: forces an fsync for each message; not recommended with replication, but there is one"
            " replica here, and the other stores flush, too",
        )
        return About(
            version=f"{self.version()} on Apache Kafka {VERSION}",
            settings=(*SETTINGS, _CLIENT, *_BROKER, flush),
            acknowledgement="the claim is in the broker's log on disk (fsync), and the worker has accepted it",
            durability="a kill of any process and a power failure; not the loss of the disk",
            replicas=1,
            processes="one broker, one worker",
            code_lines=self.code_lines(__file__),
            review=f"{REVIEW} {_KAFKA_REVIEW} One broker has no other copy, so it flushes each append; Kafka's documentation recommends"
            " replication instead, which is the other candidate.",
        )

    def properties(self) -> dict[str, str]:
        """The settings of the brokers beyond those of every broker."""
        return _FLUSHED

    def start(self, workdir: Path) -> None:
        """See `Candidate.start`."""
        try:
            self._cluster = KafkaCluster(
                workdir / "kafka",
                brokers=self.brokers,
                properties={**_FEW_CORES, **self.properties()},
                java_options=_JAVA,
            )
        except KafkaNotStarted as error:
            raise VacancyError(str(error)) from error
        self.start_at(f"kafka://{self._cluster.servers}/vacancy", workdir, self.brokers)

    def more_pids(self) -> Iterable[int]:
        """The brokers."""
        assert self._cluster is not None  # noqa: S101 - it was started
        return [self._cluster.pid(node) for node in range(1, self.brokers + 1)]

    def kill(self) -> str:
        """See `Candidate.kill`. Each broker leads a part of the partitions."""
        assert self._cluster is not None  # noqa: S101 - it was started
        self._cluster.kill(1)
        self.kill_worker()
        others = f" of {self.brokers}" if self.brokers > 1 else ""
        return f"broker 1{others} and the worker"

    def restart(self) -> None:
        """See `Candidate.restart`."""
        assert self._cluster is not None  # noqa: S101 - it was started
        self._cluster.restart(1)
        self.start_worker()

    def cut_off(self) -> CutOff:
        """See `Candidate.cut_off`: one broker. Of several, each leads a part of the partitions, and follows in the others."""
        assert self._cluster is not None  # noqa: S101 - it was started
        pause([self._cluster.pid(1)])
        if self.brokers == 1:
            return CutOff("the only broker", has_cells=False)
        return CutOff(f"one of {self.brokers} brokers", has_cells=True)

    def heal(self) -> None:
        """See `Candidate.heal`."""
        assert self._cluster is not None  # noqa: S101 - it was started
        resume([self._cluster.pid(1)])

    def stop(self) -> None:
        """See `Candidate.stop`."""
        super().stop()
        if self._cluster is not None:
            self._cluster.close()
        self._cluster = None


class VacancyKafka3(VacancyKafka1):
    """Three brokers: an append is acknowledged by at least two."""

    name = "vacancy-kafka-3"
    brokers = 3

    def about(self) -> About:
        """See `Candidate.about`."""
        replicated = Setting(
            "min.insync.replicas",
            "2",
            "Kafka 4.3, Topic Configs: the typical scenario with three replicas and acks=all",
        )
        return About(
            version=f"{self.version()} on Apache Kafka {VERSION}",
            settings=(*SETTINGS, _CLIENT, *_BROKER, replicated),
            acknowledgement="two of three brokers have the claim in memory or on disk, and the worker has accepted it",
            durability="a kill of any process and the loss of one broker with its disk; a power failure of all three may lose"
            " the last seconds",
            replicas=3,
            processes="three brokers, one worker",
            code_lines=self.code_lines(__file__),
            review=f"{REVIEW} {_KAFKA_REVIEW} Replication in place of flushes is what Kafka's documentation recommends; the brokers share"
            " one machine here, where in production each has its own.",
        )

    def properties(self) -> dict[str, str]:
        """None: replicas take the place of flushes, as Kafka's documentation recommends."""
        return {}
