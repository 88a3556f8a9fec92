"""`vacancy publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json, note
from vacancy.cli.provider import ratio_milli

if TYPE_CHECKING:
    from vacancy.streams.log import Log


def publish(
    once: Annotated[bool, typer.Option("--once", help="Report once and end; the log must take it.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="How often to look for changes.")
    ] = 10.0,
    heartbeat: Annotated[
        float, typer.Option("--heartbeat", metavar="SECONDS", min=0.1, help="How long to be silent at most.")
    ] = 30.0,
    full_every: Annotated[
        float, typer.Option("--full-every", metavar="SECONDS", min=1.0, help="How often to tell everything.")
    ] = 600.0,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The node as JSON instead of this host: a list of providers, the node first; each has an id, a"
            " parent (not the node), inventories and traits. Read anew at each look.",
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="ID", help="The node's id.", show_default="the host's name"),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            "--cell",
            metavar="NAME|auto",
            help="The node's cell; auto: by hash of its id. [env: VACANCY_CELL]",
            show_default="where it was, else auto",
        ),
    ] = None,
    move_cell: Annotated[
        bool,
        typer.Option("--move-cell", help="Retire the node in the cell where it was, if that is another."),
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Say that the node is gone for good, and end.")
    ] = False,
    outbox: Annotated[
        Path | None,
        typer.Option(
            "--outbox",
            metavar="FILE",
            help="Where what the log has not taken yet is kept.",
            show_default="beside the default store",
        ),
    ] = None,
    vcpu_ratio: Annotated[str, typer.Option("--vcpu-ratio", help="Allocation ratio of VCPU.")] = "4.0",
    memory_ratio: Annotated[str, typer.Option("--memory-ratio", help="Of MEMORY_MB.")] = "1.0",
    disk_ratio: Annotated[str, typer.Option("--disk-ratio", help="Of DISK_GB.")] = "1.0",
    memory_reserved: Annotated[
        int, typer.Option("--memory-reserved", metavar="MIB", min=0, help="Memory for the host itself.")
    ] = 512,
    disk_reserved: Annotated[
        int, typer.Option("--disk-reserved", metavar="GIB", min=0, help="Disk for the host itself.")
    ] = 0,
    dedicated_cpus: Annotated[
        str | None,
        typer.Option(
            "--dedicated-cpus",
            metavar="LIST",
            help="CPUs for one guest each, offered by NUMA cell and not as VCPU, as in 2-15,18-31.",
            show_default="none",
        ),
    ] = None,
    shared_cpus: Annotated[
        str | None,
        typer.Option(
            "--shared-cpus",
            metavar="LIST",
            help="CPUs offered as VCPU. Those in neither list are the host's own.",
            show_default="all others",
        ),
    ] = None,
    numa_memory: Annotated[
        int,
        typer.Option(
            "--numa-memory",
            metavar="MIB",
            min=0,
            help="Memory that each NUMA cell offers and MEMORY_MB does not, besides the hugepages.",
        ),
    ] = 0,
    numa: Annotated[
        str,
        typer.Option(
            "--numa",
            metavar="split|whole",
            help="split: the node counts what its NUMA cells do not offer; whole: they offer all CPUs and memory.",
        ),
    ] = "split",
    disk: Annotated[Path, typer.Option("--disk", metavar="DIR", help="Where instances live.")] = Path("/"),
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Tell the log what this host has: once, or all the time until stopped (SIGTERM or Ctrl-C).

    What the log does not take waits in the outbox, through any outage and restart. Where no log is named, the
    default one on this host is made if it is not there.
    """
    site = CommandContext(log=log, cell=cell, config=config, kafka=kafka)
    site.ensure_log()
    from vacancy.cli import publish_loop
    from vacancy.clients.publisher.outbox import Outbox
    from vacancy.clients.publisher.publisher import PublishService

    if file is not None:
        node, look = publish_loop.described(file, root)
    else:
        node, look = publish_loop.this_host(
            root,
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
        )
    place = outbox or publish_loop.outbox_path(site.settings.log, node)
    if not once and not retire:

        def service(opened: Log) -> PublishService:
            publisher = publish_loop.make_publisher(
                opened, node, site.settings.cell, kept, move_cell=move_cell
            )
            note(f"publishing {node} in cell {publisher.cell}, outbox {place}; stop with Ctrl-C")
            return PublishService(
                publisher,
                look,
                interval,
                heartbeat_s=heartbeat,
                full_every_s=full_every,
                flush_timeout_s=timeout,
            )

        with Outbox(place) as kept:
            publish_loop.serve(site.settings.log, site.open_log, service)
        return
    with site.open_log(timeout) as opened, Outbox(place) as kept:
        publisher = publish_loop.make_publisher(opened, node, site.settings.cell, kept, move_cell=move_cell)
        providers = () if retire else look()
        if retire:
            publisher.retire()
        else:
            publisher.report(providers)
        publisher.flush(timeout)
    if as_json:
        emit_json({"node": node, "cell": publisher.cell, "providers": len(providers), "retired": retire})
    elif retire:
        emit(f"retired {node}")
    else:
        emit(f"published {node} in cell {publisher.cell}: {len(providers)} providers")
