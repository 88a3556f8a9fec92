"""`vacancy placement`: OpenStack Placement's API on the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, emit_table, note, progress_bar

if TYPE_CHECKING:
    from vacancy.placement_api.transfer.cell import Cell
    from vacancy.placement_api.transfer.comparison import Comparison
    from vacancy.placement_api.transfer.transfer import Copied

_SHOWN = 20
"""How many findings, refusals and differences are listed. JSON has all of them."""

CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="NAME", help="Cell of the log.", show_default="default"),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only read both sides and print what would be written.")
]
ContinueOption = Annotated[
    bool,
    typer.Option(
        "--continue",
        help="The target may have state, for example of a copy that was interrupted. What both sides have becomes as the source has"
        " it. What only the target has stays.",
    ),
]

app = typer.Typer(
    help="Serve OpenStack Placement's API, and move a deployment of Placement to the log and back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Serve OpenStack Placement's API on the log, and move a deployment to it and back."""


@app.command("serve")
def serve_(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8778,
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Processes that answer requests.")
    ] = 2,
    placement_config: Annotated[
        Path | None,
        typer.Option(
            "--placement-config",
            metavar="DIR",
            help="Directory of placement.conf.",
            show_default="/etc/placement",
        ),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option("--cell", metavar="NAME", help="Cell to serve.", show_default="default"),
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
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
) -> None:
    """Serve OpenStack Placement's API until SIGTERM or Ctrl-C.

    It reads the store that `vacancy worker` keeps on this host, and writes to the log. Without `auth_strategy = keystone` in
    placement.conf there is no authentication, so it listens on the loopback address unless --host says otherwise.
    """
    context = CommandContext(log=log, store=store, cell=cell, config=config, kafka=kafka)
    from vacancy.placement_api import DEFAULT_CELL
    from vacancy.placement_api.server import prepare, serve
    from vacancy.streams.settings import WebAddress

    prepare(placement_config)
    context.check_store()
    note(f"serving cell {context.settings.cell or DEFAULT_CELL} at http://{host}:{port}; stop with Ctrl-C")
    address = None if metrics_port is None else WebAddress(metrics_host, metrics_port)
    serve(context.settings, host, port, processes, metrics=address, note=note)


@app.command("import")
def import_(
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="The Placement to copy: the URL of its database (mysql+pymysql://, postgresql+psycopg://, sqlite:///), the URL of"
            " its API, or the path of its placement.conf.",
        ),
    ],
    dry_run: DryRunOption = False,
    go_on: ContinueOption = False,
    cell: CellOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Copy a deployment of OpenStack Placement into a cell of the log, and compare each of its parts after that.

    The source is only read. It may serve requests meanwhile; what changes in it after it was read is shown as a difference, and
    --continue copies it. A path of placement.conf keeps the password out of the list of processes. The API is asked as the user
    that OS_TOKEN, or OS_AUTH_URL and so on, name.

    Exit code 5: the two differ after the copy.
    """
    context = CommandContext(log=log, store=store, cell=cell, config=config, kafka=kafka)
    _check_installed()
    from vacancy.placement_api.transfer.transfer import import_into, open_endpoint

    source = open_endpoint(from_)
    with _cell(context) as opened:
        copied = import_into(opened, source, progress_bar, dry_run=dry_run, go_on=go_on)
    _emit_copied(copied, as_json)


@app.command("export")
def export(
    target: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="Where to copy to: the URL of an empty database of Placement, the URL of the API of a Placement that runs, or the"
            " path of a placement.conf whose database is empty.",
        ),
    ],
    dry_run: DryRunOption = False,
    go_on: ContinueOption = False,
    cell: CellOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Copy a cell of the log into an OpenStack Placement, and compare each of its parts after that.

    A database is filled in one transaction, whole or not at all. Make its tables with `placement-manage db sync` first.

    Exit code 5: the two differ after the copy.
    """
    context = CommandContext(log=log, store=store, cell=cell, config=config, kafka=kafka)
    _check_installed()
    from vacancy.placement_api.transfer.transfer import export_from

    with _cell(context) as opened:
        copied = export_from(opened, target, progress_bar, dry_run=dry_run, go_on=go_on)
    _emit_copied(copied, as_json)


@app.command("compare")
def compare(
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="PLACE",
            help="The Placement to compare with: the URL of its database or of its API, or the path of its placement.conf.",
        ),
    ],
    cell: CellOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Compare an OpenStack Placement with a cell of the log, one part after the other. Nothing is written.

    Exit code 5: they differ.
    """
    context = CommandContext(log=log, store=store, cell=cell, config=config, kafka=kafka)
    _check_installed()
    from vacancy.placement_api.transfer.comparison import as_fields
    from vacancy.placement_api.transfer.transfer import compare_with

    with _cell(context) as opened:
        comparison = compare_with(opened, with_, progress_bar)
    if as_json:
        emit_json(as_fields(comparison))
    else:
        _emit_comparison(comparison)
    _check_equal(comparison)


def _check_installed() -> None:
    from vacancy.placement_api import substitution

    substitution.check_release()


@contextmanager
def _cell(context: CommandContext) -> Iterator[Cell]:
    """The cell that the settings name."""
    from vacancy.placement_api import DEFAULT_CELL
    from vacancy.placement_api.transfer.cell import Cell

    with context.open_log(to_write=True) as log, context.open_reader(with_view=False) as reader:
        yield Cell(log, reader, context.settings.cell or DEFAULT_CELL)


def _emit_copied(copied: Copied, as_json: bool) -> None:
    if as_json:
        emit_json(copied.as_fields())
    else:
        _emit_list("of the source", copied.findings)
        plan = copied.plan
        emit(
            f"{'to write' if copied.comparison is None else 'written'}: {len(plan.classes) + len(plan.traits)} names,"
            f" {len(plan.providers)} providers, {len(plan.consumers)} consumers"
        )
        _emit_list("refused", copied.refusals)
        if copied.comparison is not None:
            _emit_comparison(copied.comparison)
    if copied.comparison is None:
        return
    _check_equal(copied.comparison)
    lost = sum(one.lost for one in copied.findings)
    if lost:
        raise DifferenceFound(
            f"{lost} inconsistent rows of the source could not be copied", do="look at each"
        )


def _emit_comparison(comparison: Comparison) -> None:
    emit_table(
        ("KIND", "COMPARED", "DIFFERENT"),
        [(one.kind, one.compared, one.different) for one in comparison.kinds],
    )
    if comparison.raised:
        emit(f"generations that are higher in the target, which needed more writes: {comparison.raised}")
    _emit_list("difference", comparison.differences)
    if comparison.equal:
        emit("equal")


def _check_equal(comparison: Comparison) -> None:
    count = len(comparison.differences)
    if count:
        raise DifferenceFound(
            f"{count} differences between Placement and the cell", do="look at each; --json lists all of them"
        )


def _emit_list(title: str, items: tuple[object, ...]) -> None:
    for one in items[:_SHOWN]:
        emit(f"{title}: {one}")
    if len(items) > _SHOWN:
        emit(f"{title}: {len(items) - _SHOWN} more; --json lists all")
