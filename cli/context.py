"""The context of a command: its settings, and the log and the store that they name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from vacancy.resources.model.errors import LogError, UsageError

if TYPE_CHECKING:
    from vacancy.clients.past.historical_store import HistoricalStore
    from vacancy.clients.scheduler.client import Scheduler, SchedulerOptions
    from vacancy.clients.scheduler.store_query import StoreQuery
    from vacancy.clients.signing.key_pair import KeyPair
    from vacancy.projections.query.order import Order
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.projections.snapshots.storage import SnapshotStorage
    from vacancy.resources.classes.registry import Registry
    from vacancy.streams.log import Log
    from vacancy.streams.settings import Settings
    from vacancy.streams.written_positions import WrittenLog

DEFAULT_PARTITIONS = 4
"""Partitions of the default log, and of a log made without `--partitions`. Nodes are spread over as many cells."""

OPTIONAL_LOG_S = 3.0
"""How long a command waits for a log that it can work without."""

_OPEN_MIN_S = 1.0


class CommandContext:
    """The settings of a command. The arguments are flags of the command line; None means not given."""

    def __init__(
        self,
        *,
        log: str | None = None,
        store: Path | None = None,
        cell: str | None = None,
        snapshots: str | None = None,
        archive: str | None = None,
        config: Path | None = None,
        kafka: Iterable[str] | None = None,
        web_host: str | None = None,
        web_port: str | None = None,
        ui_host: str | None = None,
        ui_port: str | None = None,
        schedulers: Iterable[str] | None = None,
        allow_devices: Iterable[str] | None = None,
        deny_devices: Iterable[str] | None = None,
        reserve_hugepages: Iterable[str] | None = None,
        node_key: Path | None = None,
        operator_key: Path | None = None,
        as_of: str | None = None,
        at_least: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """`as_of` is a point in time: then the store is one of the past, which is made first where it is not there. With
        `at_least`, a position, it returns when the store has reached it, within `timeout_s`. Raises as
        `historical_store` and `wait_until_at_least` do."""
        from vacancy.streams.settings import load_settings

        self.settings: Settings = load_settings(
            log=log,
            store=store,
            cell=cell,
            snapshots=snapshots,
            archive=archive,
            config=config,
            kafka=kafka or (),
            web_host=web_host,
            web_port=web_port,
            ui_host=ui_host,
            ui_port=ui_port,
            schedulers=schedulers or None,
            allow_devices=allow_devices,
            deny_devices=deny_devices,
            reserve_hugepages=reserve_hugepages,
            node_key=node_key,
            operator_key=operator_key,
        )
        self._past: HistoricalStore | None = None
        self._written_logs: list[WrittenLog] = []
        if as_of is not None and at_least is not None:
            raise UsageError("--as-of and --at-least contradict each other", do="give one of them")
        if as_of is not None:
            self._go_back(as_of)
        if at_least is not None:
            self._wait(at_least, timeout_s)

    def _go_back(self, as_of: str) -> None:
        """Replace the store by that of the point. It is not removed while this object is there."""
        from vacancy.cli.output import progress_bar
        from vacancy.clients.past.historical_store import historical_store

        with progress_bar("records folded") as progress:
            self._past = historical_store(
                self.settings, self.registry(), as_of, progress=progress, in_parallel=True
            )
        self.settings = self.settings.model_copy(update={"store": self._past.path})

    def _wait(self, at_least: str, timeout_s: float) -> None:
        from vacancy.clients.past.at_least import parse_position, wait_until_at_least

        position = parse_position(at_least)
        with self.open_reader(with_view=False) as reader:
            wait_until_at_least(reader, position, timeout_s)

    @property
    def is_past(self) -> bool:
        """Whether the store is one of the past."""
        return self._past is not None

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.settings.store

    def registry(self) -> Registry:
        """The classes of this build and its plugins."""
        from vacancy.clients.runtime.bootstrap import installed_registry

        return installed_registry()

    def open_log(self, timeout_s: float | None = None, *, to_write: bool = False) -> Log:
        """Open the log, within about `timeout_s` if that is less than the settings allow. Records that it does not have any
        more are read from its archive, if the settings name one; not where it is opened `to_write`.

        Raises `LogError` if there is no log, `LogUnavailable` if it does not answer.
        """
        from vacancy.streams.log import open_log

        within_s = None if timeout_s is None else max(timeout_s, _OPEN_MIN_S)
        if not to_write:
            return open_log(self.settings.log, within_s, **self.settings.log_options)
        from vacancy.streams.written_positions import WrittenLog

        opened = WrittenLog(open_log(self.settings.log, within_s, **self.settings.kafka), self._note_written)
        key = self.operator_key()
        if key is not None:
            from vacancy.clients.signing.operator_log import OperatorLog

            self._written_logs.append(opened)
            return OperatorLog(opened, key)
        self._written_logs.append(opened)
        return opened

    def operator_key(self) -> KeyPair | None:
        """The operator's key that the settings name, or None. Raises `UsageError` where it cannot be used."""
        if self.settings.operator_key is None:
            return None
        from vacancy.clients.signing.key_pair import read_key

        return read_key(self.settings.operator_key)

    def resolve_beginning(self, text: str, log: Log) -> dict[int, int]:
        """The position of `--from`. For a time before now that is before the log it is the beginning of the log, and standard error
        says so. Raises as `parse_point` and `resolve` do."""
        from vacancy.cli.output import note, time_text
        from vacancy.clients.past.points import parse_point, resolve_beginning

        begins = resolve_beginning(parse_point(text), log)
        if begins.log_began_ms is not None:
            note(f"the log is younger than {text}: from its first record, {time_text(begins.log_began_ms)}")
        return begins.position

    @property
    def written(self) -> dict[int, int]:
        """The position after the records that this command wrote: partition -> next offset, of the partitions that it wrote."""
        found: dict[int, int] = {}
        for one in self._written_logs:
            for partition, offset in one.written.items():
                found[partition] = max(found.get(partition, 0), offset)
        return dict(sorted(found.items()))

    def _note_written(self) -> None:
        """Tell people at a terminal what to wait for elsewhere. Programs get it in JSON."""
        from vacancy.cli.output import is_watched, note
        from vacancy.clients.past.points import point_text

        if self.written and is_watched():
            note(
                f"written up to {point_text(self.written)}; any host has read it with --at-least {point_text(self.written)}"
            )

    def ensure_log(self) -> None:
        """Create the default log if it does not exist.

        A log that was named is never created here: a mistyped name would start a second log.
        """
        if "log" in self.settings.model_fields_set:
            return
        from vacancy.clients.runtime.bootstrap import new_log
        from vacancy.streams.log_url import parse_log_url

        file = Path(parse_log_url(self.settings.log).place)
        if file.exists():
            return
        try:
            new_log(self.settings.log, DEFAULT_PARTITIONS, self.registry()).close()
        except LogError:
            if not file.exists():  # otherwise another process has just created it
                raise

    def open_query(self, *, order: Order | str = "random", seed: int | None = None) -> StoreQuery:
        """The store, to be queried. Raises `StoreError` where there is none."""
        from vacancy.clients.scheduler.store_query import StoreQuery

        return StoreQuery(
            self.settings.store,
            self.registry(),
            order=order,
            seed=seed,
            view_memory_mb=self.settings.view_memory_mb,
            still=self.is_past,
        )

    def open_scheduler(self, timeout_s: float, **options: Unpack[SchedulerOptions]) -> Scheduler:
        """A scheduler on log and store, for one command. Raises as `open_log` and `open_query` do."""
        from vacancy.clients.scheduler.client import Scheduler

        options |= {"name": "cli", "spare_collector": False}
        log = self.open_log(timeout_s, to_write=True)
        return Scheduler.from_settings(self.settings, log=log, **options)

    def open_snapshots(self) -> SnapshotStorage:
        """The place where snapshots are kept. Raises `UsageError` where its URL is invalid."""
        from vacancy.projections.snapshots.storage import SnapshotStorage

        return SnapshotStorage(self.settings.snapshots)

    def check_store(self) -> None:
        """Raises `StoreError` if there is no store that this build reads. RocksDB is not opened: its threads stay, and a process that
        is forked later would believe that it has them."""
        from vacancy.projections.reader.store_reader import StoreReader

        StoreReader(self.settings.store, self.registry(), with_view=False, partitions=()).close()

    def open_reader(self, *, with_view: bool = True) -> StoreReader:
        """Open the store for reading. Raises `StoreError` if there is none."""
        from vacancy.projections.reader.store_reader import StoreReader

        memory_mb = self.settings.view_memory_mb
        return StoreReader(
            self.settings.store,
            self.registry(),
            with_view=with_view,
            view_memory_mb=memory_mb,
            still=self.is_past,
        )


def named_options(**given: str | Path | None) -> tuple[str, ...]:
    """The options that name what is read, as words of a command line, for the command lines that the page shows. Settings of
    Kafka may be secrets, so they are not among them."""
    return tuple(
        word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))
    )
