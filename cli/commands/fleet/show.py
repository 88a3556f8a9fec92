"""`vacancy show …`: one object with all its details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import (
    as_of_text,
    ask_text,
    attributes_text,
    emit,
    emit_json,
    emit_table,
    note,
    open_move_text,
    past_text,
    position_fields,
    taints_text,
    time_text,
    with_position,
)

if TYPE_CHECKING:
    from vacancy.clients.inspection.answers import (
        ExcludedAnswer,
        HoldingAnswer,
        NodeAnswer,
        ProviderAnswer,
        TreeAnswer,
    )

app = typer.Typer(
    help="Show one provider, consumer, request, claim or server group; or all nodes.", rich_markup_mode=None
)

IdArgument = Annotated[str, typer.Argument(metavar="ID")]


@app.command()
@with_reading_options
def provider(
    id_: IdArgument,
    reading: ReadingOptions,
    cell: o.CellOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show a provider and its descendants: inventories, traits, aggregates, operator settings, consumers."""
    from vacancy.clients.inspection.lookup import show_provider

    with reading.context().open_reader() as reader:
        found = show_provider(reader, id_, cell=cell)
        position = position_fields(reader)
        as_of = as_of_text(reader)
    if as_json:
        emit_json(with_position(found, position))
        return
    _print_tree(found)
    note(as_of)


def _print_tree(tree: TreeAnswer) -> None:
    emit(f"provider {tree.id} in cell {tree.cell} (partition {tree.partition})")
    if tree.node is not None:
        emit(f"node {tree.root}: {tree.node.state}, last heard {time_text(tree.node.heard_ms)}")
        _print_contested(tree.node)
    emit()
    limits = list(dict.fromkeys(n for one in tree.providers for i in one.inventories for n in i.limits))
    emit_table(
        (
            "PROVIDER",
            "CLASS",
            "CAPACITY",
            "USED",
            "FREE",
            *(name.replace("_", " ").upper() for name in limits),
        ),
        (
            (
                "  " * _depth(tree, one) + one.id,
                inventory.resource_class,
                inventory.capacity,
                inventory.used,
                inventory.free,
                *(inventory.limits.get(name) for name in limits),
            )
            for one in tree.providers
            for inventory in one.inventories
        ),
    )
    for one in tree.providers:
        details = [
            *_details_of(one),
            *(excluded_text(out) for out in tree.excluded if out.provider == one.id),
        ]
        if details:
            emit()
            emit(one.id)
            for line in details:
                emit(f"  {line}")
    if tree.holdings:
        emit()
        _print_holdings(tree.holdings)


def _print_contested(node: NodeAnswer) -> None:
    from vacancy.clients.inspection.contested import contested_text, dropped_text

    if node.contested is None:
        return
    if node.contested.closed:
        emit(f"it is closed: {contested_text(node.contested)}")
    else:
        emit(f"two publishers used its name: {dropped_text(node.contested)} ({node.contested.reason})")


def _depth(tree: TreeAnswer, one: ProviderAnswer) -> int:
    from vacancy.resources.fold.nodes.provider_tree import path_to_root

    parents = {other.id: other.parent for other in tree.providers}
    return sum(id_ in parents for id_ in path_to_root(one.id, parents.get)) - 1


def _details_of(one: ProviderAnswer) -> list[str]:
    lines = []
    if not one.reported:
        lines.append("its node no longer reports it; it is removed with its last allocation")
    if one.traits:
        lines.append(f"traits: {' '.join(one.traits)}")
    if one.operator_traits:
        lines.append(f"operator's traits: {' '.join(one.operator_traits)}")
    if one.attributes:
        lines.append(f"attributes: {attributes_text(one.attributes)}")
    if one.operator_attributes:
        lines.append(f"operator's attributes: {attributes_text(one.operator_attributes)}")
    if one.aggregates:
        lines.append(f"aggregates: {' '.join(one.aggregates)}")
    if one.facts is not None:
        reason = f" ({one.facts['reason']})" if one.facts["reason"] else ""
        lines.append(f"operator settings: {one.facts['status']}{reason}, revision {one.facts['revision']}")
        if one.facts["taints"]:
            lines.append(f"taints: {taints_text(one.facts['taints'])}")
        for name, values in one.facts["overrides"].items():
            shown = {field: value for field, value in values.items() if field != "excluded"}
            if not shown:
                continue
            override = ", ".join(f"{field}={value}" for field, value in shown.items())
            idle = one.facts["overrides_without_effect"].get(name)
            unused = (
                f" ({' and '.join(idle)}: no effect on the inventory that the node reports)" if idle else ""
            )
            lines.append(f"override of {name}: {override}{unused}")
    return lines


def excluded_text(one: ExcludedAnswer) -> str:
    """A line about a device that nobody gets."""
    state = "disabled" if one.by == "operator" else "unhealthy, as its host says"
    reason = f" ({one.reason})" if one.reason else ""
    held = f", held by {' '.join(one.holders)}" if one.holders else ""
    return f"{one.resource_class} {one.name} is {state}{reason}{held}"


