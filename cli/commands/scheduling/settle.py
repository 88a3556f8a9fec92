"""`vacancy settle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_written, note, open_move_text
from vacancy.resources.model.errors import ClaimLost, LogUnavailable, OutcomeUnknown, UsageError

if TYPE_CHECKING:
    from vacancy.clients.inspection.cell_moves import CellMove


def settle(
    consumer: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONSUMER]", help="The consumer (default: all that are being moved between cells)."
        ),
    ] = None,
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
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Undo moves between cells whose claim is not confirmed, instead of finishing them."
        ),
    ] = False,
    timeout: o.TimeoutOption = 90.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Find out the outcome of a claim that was unknown, and wait for it. Go on with moves between cells that are open.

    Ends with exit code 0 if the consumer was placed, and with 4 if it was not and never will be by that claim: only
    then is it safe to place it again. Ends with 6 if the outcome is still open.

    A consumer that is being moved between cells has its move resumed, or with --undo undone if its claim is not confirmed;
    without CONSUMER, all moves that are open. Ends with 0 if they have ended, and with 6 if one is still open.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    if _resumes_moves(site, consumer, claim, cell, undo):
        _resume_moves(site, consumer, undo, timeout, as_json)
        return
    assert consumer is not None  # noqa: S101 - without one, moves are resumed
    from vacancy.clients.runtime.folded_log import check_same_log
    from vacancy.clients.scheduler import settlement

    with site.open_reader() as reader:
        latest = deadline_ms or settlement.latest_deadline_ms(reader, int(deadline * 1000))
        wanted = settlement.OpenClaim(consumer, latest, claim, cell)
        found = settlement.settle(reader, wanted)  # the tables may have the outcome, without the log
        silent = ""
        if found.status == "unknown":
            try:
                with site.open_log(timeout, to_write=True) as opened:
                    check_same_log(opened, reader)
                    found = settlement.settle(reader, wanted, log=opened, timeout_s=timeout)
            except LogUnavailable as error:
                silent = f", and the log does not answer: {error.what}"
    if as_json:
        emit_written(found, site)
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


def _resumes_moves(context: CommandContext, consumer: str | None, claim: str, cell: str, undo: bool) -> bool:
    """Whether it is about moves between cells, and not about a claim."""
    if claim or cell:
        if consumer is None or undo:
            raise UsageError("--claim and --cell are for the claim of a consumer", do="leave them out")
        return False
    if consumer is None or undo:
        return True
    from vacancy.clients.inspection.cell_moves import cell_moves

    with context.open_reader(with_view=False) as reader:
        return bool(cell_moves(reader, consumer))


def _resume_moves(
    context: CommandContext, consumer: str | None, undo: bool, timeout: float, as_json: bool
) -> None:
    from vacancy.clients.inspection.cell_moves import cell_moves
    from vacancy.clients.scheduler.moves.cell_moves import CellMoves

    with context.open_scheduler(timeout) as scheduler:
        moves = CellMoves(scheduler.log, scheduler.query, timeout_s=timeout)
        open_ = cell_moves(scheduler.reader, consumer)
        found = [moves.resume(one.id, undo=undo) for one in open_]
    left = [one for one in found if one.status == "open"]
    if as_json:
        emit_written({"moves": found}, context)
    else:
        for one in found:
            if one not in left[:1]:  # the error has the first
                show_cell_move(one, context)
        if not found:
            emit("no move between cells is open")
    if left:
        raise OutcomeUnknown(
            f"{len(left)} moves between cells are open, the first: {left[0].reason}",
            where=f"move {left[0].id} of {left[0].consumer}",
            do=f"confirm it with `vacancy confirm {left[0].consumer}`, or undo it with `vacancy settle {left[0].consumer}"
            " --undo`",
        )


def show_cell_move(move: CellMove, context: CommandContext, *, as_json: bool = False) -> None:
    """Show a move between cells: how it ended, or what it waits for."""
    if as_json:
        emit_written(move, context)
    elif move.status == "open":
        note(open_move_text(move))
    else:
        emit(_ended_text(move))


def _ended_text(move: CellMove) -> str:
    if move.status == "finished":
        return f"moved {move.consumer} from cell {move.source} to cell {move.destination}"
    if move.status == "undone":
        return f"{move.consumer} stays in cell {move.source}: its move to cell {move.destination} is undone"
    return (
        f"{move.consumer} was released while it was moved from cell {move.source} to cell {move.destination}"
    )
