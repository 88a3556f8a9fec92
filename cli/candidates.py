"""`vacancy candidates`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.asked import parse_options
from vacancy.cli.explained import tell_explanation
from vacancy.cli.output import amount_text, as_of_text, emit_json, emit_table, note, position_text
from vacancy.cli.site import Site
from vacancy.resources.errors import NoValidHost

_LIMIT = 10


def candidates(
    resources: o.ResourcesOption = None,
    required: o.RequiredOption = None,
    member_of: o.MemberOfOption = None,
    in_tree: o.InTreeOption = None,
    where: o.WhereOption = None,
    group: o.GroupOption = None,
    group_policy: o.GroupPolicyOption = None,
    numa: o.NumaOption = None,
    query: o.QueryOption = None,
    request: o.RequestOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="How many at most.", show_default=str(_LIMIT))
    ] = None,
    order: o.OrderOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    seed: o.SeedOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Find places for a request, without taking any.

    A request has groups. The options describe one; each --group adds another. Every group is served by one
    provider of a tree: ask for cores and memory of the node in one, for a share of a GPU in another.

    Ends with 3 where there is no place; then it tells how many nodes each constraint removed, and which came
    nearest.
    """
    site = Site(store=store, config=config)
    registry = site.registry()
    parsed = parse_options(
        registry,
        resources=resources,
        required=required,
        member_of=member_of,
        in_tree=in_tree,
        where=where,
        group=group,
        group_policy=group_policy,
        numa=numa,
        query=query,
        request=request,
    )
    from vacancy.clients import inspect
    from vacancy.clients.expression_types import mismatches
    from vacancy.clients.ordering import order_named

    with site.open_reader() as reader:
        found = inspect.candidates(
            reader,
            parsed.spec,
            limit=limit or parsed.limit or _LIMIT,
            order=order_named(order or "random", typical),
            seed=seed,
            max_staleness_s=max_staleness,
        )
        as_of, as_of_ms, told = reader.position, reader.newest_ms, as_of_text(reader)
        why = None if found else inspect.explain(reader, parsed.spec, max_staleness_s=max_staleness)
        types = "" if found else mismatches(parsed.spec, reader.view)
    if as_json:
        explanation = {} if why is None else {"explanation": why}
        emit_json({"candidates": found, "as_of": as_of, "as_of_ms": as_of_ms, **explanation})
    elif why is not None:
        tell_explanation(why)
    else:
        emit_table(
            ("CELL", "NODE", "PROVIDER", "GROUP", "RESOURCES"),
            (
                (
                    c.cell,
                    c.root,
                    a.provider,
                    a.group,
                    " ".join(f"{n}:{amount_text(v)}" for n, v in a.resources.items()),
                )
                for c in found
                for a in c.allocations
            ),
        )
        note(told)
    if not found:
        raise NoValidHost(
            "no valid host: nothing that matches has room" + (f": {types}" if types else ""),
            where=f"store {site.store} at {position_text(as_of)}",
            do="ask for less, or free or add some",
        )
