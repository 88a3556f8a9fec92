"""Measures the costs of the model on this machine, by short runs of the real parts.

All costs of cores are processor time of one thread, so other work on the machine changes them little. One scheduler races alone
with one claim in flight and with many; the records that this left in the log are then folded and followed again, in one process,
in batches of one and of many. The difference of two sizes of a batch gives the cost of a batch and that of each thing in it.
No rate and no time on the clock is taken over from these races.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from evaluation.model.deployment import Costs
from evaluation.statistics import median, percentile, report
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.store import Store
from vacancy.resources.model import events
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import cell_for, partition_for
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import Log, open_log

COMMITTED = Path(__file__).parent / "calibration.json"
PARTITIONS = 4
SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1, "DISK_GB": 10, "MEMORY_MB": 256}),))
_MANY = 32
_BATCH = 500
_ROUNDS = 3
"""Costs are the medians of this number of runs: the cost of judging a claim differed by a third from run to run."""

_UNDISTURBED = 0.2
_RECORDS = 2
"""Records of claims that are sent together: their requests, and the claims."""


def load_calibration(path: Path = COMMITTED) -> dict[str, Any]:
    """A calibration as `measure_costs` made it. Raises `VacancyError` for a file that is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        costs_for(found, "sqlite")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VacancyError(
            f"this is no calibration: {error}", where=str(path), do="calibrate again"
        ) from None
    return found


def costs_for(calibration: Mapping[str, Any], log: str) -> Costs:
    """The costs with a kind of log: a name in the calibration's `logs_us`."""
    logs = calibration["logs_us"]
    if log not in logs:
        raise VacancyError(
            f"the calibration has no log {log!r}, only {', '.join(logs)}", do="calibrate with `--kafka`"
        )
    return Costs.from_json({**calibration["costs_us"], **logs[log]})


def measure_costs(nodes: int, placements: int, kafka: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Measure. `kafka`: name -> URL of a log to create, for each kind of Kafka whose log is to be measured, too."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="vacancy-calibrate-") as made:
        directory = Path(made)
        rounds = []
        for number in range(_ROUNDS):
            place = directory / str(number)
            place.mkdir()
            rounds.append(_costs(place, f"sqlite://{place}/log.db", nodes, placements))
        logs = {"sqlite": _log_costs(f"sqlite://{directory}/latency.db")}
    for name, kafka_url in (kafka or {}).items():
        logs[name] = _log_costs(f"{kafka_url}-{uuid4().hex[:6]}")
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "conditions": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "nodes": nodes,
            "placements": placements,
            "load_before": round(load, 1),
        },
        "costs_us": {name: round(median([one[name] for one in rounds]), 2) for name in rounds[0]},
        "logs_us": logs,
    }


# -- a scheduler, alone -------------------------------------------------------------------------------------


def node_entries(nodes: int, sequence: int = 1) -> Iterator[NewRecord]:
    """A report of each node."""
    for number in range(nodes):
        root = _root(number)
        value = report(root, sequence, vcpu=64, memory=1_000_000, disk=100_000 + sequence)
        yield NewRecord(cell_for(root, PARTITIONS), value)


def _costs(directory: Path, url: str, nodes: int, placements: int) -> dict[str, float]:
    """Everything but the log, in microseconds."""
    registry, store = installed_registry(), directory / "store"
    with new_log(url, PARTITIONS, registry) as log:
        log.append(list(node_entries(nodes)))
        ends = [log.end()]
        replay(log, directory / "followed", registry)
        own: list[tuple[float, float]] = []
        workers: list[float] = []
        with WorkerProcess(url, store) as worker:
            worker.wait_ready()
            with Scheduler(log, store, registry, seed=1) as scheduler:
                search_us, query_us = _queries(scheduler)
                for size in (1, _MANY):
                    before_s = cpu_s(worker.pid)
                    own.append(_placing(scheduler, size, placements))
                    time.sleep(0.1)  # the worker folds the last outcomes
                    workers.append((cpu_s(worker.pid) - before_s) / placements * 1e6)
                    ends.append(log.end())
        with StoreReader(store, registry) as reader:
            look_us = _each(reader.follow, 300)
        phases = [_between(log, *ends[at : at + 2]) for at in (0, 1)]
        folded = _fold_again(log, directory / "followed", phases, placements)
    together = placements / sum(_is_claims(one) for records in phases[1].values() for one in records)
    one, many = (cpu_us - looks * look_us for cpu_us, looks in own)
    record_us, claim_us = _split(one, many, together)
    batch_us, judge_us = _split(workers[0], workers[1], together)
    commit_us = (batch_us - folded["judge_record"]) / _RECORDS
    return {
        "search": search_us,
        "query": query_us,
        "record": round(max(0.0, record_us - search_us), 2),
        "claim": round(max(0.0, claim_us - query_us - folded["follow_claim"]), 2),
        "look": look_us,
        **folded,
        "judge": round(judge_us, 2),
        "commit": round(max(folded["commit"], commit_us), 2),
    }


