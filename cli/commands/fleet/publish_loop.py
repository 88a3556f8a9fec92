"""The parts of `vacancy publish`: where the inventory comes from, the outbox, and the loop until a stop signal."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast, get_args

from pydantic import TypeAdapter, ValidationError

from vacancy.cli.context import CommandContext
from vacancy.cli.options.order_option import read_text
from vacancy.cli.output import note
from vacancy.clients.publisher.host import (
    HostInventory,
    HostOptions,
    check_options,
    inspect_host,
    machine_identity,
)
from vacancy.clients.publisher.host.devices.device_rules import DeviceRules, parse_device_rule
from vacancy.clients.publisher.host.files import parse_cpu_list
from vacancy.clients.publisher.host.memory.memory import parse_reservation
from vacancy.clients.publisher.host.memory.numa_inventory import NumaMode
from vacancy.clients.publisher.host.remarks import RemarkPrinter
from vacancy.clients.publisher.known_rules import KnownRules
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Providers, Publisher, node_cell, node_signer
from vacancy.clients.publisher.running import RunningReporter, read_running
from vacancy.clients.publisher.service import PublishService
from vacancy.resources.model.errors import LogError, StoreError, UsageError, VacancyError
from vacancy.resources.model.events import NodeReportedV2, NodeRunning, ProviderReport
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rule_set import RuleSet
from vacancy.resources.state.tables import NODES, PARTITION, PARTITION_KEY, key
from vacancy.streams.log import AppendedAt, Log
from vacancy.streams.worker.shutdown import StopSignal, forward_signals, on_stop
from vacancy.streams.worker.wait_for_log import LogWaiter, OpenLog

if TYPE_CHECKING:
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.streams.pages.page_server import PageServer
    from vacancy.streams.settings import Settings

CollectProviders = Callable[[], Providers]
"""Returns the node's current providers; called at every interval."""


class NodeSource(NamedTuple):
    """Where a node's inventory comes from: its id, and the function that collects it with the collector's remarks. `is_host`
    is whether the node is this host, and not one that a file describes. `offers_mig`: GPUs in MIG mode as class MIG."""

    node: str
    inspect: Callable[[], HostInventory]
    is_host: bool = True
    offers_mig: bool = False

    def collector(self, say: Callable[[str], None]) -> CollectProviders:
        """A function that collects the providers, and reports each remark once, when it is new."""
        printer = RemarkPrinter(lambda remark: say(f"{self.node}: {remark}"))

        def collect() -> Providers:
            found = self.inspect()
            printer.show(found.remarks)
            return found.providers

        return collect


MIG = "MIG"
_CPU_LIST = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")

_adapter = TypeAdapter(tuple[ProviderReport, ...])


class Intervals(NamedTuple):
    """The intervals of `PublishService`, in seconds, and how long it waits for the log."""

    interval_s: float
    heartbeat_s: float
    full_every_s: float
    flush_timeout_s: float


def node_source(file: str | None, root: str | None, settings: Settings, **options: Any) -> NodeSource:
    """The node that `file` describes, or this host with the `options` of `HostOptions`. Raises `UsageError`."""
    return node_from_host(root, settings, **options) if file is None else node_from_file(file, root)


def node_from_host(root: str | None, settings: Settings, **options: Any) -> NodeSource:
    """This host, with the `options` of `HostOptions`. Raises `UsageError` if they name CPUs that it does not have."""
    options |= {
        "devices": DeviceRules(
            tuple(
                parse_device_rule(text, "--allow-device, allow_devices") for text in settings.allow_devices
            ),
            tuple(parse_device_rule(text, "--deny-device, deny_devices") for text in settings.deny_devices),
        ),
        "reserved_hugepages": tuple(
            parse_reservation(text, "--reserve-hugepages, reserve_hugepages")
            for text in settings.reserve_hugepages
        ),
    }
    given = HostOptions(**options) if root is None else HostOptions(root=root, **options)
    check_options(given)
    return NodeSource(given.root, lambda: inspect_host(given), offers_mig=given.mig)


