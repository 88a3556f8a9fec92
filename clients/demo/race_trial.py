"""A trial: the whole loop once. Nodes are published and folded, schedulers race for them, the state is rebuilt
from the log and compared, and an auditor checks every allocation.

A trial's log may be new or one that is in use. Its stores are the trial's own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vacancy.clients.auditor import AuditReport, audit
from vacancy.clients.demo.race import RaceOptions, RaceResult, race
from vacancy.clients.demo.race_participant import ParticipantProgress
from vacancy.clients.demo.race_plan import Place, Plan
from vacancy.clients.inspection.verdicts import exported_verdicts
from vacancy.clients.replay_tool.replay import Digest, digest, read_all, replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogError, LogUnavailable, UsageError, VacancyError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import NODES, PROVIDERS
from vacancy.streams.files.file_modes import DIRECTORY_MODE
from vacancy.streams.log import Log, open_log
from vacancy.streams.log_url import parse_log_url

_PUBLISH_BATCH = 500
_SETTLE_S = 120.0


@dataclass(frozen=True)
class TrialOptions:
    """How to run a trial.

    `log`: a log's URL, made with `partitions` if it is not there; None: one in `directory`. `directory`: where
    stores go; None: a temporary one, removed at the end unless `keep`. `hosts`: how many stores follow the log,
    each with a worker of its own; schedulers are dealt over them. For the others see `RaceOptions`.
    """

    log: str | None = None
    directory: Path | None = None
    keep: bool = False
    partitions: int = 4
    hosts: int = 1
    order: Order = RANDOM
    in_flight: int = 1
    release_batch: int = 64
    seed: int = 0
    client_settings: Mapping[str, str] = field(default_factory=dict)


class Step(NamedTuple):
    """How far a trial is: in which stage (`STAGES`), `done` of `total` of it, and a few words."""

    stage: str
    done: int
    total: int
    note: str = ""


STAGES = ("publish", "race", "settle", "rebuild", "audit")
Progress = Callable[[Step], None]


@dataclass(frozen=True)
class TrialResult:
    """What a trial found. `nodes`, `providers` and `events` are those of the store and log at its end.

    `problems` are the auditor's, in words. See `RaceResult` and `AuditReport` for the figures.
    """

    log: str
    directory: Path | None
    """Where log and stores were left; None if they were removed."""
    nodes: int
    providers: int
    events: int
    race: RaceResult
    audit: AuditReport
    digest_live: str
    digest_rebuilt: str
    rebuilt_equal: bool

    @property
    def ok(self) -> bool:
        """Whether all is as it must be: nothing overcommitted, nothing wrongly rejected, nothing different."""
        return self.rebuilt_equal and self.audit.ok

    def as_json(self) -> dict[str, Any]:
        """The result as plain data: one flat object, percentiles within."""
        return {
            "log": self.log,
            "nodes": self.nodes,
            "providers": self.providers,
            "requests": self.race.requests,
            "accepted": self.race.accepted,
            "lost_claims": self.race.lost_claims,
            "no_valid_host": self.race.no_valid_host,
            "released": self.race.released,
            "overcommitted": self.audit.overcommitted,
            "wrong_rejections": self.audit.wrong_rejections,
            "claims_per_s": self.race.claims_per_s,
            "claim_ms": self.race.claim_ms._asdict(),
            "query_ms": self.race.query_ms._asdict(),
            "events": self.events,
            "digest_live": self.digest_live,
            "digest_rebuilt": self.digest_rebuilt,
            "rebuilt_equal": self.rebuilt_equal,
        }


def run_trial(
    options: TrialOptions,
    publish: Callable[[Trial], None],
    plans: Sequence[Plan],
    progress: Progress | None = None,
) -> TrialResult:
    """Run a trial: `publish` has the inventories, `plans` has one plan for each scheduler.

    Raises `VacancyError`: whatever fails in a worker or a scheduler, and a store that does not come to rest.
    """
    with Trial.prepared(options, progress) as trial:
        publish(trial)
        trial.settle("publish")
        raced = trial.race(plans)
        trial.settle("settle")
        trial.stop_workers()
        return trial.concluded(raced)


class Trial:
    """A trial under way: a log, stores, and the workers that fold the one into the others."""

    def __init__(self, options: TrialOptions, log: Log, directory: Path, progress: Progress) -> None:
        self.options = options
        self.log = log
        self.directory = directory
        self.registry: Registry = installed_registry()
        self.stores = [directory / f"store-{number + 1}" for number in range(options.hosts)]
        self._progress = progress
        self._workers = ExitStack()
        self._processes: list[WorkerProcess] = []

    @classmethod
    @contextmanager
    def prepared(cls, options: TrialOptions, progress: Progress | None = None) -> Iterator[Trial]:
        """A trial with its log made or opened and its workers running; both are ended at the end."""
        if options.hosts < 1:
            raise UsageError("a trial needs a host", do="give 1 or more")
        if options.log is not None and parse_log_url(options.log).scheme == "memory":
            raise UsageError("other processes cannot reach a log in memory", do="use sqlite:// or kafka://")
        with _place(options) as directory:
            url = options.log or f"sqlite://{directory.absolute() / 'log.db'}"
            with _log_at(url, options) as log:
                trial = cls(options, log, directory, progress or _silent)
                with trial._workers:
                    trial._start_workers()
                    yield trial

    # -- the log and the workers --------------------------------------------------------------------------------

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report the progress to the caller."""
        self._progress(Step(stage, done, total, note))

    def append(self, entries: Sequence[NewRecord], note: str = "") -> None:
        """Append entries to the log, in batches."""
        for at in range(0, len(entries), _PUBLISH_BATCH):
            self.log.append(entries[at : at + _PUBLISH_BATCH])
            self.report("publish", min(at + _PUBLISH_BATCH, len(entries)), len(entries), note)

    def _start_workers(self) -> None:
        for store in self.stores:
            worker = WorkerProcess(self.log.url, store, client_settings=self.options.client_settings)
            self._workers.enter_context(worker)
            self._processes.append(worker)
        for worker in self._processes:
            worker.wait_ready()

    @property
    def worker_pids(self) -> list[int]:
        """The processes of the workers that run."""
        return [worker.pid for worker in self._processes if worker.pid is not None]

    def stop_workers(self) -> None:
        """Stop the workers and close their stores. Raises the error of one that failed."""
        self._workers.close()

    def check_workers(self) -> None:
        """Raise the error of a worker that has ended."""
        for worker in self._processes:
            worker.check()

    def settle(self, stage: str) -> None:
        """Wait until every store has folded all that is in the log, and nothing more comes."""
        give_up_at = time.monotonic() + _SETTLE_S
        for store in self.stores:
            with StoreReader(store, self.registry, with_view=False) as reader:
                while behind := self._behind(reader):
                    self.check_workers()
                    if time.monotonic() > give_up_at:
                        raise VacancyError(
                            f"the store is still {behind} records behind the log after {_SETTLE_S:g} s",
                            where=f"store {store}",
                            do="see whether something else writes to the log, or what keeps the worker",
                        )
                    time.sleep(0.01)
        self.report(stage, 1, 1)

    def _behind(self, reader: StoreReader) -> int:
        ends = self.log.end()
        reader.catch_up()
        position = reader.position
        return sum(max(0, end - position[partition]) for partition, end in ends.items())

    # -- race and conclusion ------------------------------------------------------------------------------------

    def race(self, plans: Sequence[Plan]) -> RaceResult:
        """Race schedulers over the stores."""
        options = self.options
        total = sum(1 for plan in plans for step in plan if isinstance(step, Place))
        return race(
            RaceOptions(
                log=self.log.url,
                stores=self.stores,
                order=options.order,
                in_flight=options.in_flight,
                release_batch=options.release_batch,
                seed=options.seed,
                client_settings=options.client_settings,
            ),
            plans,
            progress=lambda lap: self.report("race", lap.requests, total, _progress_text(lap)),
            check=self.check_workers,
        )

    def concluded(self, raced: RaceResult) -> TrialResult:
        """Rebuild the state from the log, compare, and audit. The workers must have stopped."""
        live = self._live_digests()
        rebuilt = self._rebuilt(live[0].position)
        records = read_all(self.log, live[0].position)
        self.report("audit", 0, 1)
        with StoreReader(self.stores[0], self.registry, with_view=False) as reader:
            found = audit(records, exported_verdicts(reader))
            nodes = sum(not row.retired for _, _, row in reader.scan(NODES))
            providers = sum(row.reported for _, _, row in reader.scan(PROVIDERS))
        self.report("audit", 1, 1)
        return TrialResult(
            log=self.log.url,
            directory=self.directory if _stays(self.options) else None,
            nodes=nodes,
            providers=providers,
            events=sum(map(len, records.values())),
            race=raced,
            audit=found,
            digest_live=live[0].whole,
            digest_rebuilt=rebuilt.whole,
            rebuilt_equal=all(one == rebuilt for one in live),
        )

    def _live_digests(self) -> list[Digest]:
        """Of all stores, at one position: where something else wrote to the log, some may have read farther."""
        found = [digest(store, self.registry) for store in self.stores]
        farthest = {p: max(one.position[p] for one in found) for p in found[0].position}
        return [
            one if one.position == farthest else replay(self.log, store, self.registry, until=farthest)
            for store, one in zip(self.stores, found, strict=True)
        ]

    def _rebuilt(self, until: Mapping[int, int]) -> Digest:
        with tempfile.TemporaryDirectory(prefix="rebuilt-", dir=self.directory) as store:
            return replay(
                self.log,
                Path(store),
                self.registry,
                until=until,
                progress=lambda done, total: self.report("rebuild", done, total),
            )


def _stays(options: TrialOptions) -> bool:
    return options.keep or options.directory is not None


@contextmanager
def _place(options: TrialOptions) -> Iterator[Path]:
    """The trial's directory: the one that was given, or a temporary one."""
    if options.directory is not None:
        options.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        yield options.directory
    elif options.keep:
        yield Path(tempfile.mkdtemp(prefix="vacancy-"))
    else:
        with tempfile.TemporaryDirectory(prefix="vacancy-") as made:
            yield Path(made)


def _log_at(url: str, options: TrialOptions) -> Log:
    """The log at `url`, made if it is not there."""
    try:
        return open_log(url, **options.client_settings)
    except LogUnavailable:
        raise
    except LogError as missing:
        try:
            settings = dict(options.client_settings)
            return new_log(url, options.partitions, installed_registry(), replication=None, **settings)
        except LogError:
            raise missing from None  # there is one, but it cannot be opened


def _progress_text(lap: ParticipantProgress) -> str:
    return f"{lap.accepted} placed, {lap.lost_claims} claims lost, {lap.no_valid_host} found no host"


def _silent(step: Step) -> None:
    del step