def _split(one: float, many: float, together: float) -> tuple[float, float]:
    """The cost of a batch and of each thing in it, from the cost of a thing that is alone and of one of `together`."""
    batch = max(0.0, (one - many) / (1 - 1 / together))
    return batch, max(0.0, one - batch)


def _queries(scheduler: Scheduler) -> tuple[float, float]:
    """A search, and each place that it finds (us)."""
    one = _each(lambda: scheduler.candidates(SPEC, limit=1), 300)
    many = _each(lambda: scheduler.candidates(SPEC, limit=_MANY), 300)
    each = max(0.0, (many - one) / (_MANY - 1))
    return round(max(0.0, one - each), 2), round(each, 2)


def _placing(scheduler: Scheduler, in_flight: int, placements: int) -> tuple[float, float]:
    """Processor time (us) and looks for news, for each placement. Sends are included."""
    reader, looks = scheduler.reader, 0
    follow = reader.follow

    def counted() -> None:
        nonlocal looks
        looks += 1
        follow()

    spare_collector()
    vars(reader)["follow"] = counted  # hides the method of the class
    try:
        requests = (PlacementRequest(SPEC) for _ in range(placements))
        started = time.process_time()
        placed = sum(one.status == "placed" for one in scheduler.place_many(requests, in_flight=in_flight))
        spent = time.process_time() - started
    finally:
        del vars(reader)["follow"]
    if placed != placements:
        raise VacancyError(f"{placed} of {placements} requests were placed", do="give more nodes")
    return spent / placements * 1e6, looks / placements


