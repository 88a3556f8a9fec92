"""Every way to have the state of a position gives the same digest.

Schedulers race for the nodes of a trace, over two stores that each have a worker. Then the state is made at random positions of
the log: by a replay in one process and in two, in commits of a few records as a worker makes them, from an archive of the log,
from the nearest snapshot and the records after it, and from a snapshot that was restored as the store of another host.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.benchmarks.trace import EXIT_DIFFERENCE, TraceOptions, run_trace
from evaluation.traces.arguments import add_trace_arguments, load_trace
from vacancy.clients.archives.export import export_log
from vacancy.clients.past.historical_store import HistoricalStores
from vacancy.clients.past.points import point_text, position_at
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.replay_tool.replay import digest, replay
from vacancy.clients.runtime.bootstrap import installed_registry, open_store
from vacancy.clients.snapshots.restore import restore_snapshot
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.manifest import SnapshotManifest
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, open_log

Position = Mapping[int, int]

_COMMIT_MAX = 60
"""Records of a commit of a worker that keeps up."""


class Rebuilds:
    """The ways to have the state of a log at a position. Everything that they write is in `directory`."""

    def __init__(self, log: Log, directory: Path, rng: random.Random) -> None:
        self._log, self._directory, self._rng = log, directory, rng
        self._registry = installed_registry()
        self._storage = SnapshotStorage(str(directory / "snapshots"))
        self._snapshots: list[SnapshotManifest] = []
        cache = StoreCache(directory / "history", stores_max=4, bytes_max=2**30)
        self._stores = HistoricalStores(log, self._registry, cache, self._storage)
        self._archive = f"archive+file://{(directory / 'archive').resolve()}"
        self._made = 0

    def prepare(self, snapshots: int) -> None:
        """Export the log, and make snapshots at as many times."""
        export_log(self._log, ArchiveStorage(str(self._directory / "archive")), segment_records=5_000)
        store = self._new()
        times = random_times(self._log, self._rng, snapshots)
        for time_ms in sorted(times):
            replay(self._log, store, self._registry, until=position_at(self._log, time_ms))
            self._snapshots.append(create_snapshot(store, self._storage, self._registry))

    def ways(self) -> dict[str, Callable[[Position], str]]:
        """Name -> what makes the state and returns its digest."""
        return {
            "replay": self._replay,
            "two_processes": self._two_processes,
            "small_commits": self._small_commits,
            "archive": self._from_archive,
            "snapshot_and_tail": self._snapshot_and_tail,
            "another_host": self._another_host,
        }

    def _new(self) -> Path:
        self._made += 1
        return self._directory / f"store-{self._made}"

    def _replay(self, position: Position) -> str:
        return replay(self._log, self._new(), self._registry, until=position).whole

    def _two_processes(self, position: Position) -> str:
        return replay_processes(self._log.url, self._new(), self._registry, processes=2, until=position).whole

    def _small_commits(self, position: Position) -> str:
        store = self._new()
        with open_store(store, self._log, self._registry) as tables:
            at = dict(tables.position())
            while behind := [p for p, offset in position.items() if at[p] < offset]:
                partition = self._rng.choice(behind)
                most = min(self._rng.randint(1, _COMMIT_MAX), position[partition] - at[partition])
                records = self._log.read(partition, at[partition], most, timeout_s=10.0)
                tables.apply(partition, records)
                at[partition] += len(records)
        return digest(store, self._registry).whole

    def _from_archive(self, position: Position) -> str:
        with open_log(self._archive) as archive:
            return replay(archive, self._new(), self._registry, until=position).whole

    def _snapshot_and_tail(self, position: Position) -> str:
        with self._stores.at(position) as found:
            return digest(found.path, self._registry).whole

    def _another_host(self, position: Position) -> str:
        """Without a snapshot that is not after the position, the host folds everything."""
        before = [one for one in self._snapshots if all(one.position[p] <= o for p, o in position.items())]
        store = self._new()
        if before:
            restore_snapshot(self._log, self._storage, store, self._registry, before[-1].id)
        return replay(self._log, store, self._registry, until=position).whole


def random_times(log: Log, rng: random.Random, count: int) -> list[int]:
    """Times between the first and the last record of a log (ms since 1970)."""
    end = log.end()
    firsts = [log.read(p, 0, 1, timeout_s=10.0)[0].timestamp_ms for p in end]
    lasts = [log.read(p, offset - 1, 1, timeout_s=10.0)[0].timestamp_ms for p, offset in end.items()]
    return [rng.randint(max(firsts), max(lasts)) for _ in range(count)]


def random_positions(log: Log, rng: random.Random, count: int) -> Iterator[dict[int, int]]:
    """Positions of a log: three of four are times, of the fourth each partition is anywhere."""
    end = log.end()
    for number, time_ms in enumerate(random_times(log, rng, count)):
        if number % 4 == 3:
            yield {partition: rng.randint(1, offset) for partition, offset in end.items()}
        else:
            yield position_at(log, time_ms)


def compare(rebuilds: Rebuilds, positions: Sequence[Position]) -> dict[str, Any]:
    """The digests of all ways at these positions: how many were equal, which were not, and the seconds that each way took."""
    seconds = dict.fromkeys(rebuilds.ways(), 0.0)
    different = []
    for position in positions:
        found = {}
        for name, way in rebuilds.ways().items():
            started = time.perf_counter()
            found[name] = way(position)
            seconds[name] += time.perf_counter() - started
        if len(set(found.values())) > 1:
            different.append({"position": point_text(position), "digests": found})
    return {
        "positions": len(positions),
        "equal": len(positions) - len(different),
        "different": different,
        "seconds": {name: round(total, 2) for name, total in seconds.items()},
    }


# -- the command ------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_trace_arguments(parser)
    parser.add_argument(
        "--positions", type=int, default=20, help="number of random positions (default: %(default)s)"
    )
    parser.add_argument("--snapshots", type=int, default=4, help="number of snapshots (default: %(default)s)")
    parser.add_argument(
        "--hosts",
        type=int,
        default=2,
        help="number of stores, each with a worker of its own (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of random choices (default: %(default)s)")
    parser.add_argument("--log", help="URL of a new log, for example on Kafka (default: a temporary file)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    options = TraceOptions(load_trace(arguments), hosts=arguments.hosts, seed=arguments.seed, in_flight=16)
    with tempfile.TemporaryDirectory(prefix="vacancy-rebuilds-") as made:
        directory = Path(made)
        url = arguments.log or f"sqlite://{directory / 'log.db'}"
        live = run_trace(replace(options, log=url))
        with open_log(url) as log:
            rng = random.Random(arguments.seed)
            rebuilds = Rebuilds(log, directory, rng)
            rebuilds.prepare(arguments.snapshots)
            found = compare(rebuilds, list(random_positions(log, rng, arguments.positions)))
    print(
        json.dumps(
            {
                "benchmark": "rebuilds",
                "records": live.events,
                "hosts": arguments.hosts,
                "live_equal": live.rebuilt_equal,
                **found,
            }
        )
    )
    for problem in live.audit.problems[:10]:
        print(problem, file=sys.stderr)
    return 0 if live.ok and not found["different"] else EXIT_DIFFERENCE
