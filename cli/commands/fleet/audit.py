"""`vacancy audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.store.snapshot import seconds
from vacancy.cli.context import CommandContext
from vacancy.cli.errors import AuditFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import emit, emit_json, emit_table, note, past_text, position_fields, time_text
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vacancy.clients.admin.healing import Healing
    from vacancy.clients.inspection.consumer_audit import ConsumerAudit
    from vacancy.streams.log import Log


@with_reading_options
def audit(
    reading: ReadingOptions,
    node: Annotated[str | None, typer.Option("--node", metavar="NODE", help="Only this node.")] = None,
    grace: Annotated[
        str,
        typer.Option(
            "--grace", metavar="TIME", help="Leave out consumers that started or stopped this recently."
        ),
    ] = "5m",
    heal: Annotated[
        bool, typer.Option("--heal", help="Append the events that correct what can be corrected.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --heal: only show these events.")] = False,
    as_json: o.JsonOption = False,
) -> None:
    """Compare what is held with what nodes say that they run (`vacancy publish --running FILE`).

    It lists what is held on nodes that do not run it, what runs and holds nothing there, what is held in two cells, and
    providers over capacity. With --heal it releases what is held on nodes that do not run it, by the id of the claim, and
    ends moves between cells that are confirmed. It never claims anything, and it releases nothing of a node that runs
    nothing at all, unless --node names that node.

    Exit codes: 0 nothing was found; 9 something was found, or is left after --heal; 6 the outcome of a release is not known.
    """
    if dry_run and not heal:
        raise UsageError("--dry-run needs --heal", do="give both")
    if heal and reading.as_of is not None:
        raise UsageError("--heal corrects what is now, not what was", do="leave out --as-of or --heal")
    grace_ms = int(1000 * seconds(grace, "--grace"))
    timeout = reading.timeout
    context = reading.context()
    from vacancy.clients.admin.healing import heal as append
    from vacancy.clients.admin.healing import plan_healing
    from vacancy.clients.inspection.consumer_audit import audit_consumers

    with context.open_reader(with_view=False) as reader, context.open_log(timeout) as opened:
        time_of = _times(opened)
        found = audit_consumers(reader, time_of, node=node, grace_ms=grace_ms)
        plan = plan_healing(found, reader, node=node) if heal else None
        released = ended = 0
        if plan is not None and not dry_run:
            released = append(opened, reader, plan, timeout_s=timeout)
            ended = _end_moves(context, plan, timeout)
            found = audit_consumers(reader, time_of, node=node, grace_ms=grace_ms)
        past, position = past_text(reader), position_fields(reader)
    if past:
        note(past)
    if as_json:
        answer = {"ok": found.ok, "found": found, "heal": plan, "released": released, "ended": ended}
        emit_json({**answer, **position})
    else:
        _show(found)
        if plan is not None:
            _show_plan(plan, released, ended, dry_run=dry_run)
    if not found.ok:
        raise AuditFound(
            "what is held and what runs differ" + (", also after healing" if released or ended else ""),
            where=f"store {context.store}",
            do="see `vacancy audit --heal --dry-run` for what can be done",
        )


def _end_moves(context: CommandContext, plan: Healing, timeout: float) -> int:
    """Returns how many moves between cells have ended."""
    if not plan.moves:
        return 0
    from vacancy.clients.scheduler.moves.cell_moves import CellMoves

    with context.open_scheduler(timeout) as scheduler:
        moves = CellMoves(scheduler.log, scheduler.query, timeout_s=timeout)
        return sum(moves.resume(one.move).status != "open" for one in plan.moves)


def _times(log: Log) -> Callable[[int, int], int | None]:
    """A function that returns the timestamp of a record."""
    start = log.start()

    def time_of(partition: int, offset: int) -> int | None:
        if offset < start.get(partition, 0):
            return 0  # older than what the log has
        found = log.read(partition, offset, 1)
        return found[0].timestamp_ms if found else None

    return time_of


def _title(text: str) -> None:
    emit()
    emit(text)


def _show(found: ConsumerAudit) -> None:
    emit(f"nodes that say what they run: {found.judged}")
    if found.stale:
        note(f"the lists of {len(found.stale)} nodes are over an hour old: {', '.join(found.stale[:10])}")
    if found.silent:
        note(f"{found.silent} nodes never said what they run")
    if found.held_not_running:
        _title("held, and not running:")
        emit_table(
            ("NODE", "CONSUMER", "CLAIM", "AT", "SINCE", "LAST SEEN", "RUNS ON"),
            (
                (
                    one.node,
                    one.consumer,
                    one.claim,
                    f"{one.partition}:{one.offset}",
                    time_text(one.held_ms) if one.held_ms else "",
                    time_text(one.left_ms) if one.left_ms else "never",
                    ", ".join(one.elsewhere),
                )
                for one in found.held_not_running
            ),
        )
    if found.running_not_held:
        _title("running, and not held:")
        emit_table(
            ("NODE", "CONSUMER", "SINCE", "SAID AT", "HOLDS SOMETHING OF"),
            (
                (
                    one.node,
                    one.consumer,
                    time_text(one.since_ms),
                    f"{one.partition}:{one.said_offset}",
                    ", ".join(one.held_on) or "nothing",
                )
                for one in found.running_not_held
            ),
        )
    if found.held_twice:
        _title("held in several cells:")
        emit_table(
            ("CONSUMER", "CELLS", "CLAIMS", "MOVE", "IT WAITS FOR"),
            (
                (one.consumer, ", ".join(one.claims), ", ".join(one.claims.values()), one.move, one.reason)
                for one in found.held_twice
            ),
        )
    if found.over_capacity:
        _title("over capacity:")
        emit_table(
            ("PROVIDER", "CLASS", "CAPACITY", "USED", "CHANGED AT"),
            (
                (one.provider, one.resource_class, one.capacity, one.used, f"{one.partition}:{one.offset}")
                for one in found.over_capacity
            ),
        )


def _show_plan(plan: Healing, released: int, ended: int, *, dry_run: bool) -> None:
    if dry_run:
        for one in plan.releases:
            emit(
                f"would release {one.consumer} (claim {one.claim}) in cell {one.cell}: {one.node} does not run it"
            )
        for two in plan.moves:
            emit(f"would end the move of {two.consumer} (move {two.move}): {two.reason}")
    if released:
        emit(f"released: {released}")
    if ended:
        emit(f"moves ended: {ended}")
    for left in plan.left:
        note(f"left alone: {left.what}, {left.why}; {left.do}")