def _print_holdings(holdings: Sequence[HoldingAnswer]) -> None:
    has_holds = any(holding.hold_until_ms for holding in holdings)
    emit_table(
        ("CONSUMER", "PROVIDER", "CLASS", "AMOUNT", *(("HOLD UNTIL",) if has_holds else ())),
        (
            (
                h.consumer,
                h.provider,
                h.resource_class,
                ask_text(h.grant),
                *((time_text(h.hold_until_ms),) if has_holds else ()),
            )
            for h in holdings
        ),
    )


@app.command()
@with_reading_options
def consumer(
    id_: IdArgument,
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show what a consumer holds, and by which claim."""
    from vacancy.clients.inspection.cell_moves import cell_moves
    from vacancy.clients.inspection.lookup import show_consumer

    with reading.context().open_reader() as reader:
        found = show_consumer(reader, id_)
        moves = cell_moves(reader, id_)
        position, past = position_fields(reader), past_text(reader)
    if as_json:
        emit_json(with_position(found, position))
        return
    if past:
        note(past)
    for one in found:
        emit(
            f"consumer {one.consumer} in cell {one.cell}, generation {one.generation}, type {one.consumer_type}"
        )
        emit(f"project {one.project}, user {one.user}, claim {one.claim} at {one.partition}:{one.offset}")
        _print_holdings(one.holdings)
    for move in moves:
        note(open_move_text(move))


@app.command()
@with_reading_options
def request(
    id_: IdArgument,
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show a request and its outcome."""
    from vacancy.clients.inspection.lookup import show_request

    with reading.context().open_reader() as reader:
        found = show_request(reader, id_)
        position, past = position_fields(reader), past_text(reader)
    if as_json:
        emit_json(with_position(found, position))
        return
    if past:
        note(past)
    emit_table(
        ("REQUEST", "RECEIVED", "OUTCOME", "CELL", "CLAIM", "REASON"),
        [
            (
                found.id,
                time_text(found.received_ms),
                found.outcome or "open",
                found.cell,
                found.claim,
                found.reason,
            )
        ],
    )
    emit_json(found.spec)


@app.command()
@with_reading_options
def claim(
    id_: IdArgument,
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show a claim's verdict. It is kept until the claim's deadline."""
    from vacancy.clients.inspection.lookup import show_claim

    with reading.context().open_reader() as reader:
        found = show_claim(reader, id_)
        position, past = position_fields(reader), past_text(reader)
    if as_json:
        emit_json(with_position(found, position))
        return
    if past:
        note(past)
    emit(f"claim {found.claim} of {found.consumer} in cell {found.cell} at {found.partition}:{found.offset}")
    if found.accepted:
        emit("accepted")
        return
    emit(f"rejected: {found.reason.replace('_', ' ')}")
    if found.group:
        emit(f"in server group {found.group}, because of {found.other or 'the claim itself'}")
    if found.provider:
        emit(
            f"on {found.provider} {found.resource_class}: asked {found.asked}, available {found.available},"
            f" last taken at offset {found.taken}"
        )


@app.command()
@with_reading_options
def group(
    id_: Annotated[str, typer.Argument(metavar="CELL/NAME")],
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show a server group: its policy, its members, and the nodes that they are on."""
    from vacancy.clients.inspection.group_report import show_group

    with reading.context().open_reader(with_view=False) as reader:
        found = show_group(reader, id_)
        position = position_fields(reader)
        as_of = as_of_text(reader)
    if as_json:
        emit_json(with_position(found, position))
        return
    most = f", at most {found.max_per_node} together" if found.policy == "anti-affinity" else ""
    if found.max_skew is not None:
        most = f", max skew {found.max_skew}"
    where = f" by aggregates {found.scope}…" if found.scope else " by nodes"
    emit(f"group {found.id}: {found.policy}, {'hard' if found.hard else 'soft'}{most},{where}")
    emit_table(
        ("CONSUMER", "NODES", "CLAIMED AT"),
        ((m.consumer, " ".join(",".join(some) for some in m.roots), m.offset) for m in found.members),
    )
    if found.domains is not None:
        emit_table(("DOMAIN", "MEMBERS"), found.domains.items())
    note(as_of)


@app.command()
@with_reading_options
def nodes(
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show all nodes, and whether they accept new claims."""
    from vacancy.clients.inspection.lookup import nodes as all_nodes

    with reading.context().open_reader() as reader:
        found = list(all_nodes(reader))
        position, past = position_fields(reader), past_text(reader)
    if as_json:
        emit_json({"nodes": found, **position})
        return
    if past:
        note(past)
    emit_table(
        ("NODE", "CELL", "STATE", "LAST HEARD"),
        ((node.root, node.cell, node.state, time_text(node.heard_ms)) for node in found),
    )
