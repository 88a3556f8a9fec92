"""Places for a consumer that holds something already. What it holds counts as free for it.

A place is listed only if the fold accepts it: each candidate is judged by the fold's own code, on the rows of the store, and
what that would write is thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from vacancy.clients.scheduler.claims import ClaimMaker, new_ids
from vacancy.clients.scheduler.moves.holdings import Asked, Holding, root_of
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.filter import Filter
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate, ServedGroup
from vacancy.projections.query.order import Order
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.consumer_view import ConsumerView
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.fold.claims.claims import fold_replaced
from vacancy.resources.fold.claims.judge import Rejection
from vacancy.resources.fold.claims.moves import judge_update
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import (
    RequestGroup,
    RequestSpec,
    RequestSpecV2,
    changed_extras,
    plain_fields,
)
from vacancy.resources.model.server_group import COPY_MARK, SHARES, copy_of, with_copy
from vacancy.resources.state.rows import AllocationRow, VerdictRow
from vacancy.resources.state.tables import ALLOCATIONS, PARTITION, PARTITION_KEY, VERDICTS, Table, key
from vacancy.resources.state.transaction import Changes, Transaction

QUOTA: Final = frozenset({"over_quota", "quota_full"})
"""Rejections that do not depend on the place: a share of a limit may be in another partition."""

_Mark = tuple[int, tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...]]
"""See `ConsumerPlaces._mark`."""

_SEARCHED: Final = 64
_SEARCHED_MAX: Final = 4096
_NO_ROWS: Final[dict[bytes, Any]] = {}


class Place(NamedTuple):
    """A candidate that the fold accepts, the replacement that claims it, and what the consumer would hold after it. `stays`:
    it holds all of it already, or it asks for something else of the same providers. `changes` are the rows that the fold would
    write."""

    candidate: Candidate
    replacement: events.ReplacementV3
    after: AllocationRow | None
    stays: bool
    changes: Changes


class Wish(NamedTuple):
    """What is asked for a consumer. `asked` is what it had asked for, where that is known.

    `to` is the only node that it may go to, `not_nodes` are those that it may not. With `keep` it also keeps what it holds.
    `leaves` are server groups (ids) that it leaves. With `stay` no other providers are searched for than those that it has.
    """

    placement: PlacementRequest
    compiled: CompiledRequest
    asked: Asked | None = None
    to: str | None = None
    not_nodes: frozenset[str] = frozenset()
    keep: bool = False
    leaves: tuple[str, ...] = ()
    stay: bool = False


class ConsumerPlaces:
    """Finds places for one consumer in the cell where it holds something, as of where the reader is. `planned` are rows that
    others would change first; what they reserve is in the reader's view."""

    def __init__(
        self, query: StoreQuery, maker: ClaimMaker, held: Holding, wish: Wish, planned: Changes | None = None
    ) -> None:
        self._query, self._reader, self._maker = query, query.reader, maker
        self._held, self._wish, self._planned = held, wish, planned or {}
        freed = () if wish.keep else held.row.parts
        self.view = ConsumerView(query.reader.view, held.consumer, {held.cell: freed})
        self.trees = trees_of(self.view, held.cell, wish.to, wish.not_nodes)
        """By row, whether its tree may be a place."""

        self._ids = new_ids()
        self.rejected: VerdictRow | None = None
        """The last rejection of a candidate."""

        self.other_grants = ""
        """A provider of which the rules of this log would give something else for an ask that stays the same; '' if there is
        none."""

    def places(
        self, limit: int, order: Order, heard_since_ms: int | None, budget: SearchBudget
    ) -> list[Place]:
        """Up to `limit` places. First those where the consumer is."""
        found: list[Place] = []
        seen = set()
        for place in self._all(limit, order, heard_since_ms, budget):
            mark = self._mark(place.candidate)
            if mark not in seen:
                seen.add(mark)
                found.append(place)
            if len(found) == limit:
                break
        return found

    def _mark(self, candidate: Candidate) -> _Mark:
        """What distinguishes one place from others: who gives what. It does not matter which of equal groups is served by whom,
        or which tree may use the sharing providers that serve everything."""
        compiled = self._wish.compiled
        spec = (compiled.choices or (compiled,))[candidate.choice].spec
        kinds = {
            group.name: f"{group.model_copy(update={'name': ''})!r} {[group.name in some for some in spec.same_subtree]}"
            for group in spec.groups
        }
        served: dict[str, list[tuple[str, str, str]]] = {}
        for one in candidate.allocations:
            served.setdefault(one.group, []).extend(
                (one.provider, name, repr(ask)) for name, ask in one.resources.items()
            )
        return candidate.choice, tuple(
            sorted(
                (kinds[group.partition("#")[0]], copy_of(group), tuple(sorted(some)))
                for group, some in served.items()
                if some
            )
        )

    def _all(
        self, limit: int, order: Order, heard_since_ms: int | None, budget: SearchBudget
    ) -> Iterator[Place]:
        for candidate, unchanged in self._staying(order, budget):
            yield from self._accepted(candidate, stays=True, unchanged=unchanged)
        if self._wish.stay:
            return
        for candidate in self._some_copies_staying(order, heard_since_ms, budget):
            yield from self._accepted(candidate, stays=False)
        most, tried = max(_SEARCHED, 2 * limit), 0
        while True:
            found = find(
                self.view,
                self._wish.compiled,
                limit=most,
                order=order,
                rng=self._query.rng,
                cell=self._held.cell,
                heard_since_ms=heard_since_ms,
                budget=budget,
                avoid=self._wish.not_nodes,
                among=self.trees,
            )
            for candidate in found if order.uniform else found[tried:]:
                yield from self._accepted(candidate, stays=False)
            tried, most = len(found), most * 4
            if tried * 4 < most or most > _SEARCHED_MAX:
                return

    # -- where it is --------------------------------------------------------------------------------------------

    def _staying(self, order: Order, budget: SearchBudget) -> Iterator[tuple[Candidate, bool]]:
        """The request served by the providers that the consumer has it from now, and whether it asks for the same as now. What
        it did not ask for before comes from the same tree."""
        wish, asked = self._wish, self._wish.asked
        if asked is None or wish.keep:
            return
        same = asked.known and _same_groups(wish.compiled.spec, asked.spec)
        if asked.spec.copies > 1:
            if self._may_stay(asked.served):
                yield from self._copies_staying(asked, same=same)
            return
        for half in map(asked.half, asked.halves):
            if not self._may_stay(half):
                continue
            if same:
                yield self._candidate(half), True
                continue
            for choice, compiled in enumerate(wish.compiled.choices or (wish.compiled,)):
                if compiled.spec.copies == 1:
                    for served in self._served_here(compiled, half, order, budget):
                        yield self._candidate(served)._replace(choice=choice), False

    def _served_here(
        self, compiled: CompiledRequest, half: tuple[ServedGroup, ...], order: Order, budget: SearchBudget
    ) -> Iterator[tuple[ServedGroup, ...]]:
        """The request served in the tree where it is. First each group stays where it is; then only what is asked for as before
        stays, and the rest may come from other providers of the tree."""
        asked = self._wish.asked
        same = asked.spec.groups if asked is not None and asked.known else None
        splits = [split_groups(compiled.spec, half)]
        if same is not None and (split := split_groups(compiled.spec, half, same)) != splits[0]:
            splits.append(split)
        for split in splits:
            if not split.stay:
                continue
            more = (
                self._in_tree(split.others, min(self._roots(half)), order, budget) if split.others else [()]
            )
            for one in more:
                served = (*split.stay, *one)
                if self._has_qualities(compiled, served):
                    yield served

    def _in_tree(
        self, groups: tuple[RequestGroup, ...], root: str, order: Order, budget: SearchBudget
    ) -> list[tuple[ServedGroup, ...]]:
        """Ways to serve some groups in the tree of one root."""
        view, cell = self.view, self._held.cell
        found = find(
            view,
            self._query.compile(RequestSpec.model_construct(groups=groups)),  # they may ask for no resources
            limit=_SEARCHED,
            order=order,
            rng=self._query.rng,
            cell=cell,
            budget=budget,
            among=trees_of(view, cell, root, ()),
        )
        return [one.allocations for one in found]

    def _copies_staying(self, asked: Asked, *, same: bool) -> Iterator[tuple[Candidate, bool]]:
        """As `_staying`, of a consumer with several copies: each copy stays where it is."""
        compiled = self._wish.compiled
        if same:
            yield self._candidate(asked.served), True
            return
        numbers = list(dict.fromkeys(copy_of(one.group) for one in asked.served))
        if len(compiled.choices) == 1:
            (compiled,) = compiled.choices
        if compiled.choices or compiled.spec.copies != len(numbers):
            return
        copies: list[Candidate] = []
        renamed: list[ServedGroup] = []
        for number in numbers:
            split = split_groups(compiled.spec, asked.half(number))
            served = split.stay
            if split.others or not self._has_qualities(compiled, served):
                return
            copies.append(self._candidate(served))
            renamed += [
                one._replace(group=with_copy(one.group, int(number)) if number else one.group)
                for one in served
            ]
        yield self._candidate(tuple(renamed))._replace(root=copies[0].root, copies=tuple(copies)), False

    def _some_copies_staying(
        self, order: Order, heard_since_ms: int | None, budget: SearchBudget
    ) -> Iterator[Candidate]:
        """Of several copies, those that may stay where they are stay, and the others have other places."""
        asked, compiled, cell = self._wish.asked, self._wish.compiled, self._held.cell
        if asked is None or not asked.known or compiled.choices or compiled.spec != asked.spec:
            return
        halves = {
            number: asked.half(number) for number in dict.fromkeys(copy_of(one.group) for one in asked.served)
        }
        leaving = [number for number, half in halves.items() if not self._may_stay(half)]
        if not 0 < len(leaving) < len(halves):
            return
        freed = [part for part in self._held.row.parts if copy_of(part.group) in leaving]
        view = ConsumerView(self._query.reader.view, self._held.consumer, {cell: freed})
        left_out = set(self._wish.not_nodes)
        if compiled.spec.copies_on == "distinct":
            left_out.update(*(self._roots(half) for number, half in halves.items() if number not in leaving))
        spec = compiled.spec.model_copy(update={"copies": len(leaving)})
        for one in find(
            view,
            self._query.compile(spec),
            limit=_SEARCHED,
            order=order,
            rng=self._query.rng,
            cell=cell,
            heard_since_ms=heard_since_ms,
            budget=budget,
            avoid=left_out,
        ):
            new = dict(zip(leaving, one.copies or (one,), strict=True))
            copies = {number: new.get(number) or self._candidate(half) for number, half in halves.items()}
            yield _together(copies)

    def _may_stay(self, half: Iterable[ServedGroup]) -> bool:
        to, every = self._wish.to, {root_of(self._reader, self._held.cell, one.provider) for one in half}
        return every.isdisjoint(self._wish.not_nodes) and (to is None or self._roots(half) == {to})

    def _roots(self, half: Iterable[ServedGroup]) -> set[str]:
        """The nodes that a place is on. Sharing providers count where there is nothing else."""
        cell = self._held.cell
        own = {one.provider for one in half}
        return {root_of(self._reader, cell, id_) for id_ in own if not _shares(self.view, cell, id_)} or {
            root_of(self._reader, cell, id_) for id_ in own
        }

    def _candidate(self, served: tuple[ServedGroup, ...]) -> Candidate:
        cell = self._held.cell
        root = min(self._roots(served))
        sharing = tuple(
            dict.fromkeys(one.provider for one in served if root_of(self._reader, cell, one.provider) != root)
        )
        return Candidate(cell, root, served, sharing)

    def _has_qualities(self, compiled: CompiledRequest, served: tuple[ServedGroup, ...]) -> bool:
        """Whether providers have what a request asks for besides resources."""
        spec, view, cell = compiled.spec, self.view, self._held.cell
        rows: dict[str, list[int]] = {}
        for one in served:
            rows.setdefault(one.group, []).append(view.row_of[key(cell, one.provider)])
        root = view.row_of[key(cell, min(self._roots(served)))]
        at_root = view.traits.of(root)
        if not (set(spec.root_required) <= set(at_root) and set(spec.root_forbidden).isdisjoint(at_root)):
            return False
        numbered = [rows[one.name][0] for one in spec.groups if one.same_provider]
        if spec.group_policy == "isolate" and len(set(numbered)) < len(numbered):
            return False
        for names in spec.same_subtree:
            there = {rows[name][0] for name in names}
            if not any(all(top in view.path(row) for row in there) for top in there):
                return False
        return all(self._group_holds(compiled, group, rows[group.name], root) for group in spec.groups)

    def _group_holds(
        self, compiled: CompiledRequest, group: RequestGroup, rows: list[int], root: int
    ) -> bool:
        view = self.view
        each: dict[str, Any] = {"resources": {}}
        if not group.same_provider:
            traits = {name for row in rows for name in view.traits.of(row)}
            wanted = (*((name,) for name in group.required), *group.any_traits)
            if any(traits.isdisjoint(names) for names in wanted):
                return False
            each |= {"required": (), "any_traits": (), "member_of": ()}
            at_root = view.aggregates.of(root)
            if not set(group.not_member_of).isdisjoint(at_root):
                return False
            for row in rows:
                own = (
                    at_root if view.root[row] == root else ()
                )  # a sharing provider does not get those of the tree
                for names in group.member_of:
                    if set(names).isdisjoint((*view.aggregates.of(row), *own)):
                        return False
        qualities = Filter(view, group.model_copy(update=each), compiled.expressions, cell=self._held.cell)
        everything = np.ones(view.size, dtype=np.bool_)
        return not qualities.impossible and len(
            qualities.among(np.array(rows, dtype=np.int64), everything)
        ) == len(rows)

    # -- what the fold accepts ----------------------------------------------------------------------------------

    def _accepted(self, candidate: Candidate, *, stays: bool, unchanged: bool = False) -> Iterator[Place]:
        replacement = self.replacement(candidate, next(self._ids), unchanged=unchanged)
        deadline_ms = self._maker.deadline_ms
        verdict, after, changes = judged(self._reader, self._held, replacement, deadline_ms, self._planned)
        if verdict is not None and not verdict.accepted:
            self.rejected = verdict
            if verdict.reason not in QUOTA:
                return
            after = None  # what it would hold is not known before the share of the limit is
        elif after is not None and (other := self._changed_grant(replacement, after)):
            self.other_grants = other
            return
        yield Place(candidate, replacement, after, stays, changes)

    def replacement(
        self, candidate: Candidate, claim: str, *, unchanged: bool = False
    ) -> events.ReplacementV3:
        """The replacement that claims a candidate. `unchanged`: the consumer holds it already, so nothing of it is checked."""
        wish, held = self._wish, self._held
        wire = self._maker.make(
            claim,
            candidate,
            wish.placement,
            wish.compiled,
            consumer=held.consumer,
            request_id="-",
            checked=not unchanged,
        )
        fields = json.loads(msgspec.json.encode(wire))
        fields["request"] = wish.placement.id
        fields |= {"replaces": held.row.claim, "consumer_generation": held.row.generation}
        if held.row.hold_until_ms and wish.placement.hold_ms is None:
            fields["hold_until_ms"] = held.row.hold_until_ms
        if wish.keep and wish.asked is not None:
            first = [one._asdict() for one in wish.asked.half(wish.asked.halves[0])]
            second = [{**one, "group": with_copy(one.get("group", ""), 2)} for one in fields["allocations"]]
            fields["allocations"] = [*first, *second]
        if wish.leaves:
            fields["leaves"] = wish.leaves
        return events.ReplacementV3.model_validate_json(json.dumps(fields))

    def _changed_grant(self, replacement: events.ReplacementV3, after: AllocationRow) -> str:
        """A provider that would give something else by name for an ask that stays the same, or ''."""
        asked = self._wish.asked
        if asked is None or not asked.known:
            return ""
        before = {
            (one.provider, one.group, name): ask
            for one in asked.served
            for name, ask in one.resources.items()
        }
        held = {(part.provider, part.group, part.resource_class): part.grant for part in self._held.row.parts}
        parts = iter(after.parts)
        for allocation in replacement.allocations:
            for name, ask in allocation.resources.items():
                part, slot = next(parts), (allocation.provider, allocation.group, name)
                if before.get(slot) == ask and slot in held and held[slot] != part.grant:
                    return allocation.provider
        return ""


