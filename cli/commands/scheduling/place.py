"""`vacancy place`, `vacancy confirm` and `vacancy release`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.commands.scheduling.render_explanation import render_explanation
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.order_option import order_from_option
from vacancy.cli.options.request_options import RequestOptions, with_request_options
from vacancy.cli.output import (
    NOT_WAITED,
    ask_text,
    emit,
    emit_json,
    emit_table,
    emit_written,
    failure_as_json,
    note,
    outcome_name,
)
from vacancy.resources.model.errors import NoValidHost, UsageError, VacancyError
from vacancy.resources.model.server_group import copy_of

if TYPE_CHECKING:
    from vacancy.clients.admin.operator import Held
    from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
    from vacancy.resources.classes.registry import Registry

ConsumersArgument = Annotated[list[str], typer.Argument(metavar="CONSUMER…")]


@with_request_options
def place(
    request_options: RequestOptions,
    consumer: Annotated[
        str | None,
        typer.Option(
            "--consumer", metavar="ID", help="Consumer that gets the allocations (default: a new id)."
        ),
    ] = None,
    project: Annotated[
        str, typer.Option("--project", metavar="ID", help="Project of the consumer, for `vacancy usage`.")
    ] = "-",
    user: Annotated[
        str, typer.Option("--user", metavar="ID", help="User of the consumer, for `vacancy usage`.")
    ] = "-",
    consumer_type: Annotated[
        str,
        typer.Option("--consumer-type", metavar="TYPE", help="Type of the consumer, for `vacancy usage`."),
    ] = "INSTANCE",
    hold: Annotated[
        float | None,
        typer.Option(
            "--hold",
            metavar="SECONDS",
            min=0.001,
            help="Release the allocations after this time unless `vacancy confirm` or the node confirms them.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="If the consumer holds something, replace it: what is asked for again stays as it is, in its cell.",
        ),
    ] = False,
    leave: Annotated[
        list[str] | None,
        typer.Option(
            "--leave",
            metavar="CELL/NAME",
            help="With --replace, leave this server group. It stays in all others. Repeatable.",
        ),
    ] = None,
    gang: Annotated[
        str | None,
        typer.Option(
            "--gang",
            metavar="FILE",
            help="Place several requests together in one cell, all or none: a JSON array of members, each with `query` (a"
            " Placement query string) or `request` (a RequestSpec), and optionally `consumer`, `project`, `user`,"
            " `consumer_type`; - reads standard input. In place of the options of the request. Needs rules version 4.",
        ),
    ] = None,
    order: o.OrderOption = None,
    weigh: o.WeighOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    attempts: Annotated[
        int,
        typer.Option("--attempts", min=1, help="Give up after this many claims lost to other schedulers."),
    ] = 32,
    deadline: Annotated[
        float,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            min=0.001,
            max=600.0,
            help="Time in which a claim can be accepted, in log time. After that its outcome is certain.",
        ),
    ] = 60.0,
    timeout: o.TimeoutOption = 10.0,
    seed: o.SeedOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Find a node for a request and claim its resources.

    The options of the request are those of `vacancy candidates`; --gang places several requests at once. Exits with 3 if there is not a candidate; the output
    then lists how many nodes each constraint removed. Exits with 4 if every claim was lost to other schedulers, and
    with 8 if a limit of the project or the user is reached, and with 6 if the outcome is not known yet; the message then
    gives the time at which it will be. Exits with 7 if the consumer holds something already, in any cell, unless --replace is
    given.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    registry = context.registry()
    if replace and (consumer is None or gang is not None):
        raise UsageError("--replace needs a consumer", do="name it with --consumer, without --gang")
    if leave and not replace:
        raise UsageError("--leave is for --replace", do="leave it out")
    common = {
        "project": project,
        "user": user,
        "consumer_type": consumer_type,
        "hold_ms": None if hold is None else int(hold * 1000),
    }
    wanted = _wanted(request_options, registry, gang, consumer, common)
    with context.open_scheduler(
        timeout,
        seed=seed,
        order=order_from_option(registry, order, typical, weigh),
        deadline_s=deadline,
        attempts=attempts,
    ) as scheduler:
        replaces = replace and consumer is not None and bool(scheduler.allocations(consumer))
        for name in (one.consumer for one in wanted):
            if name is not None and not replaces:
                scheduler.check_new(name)
        try:
            if gang is not None:
                outcomes = scheduler.place_gang(wanted, timeout_s=timeout, max_staleness_s=max_staleness)
            elif replaces:
                outcomes = [
                    scheduler.replace(
                        wanted[0], leaves=leave or (), timeout_s=timeout, max_staleness_s=max_staleness
                    )
                ]
            else:
                outcomes = [scheduler.place(wanted[0], timeout_s=timeout, max_staleness_s=max_staleness)]
        except NoValidHost as error:
            if as_json:
                emit_json({"status": "no_valid_host", "explanation": error.explanation})
            elif error.explanation is not None:
                render_explanation(error.explanation)
            raise
    if as_json:
        emit_written(outcomes[0] if gang is None else {"status": "placed", "gang": outcomes}, context)
        return
    for outcome in outcomes:
        render_placed(outcome, "placed")


def _wanted(
    options: RequestOptions,
    registry: Registry,
    gang: str | None,
    consumer: str | None,
    common: dict[str, Any],
) -> list[PlacementRequest]:
    """What is to be placed: the request of the options, or the members of a gang. Raises `UsageError`."""
    if gang is None:
        spec = options.parse(registry).spec
        from vacancy.clients.scheduler.placement import PlacementRequest

        return [PlacementRequest(spec, consumer=consumer, **common)]
    if consumer is not None or options != RequestOptions():
        raise UsageError(
            "--gang stands in place of the options of the request and of --consumer",
            do="write the requests and the consumers of all members into its file",
        )
    from vacancy.cli.commands.scheduling.gang_file import read_gang

    return read_gang(gang, registry, **common)


def render_placed(outcome: Outcome, done: str, *, both: bool = False) -> None:
    """Where a consumer is now, and what it has from whom. `done` says what was done with it. `both`: it has two places."""
    copies = 1 if both else len({copy_of(one.group) for one in outcome.allocations})
    preposition = "to" if done == "moved" else "on"
    placed = (
        f"{copies} copies of {outcome.consumer}"
        if copies > 1
        else f"{outcome.consumer} {preposition} {outcome.root}"
    )
    emit(f"{done} {placed} in cell {outcome.cell} ({outcome.claim_ms:.1f} ms)")
    grants = {(g.provider, g.group, g.resource_class): g.grant for g in outcome.grants}
    emit_table(
        ("PROVIDER", "CLASS", "AMOUNT"),
        (
            (a.provider, name, ask_text(grants.get((a.provider, a.group, name), ask)))
            for a in outcome.allocations
            for name, ask in a.resources.items()
        ),
    )


def confirm(
    consumers: ConsumersArgument,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Make the temporary allocations of consumers permanent (those made with `vacancy place --hold`)."""
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin import operator

    with (
        failure_as_json(as_json, consumers=consumers),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader() as reader,
    ):
        cells = {
            one: operator.confirm(opened, reader, one, timeout_s=timeout, wait=not no_wait)
            for one in consumers
        }
    _check_held([one for one, found in cells.items() if not found], context)
    if as_json:
        emit_written({"confirmed": cells, "outcome": outcome_name(not no_wait)}, context)
    else:
        emit(f"confirmed {', '.join(consumers)}")
        if no_wait:
            note(NOT_WAITED)


