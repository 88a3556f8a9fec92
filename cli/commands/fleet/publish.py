"""`vacancy publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.fleet.provider import ratio_milli
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import NOT_WAITED, emit, emit_written, failure_as_json, note, outcome_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from vacancy.cli.commands.fleet.publish_loop import CollectProviders, Intervals, MetricsOutput, NodeSource
    from vacancy.clients.publisher.outbox import Outbox
    from vacancy.clients.publisher.publisher import Providers, Publisher
    from vacancy.clients.publisher.service import PublishService
    from vacancy.streams.log import Log


def publish(
    once: Annotated[
        bool,
        typer.Option("--once", help="Publish once and exit; fail if the log does not acknowledge in time."),
    ] = False,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", metavar="SECONDS", min=0.1, help="How often to look for changed inventory."
        ),
    ] = 10.0,
    heartbeat: Annotated[
        float,
        typer.Option(
            "--heartbeat",
            metavar="SECONDS",
            min=0.1,
            help="Send a heartbeat if nothing else was sent for this long.",
        ),
    ] = 30.0,
    full_every: Annotated[
        float,
        typer.Option("--full-every", metavar="SECONDS", min=1.0, help="How often to send a full report."),
    ] = 600.0,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Publish the node described in this JSON file instead of this host: a list of providers, the node"
            " first. Each has an id, a parent (except the node), inventories and traits. The file is read again at"
            " every interval.",
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="ID", help="Id of the node.", show_default="the host's name"),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            "--cell",
            metavar="NAME|auto",
            help="Cell of the node; auto chooses it by a hash of the node's id. [env: VACANCY_CELL]",
            show_default="the cell in the outbox, else auto",
        ),
    ] = None,
    move_cell: Annotated[
        bool,
        typer.Option("--move-cell", help="If the node was in another cell, retire it there first."),
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Report that the node is permanently gone, and exit.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="With --retire: retire the node although consumers hold something of it."
        ),
    ] = False,
    outbox: Annotated[
        Path | None,
        typer.Option(
            "--outbox",
            metavar="FILE",
            help="File of the outbox: events that the log has not acknowledged yet.",
            show_default="next to the default store",
        ),
    ] = None,
    vcpu_ratio: Annotated[str, typer.Option("--vcpu-ratio", help="Allocation ratio of VCPU.")] = "4.0",
    memory_ratio: Annotated[
        str, typer.Option("--memory-ratio", help="Allocation ratio of MEMORY_MB.")
    ] = "1.0",
    disk_ratio: Annotated[str, typer.Option("--disk-ratio", help="Allocation ratio of DISK_GB.")] = "1.0",
    memory_reserved: Annotated[
        int,
        typer.Option(
            "--memory-reserved", metavar="MIB", min=0, help="MEMORY_MB reserved for the host itself."
        ),
    ] = 512,
    disk_reserved: Annotated[
        int,
        typer.Option("--disk-reserved", metavar="GIB", min=0, help="DISK_GB reserved for the host itself."),
    ] = 0,
    dedicated_cpus: Annotated[
        str | None,
        typer.Option(
            "--dedicated-cpus",
            metavar="LIST",
            help="CPUs that guests get exclusively, for example 2-15,18-31. NUMA cells offer them; VCPU does not"
            " include them.",
            show_default="none",
        ),
    ] = None,
    shared_cpus: Annotated[
        str | None,
        typer.Option(
            "--shared-cpus",
            metavar="LIST",
            help="CPUs offered as VCPU. CPUs in neither list stay with the host.",
            show_default="all CPUs that are not dedicated",
        ),
    ] = None,
    numa_memory: Annotated[
        int,
        typer.Option(
            "--numa-memory",
            metavar="MIB",
            min=0,
            help="Memory that each NUMA cell offers in addition to its hugepages. MEMORY_MB does not include it.",
        ),
    ] = 0,
    numa: Annotated[
        str,
        typer.Option(
            "--numa",
            metavar="split|whole",
            help="split: the node offers the CPUs and memory that its NUMA cells do not offer; whole: the NUMA"
            " cells offer all CPUs and memory.",
        ),
    ] = "split",
    reserve_hugepages: Annotated[
        list[str] | None,
        typer.Option(
            "--reserve-hugepages",
            metavar="CELL:KIB:PAGES",
            help="Hugepages that other programs of this host use, by NUMA cell, size and number: 0:1048576:4. They are"
            " not offered. Repeatable. [env: VACANCY_RESERVE_HUGEPAGES]",
        ),
    ] = None,
    allow_device: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-device",
            metavar="RULE",
            help="Offer only PCI devices that match this rule, or another one: vendor=8086,product=37c8 or"
            " class=0b40 or address=*:3b:00.* (docs/devices.md). Repeatable. [env: VACANCY_ALLOW_DEVICES]",
        ),
    ] = None,
    deny_device: Annotated[
        list[str] | None,
        typer.Option(
            "--deny-device",
            metavar="RULE",
            help="Do not offer PCI devices that match this rule. Repeatable. [env: VACANCY_DENY_DEVICES]",
        ),
    ] = None,
    device_health: Annotated[
        Path | None,
        typer.Option(
            "--device-health",
            metavar="FILE",
            help="Devices that do not work, as a monitor of yours writes them to this JSON file: address -> reason. Nobody gets"
            " them. The file is read again at every interval.",
        ),
    ] = None,
    running: Annotated[
        Path | None,
        typer.Option(
            "--running",
            metavar="FILE",
            help="The consumers that the node runs, as a hook of yours writes them to this file: a JSON list, or one on each line."
            " `vacancy audit` compares them with what is held (rules version 5). The file is read again at every interval.",
        ),
    ] = None,
    mig: Annotated[
        bool,
        typer.Option(
            "--mig",
            help="Offer GPUs in MIG mode as class MIG, with the placements that nvidia-smi prints (rules version 4).",
        ),
    ] = False,
    machine: Annotated[
        str,
        typer.Option(
            "--machine",
            metavar="NAME|auto|none",
            help="The machine's identity in reports: auto is a hash of its machine id, where the log's rules have it"
            " (version 4); of a node from a file, auto names none.",
        ),
    ] = "auto",
    node_key: Annotated[
        Path | None,
        typer.Option(
            "--node-key",
            metavar="FILE",
            help="Sign the node's events with the private key in this file (docs/signing.md). [env: VACANCY_NODE_KEY]",
            show_default="not signed",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would be published, and what would be left out and why. No log is needed.",
        ),
    ] = False,
    disk: Annotated[
        Path,
        typer.Option(
            "--disk", metavar="DIR", help="Directory on the file system that is offered as DISK_GB."
        ),
    ] = Path("/"),
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            "--metrics-file",
            metavar="FILE",
            help="Write Prometheus metrics to this file at every interval, for the textfile collector of node_exporter: name it"
            " *.prom.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve Prometheus metrics at /metrics on this port of --metrics-host; 0 chooses a free port.",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option("--metrics-host", metavar="HOST", help="Address that --metrics-port listens on.")
    ] = "127.0.0.1",
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Publish this host's inventory to the log, once or continuously until SIGTERM or Ctrl-C.

    Events that cannot be sent are queued in the outbox and survive outages and restarts. If no log is named, the
    default log on this host is used; it is created if it does not exist. If this host has a store of the log, --once and
    --retire wait for what becomes of the report, and a warning names another publisher that uses the same node id.

    Exit codes of --once and --retire: 0 the report was applied, or it is in the log and this host has no store that shows
    more; 1 it was refused, or the node is in use; 6 the store did not read it in time.
    """
    context = CommandContext(
        log=log,
        store=store,
        cell=cell,
        config=config,
        kafka=kafka,
        allow_devices=allow_device,
        deny_devices=deny_device,
        reserve_hugepages=reserve_hugepages,
        node_key=node_key,
    )
    from vacancy.cli.commands.fleet import publish_loop
    from vacancy.clients.publisher.outbox import Outbox

    source = publish_loop.node_source(
        file,
        root,
        context.settings,
        vcpu_ratio_milli=ratio_milli(vcpu_ratio, "--vcpu-ratio"),
        memory_ratio_milli=ratio_milli(memory_ratio, "--memory-ratio"),
        disk_ratio_milli=ratio_milli(disk_ratio, "--disk-ratio"),
        memory_reserved_mib=memory_reserved,
        disk_reserved_gib=disk_reserved,
        numa=publish_loop.numa_mode(numa),
        dedicated_cpus=publish_loop.cpu_list(dedicated_cpus, "--dedicated-cpus") or frozenset(),
        shared_cpus=publish_loop.cpu_list(shared_cpus, "--shared-cpus"),
        numa_memory_mib=numa_memory,
        disk=disk,
        device_health=device_health,
        mig=mig,
    )
    if dry_run:
        _dry_run(source, retire=retire, as_json=as_json)
        return
    context.ensure_log()
    node, collect = source.node, source.collector(note)

    def publisher_to(opened: Log) -> Publisher:
        return publish_loop.make_publisher(context, opened, source, queue, machine, move_cell=move_cell)

    with Outbox(outbox_file := _outbox_file(context, outbox, node)) as queue:
        if not once and not retire:
            times = publish_loop.Intervals(interval, heartbeat, full_every, timeout)
            address = None if metrics_port is None else (metrics_host, metrics_port)
            with publish_loop.MetricsOutput(node, queue, metrics_file, address) as metrics:
                _serve(context, publisher_to, collect, times, running, metrics, outbox_file)
            return
        _publish_once(
            context,
            node,
            queue,
            publisher_to,
            None if retire else collect,
            force=force,
            timeout_s=timeout,
            wait=not no_wait,
            as_json=as_json,
            running=running,
        )