def _together(copies: Mapping[str, Candidate]) -> Candidate:
    """One candidate of several copies, by their numbers."""
    first, *_ = copies.values()
    served = tuple(
        one._replace(group=with_copy(one.group.partition(COPY_MARK)[0], int(number)))
        for number, copy in copies.items()
        for one in copy.allocations
    )
    sharing = tuple(dict.fromkeys(id_ for copy in copies.values() for id_ in copy.from_sharing))
    return Candidate(first.cell, first.root, served, sharing, tuple(copies.values()))


def trees_of(view: FleetView, cell: str | None, to: str | None, not_nodes: Collection[str]) -> Bools:
    """By row, whether its tree may be a place: that of `to`, or all but those of `not_nodes`, in one `cell` or in all."""
    size = view.size
    cells = list(view.cells) if cell is None else [cell.encode()]

    def rows(name: str) -> Iterator[int]:
        return (row for one in cells if (row := view.row_of.get(one + b"\0" + name.encode())) is not None)

    kept: Bools = np.full(size, to is None, dtype=np.bool_)
    for row in rows(to) if to is not None else ():
        kept[row] = True
    for name in not_nodes:
        for row in rows(name):
            kept[row] = False
    found: Bools = kept[view.root[:size]]
    return found if cell is None else found & (view.cell[:size] == view.cells.get(cell.encode(), -1))


