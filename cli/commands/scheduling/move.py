"""`vacancy move`, `vacancy resize`, `vacancy evacuate` and `vacancy update`: changes of consumers that hold something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.scheduling.place import render_placed
from vacancy.cli.commands.scheduling.render_explanation import render_explanation
from vacancy.cli.commands.scheduling.settle import show_cell_move
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.order_option import order_from_option
from vacancy.cli.output import (
    NOT_WAITED,
    emit,
    emit_json,
    emit_table,
    emit_written,
    failure_as_json,
    note,
    outcome_name,
)
from vacancy.resources.model.errors import NoValidHost, UsageError

if TYPE_CHECKING:
    from vacancy.clients.scheduler.client import Scheduler
    from vacancy.clients.scheduler.moves.moves import Moved
    from vacancy.clients.scheduler.placement import Outcome
    from vacancy.resources.classes.registry import Registry
    from vacancy.resources.model.request import Ask

ConsumerArgument = Annotated[str, typer.Argument(metavar="CONSUMER")]
CellOption = Annotated[
    str | None,
    typer.Option(
        "--cell", metavar="NAME", help="The cell, if the consumer holds something in several cells."
    ),
]

TolerateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerate",
        metavar="KEY[=VALUE]",
        help="Also allow providers with this taint, now and in later moves. What the request tolerated already, it tolerates"
        " anyway. Repeatable.",
    ),
]


def move(
    consumer: ConsumerArgument,
    to: Annotated[str | None, typer.Option("--to", metavar="NODE", help="Move it to this node.")] = None,
    not_node: Annotated[
        list[str] | None,
        typer.Option("--not-node", metavar="NODE", help="Move it to another node than this one. Repeatable."),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Hold both places. Another `vacancy move` with --to then ends the move, or undoes it.",
        ),
    ] = False,
    to_cell: Annotated[
        str | None,
        typer.Option("--to-cell", metavar="NAME", help="Move it to this cell."),
    ] = None,
    hold: Annotated[
        float | None,
        typer.Option(
            "--hold",
            metavar="SECONDS",
            min=0.001,
            help="Between cells: hold both places, and undo the move after this time unless `vacancy confirm` or the node"
            " confirms it. `vacancy settle` then finishes it.",
        ),
    ] = None,
    tolerate: TolerateOption = None,
    cell: CellOption = None,
    order: o.OrderOption = None,
    weigh: o.WeighOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    timeout: o.TimeoutOption = 10.0,
    seed: o.SeedOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Move a consumer to another node of its cell, with the same request.

    Without --to and --not-node it goes to any node but those that it is on. It stays in its server groups, and what it is
    granted on a node that it is on already stays as it is.

    With --keep it holds both places while a guest is migrated. Then `vacancy move CONSUMER --to NEW` ends the move, and
    `vacancy move CONSUMER --to OLD` undoes it.

    With --to-cell, or --to with a node of another cell, it is moved between cells: claimed there, confirmed, and released here.
    `vacancy settle CONSUMER` goes on with such a move that was interrupted, or undoes it with --undo.

    Exit codes: 0 done; 3 there is not a candidate; 4 every claim was lost to other schedulers; 6 the outcome is not known
    yet; 8 over quota.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    ranked = order_from_option(context.registry(), order, typical, weigh)
    with (
        context.open_scheduler(timeout, seed=seed, order=ranked) as scheduler,
        _why_not(as_json=as_json),
    ):
        if to_cell is not None or _is_elsewhere(scheduler, consumer, to, cell):
            if keep:
                raise UsageError("--keep is for moves within a cell", do="use --hold SECONDS")
            between = scheduler.move_to_cell(
                consumer,
                cell=to_cell,
                to=to,
                not_nodes=not_node or (),
                source=cell,
                tolerate=tolerate or (),
                hold_s=600.0 if hold is None else hold,
                waits=hold is not None,
                timeout_s=timeout,
            )
            show_cell_move(between, context, as_json=as_json)
            return
        if hold is not None:
            raise UsageError("--hold is for moves between cells", do="use --keep to hold both places")
        before = {row.claim for _, row in scheduler.allocations(consumer)}
        outcome = scheduler.move(
            consumer,
            to=to,
            not_nodes=not_node or (),
            cell=cell,
            keep=keep,
            tolerate=tolerate or (),
            timeout_s=timeout,
            max_staleness_s=max_staleness,
        )
    if outcome.claim in before and not as_json:
        note(f"nothing was changed: {consumer} is on {outcome.root} already")
    _show(outcome, context, "added a place for" if keep else "moved", as_json=as_json, both=keep)


def resize(
    consumer: ConsumerArgument,
    resources: Annotated[
        list[str] | None,
        typer.Option(
            "--resources",
            metavar="CLASS:AMOUNT,…",
            help="The new amount of each class that changes, for example VCPU:8,MEMORY_MB:16384. Repeatable.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="NAME=CLASS:AMOUNT,…",
            help="The same for one group of the request, if several ask for the class. Repeatable.",
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="CLASS", help="No longer ask for this class. Repeatable."),
    ] = None,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="Allow another node if there is no room on its own.")
    ] = False,
    tolerate: TolerateOption = None,
    cell: CellOption = None,
    order: o.OrderOption = None,
    max_staleness: o.MaxStalenessOption = None,
    timeout: o.TimeoutOption = 10.0,
    seed: o.SeedOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Change how much a consumer asks for. All other asks of its request stay, and what was granted for them.

    It stays on its node, unless --elsewhere allows others. What it holds counts as free for it.

    Exit codes: 0 done; 3 there is no room; 4 every claim was lost to other schedulers; 6 the outcome is not known yet; 8 over
    quota.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    registry = context.registry()
    changed, groups = _changes(registry, resources or [], group or [], remove or [])
    ranked = order_from_option(registry, order, None, None)
    with (
        context.open_scheduler(timeout, seed=seed, order=ranked) as scheduler,
        _why_not(as_json=as_json),
    ):
        outcome = scheduler.resize(
            consumer,
            changed,
            groups=groups,
            elsewhere=elsewhere,
            cell=cell,
            tolerate=tolerate or (),
            timeout_s=timeout,
            max_staleness_s=max_staleness,
        )
    _show(outcome, context, "resized", as_json=as_json)


def evacuate(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show where each consumer would go.")
    ] = False,
    tolerate: TolerateOption = None,
    cell: o.CellOption = None,
    order: o.OrderOption = None,
    weigh: o.WeighOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    timeout: o.TimeoutOption = 10.0,
    seed: o.SeedOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Move all consumers off a node, one after the other, each to another node of the cell.

    Disable the node first (`vacancy provider disable`), so that nothing else is placed there. A consumer that cannot be moved
    stays, and the others are still moved. The command may be repeated.

    Exit codes: 0 nothing is left on the node; otherwise that of the first consumer that stays, as of `vacancy move`.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    ranked = order_from_option(context.registry(), order, typical, weigh)
    with context.open_scheduler(timeout, seed=seed, order=ranked) as scheduler:
        moved = list(
            scheduler.evacuate(
                node,
                cell=cell,
                dry_run=dry_run,
                tolerate=tolerate or (),
                timeout_s=timeout,
                max_staleness_s=max_staleness,
            )
        )
    if as_json:
        emit_written(
            {"node": node, "dry_run": dry_run, "consumers": [_moved_json(one) for one in moved]}, context
        )
    elif moved:
        emit_table(
            ("CONSUMER", "CELL", "TO", "WHY NOT"),
            ((one.consumer, one.cell, one.to, _reason(one)) for one in moved),
        )
    else:
        emit(f"nothing is held on {node}")
    failed = [one.error for one in moved if one.error is not None]
    if failed:
        raise failed[0]


def update(
    consumer: ConsumerArgument,
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="The new project.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="The new user.")] = None,
    consumer_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="The new type, for example MIGRATION.")
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            "--cell", metavar="NAME", help="Change only what it holds in this cell (default: in all cells)."
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
    """Change the project, the user or the type of a consumer. What it holds stays as it is.

    Exit codes: 0 done; 1 the change was refused; 2 the rules of the log do not have it; 6 the outcome is not known yet; 8 over
    quota.
    """
    if project is None and user is None and consumer_type is None:
        raise UsageError("nothing is to be changed", do="give --project, --user or --type")
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    with (
        failure_as_json(as_json, consumer=consumer),
        context.open_scheduler(timeout) as scheduler,
    ):
        cells = scheduler.update(
            consumer,
            project=project,
            user=user,
            consumer_type=consumer_type,
            cell=cell,
            timeout_s=timeout,
            wait=not no_wait,
        )
    if as_json:
        emit_written({"consumer": consumer, "cells": cells, "outcome": outcome_name(not no_wait)}, context)
        return
    emit(f"updated {consumer} in cell{'s' if len(cells) > 1 else ''} {' and '.join(cells)}")
    if no_wait:
        note(NOT_WAITED)


def _is_elsewhere(scheduler: Scheduler, consumer: str, to: str | None, cell: str | None) -> bool:
    """Whether the node `to` is in another cell than what the consumer holds."""
    if to is None:
        return False
    from vacancy.clients.inspection.lookup import provider_cells

    held = {at for at, _ in scheduler.allocations(consumer) if cell in (None, at)}
    there = set(provider_cells(scheduler.reader, to))
    return bool(held and there and held.isdisjoint(there))


@contextmanager
def _why_not(*, as_json: bool) -> Iterator[None]:
    """Show why there is no place, if that is so. The error is raised as it is. Its explanation is made from the tables, so the
    scheduler must be open."""
    try:
        yield
    except NoValidHost as error:
        if as_json:
            emit_json({"status": "no_valid_host", "explanation": error.explanation})
        else:
            render_explanation(error.explanation)
        raise


def _show(outcome: Outcome, context: CommandContext, done: str, *, as_json: bool, both: bool = False) -> None:
    if as_json:
        emit_written(outcome, context)
    else:
        render_placed(outcome, done, both=both)


def _changes(
    registry: Registry, resources: list[str], groups: list[str], remove: list[str]
) -> tuple[dict[str, Ask | None], dict[str, dict[str, Ask | None]]]:
    """The changes of the unnamed group, or of the one that asks for the class, and those of named groups."""
    from vacancy.clients.request_language.placement_syntax import RequestText, parse

    changed: dict[str, Ask | None] = {}
    named: dict[str, dict[str, Ask | None]] = {}
    if not (resources or groups or remove):
        raise UsageError("nothing is to be changed", do="name amounts, as in --resources VCPU:4")
    if resources or groups:
        spec = parse(RequestText(resources=resources, groups=groups), registry).spec
        for one in spec.groups:
            if one.model_copy(update={"resources": {}}) != type(one)(
                name=one.name, same_provider=one.same_provider
            ):
                raise UsageError(
                    f"group {one.name!r} has more than amounts",
                    do="to change anything else, give the whole request to `vacancy place --replace`",
                )
            if one.name:
                named[one.name] = dict(one.resources)
            else:
                changed.update(one.resources)
    for name in remove:
        registry.check(name)
        changed[name] = None
    return changed, named


def _moved_json(one: Moved) -> dict[str, object]:
    return {
        "consumer": one.consumer,
        "cell": one.cell,
        "to": one.to or None,
        "reason": _reason(one) or None,
    }


def _reason(one: Moved) -> str:
    """Why a consumer stays: the error, and how many nodes each constraint removes."""
    if one.error is None:
        return ""
    explanation = one.error.explanation if isinstance(one.error, NoValidHost) else None
    if explanation is None:
        return one.error.what
    removed = [f"{each.constraint} ({each.in_order})" for each in explanation.constraints if each.in_order]
    return f"{one.error.what}; nodes removed: {', '.join(removed)}" if removed else one.error.what