def cpu_list(text: str | None, where: str) -> frozenset[int] | None:
    """Parse a list of CPUs such as 2-15,18-31; `where` names the option. Raises `UsageError`."""
    if text is None:
        return None
    if not _CPU_LIST.fullmatch(text) or not (found := frozenset(parse_cpu_list(text))):
        raise UsageError(
            f"{text!r} is not a list of CPUs", where=where, do="write numbers and ranges: 2-15,18-31"
        )
    return found


def numa_mode(text: str) -> NumaMode:
    """Parse the value of `--numa`. Raises `UsageError`."""
    if text not in get_args(NumaMode):
        raise UsageError(f"unknown NUMA mode {text!r}", where="--numa", do="write split or whole")
    return cast(NumaMode, text)


def node_from_file(file: str, root: str | None) -> NodeSource:
    """The node that a file describes; the file is read again each time. Raises `UsageError`."""

    def read() -> HostInventory:
        try:
            found = json.loads(read_text(file))
            if isinstance(found, dict):
                found = found.get("providers")
            providers = _adapter.validate_json(json.dumps(found))
        except ValueError as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            what = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise UsageError(
                f"the file does not describe a node: {what}", where=file, do="correct the file"
            ) from None
        roots = [provider.id for provider in providers if provider.parent is None]
        if len(roots) != 1:
            raise UsageError(
                f"the file describes {len(roots)} nodes",
                where=file,
                do="give every provider a parent, except the node itself",
            )
        return HostInventory(providers, ())

    node = next(provider.id for provider in read().providers if provider.parent is None)
    if root not in (None, node):
        raise UsageError(f"the file describes {node}, not {root}", where=file, do="omit --root")
    return NodeSource(node, read, is_host=False)


def make_publisher(
    context: CommandContext, log: Log, source: NodeSource, outbox: Outbox, machine: str, *, move_cell: bool
) -> Publisher:
    """The node's publisher, in the cell that `node_cell` gives it. `machine` is the value of `--machine`. Raises `UsageError`
    for what is asked for and the log's rules do not have."""
    cell = node_cell(source.node, context.settings.cell, outbox, log)
    rules = _known_rules(context, log, cell)
    now = rules.look()
    if machine not in ("auto", "none"):
        _check_rules(
            now, log, NodeReportedV2 in now.event_models if now else False, "machines need", "--machine"
        )
    if source.offers_mig:
        _check_rules(now, log, MIG in now.classes if now else False, "the class MIG needs", "--mig")
    name = _machine_name(machine, source)
    if now is None and name is not None:
        note(
            "the rules of this log are not known here: reports name no machine and leave out unhealthy devices"
        )
    signer = node_signer(context.settings, log, outbox)
    return Publisher(
        log, source.node, cell, outbox, move_cell=move_cell, machine=name, rules=rules.look, signer=signer
    )


def _machine_name(chosen: str, source: NodeSource) -> str | None:
    """The machine that reports name: `chosen`, or for `auto` this host's, unless a file describes the node. None for `none`."""
    if chosen == "auto":
        return machine_identity() if source.is_host else None
    return None if chosen == "none" else chosen


def _check_rules(rules: RuleSet | None, log: Log, has: bool, what: str, option: str) -> None:
    where = f"{option}, log {log.name}"
    if rules is None:
        raise UsageError(
            f"{what} rules version 4, and the rules of this log are not known here",
            where=where,
            do=f"omit {option}, or allow this user to read the log (docs/threat-model.md)",
        )
    if not has:
        raise UsageError(
            f"{what} rules version 4, and this log follows version {rules.version}, as far as this host knows",
            where=where,
            do=f"omit {option}, or raise the rules with `vacancy rules activate 4`",
        )