class _Rows:
    """The tables of a store, with the rows that are planned, as the state that the fold reads."""

    def __init__(self, reader: StoreReader, cell: str, planned: Changes) -> None:
        self._reader, self._cell, self._planned = reader, cell, planned

    def get(self, table: Table[Any], row_key: bytes) -> Any:
        if row_key in (rows := self._planned.get(table, _NO_ROWS)):
            return rows[row_key]
        return self._reader.get(table, row_key, cell=self._cell)

    def due(self, until_ms: int, most: int = 0) -> Iterable[bytes]:
        return ()


class _Judged(NamedTuple):
    """The verdict on a replacement, what the consumer would hold then, and all rows that the fold would write."""

    verdict: VerdictRow | None
    after: AllocationRow | None
    changes: Changes


def judged(
    reader: StoreReader, held: Holding, replacement: events.ReplacementV3, deadline_ms: int, planned: Changes
) -> _Judged:
    """What the fold would make of a replacement now, after the `planned` rows. `deadline_ms` is how long the replacement may
    wait."""
    transaction = _transaction(reader, held.cell, replacement.deadline_ms - deadline_ms, planned)
    if transaction is None:
        return _Judged(None, None, {})
    fold_replaced(transaction, replacement)
    return _Judged(
        transaction.get(VERDICTS, transaction.key(replacement.id)),
        transaction.get(ALLOCATIONS, transaction.key(held.consumer)),
        transaction.changes,
    )


