"""What a consumer holds in a cell, what it had asked for, and the request that this is an answer to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from vacancy.clients.request_language.toleration_syntax import parse_toleration, tolerating
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.query.model import ServedGroup
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord, LogError, LogUnavailable, UsageError, VacancyError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import Ask, RequestSpec, as_requested
from vacancy.resources.model.server_group import (
    AffinityRule,
    ServerGroupMembership,
    copy_of,
    group_name,
    membership_of,
)
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, GROUPS, PROVIDERS, key
from vacancy.streams.log import Log

_READ_S = 5.0


class NothingHeld(VacancyError):
    """A consumer holds nothing (in that cell), so there is nothing to move. Operator action: check its name, or place it."""


class Holding(NamedTuple):
    """What a consumer holds in a cell."""

    consumer: str
    cell: str
    row: AllocationRow


class Asked(NamedTuple):
    """What a consumer had asked for, by what is in the log: its request, and what each provider gives. Of a consumer that
    holds two places at once the asks of the second have the copy number 2 in the names of their groups. Where it is not
    `known`, the providers are those that it holds something of, and the request and the asks are not its own."""

    spec: RequestSpec
    served: tuple[ServedGroup, ...]
    known: bool = True

    def half(self, number: str) -> tuple[ServedGroup, ...]:
        """The place with this copy number ('': the first), with the groups named as in the request."""
        return tuple(
            one._replace(group=one.group.partition("#")[0])
            for one in self.served
            if copy_of(one.group) == number
        )

    @property
    def halves(self) -> list[str]:
        """The copy numbers of the places that it holds at once: one, unless a move kept the place that it leaves."""
        if self.spec.copies > 1:
            return [""]
        return list(dict.fromkeys(copy_of(one.group) for one in self.served))


def holding_of(reader: StoreReader, consumer: str, cell: str | None = None) -> Holding:
    """What a consumer holds, as of where the reader is. Raises `NothingHeld`, and `UsageError` where it holds something in
    several cells and none of them is named."""
    cells = [cell] if cell is not None else sorted(name.decode() for name in reader.view.cells)
    found = [(at, row) for at in cells if (row := reader.get(ALLOCATIONS, key(at, consumer))) is not None]
    if not found:
        raise NothingHeld(
            f"consumer {consumer!r} holds nothing" + (f" in cell {cell}" if cell else ""),
            where=f"store {reader.path}",
            do="check the name, or place it with `vacancy place`",
        )
    if len(found) > 1:
        raise UsageError(
            f"consumer {consumer!r} holds something in cells {' and '.join(at for at, _ in found)}",
            where=f"store {reader.path}",
            do="choose one with --cell",
        )
    return Holding(consumer, *found[0])


def asked_of(reader: StoreReader, log: Log, held: Holding) -> Asked:
    """What a consumer had asked for. Raises `UsageError` where the log does not have its claim any more, `LogUnavailable` where
    it does not answer."""
    claim = _claim(reader, log, held)
    if claim is None:
        raise UsageError(
            f"the log no longer has claim {held.row.claim}, by which {held.consumer} holds what it holds",
            where=f"cell {held.cell}, offset {held.row.offset}",
            do="give the whole request: `vacancy place --replace`",
        )
    parts = iter(held.row.parts)  # they are in the order of the asks; a provider may have been renamed since
    served = _served(
        (next(parts).provider, allocation.group, name, ask)
        for allocation in claim.allocations
        for name, ask in allocation.resources.items()
    )
    spec = _made_up(served) if claim.spec is None else as_requested(claim.spec)
    tolerations = claim.tolerations if isinstance(claim, events.ClaimV2) else ()
    return Asked(tolerating(spec, tolerations, f"claim {claim.id}"), served)


def held_by_row(row: AllocationRow, spec: RequestSpec) -> Asked:
    """Where a consumer has from what it holds, for a request that it may not have asked for."""
    served = _served((part.provider, part.group, part.resource_class, 1) for part in row.parts)
    return Asked(spec, served, known=False)


def _served(asks: Iterable[tuple[str, str, str, Ask]]) -> tuple[ServedGroup, ...]:
    """Asks as (provider, group, class, ask), with those that follow each other of one provider and group together."""
    return tuple(
        ServedGroup(provider, {name: ask for *_, name, ask in some}, group)
        for (provider, group), some in groupby(asks, key=itemgetter(0, 1))
    )


def account_of(held: Holding, request: str | None = None) -> PlacementRequest:
    """The consumer as it is: only what it holds changes."""
    row = held.row
    return PlacementRequest("", held.consumer, request, row.project, row.user, row.consumer_type)


def without_trees(spec: RequestSpec) -> RequestSpec:
    """The request, not tied to the trees where it was placed."""
    return spec.model_copy(
        update={"groups": tuple(one.model_copy(update={"in_tree": None}) for one in spec.groups)}
    )


def also_tolerating(spec: RequestSpec, tolerate: Collection[str]) -> RequestSpec:
    """The request, which also tolerates the taints named in `tolerate` (`parse_toleration`). Raises `UsageError`."""
    return tolerating(spec, [parse_toleration(text, "--tolerate") for text in tolerate], "--tolerate")


def _claim(reader: StoreReader, log: Log, held: Holding) -> events.Claim | None:
    """The claim by which a consumer holds what it holds; None where the log does not have it any more. Raises `LogUnavailable`
    where the log does not answer."""
    partition = partition_for(held.cell, reader.manifest.partitions)
    try:
        records = log.read(partition, held.row.offset, 1, timeout_s=_READ_S)
        event = events.parse(records[0].value) if records else None
    except LogUnavailable:
        raise
    except (LogError, InvalidRecord):
        return None
    if event is None:
        raise LogUnavailable(
            f"the log did not answer within {_READ_S:g} s, and it has what {held.consumer} asked for",
            where=f"{log.name}, partition {partition}, offset {held.row.offset}",
            do="try again",
        )
    return next((one for one in events.claims_of(event) if one.id == held.row.claim), None)


def _made_up(served: Iterable[ServedGroup]) -> RequestSpec:
    """The request that a claim without one stands for: one group for each name, by what it is served from."""
    groups: dict[str, list[ServedGroup]] = {}
    for one in served:
        groups.setdefault(one.group.partition("#")[0], []).append(one)
    return RequestSpec.model_validate(
        {
            "groups": tuple(
                {
                    "name": name,
                    "same_provider": len({one.provider for one in some}) == 1,
                    "resources": {cls: ask for one in some for cls, ask in one.resources.items()},
                }
                for name, some in groups.items()
            )
        }
    )


def memberships_held(reader: StoreReader, held: Holding) -> list[ServerGroupMembership]:
    """The server groups that a consumer is in, with their rules."""
    found = []
    for name in held.row.groups:
        row = reader.get(GROUPS, key(held.cell, name))
        if row is not None:
            rule = AffinityRule(row.policy, row.hard, row.max_per_node, row.scope)
            found.append(membership_of(f"{held.cell}/{name}", rule))
    return found


def with_memberships(spec: RequestSpec, held: list[ServerGroupMembership]) -> RequestSpec:
    """The request, in these server groups besides its own."""
    named = {group_name(one.group) for one in spec.memberships}
    more = [one for one in held if group_name(one.group) not in named]
    return spec.model_copy(update={"memberships": (*spec.memberships, *more)}) if more else spec


def root_of(reader: StoreReader, cell: str, provider: str) -> str:
    """The root of a provider's tree, or the provider itself where it is not known."""
    row = reader.get(PROVIDERS, key(cell, provider))
    return provider if row is None else row.root
