"""`vacancy settle`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json
from vacancy.resources.model.errors import ClaimLost, LogUnavailable, OutcomeUnknown


def settle(
    consumer: Annotated[str, typer.Argument(metavar="CONSUMER")],
    claim: Annotated[
        str,
        typer.Option("--claim", metavar="ID", help="The claim (default: any claim for this consumer)."),
    ] = "",
    cell: Annotated[
        str,
        typer.Option("--cell", metavar="NAME", help="The claim's cell (default: any)."),
    ] = "",
    deadline_ms: Annotated[
        int | None,
        typer.Option(
            "--deadline-ms",
            metavar="MS",
            min=1,
            help="The claim's deadline, as `place` printed it (log time, milliseconds since 1970).",
        ),
    ] = None,
    deadline: Annotated[
        float,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            min=0.001,
            max=600.0,
            help="If --deadline-ms is not known: the deadline that the sender gives its claims, from now.",
        ),
    ] = 60.0,
    timeout: o.TimeoutOption = 90.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Find out the outcome of a claim that was unknown, and wait for it.

    Ends with exit code 0 if the consumer was placed, and with 4 if it was not and never will be by that claim: only
    then is it safe to place it again. Ends with 6 if the outcome is still open.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.runtime.folded_log import check_same_log
    from vacancy.clients.scheduler import settlement

    with site.open_reader() as reader:
        latest = deadline_ms or settlement.latest_deadline_ms(reader, int(deadline * 1000))
        wanted = settlement.OpenClaim(consumer, latest, claim, cell)
        found = settlement.settle(reader, wanted)  # the tables may have the outcome, without the log
        silent = ""
        if found.status == "unknown":
            try:
                with site.open_log(timeout) as opened:
                    check_same_log(opened, reader)
                    found = settlement.settle(reader, wanted, log=opened, timeout_s=timeout)
            except LogUnavailable as error:
                silent = f", and the log does not answer: {error.what}"
    if as_json:
        emit_json(found)
    where = f"store {site.store}"
    if found.status == "unknown":
        raise OutcomeUnknown(
            f"the outcome for {consumer} is not known yet: {found.reason}{silent}",
            where=where,
            do="check that `vacancy worker` runs and the log answers; then try again with"
            f" --deadline-ms {found.deadline_ms}",
        )
    if found.status == "void":
        raise ClaimLost(f"{consumer} was not placed: {found.reason}", where=where, do="place it again")
    if not as_json:
        emit(f"placed {consumer} in cell {found.cell} by claim {found.claim}")