def judged_update(reader: StoreReader, cell: str, data: events.ConsumerUpdate) -> Rejection | None:
    """Why a quota would not allow the change of a consumer's project, user or type now, or None. Raises `InvalidRecord` where
    it holds nothing by that claim."""
    transaction = _transaction(reader, cell, reader.newest_ms)
    return None if transaction is None else judge_update(transaction, data)


def _transaction(
    reader: StoreReader, cell: str, now_ms: int, planned: Changes | None = None
) -> Transaction | None:
    """A record of a cell that comes now, after the `planned` rows, or None where its partition is not known."""
    row = reader.get(PARTITION, PARTITION_KEY, cell=cell)
    if row is None:
        return None
    offset = reader.position[partition_for(cell, reader.manifest.partitions)]
    rows = _Rows(reader, cell, planned or {})
    return Transaction(rows, reader.registry, reader.versions, row, cell, offset, now_ms)


def _same_groups(wanted: RequestSpec, asked: RequestSpec) -> bool:
    """Whether a request asks for the same as before: the same groups and relations; server groups and tolerations do not
    count."""
    return _bare(wanted) == _bare(asked)


def _bare(spec: RequestSpec) -> RequestSpec:
    left_out: dict[str, Any] = {"memberships": ()}
    if isinstance(spec, RequestSpecV2):
        left_out["tolerations"] = ()
    bare = spec.model_copy(update=left_out)
    return bare if changed_extras(bare) else RequestSpec.model_construct(**plain_fields(bare))


