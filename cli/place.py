"""`vacancy place`, `vacancy confirm` and `vacancy release`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.order_option import order_from_option
from vacancy.cli.output import ask_text, emit, emit_json, emit_table
from vacancy.cli.render_explanation import render_explanation
from vacancy.cli.request_options import RequestOptions, asks
from vacancy.resources.model.errors import NoValidHost, OutcomeUnknown, VacancyError
from vacancy.resources.model.server_group import copy_of

if TYPE_CHECKING:
    from vacancy.clients.scheduler.placement import Outcome

ConsumersArgument = Annotated[list[str], typer.Argument(metavar="CONSUMER…")]


@asks
def place(
    asked: RequestOptions,
    consumer: Annotated[
        str | None,
        typer.Option("--consumer", metavar="ID", help="Who will hold it (default: a new id)."),
    ] = None,
    project: Annotated[str, typer.Option("--project", metavar="ID")] = "-",
    user: Annotated[str, typer.Option("--user", metavar="ID")] = "-",
    hold: Annotated[
        float | None,
        typer.Option(
            "--hold",
            metavar="SECONDS",
            min=0.001,
            help="Give it back after so long unless it is confirmed, by `confirm` or by the node.",
        ),
    ] = None,
    order: o.OrderOption = None,
    weigh: o.WeighOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, help="Claims that may be lost to others before giving up.")
    ] = 32,
    deadline: Annotated[
        float,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            min=0.001,
            max=600.0,
            help="How long a claim stays good, in log time. After that its outcome is known for sure.",
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
    """Find a place for a request and take it.

    The request is written as for `vacancy candidates`. Ends with 3 where there is no place, and tells what each
    constraint removed; with 4 where every claim was lost to others, 6 where the outcome is not known yet; the
    message then says until when.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    registry = site.registry()
    parsed = asked.parse(registry)
    from vacancy.clients.scheduler.client import Scheduler
    from vacancy.clients.scheduler.placement import PlacementRequest

    wanted = PlacementRequest(
        parsed.spec,
        consumer=consumer,
        project=project,
        user=user,
        hold_ms=None if hold is None else int(hold * 1000),
    )
    with (
        site.open_log(timeout) as opened,
        Scheduler(
            opened,
            site.store,
            registry,
            name="cli",
            seed=seed,
            order=order_from_option(registry, order, typical, weigh),
            deadline_s=deadline,
            attempts=attempts,
        ) as scheduler,
    ):
        try:
            outcome = scheduler.place(wanted, timeout_s=timeout, max_staleness_s=max_staleness)
        except NoValidHost as error:
            if as_json:
                emit_json({"status": "no_valid_host", "explanation": error.explanation})
            else:
                render_explanation(error.explanation)
            raise
    if as_json:
        emit_json(outcome)
        return
    _tell(outcome)


def _tell(outcome: Outcome) -> None:
    copies = len({copy_of(one.group) for one in outcome.allocations})
    told = f"{copies} copies of {outcome.consumer}" if copies > 1 else f"{outcome.consumer} on {outcome.root}"
    emit(f"placed {told} in cell {outcome.cell} ({outcome.claim_ms:.1f} ms)")
    particular = {(g.provider, g.group, g.resource_class): g.grant for g in outcome.grants}
    emit_table(
        ("PROVIDER", "CLASS", "AMOUNT"),
        (
            (a.provider, name, ask_text(particular.get((a.provider, a.group, name), ask)))
            for a in outcome.allocations
            for name, ask in a.resources.items()
        ),
    )


def confirm(
    consumers: ConsumersArgument,
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Keep for good what consumers hold for a while only (`place --hold`)."""
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin import operator

    with site.open_log(timeout) as opened, site.open_reader() as reader:
        cells = {one: operator.confirm(opened, reader, one, timeout_s=timeout) for one in consumers}
        _check_held([one for one, found in cells.items() if not found], site)
    if as_json:
        emit_json({"confirmed": cells})
    else:
        emit(f"confirmed {', '.join(consumers)}")


def release(
    consumers: ConsumersArgument,
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Give back all that consumers hold, and wait until this host's tables show it."""
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.scheduler.client import Scheduler

    with (
        site.open_log(timeout) as opened,
        Scheduler(opened, site.store, site.registry(), name="cli") as scheduler,
    ):
        held = {one: scheduler.allocations(one) for one in consumers}
        scheduler.release(consumers, timeout_s=timeout)
        until = time.monotonic() + timeout
        while any(scheduler.allocations(one) for one in consumers):
            if time.monotonic() > until:
                raise OutcomeUnknown(
                    "the log has the release, but the store has not read that far",
                    where=f"store {site.store}",
                    do="see that `vacancy worker` runs, then look with `vacancy show consumer`",
                )
            time.sleep(0.005)
        _check_held([one for one, rows in held.items() if not rows], site)
    if as_json:
        emit_json({"released": {one: [cell for cell, _ in rows] for one, rows in held.items()}})
    else:
        emit(f"released {', '.join(consumers)}")


def _check_held(without: list[str], site: CommandContext) -> None:
    if without:
        raise VacancyError(
            f"nothing is held by {', '.join(without)}",
            where=f"store {site.store}",
            do="check the name; `vacancy show provider NODE` tells who holds what",
        )
