"""Why a node is not a candidate for a request: every constraint that it fails, with what is asked and what is available,
and the event that took the last units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vacancy.clients.inspection.answers import NodeAnswer
from vacancy.clients.inspection.contested import contested_node, contested_text, same_machine_text
from vacancy.clients.inspection.lack_texts import EmptyProviders, members_text
from vacancy.clients.inspection.lookup import (
    NotFound,
    excluded_at,
    excluded_text,
    find,
    node_of,
    provider_cell,
    provider_cells,
)
from vacancy.clients.inspection.provenance import EventLookup, LogEvent
from vacancy.clients.request_language.request_compiler import compile_request
from vacancy.projections.diagnostics.constraints import RequestConstraints
from vacancy.projections.diagnostics.node_report import FailedConstraint, TreeReport, report_node
from vacancy.projections.diagnostics.qualities import QualityConstraints
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.filter import TAINT, taint_text
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.rows import NodeRow, ProviderRow, why_closed
from vacancy.resources.state.tables import FACTS, NODES, PROVIDERS, key
from vacancy.streams.log import Log

_WITHHELD_SHOWN = 4
"""How many devices are named of which each would help."""


@dataclass(frozen=True, slots=True)
class Lack:
    """One constraint that a provider fails, see `node_report.FailedConstraint`. `why` is for people; `event` is the
    event that took the last units, or that disabled the provider. `provider` is the provider that lacks it."""

    kind: str
    constraint: str
    resource_class: str
    asked: int | None
    available: int | None
    why: str
    event: LogEvent | None
    provider: str = ""


@dataclass(frozen=True, slots=True)
class ProviderLacks:
    """A provider of the tree, and what it lacks for a group. Without lacks it can serve the group."""

    provider: str
    lacks: list[Lack]


@dataclass(frozen=True, slots=True)
class GroupLacks:
    """What groups (their names) ask of one provider, and the providers of the tree, the nearest first."""

    group: str
    providers: list[ProviderLacks]


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why a node is not a candidate, or that it is one (`fits`). `whole` is what the tree fails as a whole. `node` is None
    where the tables know only that the node is gone. `alternatives` has the same of each alternative of the request; `fits` is
    of the request itself there and here."""

    root: str
    cell: str
    partition: int
    fits: bool
    node: NodeAnswer | None
    groups: list[GroupLacks]
    whole: list[Lack]
    as_of: dict[int, int]
    alternatives: list[WhyNot] = field(default_factory=list)

    @property
    def fits_any(self) -> bool:
        """Whether the node is a candidate for the request or for one of its alternatives."""
        return self.fits or any(one.fits for one in self.alternatives)


def why_not(
    reader: StoreReader,
    request: RequestSpec | CompiledRequest,
    node: str,
    *,
    cell: str | None = None,
    log: Log | None = None,
    heard_since_ms: int | None = None,
    qualities_only: bool = False,
) -> WhyNot:
    """Why the tree of `node` (its root, or any provider of it) is not a candidate for a request. With `qualities_only`, which
    of the qualities that are asked for it lacks, also of a full or disabled node (see `QualityConstraints`).

    With `log` the answer names the consumer that took the last unit, and the time; without it there are offsets. The node must
    have been heard from at `heard_since_ms` (log time) or later; None: at any time.
    Raises `UsageError` where the request is invalid, and `NotFound` where nothing is known of the node.
    """
    compiled = compile_request(request, reader.registry)
    reader.catch_up()
    home, row = _home(reader, node, cell)
    partition = partition_for(home, reader.manifest.partitions)
    shown = node_of(reader, home, node if row is None else row.root)
    if row is None or key(home, row.root) not in reader.view.row_of:
        gone = Lack("open", "takes new claims", "", None, None, "the node is retired", None, node)
        return WhyNot(node, home, partition, False, shown, [], [gone], reader.position)
    root = reader.view.row_of[key(home, row.root)]
    made = QualityConstraints if qualities_only else RequestConstraints
    events = EventLookup(reader, log)
    answers = []
    for one in compiled.alternatives:
        tree = report_node(reader.view, made(reader.view, one, heard_since_ms), root)
        groups, whole = _lacks(reader, events, tree, one.spec)
        answers.append(WhyNot(tree.root, home, partition, tree.fits, shown, groups, whole, reader.position))
    first, *others = answers
    return replace(first, alternatives=others)


def _lacks(
    reader: StoreReader, events: EventLookup, tree: TreeReport, spec: RequestSpec
) -> tuple[list[GroupLacks], list[Lack]]:
    """What the providers of a tree lack, by group, and what the tree fails as a whole."""
    empty = EmptyProviders(reader, tree.cell)
    asks = {group.name: group.resources for group in spec.groups}

    def lacks(names: str, provider: str, failures: Iterable[FailedConstraint]) -> list[Lack]:
        asked = asks.get(names.split(", ")[0], {})  # groups that ask for the same have one report
        return [
            _would_not_fit(failure, provider)
            if failure.taken >= 0
            and not failure.withheld
            and failure.resource_class in asked
            and not empty.would_fit(provider, failure.resource_class, asked[failure.resource_class])
            else _lack(reader, events, tree, provider, failure)
            for failure in failures
        ]

    groups = [
        GroupLacks(
            group.group,
            [
                ProviderLacks(one.provider, lacks(group.group, one.provider, one.failures))
                for one in group.providers
            ],
        )
        for group in tree.groups
    ]
    whole = [_lack(reader, events, tree, failure.provider or tree.root, failure) for failure in tree.whole]
    for one in spec.memberships:
        text = members_text(reader, one, tree.cell, tree.root)
        whole = [
            replace(lack, why=text)
            if lack.constraint.startswith(f"{one.policy} to group {one.group}")
            else lack
            for lack in whole
        ]
    return groups, whole