def _known_rules(context: CommandContext, log: Log, cell: str) -> KnownRules:
    """The rules of the cell's partition: from the store on this host, or from the log."""
    partition = partition_for(cell, log.partitions)

    def from_tables() -> int | None:
        with store_of_log(context, log, {partition}) as reader:
            row = None if reader is None else reader.get(PARTITION, PARTITION_KEY, cell=cell)
            return None if row is None else row.rules_version

    return KnownRules(log, partition, from_tables)


def serve(log_url: str, open_log: OpenLog, service: Callable[[Log], PublishService]) -> None:
    """Wait until the log answers, then publish until SIGTERM or SIGINT. A node may start before the brokers do."""
    stop_signal: StopSignal = SimpleQueue()
    with forward_signals(stop_signal), LogWaiter(log_url, stop_signal) as waiter:
        log = waiter.open(open_log)
        if log is None:
            return
        stop = threading.Event()
        on_stop(stop_signal, stop.set)
        with log:
            service(log).run(stop)


def make_service(
    context: CommandContext,
    log: Log,
    publisher: Publisher,
    collect: CollectProviders,
    intervals: Intervals,
    running: Path | None,
    metrics: MetricsOutput,
) -> PublishService:
    """The service that publishes what `collect` returns, and warns if another publisher uses the node's name. `running` is
    the file with the consumers that the node runs."""
    service = PublishService(
        publisher,
        collect,
        intervals.interval_s,
        heartbeat_s=intervals.heartbeat_s,
        full_every_s=intervals.full_every_s,
        flush_timeout_s=intervals.flush_timeout_s,
        name_warning=name_warning(context, publisher, log),
        say_running=running_reporter(log, publisher, running),
        on_round=metrics.write,
    )
    metrics.collector.attach(publisher, service)
    return service


class MetricsOutput:
    """Where the metrics of a publisher go: to a file, and to an address (host, port), where they are given. As a context it serves
    them."""

    def __init__(self, node: str, outbox: Outbox, file: Path | None, address: tuple[str, int] | None) -> None:
        from vacancy.clients.metrics.publisher_metrics import PublisherMetrics

        self.collector = PublisherMetrics(node, outbox)
        self._file, self._address = file, address
        self._served: PageServer | None = None

    def write(self) -> None:
        """Write the file. A failure is printed: the node must be published all the same."""
        if self._file is None:
            return
        from vacancy.clients.metrics.publisher_metrics import write_metrics

        try:
            write_metrics(self._file, self.collector)
        except UsageError as error:
            note(str(error))

    def __enter__(self) -> Self:
        from vacancy.clients.metrics.publisher_metrics import write_metrics

        if self._file is not None:
            write_metrics(self._file, self.collector)  # raises where it can never be written
        if self._address is not None:
            from vacancy.streams.pages.metrics import metrics_page
            from vacancy.streams.pages.page_server import PageServer
            from vacancy.streams.settings import WebAddress

            self._served = PageServer(WebAddress(*self._address), metrics_page(self.collector))
            note(f"metrics at http://{self._served.web_address}/metrics")
        return self

    def __exit__(self, *error: object) -> None:
        if self._served is not None:
            self._served.end()


def running_reporter(log: Log, publisher: Publisher, file: Path | None) -> Callable[[], None]:
    """A function that says in the log what the node runs, as the file has it; without a file it does nothing. It raises
    `UsageError` for the file, and `LogError`. Under rules that do not have that, it says so once."""
    if file is None:
        return lambda: None
    reporter = RunningReporter(log, publisher.root, publisher.cell, signer=publisher.signer)
    warned: list[bool] = []

    def say() -> None:
        rules = publisher.known_rules()
        if rules is not None and NodeRunning not in rules.event_models:
            if not warned:
                warned.append(True)
                note(f"what nodes run needs rules version 5, and this log follows version {rules.version}")
            return
        reporter.report(read_running(file))

    return say


class Published(NamedTuple):
    """What became of a report or a retirement. `applied` is False where that is not known: no store on this host follows
    the log, or nobody waited. `warning` is about the node's name, or ""."""

    applied: bool
    warning: str


