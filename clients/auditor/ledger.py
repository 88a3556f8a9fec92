"""The auditor's own ledger of one partition: plain dicts, written from the documented rules and not from the fold.

Ids are unique in a cell, so everything is keyed (cell, id). What depends on a resource class is left to its class
auditor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from vacancy.clients.auditor.claims.cell_moves import CELL_MOVE_KEPT_MS, AuditedCellMoves
from vacancy.clients.auditor.claims.consumers import Consumers, HeldByConsumer, Key
from vacancy.clients.auditor.claims.moves import MOVES_SINCE
from vacancy.clients.auditor.claims.quotas import QUOTAS_SINCE, AuditedQuotas, amounts_held
from vacancy.clients.auditor.classes.built_in import CLASSES_SINCE_4, ClassAuditors
from vacancy.clients.auditor.classes.class_auditor import ClassAuditor, Refused, Stock
from vacancy.clients.auditor.deadlines import Deadline, Deadlines
from vacancy.clients.auditor.event_schema import ReadEvent, home
from vacancy.clients.auditor.nodes.cell_names import CellNames, ProviderNames
from vacancy.clients.auditor.nodes.machines import Machines
from vacancy.clients.auditor.nodes.node_order import LedgerNode, is_conflict, next_of
from vacancy.clients.auditor.nodes.operator_settings import NO_SETTINGS, AuditedSettings, read_settings
from vacancy.clients.auditor.nodes.provider_details import ProviderDetails
from vacancy.clients.auditor.nodes.renames import rename
from vacancy.clients.auditor.nodes.withdrawals import WITHDRAWAL, Withdrawals, Withdrawn
from vacancy.clients.auditor.rules_in_force import ANSWER, MACHINE_NAMES, PROPOSAL, RulesInForce
from vacancy.clients.auditor.signatures import AuditedSignatures
from vacancy.clients.auditor.taken_events import log_time, taken
from vacancy.resources.model.record import Record

DEADLINE_AHEAD_MS_MAX = 600_000
TOMBSTONE_MS = 7 * 24 * 3_600_000
REQUEST_MS = 24 * 3_600_000
CONTESTED_MS = 15 * 60_000

CONTESTED, HOLD, CELL_MOVE, TOMBSTONE, REQUEST, VERDICT = b"C", b"H", b"M", b"N", b"R", b"V"
"""The kinds of deadlines. Of one time, they end in the order of these letters."""


@dataclass(slots=True)
class LedgerProvider:
    """A provider. `changed` is its generation: the offset of the last event that changed it, other than its use."""

    root: str
    parent: str | None = None
    reported: bool = True
    traits: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    stock: dict[str, Stock] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    changed: int = -1


class Judged(NamedTuple):
    """A claim that was judged, or cancelled before it came. Its id is not judged again until log time has passed
    `until_ms`."""

    until_ms: int
    cancelled: bool


class Ledger:
    """One partition as of the records applied so far.

    `on_claim(cell, claim, replaces)` is called for each claim in the log, in order, and `on_gang(cell, claims)` for claims
    that are accepted together or not at all. `on_transaction(cell, data)` is called for each transaction.
    """

    def __init__(
        self,
        on_claim: Callable[[str, Mapping[str, Any], bool], None],
        classes: ClassAuditors | None = None,
        on_gang: Callable[[str, Sequence[Mapping[str, Any]]], None] = lambda *_: None,
        on_transaction: Callable[[str, Mapping[str, Any]], None] = lambda *_: None,
    ) -> None:
        self._on_claim = on_claim
        self.classes = classes or ClassAuditors()
        self.time_ms: int | None = None
        self.offset = -1
        self.partition = 0
        self.partitions = 0
        self.deadlines = Deadlines()
        self.rules = RulesInForce(self.deadlines)
        self.nodes: dict[Key, LedgerNode] = {}
        self.providers: dict[Key, LedgerProvider] = {}
        self.members: dict[Key, dict[str, None]] = {}
        """Tree -> its providers, in the order of the node's reports."""
        self.settings: dict[Key, AuditedSettings] = {}
        self.consumers = Consumers()
        self.quotas = AuditedQuotas()
        self.moves = AuditedCellMoves()
        self.signatures = AuditedSignatures()
        self.judged: dict[Key, Judged] = {}
        self.cancelled: set[Key] = set()
        """All claims that were cancelled and did not come after that."""
        self.requests: set[str] = set()
        self.contested_until: dict[Key, int] = {}
        self.machines = Machines()
        self.names = CellNames()
        self.details = ProviderDetails()
        self._heard_since_4: set[Key] = set()
        """Nodes of which something was written since version 4 of the rules. Only they count for the domains of a cell."""
        self.withdrawals = Withdrawals(self.deadlines, lambda cell, id_: self._written.add((cell, id_)))
        self._written: set[Key] = set()  # providers whose names are to be counted
        self.released = 0
        self.changes: list[Key] = []
        """Trees (cell, root) in the order of their changes."""
        self._handlers: Mapping[str, Callable[[str, ReadEvent], None]] = {
            "log.opened": self._log_opened,
            "rules.activated": lambda _, event: self.rules.activate(event.data),
            "rules.proposed": lambda _, event: self.rules.propose(
                event.id, event.data, offset=self.offset, time_ms=self.now()
            ),
            "rules.supported": lambda _, event: self.rules.answer(event.data),
            "rules.withdrawn": lambda _, event: self.rules.withdraw(event.data["proposal"]),
            **self._node_handlers(),
            **dict.fromkeys(("facts.set", "facts.set.v2"), self._settings_set),
            **dict.fromkeys(("requests.received", "requests.received.v2"), self._requests_received),
            **dict.fromkeys(("claims.requested", "claims.requested.v2"), self._claims_requested),
            "transaction.requested": lambda cell, event: on_transaction(cell, event.data),
            "gang.requested": lambda cell, event: on_gang(cell, event.data["claims"]),
            **self._consumer_handlers(),
            **self._quota_handlers(),
        }
        self._endings: Mapping[bytes, Callable[[Deadline], int]] = {
            ANSWER: lambda _: 1,
            CONTESTED: self._end_conflict,
            HOLD: self._end_hold,
            CELL_MOVE: self._end_move,
            PROPOSAL: self._end_proposal,
            TOMBSTONE: self._end_tombstone,
            REQUEST: self._end_request,
            VERDICT: self._end_verdict,
            WITHDRAWAL: self._go_on_withdrawing,
        }

    def _node_handlers(self) -> Mapping[str, Callable[[str, ReadEvent], None]]:
        return {
            "signing.policy.set": lambda _, event: self.signatures.set_policy(event),
            "signing.keys.set": lambda cell, event: self.signatures.set_keys(cell, event),
            "node.reported": lambda cell, event: self._node_reported(cell, event.data),
            "node.changed": lambda cell, event: self._node_changed(cell, event.data),
            "node.heartbeat": lambda cell, event: self._node_heartbeat(cell, event.data),
            "node.retired": lambda cell, event: self._node_retired(cell, event.data),
            "node.reported.v2": lambda cell, event: self._node_reported(cell, event.data),
            "node.retired.v2": lambda cell, event: self._node_retired(cell, event.data),
            "node.adopted": lambda cell, event: self._node_adopted(cell, event.data),
            "node.renamed": lambda cell, event: rename(self, cell, event.data),
            "node.counted": lambda cell, event: self._node_counted(cell, event.data),
        }

    def _consumer_handlers(self) -> Mapping[str, Callable[[str, ReadEvent], None]]:
        return {
            **self._move_handlers(),
            "consumer.replaced": lambda cell, event: self._on_claim(cell, event.data, True),
            "consumer.replaced.v2": lambda cell, event: self._on_claim(cell, event.data, True),
            "consumer.replaced.v3": lambda cell, event: self._on_claim(cell, event.data, True),
            "consumer.updated": lambda cell, event: self._updated(cell, event.data),
            "consumer.confirmed": lambda cell, event: self._confirmed(cell, event.data),
            "consumers.released": lambda cell, event: self._released(cell, event.data),
        }

    def _move_handlers(self) -> Mapping[str, Callable[[str, ReadEvent], None]]:
        return {
            "cell.move.begun": lambda cell, event: self.moves.begin(
                cell, event.data, f"{self.partition}:{self.offset}"
            ),
            "cell.move.withdrawn": lambda cell, event: self._move_withdrawn(cell, event.data),
            "cell.move.ended": lambda cell, event: self._move_ended(cell, event.data),
        }

    def _quota_handlers(self) -> Mapping[str, Callable[[str, ReadEvent], None]]:
        return {
            "quota.limit.set": lambda cell, event: self.quotas.set_limit(cell, event.data),
            "quota.share.planned": lambda cell, event: self.quotas.plan(cell, event.data, self.partitions),
            "quota.share.set": lambda _, event: self.quotas.set_share(event.data),
            "quota.share.settled": lambda cell, event: self.quotas.settle(cell, event.data),
            "quota.parent.planned": lambda cell, event: self.quotas.plan_parent(cell, event.data),
            "quota.parent.set": lambda _, event: self.quotas.set_parent(event.data),
            "quota.counted": lambda cell, event: self._count_held(cell, event.data["consumers"]),
        }

    def apply(self, record: Record) -> None:
        """Apply one record."""
        self.time_ms = log_time(self.time_ms, record.timestamp_ms)
        self.offset = record.offset
        self._end_overdue()
        self._conclude()
        if self.rules.has_transactions:
            self.details.deadlines_ended(self.providers)
        self._apply(record)
        self._conclude()
        if self.rules.has_transactions:
            self.details.conclude(self.providers)

    def _apply(self, record: Record) -> None:
        event = taken(record, self.rules, self.partitions)
        if event is not None and event.kind in self._handlers:
            cell = record.key.decode()
            node = (cell, event.data.get("root", ""))
            before = self.nodes.get(node)
            with suppress(Refused):
                if self.rules.are_signed:
                    self.signatures.check(record, event)
                self._handlers[event.kind](cell, event)
                self.signatures.accept()
            if self.rules.identified and self.nodes.get(node) is not before:
                self._heard_since_4.add(node)

    def _conclude(self) -> None:
        """End the deadlines of a record, or its event."""
        self.changes += self.withdrawals.conclude()
        if self.rules.bounded:
            for key in self._written:
                self._count_names(key)
        if self.rules.identified:
            self._heard_since_4.update(self._written & self.nodes.keys())
        self._written.clear()

    def _end_overdue(self) -> None:
        """End what is past its deadline, until the units of one record are used up. The others stay first in line."""
        left = self.rules.limits.expiries
        for deadline in self.deadlines.take_past(self.now()):
            left -= self._endings[deadline.kind](deadline)
            if left <= 0:
                return

    def now(self) -> int:
        """Log time, ms."""
        return self.time_ms or 0

    @property
    def has_quotas(self) -> bool:
        """Whether claims are judged by quotas."""
        return self.rules.now.version >= QUOTAS_SINCE

    @property
    def keeps_grants(self) -> bool:
        """Whether a move keeps the grants of asks that stay the same, and server groups."""
        return self.rules.now.version >= MOVES_SINCE

    def stock_of(self, cell: str, provider: str, name: str) -> Stock | None:
        """What a provider has of a class, or None."""
        there = self.providers.get((cell, provider))
        return None if there is None else there.stock.get(name)

    def auditor(self, name: str) -> ClassAuditor[Any]:
        """The class auditor of a resource class."""
        return self.classes.of(name)

    def capacity(self, key: Key, name: str) -> int | None:
        """How much of a class of a provider may be in use; None where amounts do not decide."""
        override = self.settings.get(key, NO_SETTINGS).override(name)
        return self.auditor(name).capacity(self.providers[key].stock[name], override)

    def free(self, key: Key, name: str) -> int:
        """How much of a class of a provider is left; 0 where amounts do not decide."""
        capacity = self.capacity(key, name)
        return 0 if capacity is None else capacity - self.providers[key].used.get(name, 0)

    def traits(self, key: Key) -> frozenset[str]:
        """A provider's traits, the node's and the operator's."""
        return self.providers[key].traits | self.settings.get(key, NO_SETTINGS).traits

    def attributes(self, key: Key) -> Mapping[str, Any]:
        """A provider's attributes; the operator's override the node's."""
        return {**self.providers[key].attributes, **self.settings.get(key, NO_SETTINGS).attributes}

    def knows(self, name: str) -> bool:
        """Whether the log's rules allow this class."""
        if name in CLASSES_SINCE_4:
            return self.rules.identified
        return self.classes.is_standard(name) or name in self.rules.now.classes

    def closed(self, key: Key) -> str:
        """Why a provider takes no new claims at all, or ''."""
        provider = self.providers[key]
        root = (key[0], provider.root)
        node = self.nodes.get(root)
        if node is None or node.retired or not provider.reported:
            return "it is retired"
        if not node.complete:
            return "its node is incomplete"
        if root in self.contested_until:
            return "more than one writer speaks for its node"
        if self.machines.in_doubt(root):
            return "its machine is in doubt"
        if root in self.withdrawals.closed:
            return "part of its node is still to be withdrawn"
        enabled = self.settings.get(key, NO_SETTINGS).enabled and self.settings.get(root, NO_SETTINGS).enabled
        return "" if enabled else "it is not enabled"

    def repels(self, key: Key, asking: Mapping[str, Any]) -> str:
        """Why the taints of a provider and of its root repel a claim or a request, or ''."""
        tolerated = {(one["key"], one.get("value")) for one in asking.get("tolerations", ())}
        for tainted in (key, (key[0], self.providers[key].root)):
            for name, (value, hard) in self.settings.get(tainted, NO_SETTINGS).taints.items():
                if hard and not tolerated & {(name, None), (name, value)}:
                    return f"nothing tolerates its taint {name}={value}"
        return ""

    def spread_domains(self, cell: str, kind: str) -> set[str]:
        """The aggregates of a kind in which a node of the cell takes new claims."""
        return {
            name
            for key in self._heard_since_4
            if key[0] == cell and key in self.providers and self.providers[key].root == key[1]
            for name in self.settings.get(key, NO_SETTINGS).aggregates
            if name.startswith(kind) and not self.closed(key)
        }

    # -- events -------------------------------------------------------------------------------------------

    def _log_opened(self, _cell: str, event: ReadEvent) -> None:
        if not self.partitions:
            self.partition, self.partitions = event.data["partition"], event.data["partitions"]
            self.signatures.log = event.data["log"]
            self.rules.open(event.data.get("rules", {}))

    def _requests_received(self, _cell: str, event: ReadEvent) -> None:
        """Requests are not judged; they are kept because their ends cost units."""
        names = [request["id"] for request in event.data["requests"]]
        if any(home(name.encode(), self.partitions) != self.partition for name in names):
            raise Refused
        for name in names:
            if name not in self.requests:
                self.requests.add(name)
                self.deadlines.set(self.now() + REQUEST_MS, REQUEST, name.encode())

    def _claims_requested(self, cell: str, event: ReadEvent) -> None:
        for claim in event.data["claims"]:
            self._on_claim(cell, claim, False)

    def _confirmed(self, cell: str, data: Mapping[str, Any]) -> None:
        held = self.consumers.get((cell, data["consumer"]))
        if held is not None and held.claim == data["claim"]:
            self._keep(cell, [data["consumer"]])

    def _released(self, cell: str, data: Mapping[str, Any]) -> None:
        given_back = 0
        for release in data["releases"]:
            given_back += self._release(cell, release, given_back)

    def _move_withdrawn(self, cell: str, data: Mapping[str, Any]) -> None:
        """The claim of a move is released or cancelled, unless it was confirmed."""
        held = self.consumers.get((cell, data["consumer"]))
        if held is None or held.claim != data["move"] or held.hold_until_ms is not None:
            self._release(cell, {**data, "claim": data["move"]}, 0)

    def _move_ended(self, cell: str, data: Mapping[str, Any]) -> None:
        if self.moves.end(cell, data):
            self.deadlines.set(self.now() + CELL_MOVE_KEPT_MS, CELL_MOVE, data["move"].encode())

    def _next(self, cell: str, data: Mapping[str, Any], *, opens: bool) -> LedgerNode | None:
        """The node after this event; None for an event that changes nothing."""
        key = (cell, data["root"])
        node = self.nodes.get(key)
        after = next_of(node, data, opens=opens, keeps_gaps=self.rules.bounded)
        if after is None and node is not None and self.rules.bounded and is_conflict(node, data):
            self._contest(key)
        return after

    def _contest(self, node: Key) -> None:
        """Close a node until some time after the last conflict, unless an operator has to decide anyway."""
        if self.machines.in_doubt(node):
            return
        if (before := self.contested_until.get(node)) is not None:
            self.deadlines.clear(before, CONTESTED, _subject(node))
        self.contested_until[node] = self.now() + CONTESTED_MS
        self.deadlines.set(self.contested_until[node], CONTESTED, _subject(node))
        self.changes.append(node)

    def concern(self, nodes: Iterable[Key]) -> None:
        """The machines of these nodes may be in doubt now, or no longer: a decision replaces the time after a conflict."""
        for node in nodes:
            if self.machines.in_doubt(node) and (until := self.contested_until.pop(node, None)) is not None:
                self.deadlines.clear(until, CONTESTED, _subject(node))
            self.changes.append(node)

    def _node_reported(self, cell: str, data: Mapping[str, Any]) -> None:
        """A full report. From rules version 4 on it counts only if the node's own machine sent it."""
        self._check_parts(cell, data)
        if not self.rules.identified:
            self._apply_report(cell, data)
            return
        key, machine, incarnation = (cell, data["root"]), data.get("machine"), data["incarnation"]
        node = self.nodes.get(key)
        if node is not None and node.retired and incarnation in dict(node.incarnations):
            return
        if not self.machines.may_report(key, machine):
            self.machines.drop_report(key, machine, incarnation)
            self.concern([key])
            return
        if machine is not None and len({key, *self.machines.names(cell, machine)}) > MACHINE_NAMES:
            raise Refused
        if (
            node is not None
            and self.machines.awaits(key)
            and incarnation in (known := dict(node.incarnations))
        ):
            others = tuple(one for one in node.incarnations if one[0] != incarnation)
            node, saved = replace(node, incarnations=((incarnation, known[incarnation]), *others)), node
            self.nodes[key] = node
            try:
                self._apply_report(cell, data)
            except Refused:
                self.nodes[key] = saved
                raise
        else:
            self._apply_report(cell, data)
        if node is None or self.nodes[key].incarnations != node.incarnations:
            self.concern(self.machines.reported(key, machine, incarnation))

    def _apply_report(self, cell: str, data: Mapping[str, Any]) -> None:
        root = data["root"]
        after = self._next(cell, data, opens=True)
        if after is None:
            return
        reports = {report["id"]: report for report in data["providers"]}
        if len(reports) != len(data["providers"]) or self.withdrawals.is_waiting((cell, root)):
            raise Refused
        _check_tree(root, {id_: report.get("parent") for id_, report in reports.items()})
        stocks = self._stocks(cell, root, reports)
        node = self.nodes.get((cell, root))
        if node is not None and node.incarnations[0][0] == data["incarnation"]:
            self._check_attribute_types(cell, reports)
        gone = [id_ for id_ in self.members.get((cell, root), ()) if id_ not in reports]
        made = [id_ for id_ in gone if (cell, id_) in self.details.made]
        gone = [id_ for id_ in gone if id_ not in made]
        unreported = sum(not self.providers[(cell, id_)].reported for id_ in gone if id_ != root)
        self._change_tree(cell, root, reports, stocks, gone, len(reports) + unreported)
        self.members[(cell, root)] = {**dict.fromkeys(reports), **self.members[(cell, root)]}
        self.nodes[(cell, root)] = after
        self._keep_made(cell, root, made, {*reports, *made})
        self.details.reported((cell, id_) for id_ in reports)
        consumers = data.get("consumers") or ()
        if self.signatures.must_sign(cell, root):
            consumers = [one for one in consumers if self._holds_of(cell, one, root)]
        self._keep(cell, consumers)

    def _holds_of(self, cell: str, consumer: str, root: str) -> bool:
        held = self.consumers.get((cell, consumer))
        parts = () if held is None else held.parts
        there = (self.providers.get((cell, name)) for name, _, _ in parts)
        return any(one is not None and one.root == root for one in there)

    def _check_parts(self, cell: str, data: Mapping[str, Any]) -> None:
        """A node that must sign has no part of another node that has keys."""
        root = data["root"]
        if not self.signatures.must_sign(cell, root):
            return
        for name in (report["id"] for report in data.get("providers", ())):
            there = self.providers.get((cell, name))
            owners = {name, name if there is None else there.root} - {root}
            if name != root and any(self.signatures.has_keys(cell, owner) for owner in owners):
                raise Refused
        names = self.machines.names(cell, data.get("machine"))
        if (cell, root) not in names and any(self.signatures.has_keys(*one) for one in names):
            raise Refused

    def _is_lifted(self, key: Key, provider: LedgerProvider, removed: Collection[str]) -> bool:
        """Whether a transaction added a provider below one that its node removes."""
        is_made = key in self.details.made and provider.reported
        return is_made and provider.parent in removed and key[1] not in removed

    def _keep_made(self, cell: str, root: str, made: Iterable[str], stay: Collection[str]) -> None:
        """What transactions added to a node stays where the node does not report it; below the root, if its parent is gone."""
        for id_ in made:
            provider = self.providers[(cell, id_)]
            if provider.reported and provider.parent not in stay:
                provider.parent = root
                self.mark_changed((cell, id_))
                self._written.add((cell, id_))

    def _node_changed(self, cell: str, data: Mapping[str, Any]) -> None:
        root = data["root"]
        self._check_parts(cell, data)
        before = self.nodes.get((cell, root))
        if self.machines.ignores((cell, root), data["incarnation"]):
            return
        node = self._next(cell, data, opens=False)
        if node is None or before is None:
            return
        contiguous = node.incarnations[0][1] == before.incarnations[0][1] + 1
        if contiguous and not node.retired and (cell, root) in self.providers:
            reports = {report["id"]: report for report in data.get("providers", ())}
            removed = set(data.get("removed", ()))
            if len(reports) != len(data.get("providers", ())) or removed & reports.keys() or root in removed:
                raise Refused
            if self.withdrawals.is_waiting((cell, root)):
                raise Refused
            members = self.members[(cell, root)]
            found = {id_: self.providers[(cell, id_)] for id_ in members}
            below = [id_ for id_, one in found.items() if self._is_lifted((cell, id_), one, removed)]
            parents = {id_: one.parent for id_, one in found.items() if one.reported and id_ not in removed}
            parents |= dict.fromkeys(below, root)
            parents |= {id_: report.get("parent") for id_, report in reports.items()}
            _check_tree(root, parents)
            stocks = self._stocks(cell, root, reports)
            self._check_attribute_types(cell, reports)
            unreported = sum(not one.reported for id_, one in found.items() if id_ not in reports)
            gone = [id_ for id_ in members if id_ in removed]
            self._change_tree(cell, root, reports, stocks, gone, len(parents) + unreported)
            self._keep_made(cell, root, below, ())
            self.details.reported((cell, id_) for id_ in reports)
        self.nodes[(cell, root)] = node
        self.changes.append((cell, root))

    def _node_heartbeat(self, cell: str, data: Mapping[str, Any]) -> None:
        key = (cell, data["root"])
        if self.machines.ignores(key, data["incarnation"]):
            return
        after = self._next(cell, data, opens=False)
        if after is not None:
            if after.complete != self.nodes[key].complete:
                self.changes.append(key)
            self.nodes[key] = after

    def _node_retired(self, cell: str, data: Mapping[str, Any]) -> None:
        """From rules version 4 on it is of one incarnation, and may come from an operator, without a sequence."""
        key, incarnation = (cell, data["root"]), data["incarnation"]
        if self.rules.identified:
            node = self.nodes.get(key)
            if self.machines.is_foreign(key, incarnation):
                return
            if node is None or incarnation not in dict(node.incarnations):
                raise Refused
            if node.retired or incarnation != node.incarnations[0][0]:
                return
            sequence = data.get("sequence")
            if sequence is not None and self.machines.awaits(key):
                return
            data = {**data, "sequence": node.incarnations[0][1] + 1 if sequence is None else sequence}
        after = self._next(cell, data, opens=False)
        if after is not None:
            self.bury(key, after)
            self._change_tree(cell, data["root"], {}, {}, list(self.members.get(key, ())))
            if self.rules.identified:
                self.concern(self.machines.retire(key))

    def bury(self, key: Key, node: LedgerNode) -> None:
        """Retire a node: its incarnations are kept for some days."""
        self.nodes[key] = replace(node, complete=True, retired=True)
        self.deadlines.set(self.now() + TOMBSTONE_MS, TOMBSTONE, _subject(key))

    def mark_changed(self, key: Key) -> None:
        """The record changed a provider, other than its use."""
        self.providers[key].changed = self.offset
        self.details.touch(key)

    def heard(self, node: Key) -> None:
        """Something was written of a node."""
        self._heard_since_4.add(node)

    def write(self, *providers: Key) -> None:
        """Count the names of these providers again."""
        self._written.update(providers)

    def _node_adopted(self, cell: str, data: Mapping[str, Any]) -> None:
        """An operator decides which machine a node is, here or in another cell."""
        key, machine = (cell, data["root"]), data["machine"]
        node = self.nodes.get(key)
        here = data.get("cell") in (None, cell)
        if here and (node is None or node.retired):
            raise Refused
        others = [one for one in self.machines.names(cell, machine) if not here or one != key]
        for other in others:
            newest = self.nodes.get(other)
            self.machines.give_up(other, newest.incarnations[0][0] if newest is not None else None)
        if here and node is not None:
            others += self.machines.adopt(key, machine, node.incarnations[0][0])
        self.concern(others)

    def _settings_set(self, cell: str, event: ReadEvent) -> None:
        data = event.data
        key = (cell, data["provider"])
        old = self.settings.get(key, NO_SETTINGS)
        if data["revision"] != old.revision + 1:
            return
        new = read_settings(data, self.knows, self.classes, excluding=self.rules.excluding)
        provider = self.providers.get(key)
        if provider is not None and self.rules.bounded:
            self.withdrawals.settle((cell, provider.root), key[1], self.rules.limits.withdrawn_at_once)
            names = self._names_of(key, provider)
            attributes = frozenset(provider.attributes) | frozenset(new.attributes)
            names = names._replace(attributes=attributes, traits=provider.traits | new.traits)
            self.names.check(cell, {key[1]: names}, self.rules.limits)
        before, row = self.stamp(key), self.row(key)
        self.settings[key] = new
        if provider is not None:
            if self.stamp(key) != before:
                self.mark_changed(key)
            if self.row(key) != row:
                self._written.add(key)
            self.changes.append((cell, provider.root))

    # -- trees --------------------------------------------------------------------------------------------

    def _stocks(self, cell: str, root: str, reports: Mapping[str, Any]) -> dict[str, dict[str, Stock]]:
        """The inventories of these reports. Raises `Refused` before anything is written."""
        stocks: dict[str, dict[str, Stock]] = {}
        for id_, report in reports.items():
            old = self.providers.get((cell, id_))
            if old is not None and old.root != root and old.reported:
                raise Refused
            inventories = report.get("inventories", {})
            if not all(map(self.knows, inventories)):
                raise Refused
            stocks[id_] = {}
            for name, inventory in inventories.items():
                stocks[id_][name] = self._stock(self.auditor(name), inventory)
        return stocks

    def _stock(self, auditor: ClassAuditor[Any], inventory: Mapping[str, Any]) -> Stock:
        unhealthy = None
        if self.rules.excluding and auditor.names_items and "unhealthy" in inventory:
            items = dict(inventory)
            unhealthy = items.pop("unhealthy")
            inventory = items
            if unhealthy is None:
                raise Refused
        stock: Stock = auditor.read_inventory(inventory)
        if auditor.items(inventory) > self.rules.limits.inventory_items:
            raise Refused
        return stock if unhealthy is None else auditor.with_unhealthy(stock, unhealthy)

    def _check_attribute_types(self, cell: str, reports: Mapping[str, Any]) -> None:
        for id_, report in reports.items():
            if old := self.providers.get((cell, id_)):
                _check_types(old.attributes, report.get("attributes", {}))

    def _change_tree(
        self,
        cell: str,
        root: str,
        reports: Mapping[str, Any],
        stocks: Mapping[str, dict[str, Stock]],
        gone: Sequence[str],
        members: int = 0,
    ) -> None:
        """Apply reports of providers, and withdraw those that are gone. `members` is how many providers the tree would
        have. Raises `Refused`, before anything is written, where the limits do not allow it."""
        if members > self.rules.limits.tree_members:
            raise Refused
        if self.rules.bounded:
            saved = self.withdrawals.save()
            try:
                self._withdraw(cell, root, reports, gone)
                self.names.check(cell, self._names_after(cell, root, reports, gone), self.rules.limits)
            except Refused:
                self.withdrawals.restore(saved)
                raise
        changing = {root, *reports, *gone}
        before = {id_: self.stamp((cell, id_)) for id_ in changing}
        rows = {id_: self.row((cell, id_)) for id_ in changing}
        for id_ in gone:
            self.providers[(cell, id_)].reported = False
            self._restock((cell, id_), {})
        for id_, report in reports.items():
            if (cell, id_) not in self.providers:
                self.details.add((cell, id_))
            provider = self.providers.setdefault((cell, id_), LedgerProvider(root))
            if provider.root != root:
                self.members.get((cell, provider.root), {}).pop(id_, None)
            self.members.setdefault((cell, root), {})[id_] = None
            provider.root, provider.parent, provider.reported = root, report.get("parent"), True
            provider.traits = frozenset(report.get("traits", ()))
            provider.attributes = report.get("attributes", {})
            self._restock((cell, id_), stocks[id_])
        for id_, stamp in before.items():
            if (cell, id_) in self.providers and self.stamp((cell, id_)) != stamp:
                self.mark_changed((cell, id_))
        self._written |= {(cell, id_) for id_, row in rows.items() if self.row((cell, id_)) != row}
        self.changes.append((cell, root))

    def _withdraw(self, cell: str, root: str, reports: Mapping[str, Any], gone: Sequence[str]) -> None:
        """Find out what of a withdrawal has to wait. Raises `Refused` where a provider of another node has to wait."""
        limits, waits, tree = self.rules.limits, self.withdrawals, (cell, root)
        now = self.now()
        for id_ in gone:
            provider = self.providers[(cell, id_)]
            gives_up = Withdrawn(tuple(provider.stock), len(provider.traits) + len(provider.attributes))
            if id_ == root:
                waits.root(tree, gives_up, limits.withdrawn_at_once)
            elif provider.reported or waits.names(tree, id_) is None:
                waits.provider(tree, id_, gives_up, limits.withdrawn_at_once, now)
        for id_, report in reports.items():
            old = self.providers.get((cell, id_))
            if old is not None and old.root != root:
                waits.settle((cell, old.root), id_, limits.withdrawn_at_once)
            dropped = [name for name in old.stock if name not in report.get("inventories", {})] if old else []
            waits.classes(tree, id_, dropped, limits.withdrawn_at_once, now)

    def _names_after(
        self, cell: str, root: str, reports: Mapping[str, Any], gone: Sequence[str]
    ) -> dict[str, ProviderNames | None]:
        """The names of the providers that an event changes."""
        after: dict[str, ProviderNames | None] = {}
        for id_ in gone:
            provider = self.providers[(cell, id_)]
            in_use = {name for name in provider.stock if provider.used.get(name)}
            if self.withdrawals.names((cell, root), id_) is not None:
                after[id_] = self._names((cell, id_), in_use, provider) if in_use else None
        for id_, report in reports.items():
            old = self.providers.get((cell, id_))
            listed = set(report.get("inventories", ()))
            waiting = self.withdrawals.names((cell, root), id_) or ()
            in_use = {name for name in old.stock if old.used.get(name)} if old is not None else set()
            new = LedgerProvider(
                root,
                report.get("parent"),
                traits=frozenset(report.get("traits", ())),
                attributes=report.get("attributes", {}),
            )
            names = self._names((cell, id_), {*listed, *waiting, *in_use}, new)
            if old is None or self.names.is_counted((cell, id_)) or names != self._names_of((cell, id_), old):
                after[id_] = names
        return after

    def _names(self, key: Key, classes: Iterable[str], provider: LedgerProvider) -> ProviderNames:
        settings = self.settings.get(key, NO_SETTINGS)
        attributes = frozenset(provider.attributes) | frozenset(settings.attributes)
        return ProviderNames(frozenset(classes), attributes, provider.traits | settings.traits)

    def _names_of(self, key: Key, provider: LedgerProvider) -> ProviderNames:
        waiting = self.withdrawals.names((key[0], provider.root), key[1]) or ()
        return self._names(key, {*provider.stock, *waiting}, provider)

    def _count_names(self, key: Key) -> None:
        """Count the names of a provider that was written, unless the whole of it waits to be withdrawn."""
        provider = self.providers.get(key)
        if provider is None:
            self.names.set(key, None)
        elif self.withdrawals.names((key[0], provider.root), key[1]) is not None:
            self.names.set(key, self._names_of(key, provider))

    def row(self, key: Key) -> object:
        """A provider without its inventories: the names of those that are counted change only with it."""
        provider = self.providers.get(key)
        if provider is None or not self.rules.bounded:
            return None
        settings = self.settings.get(key, NO_SETTINGS)
        members = tuple(self.members.get(key, ()))
        reported = (
            provider.root,
            provider.parent,
            provider.reported,
            provider.traits,
            frozenset(provider.stock),
        )
        attributes = _typed(provider.attributes), _typed(settings.attributes)
        of_operator = settings.traits, settings.enabled, settings.aggregates, settings.taints
        return reported, members, attributes, of_operator

    def stamp(self, key: Key) -> object:
        """What decides a provider's generation: everything but its use."""
        provider = self.providers.get(key)
        if provider is None:
            return None
        settings = self.settings.get(key, NO_SETTINGS)
        reported = provider.root, provider.parent, provider.reported, provider.traits, dict(provider.stock)
        attributes = _typed(provider.attributes), _typed(settings.attributes)
        overrides = {name: settings.override(name) for name in provider.stock}
        members = tuple(self.members.get(key, ()))
        of_operator = settings.enabled, settings.aggregates, settings.traits, overrides, settings.taints
        return reported, of_operator, members, attributes

    def _restock(self, key: Key, listed: dict[str, Stock]) -> None:
        """Set a provider's stock to what its node lists, and to what is no longer listed and still in use."""
        provider = self.providers[key]
        for name, stock in provider.stock.items():
            if name not in listed and provider.used.get(name):
                listed[name] = stock.withdrawn()
        provider.stock = listed
        if not provider.reported and not listed:
            provider.attributes = {}
            provider.traits = frozenset()  # a root that stays only for its parts has none
        self._drop_if_empty(key)

    def _drop_if_empty(self, key: Key) -> None:
        """Remove a provider that is not reported once nothing of it is in use; a root, after its parts."""
        provider = self.providers.get(key)
        if provider is None or provider.reported or provider.stock:
            return
        root = (key[0], provider.root)
        members = self.members[root]
        if key == root and len(members) > 1:
            return
        del self.providers[key]
        self.details.forget(key)
        self._written.add(key)
        members.pop(key[1], None)
        if key != root and root in self.providers:
            self.mark_changed(root)
            self._written.add(root)
            self._drop_if_empty(root)

    # -- consumers ----------------------------------------------------------------------------------------

    def take(self, cell: str, parts: Iterable[tuple[str, str, int]], sign: int = 1) -> None:
        """Add amounts to the use of providers, or with `sign` -1 subtract them."""
        for id_, name, amount in parts:
            provider = self.providers.get((cell, id_))
            if provider is not None:
                provider.used[name] = provider.used.get(name, 0) + sign * amount
                self.changes.append((cell, provider.root))

    def settle(self, cell: str, parts: Iterable[tuple[str, str, int]]) -> None:
        """Withdraw the inventories of these parts that wait for it: their use is about to change."""
        for id_, name, _ in parts:
            if (provider := self.providers.get((cell, id_))) is not None:
                self.withdrawals.settle_class((cell, provider.root), id_, name)

    def sweep(self, cell: str, parts: Iterable[tuple[str, str, int]]) -> None:
        """Remove stock that is no longer listed and no longer in use."""
        for id_, name, _ in parts:
            provider = self.providers.get((cell, id_))
            stock = provider.stock.get(name) if provider else None
            if provider and stock and not stock.listed and not provider.used.get(name):
                del provider.stock[name]
                self.mark_changed((cell, id_))
                self._written.add((cell, id_))
                self._drop_if_empty((cell, id_))

    def hold(self, key: Key, held: HeldByConsumer) -> None:
        """Set what a consumer holds."""
        self._clear_hold(key)
        self.consumers.enter(key, held)
        if held.hold_until_ms is not None:
            self.deadlines.set(held.hold_until_ms, HOLD, _subject(key))
        else:
            self.moves.settled.add(key)

    def _keep(self, cell: str, consumers: Iterable[str]) -> None:
        """Confirm the holds of these consumers: they no longer end."""
        for consumer in consumers:
            held = self.consumers.get((cell, consumer))
            if held is not None and held.hold_until_ms is not None:
                self.moves.settled.add((cell, consumer))
            self._clear_hold((cell, consumer))
        self.consumers.keep(cell, consumers)

    def _clear_hold(self, key: Key) -> None:
        if (held := self.consumers.get(key)) is not None and held.hold_until_ms is not None:
            self.deadlines.clear(held.hold_until_ms, HOLD, _subject(key))

    def _node_counted(self, cell: str, data: Mapping[str, Any]) -> None:
        """The domains of a node count, although nothing was written of it since there are rules for that."""
        if (key := (cell, data["root"])) in self.nodes:
            self._heard_since_4.add(key)

    def _updated(self, cell: str, data: Mapping[str, Any]) -> None:
        """A consumer changes its project, its user or its type."""
        consumer = (cell, data["consumer"])
        held = self.consumers.get(consumer)
        if held is None or held.claim != data["claim"]:
            raise Refused
        if self.quotas.update(consumer, data):
            self.consumers[consumer] = held._replace(generation=held.generation + 1)

    def _count_held(self, cell: str, consumers: Iterable[str]) -> None:
        """Count what consumers hold since rules without quotas, as far as one record may."""
        parts = 0
        for consumer in consumers:
            key = (cell, consumer)
            if self.quotas.waits(key):
                held = self.consumers[key]
                weight = held.weight(0)
                if not parts or parts + weight <= self.rules.limits.counted_parts:
                    parts += weight
                    self.quotas.count(key, amounts_held(held, self.classes, partial(self.stock_of, cell)))

    def _free(self, consumer: Key) -> None:
        self._clear_hold(consumer)
        parts = self.consumers.remove(consumer).parts
        self.quotas.leave(consumer)
        self.settle(consumer[0], parts)
        self.take(consumer[0], parts, -1)
        self.sweep(consumer[0], parts)

    def end(self, consumer: Key) -> None:
        """A consumer holds nothing any more."""
        self._free(consumer)

    def undo(self, consumer: Key) -> None:
        """Undo a claim that was entered at this record."""
        self._free(consumer)

    def _release(self, cell: str, release: Mapping[str, Any], given_back: int) -> int:
        """Apply one release, of a record that gave back `given_back` parts before. Returns how many this one gives back."""
        consumer, claim = (cell, release["consumer"]), (cell, release["claim"])
        held = self.consumers.get(consumer)
        deadline_ms = release.get("deadline_ms")
        if held is not None and held.claim == release["claim"]:
            weight = held.weight(self.rules.limits.group_weight)
            if given_back and given_back + weight > self.rules.limits.released_parts:
                return 0
            self._free(consumer)
            self.released += 1
            return weight
        if deadline_ms is not None and deadline_ms >= self.now() and claim not in self.judged:
            self.set_judged(claim, deadline_ms, cancelled=True)
        return 0

    def set_judged(self, claim: Key, deadline_ms: int, *, cancelled: bool = False) -> None:
        """Keep that a claim was judged, or cancelled."""
        until_ms = min(deadline_ms, self.now() + DEADLINE_AHEAD_MS_MAX)
        self.judged[claim] = Judged(until_ms, cancelled)
        (self.cancelled.add if cancelled else self.cancelled.discard)(claim)
        self.deadlines.set(until_ms, VERDICT, _subject(claim))

    # -- deadlines: each returns the units that the end costs ---------------------------------------------

    def _end_hold(self, deadline: Deadline) -> int:
        consumer = _key(deadline)
        held = self.consumers.get(consumer)
        if held is None or held.hold_until_ms != deadline.at_ms:
            return 1
        self._free(consumer)
        return 1 + held.weight(self.rules.limits.group_weight)

    def _end_move(self, deadline: Deadline) -> int:
        self.moves.known.pop(deadline.subject.decode(), None)
        return 1

    def _end_verdict(self, deadline: Deadline) -> int:
        # A claim that comes after its cancellation has a deadline of its own.
        judged = self.judged.get(claim := _key(deadline))
        if judged is not None and judged.until_ms == deadline.at_ms:
            del self.judged[claim]
        return 1

    def _end_request(self, deadline: Deadline) -> int:
        self.requests.discard(deadline.subject.decode())
        return 1

    def _end_proposal(self, deadline: Deadline) -> int:
        self.rules.end_proposal(deadline.subject)
        return 1

    def _end_tombstone(self, deadline: Deadline) -> int:
        node = self.nodes.get(key := _key(deadline))
        if node is not None and node.retired:
            del self.nodes[key]
            self.contested_until.pop(key, None)
            self.machines.forget(key)
        return 1

    def _go_on_withdrawing(self, deadline: Deadline) -> int:
        self.withdrawals.step(_key(deadline), self.rules.limits.withdrawn_at_once)
        return 1

    def _end_conflict(self, deadline: Deadline) -> int:
        key = _key(deadline)
        if self.contested_until.get(key) == deadline.at_ms:
            del self.contested_until[key]
            self.changes.append(key)
        return 1


def _subject(key: Key) -> bytes:
    """The subject of a deadline of something in a cell."""
    return f"{key[0]}\0{key[1]}".encode()


def _key(deadline: Deadline) -> Key:
    """What a deadline in a cell is about."""
    cell, _, id_ = deadline.subject.decode().partition("\0")
    return cell, id_


def _check_tree(root: str, parents: Mapping[str, str | None]) -> None:
    """Raise `Refused` unless there is one root, every parent is known, and there is no cycle."""
    if parents.get(root, "") is not None:
        raise Refused
    reaching_root = {root}
    for id_ in parents:
        path = [id_]
        while path[-1] not in reaching_root:
            parent = parents.get(path[-1])
            if parent is None or parent in path:
                raise Refused
            path.append(parent)
        reaching_root.update(path)


def _check_types(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `Refused` where an attribute changes its type. Within an incarnation of its node it keeps it."""
    if any(type(old.get(name, value)) is not type(value) for name, value in new.items()):
        raise Refused


def _typed(attributes: Mapping[str, Any]) -> frozenset[tuple[str, str, Any]]:
    """Attributes for comparing: 1 is not true."""
    return frozenset((name, type(value).__name__, value) for name, value in attributes.items())