def _would_not_fit(failure: FailedConstraint, provider: str) -> Lack:
    """A lack that no release changes: who took something last is not the reason."""
    return Lack(
        failure.kind,
        failure.constraint,
        failure.resource_class,
        failure.asked,
        failure.available,
        "would not fit if nothing were held",
        None,
        provider,
    )


def _home(reader: StoreReader, node: str, cell: str | None) -> tuple[str, ProviderRow | None]:
    """The cell of a provider, the one where it is live if several cells know it, and its row; None if its node is gone."""
    cells = [cell] if cell else provider_cells(reader, node)
    rows = [(one, row) for one in cells if (row := reader.get(PROVIDERS, key(one, node))) is not None]
    if rows:
        return min(rows, key=lambda item: not _is_live(reader, *item))
    gone: list[tuple[str, NodeRow]] = [one for one in find(reader, NODES, node) if cell in (None, one[0])]
    if gone:
        return gone[0][0], None
    if cell is not None:
        raise NotFound(
            f"there is no provider {node!r} in cell {cell}", do="leave --cell out, or name another"
        )
    return provider_cell(reader, node), None  # raises, with similar names


def _is_live(reader: StoreReader, cell: str, row: ProviderRow) -> bool:
    node = reader.get(NODES, key(cell, row.root))
    return node is not None and node.open and row.reported


def _lack(
    reader: StoreReader, events: EventLookup, tree: TreeReport, provider: str, failure: FailedConstraint
) -> Lack:
    if failure.kind == "open":
        why, event = _closed(reader, events, tree.cell, provider)
    elif failure.kind == TAINT:
        why, event = _repelled(reader, events, tree.cell, provider, failure.constraint)
    else:
        why = ", ".join(
            filter(None, (failure.reason.replace("_", " "), _withheld(reader, tree.cell, provider, failure)))
        )
        event = (
            events.taking(tree.cell, failure.taken, provider, failure.resource_class)
            if failure.taken >= 0
            else None
        )
    return Lack(
        failure.kind,
        failure.constraint,
        failure.resource_class,
        failure.asked,
        failure.available,
        why,
        event,
        provider,
    )


def _withheld(reader: StoreReader, cell: str, provider: str, failure: FailedConstraint) -> str:
    """Why nobody gets the devices with which more would fit, for people."""
    if not failure.withheld:
        return ""
    found = [
        one
        for one in excluded_at(reader, cell, provider)
        if one.resource_class == failure.resource_class and one.name in failure.withheld
    ]
    texts = [excluded_text(one) for one in found[:_WITHHELD_SHOWN]]
    more = len(found) - len(texts)
    return ", ".join([*texts, *([f"and {more} more devices"] if more else [])])


def _closed(
    reader: StoreReader, events: EventLookup, cell: str, provider: str
) -> tuple[str, LogEvent | None]:
    """Why a provider takes no new claims, for people, and the event of the operator who disabled it."""
    row = reader.get(PROVIDERS, key(cell, provider))
    if row is None:
        return "the provider does not exist", None
    root = reader.get(PROVIDERS, key(cell, row.root))
    closed = why_closed(reader.get(NODES, key(cell, row.root)), row, root)
    if closed is not None and closed.reason in ("retired", "unreported"):
        return _TEXTS[closed.reason], None
    if row.root in reader.view.clashes:
        cells = " and ".join(sorted(reader.view.name(at)[0] for at in reader.view.clashes[row.root]))
        return f"its node is live in cells {cells}: retire it in the cell that it left", None
    if text := same_machine_text(reader, cell, row.root):
        return f"{text}: let an operator decide with `vacancy provider adopt`, or retire one of them", None
    if closed is None:
        return "", None
    if closed.reason == "disabled":
        id_ = provider if closed.by is row else row.root
        return _disabled(reader, cell, id_), events.settings(cell, closed.by.changed, id_)
    contested = contested_node(reader, cell, row.root)
    if contested is not None and contested.closed:
        return f"node {row.root} is closed: {contested_text(contested)}", None
    return _TEXTS[closed.reason], None


def _repelled(
    reader: StoreReader, events: EventLookup, cell: str, provider: str, constraint: str
) -> tuple[str, LogEvent | None]:
    """Which taint repels a request, for people, and the event of the operator who set it."""
    row = reader.get(PROVIDERS, key(cell, provider))
    root = None if row is None else reader.get(PROVIDERS, key(cell, row.root))
    for one, id_ in ((row, provider), (root, "" if row is None else row.root)):
        for taint in () if one is None else one.taints:
            if one is not None and taint_text(taint) == constraint:
                text = f"repelled by taint {taint.text} of {id_}; add --tolerate {taint.text}"
                return text, events.settings(cell, one.changed, id_)
    return f"`vacancy show provider {provider}` lists its taints", None


_TEXTS: Mapping[str, str] = {
    "retired": "its node is retired",
    "unreported": "its node no longer reports it",
    "incomplete": "a report of its node is missing: its next full report makes it complete",
}


def _disabled(reader: StoreReader, cell: str, id_: str) -> str:
    settings = reader.get(FACTS, key(cell, id_))
    if settings is None:
        return ""
    reason = f" ({settings.reason})" if settings.reason else ""
    return f"{id_} is {settings.status} by an operator{reason}, revision {settings.revision}"