def _serve(
    context: CommandContext,
    publisher_to: Callable[[Log], Publisher],
    collect: CollectProviders,
    intervals: Intervals,
    running: Path | None,
    metrics: MetricsOutput,
    outbox: Path,
) -> None:
    """Publish until SIGTERM or Ctrl-C."""
    from vacancy.cli.commands.fleet import publish_loop

    def service(opened: Log) -> PublishService:
        publisher = publisher_to(opened)
        note(f"publishing {publisher.root} in cell {publisher.cell}, outbox {outbox}; stop with Ctrl-C")
        return publish_loop.make_service(context, opened, publisher, collect, intervals, running, metrics)

    publish_loop.serve(context.settings.log, context.open_log, service)


def _publish_once(
    context: CommandContext,
    node: str,
    queue: Outbox,
    publisher_to: Callable[[Log], Publisher],
    collect: CollectProviders | None,
    *,
    force: bool,
    timeout_s: float,
    wait: bool,
    as_json: bool,
    running: Path | None,
) -> None:
    """Send one full report; without `collect`, retire the node. Print what became of it."""
    from vacancy.cli.commands.fleet import publish_loop

    with failure_as_json(as_json, node=node), context.open_log(timeout_s, to_write=True) as opened:
        known = queue.cell
        publisher = publisher_to(opened)
        if collect is None and not force:
            publish_loop.check_retirable(context, opened, publisher, known)
        providers = None if collect is None else collect()
        published = publish_loop.publish_once(
            context, publisher, opened, providers, timeout_s=timeout_s, wait=wait
        )
        if collect is not None:
            publish_loop.running_reporter(opened, publisher, running)()
    if published.warning:
        note(published.warning)
    _print(context, publisher, providers, published.applied, as_json=as_json)