class SplitGroups(NamedTuple):
    """The groups of a request: those that `stay` with the providers that serve them now, and the `others`."""

    stay: tuple[ServedGroup, ...]
    others: tuple[RequestGroup, ...]


def split_groups(
    spec: RequestSpec, half: Iterable[ServedGroup], before: Iterable[RequestGroup] | None = None
) -> SplitGroups:
    """Which groups of a request the providers that serve them now can serve: those that they serve already. With `before` (the
    groups of the request until now) only what is asked for as before stays.

    Of a group that several providers serve, each class stays or not by itself. What does not stay has no collective traits
    and aggregates in `others`: the caller checks them on all providers of the group.
    """
    now: dict[str, list[ServedGroup]] = {}
    for one in half:
        now.setdefault(one.group, []).append(one)
    asked = None if before is None else {one.name: one for one in before}
    stay: list[ServedGroup] = []
    others: list[RequestGroup] = []
    for group in spec.groups:
        there = now.get(group.name, [])
        old = group if asked is None else asked.get(group.name, RequestGroup())
        if group.same_provider:
            if len({one.provider for one in there}) == 1 and old == group:
                stay.append(ServedGroup(there[0].provider, dict(group.resources), group.name))
            else:
                others.append(group)
            continue
        more = {}
        for name, ask in group.resources.items():
            provider = next((one.provider for one in there if name in one.resources), None)
            if provider is None or old.resources.get(name) != ask:
                more[name] = ask
            else:
                stay.append(ServedGroup(provider, {name: ask}, group.name))
        if more:
            alone = {"resources": more, "required": (), "any_traits": (), "member_of": ()}
            others.append(group.model_copy(update=alone))
    return SplitGroups(tuple(stay), tuple(others))


def _shares(view: FleetView, cell: str, provider: str) -> bool:
    row = view.row_of.get(key(cell, provider))
    return row is not None and SHARES in view.traits.of(row)
