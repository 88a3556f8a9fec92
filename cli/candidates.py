"""`vacancy candidates`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.order_option import order_from_option
from vacancy.cli.output import as_of_text, ask_text, emit_json, emit_table, note, position_text
from vacancy.cli.render_explanation import render_explanation
from vacancy.cli.request_options import RequestOptions, asks
from vacancy.resources.model.errors import NoValidHost, SearchGivenUp

if TYPE_CHECKING:
    from vacancy.projections.query.engine import Candidate

_LIMIT = 10


@asks
def candidates(
    asked: RequestOptions,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="How many at most.", show_default=str(_LIMIT))
    ] = None,
    order: o.OrderOption = None,
    weigh: o.WeighOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    seed: o.SeedOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Find places for a request, without taking any.

    A request has groups. The options describe one, which several providers of a tree may serve together, sharing
    providers among them; each --group adds another, served by one provider: ask for cores and memory of the node in
    one, for a share of a GPU in another.

    Ends with 3 where there is no place; then it tells how many nodes each constraint removed, and which came
    nearest.
    """
    site = CommandContext(store=store, config=config)
    registry = site.registry()
    parsed = asked.parse(registry)
    from vacancy.clients.request_language.expression_types import mismatches
    from vacancy.clients.request_language.request_compiler import compile_request
    from vacancy.clients.scheduler import store_query
    from vacancy.projections.query.budget import gave_up_text

    request = compile_request(parsed.spec, registry)
    with site.open_reader() as reader:
        found, gave_up = store_query.search(
            reader,
            request,
            limit=limit or parsed.limit or _LIMIT,
            order=order_from_option(registry, order, typical, weigh),
            seed=seed,
            max_staleness_s=max_staleness,
        )
        as_of, as_of_ms, told = reader.position, reader.newest_ms, as_of_text(reader)
        lacking = not found and not gave_up
        why = store_query.explain(reader, request, max_staleness_s=max_staleness) if lacking else None
        types = "" if found else mismatches(request, reader.view)
    if as_json:
        explanation = {} if why is None else {"explanation": why}
        answers = [{**one._asdict(), "mappings": one.mappings} for one in found]
        for answer in answers:
            del answer["copies"]  # they are in the names of the groups
        told_json = {"candidates": answers, "as_of": as_of, "as_of_ms": as_of_ms, "gave_up": gave_up}
        emit_json({**told_json, **explanation})
    elif why is not None:
        render_explanation(why)
    elif found:
        _tell(found)
        note(told)
    at = f"store {site.store} at {position_text(as_of)}"
    if gave_up and not found:
        raise SearchGivenUp(gave_up_text(gave_up), at)
    if gave_up:
        note(f"{gave_up_text(gave_up)}; there may be more")
    if not found:
        raise NoValidHost(
            "no valid host: nothing that matches has room" + (f": {types}" if types else ""),
            where=at,
            do="ask for less, or free or add some",
        )


def _tell(found: Sequence[Candidate]) -> None:
    emit_table(
        ("CELL", "NODE", "PROVIDER", "GROUP", "RESOURCES"),
        (
            (
                c.cell,
                c.root,
                a.provider,
                a.group,
                " ".join(f"{n}:{ask_text(v)}" for n, v in a.resources.items()),
            )
            for c in found
            for a in c.allocations
        ),
    )