def _dry_run(source: NodeSource, *, retire: bool, as_json: bool) -> None:
    """Show the inventory instead of publishing it. Raises `UsageError` where there is none to publish."""
    from vacancy.cli.commands.fleet.render_inventory import show_inventory
    from vacancy.resources.model.errors import UsageError

    if retire:
        raise UsageError("--dry-run shows an inventory, and --retire publishes none", do="omit one of them")
    show_inventory(source.node, source.inspect(), as_json=as_json)


def _outbox_file(context: CommandContext, outbox: Path | None, node: str) -> Path:
    """The file of the outbox. Files that too many users may read or write are named on standard error."""
    from vacancy.clients.publisher.outbox import default_outbox
    from vacancy.streams.files.file_modes import too_open

    file = outbox or default_outbox(context.settings.log, node)
    for warning in too_open(context.settings.log, outbox=file):
        note(warning)
    return file


def _print(
    context: CommandContext,
    publisher: Publisher,
    providers: Providers | None,
    applied: bool,
    *,
    as_json: bool,
) -> None:
    count = len(providers or ())
    if as_json:
        answer = {"node": publisher.root, "cell": publisher.cell, "providers": count}
        emit_written({**answer, "retired": providers is None, "outcome": outcome_name(applied)}, context)
        return
    if providers is None:
        emit(f"retired {publisher.root}")
    else:
        emit(f"published {publisher.root} in cell {publisher.cell}: {count} providers")
    if not applied:
        note(NOT_WAITED)
