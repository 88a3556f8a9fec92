"""The auditor's own books of one partition: naive, in plain dicts, from the rules and not from the fold.

Ids are of a cell, so everything is keyed (cell, id). A class that is not counted (a plugin's) is opaque here:
who asks for it cannot be judged, and says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from vacancy.clients.auditor.classes.devices import stock_of
from vacancy.clients.auditor.classes.numa import NUMA_CELL, cell_stock
from vacancy.clients.auditor.consumers import Consumers, HeldByConsumer, Key
from vacancy.clients.auditor.event_schema import home, is_cell, read
from vacancy.clients.auditor.inventory import (
    NO_FACTS,
    STANDARD_CLASSES,
    AuditedSettings,
    Refused,
    Stock,
    check_tree,
    check_types,
    read_settings,
    typed,
)
from vacancy.clients.auditor.ledger_rows import LedgerNode, LedgerProvider
from vacancy.resources.model.record import Record

LEAP_MS_MAX = 3_600_000
DEADLINE_AHEAD_MS_MAX = 600_000
TOMBSTONE_MS = 7 * 24 * 3_600_000
INCARNATIONS_KEPT = 8


class Ledger:
    """One partition as of the records applied so far.

    `on_claim(cell, claim, replaces)` is called for each claim in the log, in order.
    """

    def __init__(self, on_claim: Callable[[str, Mapping[str, Any], bool], None]) -> None:
        self._on_claim = on_claim
        self.time_ms: int | None = None
        self.offset = -1
        self.partitions = 0
        self.plugins: frozenset[str] = frozenset()
        self.nodes: dict[Key, LedgerNode] = {}
        self.providers: dict[Key, LedgerProvider] = {}
        self.members: dict[Key, set[str]] = {}
        self.facts: dict[Key, AuditedSettings] = {}
        self.consumers = Consumers()
        self.known_until: dict[Key, int] = {}
        """Claims that were judged or cancelled: until when the same id is not judged again."""
        self.cancelled: set[Key] = set()
        """Claims that a release cancelled before they came."""
        self.released = 0
        self.changes: list[Key] = []
        """Trees (cell, root) in the order in which anything of them changed."""
        self._holds: list[tuple[int, Key]] = []
        self._handlers: Mapping[str, Callable[[str, Mapping[str, Any]], None]] = {
            "log.opened": self._log_opened,
            "rules.activated": self._rules_activated,
            "node.reported": self._node_reported,
            "node.changed": self._node_changed,
            "node.heartbeat": self._node_heartbeat,
            "node.retired": self._node_retired,
            "facts.set": self._facts_set,
            "claims.requested": self._claims_requested,
            "consumer.replaced": lambda cell, data: on_claim(cell, data, True),
            "consumer.confirmed": self._confirmed,
            "consumers.released": self._released,
        }

    def apply(self, record: Record) -> None:
        """Book one record."""
        now, stamp = self.time_ms, record.timestamp_ms
        self.time_ms = stamp if now is None else max(now, min(stamp, now + LEAP_MS_MAX))
        self.offset = record.offset
        while self._holds and self._holds[0][0] < self.time_ms:
            until, consumer = heapq.heappop(self._holds)
            if (held := self.consumers.get(consumer)) is not None and held.hold_until_ms == until:
                self._free(consumer)
        event = read(record)
        if event is None or event.kind not in self._handlers or not is_cell(record.key):
            return
        if self.partitions and home(record.key, self.partitions) != record.partition:
            return
        with suppress(Refused):
            self._handlers[event.kind](record.key.decode(), event.data)

    def now(self) -> int:
        """Log time, ms."""
        return self.time_ms or 0

    def capacity(self, key: Key, name: str) -> int:
        """How much of a class of a provider may be in use."""
        stock = self.providers[key].stock[name]
        reserved, ratio = self.facts.get(key, NO_FACTS).overrides.get(name, (None, None))
        left = stock.total - (stock.reserved if reserved is None else reserved)
        return max(0, left) * (stock.ratio_milli if ratio is None else ratio) // 1000

    def traits(self, key: Key) -> frozenset[str]:
        """A provider's traits, the node's and the operator's."""
        return self.providers[key].traits | self.facts.get(key, NO_FACTS).traits

    def attributes(self, key: Key) -> Mapping[str, Any]:
        """A provider's attributes; the operator's win over the node's."""
        return {**self.providers[key].attributes, **self.facts.get(key, NO_FACTS).attributes}

    def knows(self, name: str) -> bool:
        """Whether the log's rules allow this class."""
        return (
            name in STANDARD_CLASSES
            or (name.startswith("CUSTOM_") and name != "CUSTOM_")
            or name in self.plugins
        )

    def closed(self, key: Key) -> str:
        """Why a provider takes no new claims at all, or ''."""
        provider = self.providers[key]
        root = (key[0], provider.root)
        node = self.nodes.get(root)
        if node is None or node.retired_ms is not None or not provider.reported:
            return "it is retired"
        if not node.complete:
            return "its node is incomplete"
        enabled = self.facts.get(key, NO_FACTS).enabled and self.facts.get(root, NO_FACTS).enabled
        return "" if enabled else "it is not enabled"

    # -- events -------------------------------------------------------------------------------------------

    def _log_opened(self, _cell: str, data: Mapping[str, Any]) -> None:
        if not self.partitions:
            self.partitions = data["partitions"]
            self.plugins = frozenset(data.get("rules", {}).get("classes", ()))

    def _rules_activated(self, _cell: str, data: Mapping[str, Any]) -> None:
        classes = frozenset(data.get("classes", ()))
        self.plugins = classes if classes >= self.plugins else self.plugins

    def _claims_requested(self, cell: str, data: Mapping[str, Any]) -> None:
        for claim in data["claims"]:
            self._on_claim(cell, claim, False)

    def _confirmed(self, cell: str, data: Mapping[str, Any]) -> None:
        held = self.consumers.get((cell, data["consumer"]))
        if held is not None and held.claim == data["claim"]:
            self.consumers.keep(cell, [data["consumer"]])

    def _released(self, cell: str, data: Mapping[str, Any]) -> None:
        for release in data["releases"]:
            self._release(cell, release)

    def _node(self, key: Key) -> LedgerNode | None:
        """A node, as long as it is remembered."""
        node = self.nodes.get(key)
        if node and node.retired_ms is not None and node.retired_ms + TOMBSTONE_MS < self.now():
            return None
        return node

    def _next(self, cell: str, data: Mapping[str, Any], *, opens: bool) -> tuple[LedgerNode, bool] | None:
        """The node after this event and whether nothing is missing before it; None for what was seen already."""
        node = self._node((cell, data["root"]))
        known = node.incarnations if node else []
        here = (data["incarnation"], data["sequence"])
        if known and known[0][0] == here[0]:
            if here[1] <= known[0][1]:
                return None
            contiguous = here[1] == known[0][1] + 1
            known = [here, *known[1:]]
        elif any(here[0] == incarnation for incarnation, _ in known):
            return None
        elif not opens:
            raise Refused
        else:
            contiguous = True
            known = [here, *known][:INCARNATIONS_KEPT]
        if node is None or opens:
            return LedgerNode(known), contiguous
        return LedgerNode(known, node.complete and contiguous, node.retired_ms), contiguous

    def _node_reported(self, cell: str, data: Mapping[str, Any]) -> None:
        root = data["root"]
        after = self._next(cell, data, opens=True)
        if after is None:
            return
        reports = {report["id"]: report for report in data["providers"]}
        if len(reports) != len(data["providers"]):
            raise Refused
        check_tree(root, {id_: report.get("parent") for id_, report in reports.items()})
        stocks = self._stocks(cell, root, reports)
        node = self._node((cell, root))
        if node is not None and node.incarnations[0][0] == data["incarnation"]:
            self._check_types(cell, reports)
        self.nodes[(cell, root)] = after[0]
        gone = self.members.get((cell, root), set()) - reports.keys()
        self._change_tree(cell, root, reports, stocks, gone)
        self.consumers.keep(cell, data.get("consumers") or ())

    def _node_changed(self, cell: str, data: Mapping[str, Any]) -> None:
        root = data["root"]
        after = self._next(cell, data, opens=False)
        if after is None:
            return
        node, contiguous = after
        if contiguous and node.retired_ms is None and (cell, root) in self.providers:
            reports = {report["id"]: report for report in data.get("providers", ())}
            removed = set(data.get("removed", ()))
            if len(reports) != len(data.get("providers", ())) or removed & reports.keys() or root in removed:
                raise Refused
            members = self.members[(cell, root)]
            parents = {m: p.parent for m in members - removed if (p := self.providers[(cell, m)]).reported}
            check_tree(root, parents | {id_: report.get("parent") for id_, report in reports.items()})
            stocks = self._stocks(cell, root, reports)
            self._check_types(cell, reports)
            self._change_tree(cell, root, reports, stocks, members & removed)
        self.nodes[(cell, root)] = node
        self.changes.append((cell, root))

    def _node_heartbeat(self, cell: str, data: Mapping[str, Any]) -> None:
        key = (cell, data["root"])
        after = self._next(cell, data, opens=False)
        if after is not None:
            if after[0].complete != self.nodes[key].complete:
                self.changes.append(key)
            self.nodes[key] = after[0]

    def _node_retired(self, cell: str, data: Mapping[str, Any]) -> None:
        after = self._next(cell, data, opens=False)
        if after is not None:
            key = (cell, data["root"])
            self.nodes[key] = LedgerNode(after[0].incarnations, complete=True, retired_ms=self.now())
            self._change_tree(cell, data["root"], {}, {}, set(self.members.get(key, ())))

    def _facts_set(self, cell: str, data: Mapping[str, Any]) -> None:
        key = (cell, data["provider"])
        old = self.facts.get(key, NO_FACTS)
        if data["revision"] != old.revision + 1:
            return
        new = read_settings(data, self.knows)
        provider = self.providers.get(key)
        before = self._stamp(key)
        self.facts[key] = new
        if provider is not None:
            if self._stamp(key) != before:
                provider.changed = self.offset
            self.changes.append((cell, provider.root))

    # -- trees --------------------------------------------------------------------------------------------

    def _stocks(self, cell: str, root: str, reports: Mapping[str, Any]) -> dict[str, dict[str, Stock]]:
        """The inventories of these reports. Raises `Refused` before anything is written."""
        stocks = {}
        for id_, report in reports.items():
            old = self.providers.get((cell, id_))
            if old is not None and old.root != root and old.reported:
                raise Refused
            inventories = report.get("inventories", {})
            if not all(map(self.knows, inventories)):
                raise Refused
            stocks[id_] = {
                name: Stock(0, 0, 1, 0, 1, 1000, opaque=True)
                if name in self.plugins
                else cell_stock(inventory)
                if name == NUMA_CELL
                else stock_of(name, inventory)
                for name, inventory in inventories.items()
            }
        return stocks

    def _check_types(self, cell: str, reports: Mapping[str, Any]) -> None:
        for id_, report in reports.items():
            if old := self.providers.get((cell, id_)):
                check_types(old.attributes, report.get("attributes", {}))

    def _change_tree(
        self,
        cell: str,
        root: str,
        reports: Mapping[str, Any],
        stocks: Mapping[str, dict[str, Stock]],
        gone: set[str],
    ) -> None:
        before = {id_: self._stamp((cell, id_)) for id_ in {root, *reports, *gone}}
        for id_ in gone:
            self.providers[(cell, id_)].reported = False
            self._restock((cell, id_), {})
        for id_, report in reports.items():
            provider = self.providers.setdefault((cell, id_), LedgerProvider(root))
            self.members.get((cell, provider.root), set()).discard(id_)
            self.members.setdefault((cell, root), set()).add(id_)
            provider.root, provider.parent, provider.reported = root, report.get("parent"), True
            provider.traits = frozenset(report.get("traits", ()))
            provider.attributes = report.get("attributes", {})
            self._restock((cell, id_), stocks[id_])
        for id_, stamp in before.items():
            if (cell, id_) in self.providers and self._stamp((cell, id_)) != stamp:
                self.providers[(cell, id_)].changed = self.offset
        self.changes.append((cell, root))

    def _stamp(self, key: Key) -> object:
        """What a generation is of: all that is said of a provider, but not its use."""
        provider = self.providers.get(key)
        if provider is None:
            return None
        facts = self.facts.get(key, NO_FACTS)
        said = provider.root, provider.parent, provider.reported, provider.traits, dict(provider.stock)
        valued = typed(provider.attributes), typed(facts.attributes)
        overrides = {name: facts.overrides.get(name, (None, None)) for name in provider.stock}
        members = frozenset(self.members.get(key, ()))
        return said, facts.enabled, facts.aggregates, facts.traits, overrides, members, valued

    def _restock(self, key: Key, listed: dict[str, Stock]) -> None:
        """Leave a provider with what its node lists, and with what is not listed and still in use."""
        provider = self.providers[key]
        for name, stock in provider.stock.items():
            if name not in listed and provider.used.get(name):
                listed[name] = stock.withdrawn()
        provider.stock = listed
        if not provider.reported and not listed:
            provider.attributes = {}
            provider.traits = frozenset()  # of a root that stays for its parts alone, nothing is said
        self._drop_if_empty(key)

    def _drop_if_empty(self, key: Key) -> None:
        """A provider that is not reported goes with the last that was held of it; a root, after its parts."""
        provider = self.providers.get(key)
        if provider is None or provider.reported or provider.stock:
            return
        root = (key[0], provider.root)
        members = self.members[root]
        if key == root and len(members) > 1:
            return
        del self.providers[key]
        members.discard(key[1])
        if key != root and root in self.providers:
            self.providers[root].changed = self.offset
            self._drop_if_empty(root)

    # -- what is held -------------------------------------------------------------------------------------

    def take(self, cell: str, parts: Iterable[tuple[str, str, int]], sign: int = 1) -> None:
        """Book what is taken of providers, or with `sign` -1 given back."""
        for id_, name, amount in parts:
            provider = self.providers.get((cell, id_))
            if provider is not None:
                provider.used[name] = provider.used.get(name, 0) + sign * amount
                self.changes.append((cell, provider.root))

    def sweep(self, cell: str, parts: Iterable[tuple[str, str, int]]) -> None:
        """What is no longer listed goes once nobody holds any."""
        for id_, name, _ in parts:
            provider = self.providers.get((cell, id_))
            stock = provider.stock.get(name) if provider else None
            if provider and stock and not stock.listed and not provider.used.get(name):
                del provider.stock[name]
                provider.changed = self.offset
                self._drop_if_empty((cell, id_))

    def hold(self, key: Key, held: HeldByConsumer) -> None:
        """Book what a consumer holds."""
        self.consumers.enter(key, held)
        if held.hold_until_ms is not None:
            heapq.heappush(self._holds, (held.hold_until_ms, key))

    def _free(self, consumer: Key) -> None:
        parts = self.consumers.remove(consumer).parts
        self.take(consumer[0], parts, -1)
        self.sweep(consumer[0], parts)

    def _release(self, cell: str, release: Mapping[str, Any]) -> None:
        consumer, claim = (cell, release["consumer"]), (cell, release["claim"])
        held = self.consumers.get(consumer)
        deadline_ms = release.get("deadline_ms")
        if held is not None and held.claim == release["claim"]:
            self._free(consumer)
            self.released += 1
        elif deadline_ms is not None and deadline_ms >= self.now() and not self.is_known(claim):
            self.known_until[claim] = min(deadline_ms, self.now() + DEADLINE_AHEAD_MS_MAX)
            self.cancelled.add(claim)

    def is_known(self, claim: Key) -> bool:
        """Whether a claim of this id was judged or cancelled, and that is not over yet."""
        return self.known_until.get(claim, -1) >= self.now()
