"""`vacancy usage`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli.commands.fleet.quota import check_names, emit_limits
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import as_of_text, emit_json, emit_table, note, open_move_text, position_fields


@with_reading_options
def usage(
    reading: ReadingOptions,
    project: Annotated[
        str | None, typer.Option("--project", metavar="ID", help="Only consumers of this project.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Only consumers of this user.")
    ] = None,
    consumer_type: Annotated[
        str | None,
        typer.Option("--consumer-type", metavar="TYPE", help="Only consumers of this type."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="project|user|type", help="One line for each of these (default: one for all)."
        ),
    ] = None,
    against_quota: Annotated[
        bool,
        typer.Option(
            "--against-quota", help="Show the limits, and what is used of them (see `vacancy quota`)."
        ),
    ] = False,
    as_json: o.JsonOption = False,
) -> None:
    """Show how much of each class consumers hold: all of them, or those of a project, a user or a type."""
    check_names(project, user, consumer_type)
    if against_quota:
        _against_quota(reading.context(), project, user, consumer_type, as_json)
        return
    from vacancy.clients.inspection.usage import usage as added_up

    with reading.context().open_reader(with_view=False) as reader:
        found = added_up(reader, project=project, user=user, consumer_type=consumer_type, by=by)
        position, as_of = position_fields(reader), as_of_text(reader)
    if as_json:
        emit_json({**found._asdict(), "by": by, **position})
        return
    emit_table(
        (*((by.upper(),) if by else ()), "CONSUMERS", "CLASS", "USED"),
        (
            (*((one.name,) if by else ()), one.consumers, name, amount)
            for one in found.usages
            for name, amount in one.usages.items()
        ),
    )
    for held in found.in_two_cells:
        note(f"{held.consumer} holds something in cells {' and '.join(held.cells)}")
    for move in found.open_moves:
        note(open_move_text(move))
    note(as_of)


def _against_quota(
    context: CommandContext, project: str | None, user: str | None, consumer_type: str | None, as_json: bool
) -> None:
    """Show the limits of these consumers, with what is used of each in all cells."""
    from vacancy.clients.inspection.uncounted import uncounted
    from vacancy.clients.scheduler.quotas import QuotaView

    with context.open_reader(with_view=False) as reader:
        view = QuotaView(reader)
        limits = []
        if view.has_quotas():
            limits = view.limits() if project is None else view.in_force(project, user, consumer_type)
        left, as_of, position = uncounted(reader, project), as_of_text(reader), position_fields(reader)
    found = [
        one
        for one in limits
        if user in (None, one.user) and consumer_type in (None, one.consumer_type) and one.limit >= 0
    ]
    if as_json:
        emit_json({"limits": [one._asdict() for one in found], "uncounted": left.allocations, **position})
        return
    emit_limits(found)
    if left.text:
        note(left.text)
    note(as_of)