def publish_once(
    context: CommandContext,
    publisher: Publisher,
    log: Log,
    providers: Providers | None,
    *,
    timeout_s: float,
    wait: bool,
) -> Published:
    """Send one full report; without providers, retire the node. Where a store on this host follows the log, wait for what
    the fold makes of it.

    Raises as `Publisher.flush` does, `RecordRefused` where the fold refused it, `OutcomeUnknown` where the store did not
    read it within `timeout_s`, `VacancyError` where another publisher has taken the node's name.
    """
    deadline = time.monotonic() + timeout_s
    if providers is None:
        publisher.retire()
        subject = f"the retirement of {publisher.root}"
    else:
        publisher.report(providers)
        subject = f"the report of {publisher.root}"
    places: list[AppendedAt] = []
    publisher.flush(timeout_s, places)
    if not wait:
        return Published(False, "")
    with store_of_log(context, log, {at.partition for at in places}) as reader:
        if reader is None:
            return Published(False, "")
        from vacancy.clients.runtime.folded_log import check_refused, wait_until_read

        wait_until_read(reader, places, deadline, subject, f"`vacancy show provider {publisher.root}`")
        check_refused(reader, places, subject)
        node = reader.get(NODES, key(publisher.cell, publisher.root))
    warning = "" if providers is None else name_warning(context, publisher, log)() or ""
    if warning and node is not None and node.incarnations[0][0] != publisher.incarnation:
        raise VacancyError(warning)
    return Published(True, warning)


@contextmanager
def store_of_log(
    context: CommandContext, log: Log, partitions: Collection[int]
) -> Iterator[StoreReader | None]:
    """These partitions of the store on this host; None if there is none of this log that can be read. A publisher needs no
    store, and may have no permission to read the log."""
    with ExitStack() as opened:
        reader = None
        with suppress(LogError, StoreError, OSError):
            if context.store.is_dir():
                # Imported here, because most publishers run on hosts without a store and do not need RocksDB.
                from vacancy.clients.runtime.folded_log import following_store

                reader = opened.enter_context(
                    following_store(context.store, context.registry(), log, partitions)
                )
        yield reader


def check_retirable(context: CommandContext, log: Log, publisher: Publisher, known: str | None) -> None:
    """Check that the node may be retired, as far as the store on this host shows it. `known` is the cell in which the outbox
    knows the node, or None.

    Raises `VacancyError` for a node that this host has not published and whose cell is not given, `NotFound` for one that
    is not in its cell, `StillHeld` where consumers hold something of it.
    """
    cell, root = known or publisher.cell, publisher.root
    do = f"retire it with `vacancy provider retire {root}` on a host with a store"
    with store_of_log(context, log, {partition_for(cell, log.partitions)}) as reader:
        if known is None and context.settings.cell in (None, "auto"):
            raise VacancyError(
                f"this host has not published node {root}, so its cell is not known here", do=do
            )
        if reader is None:
            return
        from vacancy.clients.admin.retirement import check_not_held, held_of
        from vacancy.clients.inspection.lookup import NotFound

        if known is None and reader.get(NODES, key(cell, root)) is None:
            raise NotFound(f"there is no node {root!r} in cell {cell}", where=f"store {context.store}", do=do)
        check_not_held(cell, root, held_of(reader, cell, root))


def name_warning(context: CommandContext, publisher: Publisher, log: Log) -> Callable[[], str | None]:
    """A function that returns what this host's store knows of the publisher's name: a warning if another publisher uses
    it, "" if none does, None if there is no answer."""

    def warning() -> str | None:
        if not context.store.is_dir():
            return None
        # Imported here, because most publishers run on hosts without a store and do not need RocksDB.
        from vacancy.clients.inspection.contested import own_node_warning

        try:
            log_id = log.identity().log
        except LogError:  # a publisher may have no permission to read the log
            return None
        return own_node_warning(
            context.store,
            context.registry(),
            log_id,
            publisher.cell,
            publisher.root,
            publisher.incarnation,
            publisher.landed,
        )

    return warning
