"""`vacancy candidates`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.commands.scheduling.render_explanation import render_explanation
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.order_option import order_from_option
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.options.request_options import QualitiesOnlyOption, RequestOptions, with_request_options
from vacancy.cli.output import as_of_text, ask_text, emit_json, emit_table, note, position_text
from vacancy.resources.model.errors import NoValidHost, SearchGivenUp, UsageError

if TYPE_CHECKING:
    from vacancy.clients.request_language.placement_syntax import ParsedRequest
    from vacancy.clients.scheduler.store_query import StoreQuery
    from vacancy.projections.query.compiled_request import CompiledRequest
    from vacancy.projections.query.model import Candidate

_LIMIT = 10


@with_reading_options
@with_request_options
def candidates(
    request_options: RequestOptions,
    reading: ReadingOptions,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Maximum number of candidates.", show_default=str(_LIMIT)),
    ] = None,
    qualities_only: QualitiesOnlyOption = False,
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="ID", help="Say which limits of this project the request exceeds."),
    ] = None,
    user: Annotated[
        str, typer.Option("--user", metavar="ID", help="The same of this user in the project.")
    ] = "-",
    consumer_type: Annotated[
        str, typer.Option("--consumer-type", metavar="TYPE", help="The type of the consumer, for its limits.")
    ] = "INSTANCE",
    consumer: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="CONSUMER",
            help="For a consumer that holds something: what it holds counts as free, and it stays in its server groups.",
        ),
    ] = None,
    cell: Annotated[
        str | None, typer.Option("--cell", metavar="NAME", help="Only candidates of this cell.")
    ] = None,
    prefer_cell: Annotated[
        str | None, typer.Option("--prefer-cell", metavar="NAME", help="First candidates of this cell.")
    ] = None,
    not_node: Annotated[
        list[str] | None,
        typer.Option("--not-node", metavar="NODE", help="No candidate on this node. Repeatable."),
    ] = None,
    order: o.OrderOption = None,
    weigh: o.WeighOption = None,
    typical: o.TypicalOption = None,
    max_staleness: o.MaxStalenessOption = None,
    seed: o.SeedOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """List nodes that can serve a request, without claiming anything.

    A request has one or more groups. The options --resources, --required, --member-of, --in-tree and --where describe
    the first group. Several providers of one tree, and sharing providers, may serve it together. Each --group adds a
    group that one provider serves. Example: cores and memory of the node in the first group, a share of a GPU in a
    --group.

    With --for, candidates of the consumer's own cell come first, and of these its own node. Each of them is judged by the
    rules of the log: `vacancy move` or `vacancy place --replace` is accepted there.

    With --qualities-only it lists the nodes that have what the request asks for besides room, in the order of their names.

    Exits with 3 if there is not a candidate. The output then lists how many nodes each constraint removed, and the
    nearest misses.
    """
    context = reading.context()
    registry = context.registry()
    parsed = request_options.parse(registry, qualities_only=qualities_only)
    if qualities_only:
        if consumer or cell or prefer_cell or not_node:
            raise UsageError(
                "--qualities-only compares all nodes",
                do="leave out --for, --cell, --prefer-cell and --not-node",
            )
        _qualified(context, parsed, limit, max_staleness, as_json=as_json)
        return
    from vacancy.projections.query.budget import gave_up_text

    with context.open_query(order=order_from_option(registry, order, typical, weigh), seed=seed) as query:
        request = query.compile(parsed.spec)
        found, as_of, as_of_ms, gave_up = query.candidates(
            request,
            limit=limit or parsed.limit or _LIMIT,
            max_staleness_s=max_staleness,
            consumer=consumer,
            cell=cell,
            prefer_cell=prefer_cell,
            not_nodes=not_node or (),
        )
        as_of_note = as_of_text(query.reader)
        unknown = _unknown(query, (cell, prefer_cell), not_node or ())
        why = None
        if not found and not gave_up:
            why = query.explain(
                request,
                max_staleness_s=max_staleness,
                newest=False,
                consumer=consumer,
                cell=cell,
                not_nodes=not_node or (),
            )
        types = "" if found else query.type_errors(request)
        full = [] if project is None else _exceeded(query, parsed, project, user, consumer_type)
    if as_json:
        explanation = {} if why is None else {"explanation": why}
        answer = {"candidates": _answers(found, request), "as_of": as_of, "as_of_ms": as_of_ms}
        answer |= {"gave_up": gave_up, **explanation}
        limits = {} if project is None else {"over_quota": full}
        emit_json({**answer, **limits})
    elif why is not None:
        render_explanation(why)
    elif found:
        _render(found, request)
        note(as_of_note)
    for text in () if as_json else (*unknown, *full):
        note(text)
    at = f"store {context.store} at {position_text(as_of)}"
    if gave_up and not found:
        raise SearchGivenUp(gave_up_text(gave_up), at)
    if gave_up:
        note(f"{gave_up_text(gave_up)}; there may be more candidates")
    if not found:
        raise _nothing(cell, not_node or (), types, at)


def _unknown(query: StoreQuery, cells: Iterable[str | None], nodes: Iterable[str]) -> list[str]:
    """Names of options that the store does not know, for people: they change nothing, and may be misspelled."""
    from vacancy.clients.inspection.lookup import provider_cells

    reader = query.reader
    return [
        *(f"there is no cell {one}" for one in cells if one and one.encode() not in reader.view.cells),
        *(f"there is no node {one}" for one in nodes if not provider_cells(reader, one)),
    ]


def _nothing(cell: str | None, not_nodes: Sequence[str], types: str, at: str) -> NoValidHost:
    which = (f" in cell {cell}" if cell else "") + (f" besides {', '.join(not_nodes)}" if not_nodes else "")
    return NoValidHost(
        f"no valid host: nothing that matches has room{which}{f': {types}' if types else ''}",
        where=at,
        do="request less, or release or add resources",
    )


def _answers(found: Sequence[Candidate], request: CompiledRequest) -> list[dict[str, Any]]:
    """Candidates as JSON."""
    answers = [{**one._asdict(), "mappings": one.mappings} for one in found]
    if request.choices:
        answers = [
            {**answer, "alternative": request.alternative_of(one)}
            for answer, one in zip(answers, found, strict=True)
        ]
    for answer in answers:
        del answer["copies"]  # the names of the groups have them
        answer["borrowed"] = answer.pop("from_sharing")
        del answer["choice"]
    return answers


def _qualified(
    context: CommandContext,
    parsed: ParsedRequest,
    limit: int | None,
    max_staleness: float | None,
    *,
    as_json: bool,
) -> None:
    """List the nodes that have the qualities of a request. Raises `NoValidHost` if none has."""
    with context.open_query() as query:
        nodes, why = query.qualified(parsed.spec, max_staleness_s=max_staleness)
        as_of, as_of_ms, as_of_note = query.reader.position, query.reader.newest_ms, as_of_text(query.reader)
    shown = nodes[: limit or parsed.limit or _LIMIT]
    if as_json:
        candidates = [{"cell": one.cell, "root": one.root, "state": one.state} for one in shown]
        explanation = {} if nodes else {"explanation": why}
        emit_json({"candidates": candidates, "as_of": as_of, "as_of_ms": as_of_ms, **explanation})
    elif nodes:
        emit_table(("CELL", "NODE", "STATE"), ((one.cell, one.root, one.state) for one in shown))
        note(as_of_note)
    else:
        render_explanation(why)
    if not nodes:
        raise NoValidHost(
            "no valid host: no node has all qualities that are asked for",
            where=f"store {context.store} at {position_text(as_of)}",
            do="ask for fewer qualities",
        )


def _render(found: Sequence[Candidate], request: CompiledRequest) -> None:
    """A table of candidates. Those of a request with alternatives have the number of theirs, 0 for the first choice."""
    some = len(request.alternatives) > 1
    emit_table(
        ("CELL", "NODE", "PROVIDER", "GROUP", "RESOURCES", *(("ALTERNATIVE",) if some else ())),
        (
            (
                c.cell,
                c.root,
                a.provider,
                a.group,
                " ".join(f"{n}:{ask_text(v)}" for n, v in a.resources.items()),
                *((request.alternative_of(c),) if some else ()),
            )
            for c in found
            for a in c.allocations
        ),
    )


def _exceeded(
    query: StoreQuery, parsed: ParsedRequest, project: str, user: str, consumer_type: str
) -> list[str]:
    """The limits that a claim for the request would exceed, as far as its asks are amounts."""
    from vacancy.cli.commands.fleet.quota import check_names, scope_text
    from vacancy.clients.scheduler.quotas import QuotaView

    view = QuotaView(query.reader)
    if not view.has_quotas():
        return []
    amounts: Counter[str] = Counter()
    for group in parsed.spec.groups:
        for name, ask in group.resources.items():
            if isinstance(ask, int):
                amounts[name] += ask * parsed.spec.copies
    check_names(project, user, consumer_type)
    return [
        f"over quota: {scope_text(one)}, {one.unit}: used {one.used}, asked {amounts[one.unit]}, limit {one.limit}"
        for one in view.exceeded(project, user, consumer_type, amounts)
    ]