def release(
    consumers: ConsumersArgument,
    cell: Annotated[
        str | None,
        typer.Option(
            "--cell", metavar="NAME", help="Release only what is held in this cell (default: in all cells)."
        ),
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option(
            "--claim", metavar="ID", help="Release only what is held by this claim (default: by any)."
        ),
    ] = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Release the allocations of consumers, and wait until this host's tables show it.

    A consumer that holds something in two cells gives back both, unless --cell or --claim names one of them.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin import operator

    with (
        failure_as_json(as_json, consumers=consumers),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader() as reader,
    ):
        held = operator.release(
            opened, reader, consumers, cell=cell, claim=claim, timeout_s=timeout, wait=not no_wait
        )
    _check_held([one for one, rows in held.items() if not rows], context, cell, claim)
    if as_json:
        released = {one: [row.cell for row in rows] for one, rows in held.items()}
        emit_written({"released": released, "outcome": outcome_name(not no_wait)}, context)
        return
    emit(f"released {', '.join(_released(*item, cell or claim) for item in held.items())}")
    if no_wait:
        note(NOT_WAITED)


def _released(consumer: str, rows: list[Held], some: str | None) -> str:
    """A consumer, with the cells if it held something in several, or if only some of it was released."""
    cells = " and ".join(row.cell for row in rows)
    return f"{consumer} in cell{'s' if len(rows) > 1 else ''} {cells}" if some or len(rows) > 1 else consumer


def _check_held(
    without: list[str], context: CommandContext, cell: str | None = None, claim: str | None = None
) -> None:
    if without:
        which = (f" in cell {cell}" if cell else "") + (f" by claim {claim}" if claim else "")
        raise VacancyError(
            f"no allocations of {', '.join(without)}{which}",
            where=f"store {context.store}",
            do=f"see `vacancy show consumer {without[0]}` for what it holds"
            if which
            else "check the name; `vacancy show provider NODE` lists the consumers on a node",
        )