def _each(call: Callable[[], object], times: int) -> float:
    """The median processor time of a call, in us, of five rounds."""
    call()
    found = []
    for _ in range(5):
        started = time.thread_time()
        for _ in range(times // 5):
            call()
        found.append((time.thread_time() - started) / (times // 5) * 1e6)
    return round(median(found), 2)


# -- fold and follow again ----------------------------------------------------------------------------------

_Records = dict[int, list[Record]]
"""Partition -> records in the order of the log."""


def _between(log: Log, after: Mapping[int, int], until: Mapping[int, int]) -> _Records:
    """The records of a log between two positions."""
    found: _Records = {}
    for partition, end in until.items():
        records = found.setdefault(partition, [])
        while (at := after[partition] + len(records)) < end:
            records += log.read(partition, at, min(_BATCH, end - at), timeout_s=10.0)
    return found


def _is_claims(record: Record) -> bool:
    return b'"vacancy.claims.requested.v' in record.value


def _fold_again(log: Log, path: Path, phases: Sequence[_Records], placements: int) -> dict[str, float]:
    """Fold the records of two races, with one claim in a record and with many, into a store that a reader in the same process
    follows; then heartbeats and reports. Returns costs in us; reading the log is included."""
    registry = installed_registry()
    reading_us = _each(lambda: log.read(0, 1, _BATCH), 20) / len(log.read(0, 1, _BATCH))
    reading_one_us = _each(lambda: log.read(0, 1, 1), 100)
    with open_store(path, log, registry) as store, StoreReader(path, registry) as reader:
        spare_collector()
        claims = [_apply_all(store, reader, phase) for phase in phases]
        cell = next(iter(phases[1].values()))[-1].key.decode()
        partition = partition_for(cell, PARTITIONS)
        roots = [
            one
            for one in map(_root, range(8_000))
            if partition_for(cell_for(one, PARTITIONS), PARTITIONS) == partition
        ]
        commits = roots[:200]
        alone, _ = _apply(store, reader, _new(store, partition, map(_heartbeat, commits)), 1)
        beats, follow_beat = _apply(
            store, reader, _new(store, partition, map(_heartbeat, roots[200:])), _BATCH
        )
        full, follow_full = _apply(store, reader, _new(store, partition, map(_full_report, roots)), _BATCH)
    commit_us, beat_us = _split(alone, beats, _BATCH)
    together = placements / sum(_is_claims(one) for records in phases[1].values() for one in records)
    per_claim = [
        (folding + reading_us * len_records - commit_us * batches) / placements
        for folding, _, len_records, batches in claims
    ]
    record_us, _ = _split(per_claim[0], per_claim[1], together)
    return {
        "follow_claim": round(claims[1][1] / placements, 2),
        "follow_heartbeat": round(follow_beat, 2),
        "follow_report": round(follow_full, 2),
        "commit": round(commit_us + max(0.0, reading_one_us - reading_us), 2),
        "judge_record": round(record_us, 2),
        "heartbeat": round(beat_us + reading_us, 2),
        "report": round(full + reading_us, 2),
    }


def _apply_all(store: Store, reader: StoreReader, phase: _Records) -> tuple[float, float, int, int]:
    """Apply records in batches. Returns the processor time to fold and to follow (us), the records, and the batches."""
    folding = following = 0.0
    batches = 0
    for records in phase.values():
        if records:
            folded, followed = _apply(store, reader, records, _BATCH)
            folding += folded * len(records)
            following += followed * len(records)
            batches += -(-len(records) // _BATCH)
    return folding, following, sum(map(len, phase.values())), batches


def _apply(store: Store, reader: StoreReader, records: Sequence[Record], size: int) -> tuple[float, float]:
    """Apply records of one partition in batches of `size`. Returns the processor time to fold and to follow each (us)."""
    folding = following = 0.0
    for at in range(0, len(records), size):
        started = time.thread_time()
        store.apply(records[at].partition, records[at : at + size])
        folded = time.thread_time()
        reader.follow()
        folding += folded - started
        following += time.thread_time() - folded
    return folding / len(records) * 1e6, following / len(records) * 1e6


def _new(store: Store, partition: int, entries: Iterable[NewRecord]) -> list[Record]:
    """New records at the end of what a store has folded of a partition."""
    offset, now_ms = store.position()[partition], wall_ms()
    return [
        Record(partition, offset + number, now_ms, one.key.encode(), one.value)
        for number, one in enumerate(entries)
    ]


def _root(number: int) -> str:
    return f"node-{number:06}"


def _heartbeat(root: str) -> NewRecord:
    place = events.NodeData(root=root, incarnation="00000000000000aa", sequence=2)
    event = events.NodeHeartbeat(id=f"beat-{root}", source=f"/node/{root}", data=place)
    return NewRecord(cell_for(root, PARTITIONS), events.encode(event))


def _full_report(root: str) -> NewRecord:
    value = report(root, 3, vcpu=64, memory=1_000_000, disk=100_003)
    return NewRecord(cell_for(root, PARTITIONS), value)


# -- logs ---------------------------------------------------------------------------------------------------


def _log_costs(url: str) -> dict[str, float]:
    """How long a record keeps the log, and how long it takes then until another thread has read it (us).

    The first is the time of a send that waits for its acknowledgement, less the processor time of the sender; SQLite flushes
    in it. Where an acknowledgement comes later, as with Kafka, it is the time of each of many sends that do not wait for each
    other, less the same. The second is the time from a send to the end of a read that waits for it, less the first. Of single times
    the lowest fifth is taken: what is longer was disturbed by other work.
    """
    with new_log(url, PARTITIONS, installed_registry(), replication=None) as log, open_log(url) as other:
        entries = [NewRecord(cell_for(_root(0), PARTITIONS), _heartbeat(_root(0)).value)]
        partition = partition_for(entries[0].key, PARTITIONS)
        log.append(entries)
        waits = []
        for _ in range(300):
            started, worked = time.perf_counter(), time.thread_time()
            receipt = log.send(entries)
            settled = receipt.done
            receipt.wait(30.0)
            waits.append((time.perf_counter() - started - time.thread_time() + worked) * 1e6)
        append_us = percentile(sorted(waits), _UNDISTURBED) if settled else _pipelined(log, entries)
        times = sorted(_until_read(log, other, entries, partition) for _ in range(200))
    # A worker polls SQLite itself, which is not part of the log: see `Pacing`.
    latency_us = 0.0 if settled else max(0.0, percentile(times, _UNDISTURBED) - append_us)
    return {"append": round(append_us, 2), "latency": round(latency_us, 2)}


def _pipelined(log: Log, entries: Sequence[NewRecord]) -> float:
    """The time of each of many sends that are acknowledged later, less the sender's processor time (us)."""
    started, worked = time.perf_counter(), time.process_time()
    for receipt in [log.send(entries) for _ in range(2_000)]:
        receipt.wait(30.0)
    return max(1.0, (time.perf_counter() - started - time.process_time() + worked) / 2_000 * 1e6)


def _until_read(log: Log, other: Log, entries: Sequence[NewRecord], partition: int) -> float:
    """From the send of a record until a reader that waits has it (us)."""
    offset, read_at = log.end()[partition], [0.0]

    def read() -> None:
        if other.read(partition, offset, 1, timeout_s=10.0):
            read_at[0] = time.perf_counter()

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.005)
    started = time.perf_counter()
    log.send(entries)
    reader.join()
    return (read_at[0] - started) * 1e6


def cpu_s(pid: int | None) -> float:
    """The processor time of a process so far, in user and kernel mode, from Linux's /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
