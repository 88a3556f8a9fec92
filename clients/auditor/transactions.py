"""The auditor's own verdict on a transaction, at its place in the log, and what an accepted one does to the ledger.

Written from docs/events.md. What the transaction is about is copied, and changed step by step as the transaction says; the
objections are what may not be. Of what is granted by name only the amounts are booked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from vacancy.clients.auditor.claims.claim_rules import enter
from vacancy.clients.auditor.claims.consumers import Key
from vacancy.clients.auditor.claims.quotas import amounts_held, amounts_of
from vacancy.clients.auditor.classes.class_auditor import OPAQUE, ROOM, RULE, Objection, Refused
from vacancy.clients.auditor.ledger import DEADLINE_AHEAD_MS_MAX, Ledger, LedgerProvider
from vacancy.clients.auditor.nodes.cell_names import ProviderNames
from vacancy.clients.auditor.nodes.node_order import LedgerNode
from vacancy.clients.auditor.nodes.operator_settings import NO_SETTINGS, AuditedSettings
from vacancy.clients.auditor.nodes.provider_details import MADE_INCARNATION
from vacancy.clients.auditor.not_judged import QUOTA_ENTRIES, QUOTA_UNITS, TRANSACTION_BY_NAME

Data = Mapping[str, Any]
SlotKey = tuple[str, str]
"""(provider, class)."""


class Attempt:
    """A transaction on a copy of what it is about. `found` are the objections to it."""

    def __init__(self, ledger: Ledger, cell: str, data: Data, verdict: Data | None) -> None:
        self._ledger, self._cell, self._data = ledger, cell, data
        self._details = ledger.details
        self._reason = (verdict or {}).get("reason", "")
        self._accepted = bool((verdict or {}).get("accepted"))
        self.found: list[Objection] = []
        self._there: dict[str, LedgerProvider | None] = {}
        self._members: dict[str, list[str]] = {}
        self._settings: dict[str, AuditedSettings] = {}
        self._names: dict[str, str] = {}
        self._customs = set(self._details.customs) if data.get("names") else self._details.customs
        self._roots: dict[str, bool] = {}
        """Roots that become nodes (True) or no longer are (False)."""
        self._dropped: list[SlotKey] = []
        self._held = {
            one["consumer"]: ledger.consumers.get((cell, one["consumer"])) for one in self._consumers
        }
        self._claims = [self._claim(one) for one in self._consumers]
        self._try()

    @property
    def _providers(self) -> list[Data]:
        return list(self._data.get("providers", ()))

    @property
    def _consumers(self) -> list[Data]:
        return list(self._data.get("consumers", ()))

    def _claim(self, change: Data) -> Data | None:
        """What a consumer holds afterwards, as a claim; None: nothing."""
        if not change.get("allocations"):
            return None
        held = self._held[change["consumer"]]
        return {
            "id": self._data["id"],
            "consumer": change["consumer"],
            "project": change.get("project", "-"),
            "user": change.get("user", "-"),
            "consumer_type": change.get("consumer_type", "unknown"),
            "allocations": [
                {"provider": provider, "resources": resources}
                for provider, resources in change["allocations"].items()
            ],
            "memberships": () if held is None else held.memberships,
        }

    # -- the steps ------------------------------------------------------------------------------------------

    def _object(self, text: str, kind: str = RULE) -> None:
        self.found.append(Objection(kind, text))

    def _try(self) -> None:
        if self._data["deadline_ms"] > self._ledger.now() + DEADLINE_AHEAD_MS_MAX:
            self._object("its deadline is too far ahead")
        for change in self._data.get("names", ()):
            self._change_name(change)
        for change in self._providers:
            self._check_provider(change)
        for change in self._consumers:
            self._check_consumer(change)
        for change in self._providers:
            if change.get("op", "change") != "delete":
                self._change_provider(change)
        for change in self._providers:
            if change.get("inventories") is not None and change.get("op", "change") != "delete":
                self._set_inventories(change)
        self._check_names()
        self._check_amounts()
        self._check_groups()
        self._check_quotas()
        for change in self._providers:
            if change.get("op") == "delete":
                self._delete(change["provider"])

    def _get(self, id_: str) -> LedgerProvider | None:
        """A provider as the steps so far leave it."""
        if id_ not in self._there:
            found = self._ledger.providers.get((self._cell, id_))
            self._there[id_] = None if found is None else replace(found, stock=dict(found.stock))
        return self._there[id_]

    def _members_of(self, root: str) -> list[str]:
        if root not in self._members:
            self._members[root] = list(self._ledger.members.get((self._cell, root), ()))
        return self._members[root]

    def _settings_of(self, id_: str) -> AuditedSettings:
        found = self._settings.get(id_)
        return self._ledger.settings.get((self._cell, id_), NO_SETTINGS) if found is None else found

    def _name_of(self, id_: str) -> str:
        return self._names.get(id_) or self._details.name_of((self._cell, id_))

    def _is_used(self, kind: str, name: str) -> bool:
        return self._ledger.names.has(self._cell, kind, name)

    def _change_name(self, change: Data) -> None:
        kind, name, op = change["kind"], change["name"], change["op"]
        one, used = (self._cell, kind, name), self._is_used(kind, name)
        if op == "delete":
            if used or one not in self._customs:
                self._object(f"{name} does not exist, or a provider has it")
            self._customs.discard(one)
            return
        if op == "create" and (used or one in self._customs):
            self._object(f"{name} exists")
        self._customs.add(one)
        made = sum(there[:2] == one[:2] for there in self._customs)
        limits = self._ledger.rules.limits
        if made > (limits.cell_classes if kind == "class" else limits.cell_traits):
            self._object(f"the cell would have too many custom names like {name}")

    def _check_provider(self, change: Data) -> None:
        id_, provider = change["provider"], self._get(change["provider"])
        if (provider is None) != (change.get("op") == "create"):
            self._object(f"provider {id_} {'does not exist' if provider is None else 'exists'}")
        expected = change.get("generation")
        there = self._details.generations.get((self._cell, id_), 0)
        if change.get("op") != "create" and expected not in (None, there):
            self._object(f"the generation of provider {id_} is {there}, not {expected}")

    def _check_consumer(self, change: Data) -> None:
        expected, held = change["generation"], self._held[change["consumer"]]
        wanted = None if expected == "absent" else expected
        there = None if held is None else held.generation
        if expected != "any" and wanted != there:
            self._object(f"the generation of consumer {change['consumer']} is {there}, not {wanted}")

    def _change_provider(self, change: Data) -> None:
        id_, parent = change["provider"], change.get("parent")
        if change.get("op") == "create":
            self._create(id_, parent or None)
        elif parent is not None:
            self._move(id_, parent or None)
        if change.get("name") is not None or change.get("op") == "create":
            self._set_name(id_, change.get("name") or id_, new=change.get("op") == "create")
        provider = self._get(id_)
        if provider is None:
            return
        before, limits = self._settings_of(id_), self._ledger.rules.limits
        after = before
        if change.get("traits") is not None:
            wanted = frozenset(change["traits"])
            for name in wanted:
                self._check_custom("trait", name)
            if len(wanted) > limits.provider_traits:
                self._object(f"provider {id_} would have too many traits")
            provider.traits &= wanted
            after = after._replace(traits=wanted - provider.traits)
        if change.get("aggregates") is not None:
            after = after._replace(aggregates=frozenset(change["aggregates"]))
            if len(after.aggregates) > limits.provider_aggregates:
                self._object(f"provider {id_} would be in too many aggregates")
        if after != before:
            self._settings[id_] = after._replace(revision=before.revision + 1)

    def _check_custom(self, kind: str, name: str) -> None:
        exists = self._is_used(kind, name) or (self._cell, kind, name) in self._customs
        if name.startswith("CUSTOM_") and not exists:
            self._object(f"{kind} {name} does not exist")

    def _create(self, id_: str, parent: str | None) -> None:
        above = None if parent is None else self._get(parent)
        if parent is not None and (above is None or not above.reported):
            self._object(f"parent {parent} does not exist, or is withdrawn")
        root = id_ if above is None else above.root
        self._there[id_] = LedgerProvider(root, parent)
        if above is None:
            self._roots[id_] = True
            self._members[id_] = [id_]
        else:
            self._add_members(root, [id_])

    def _add_members(self, root: str, added: Iterable[str]) -> None:
        self._members_of(root).extend(added)
        if len(self._members_of(root)) > self._ledger.rules.limits.tree_members:
            self._object(f"the tree of {root} would have too many providers")

    def _move(self, id_: str, parent: str | None) -> None:
        provider = self._get(id_)
        if provider is None or provider.parent == parent:
            return
        if (self._cell, id_) not in self._details.made:
            self._object(f"a node reports provider {id_}")
        below = [one for one in self._members_of(provider.root) if id_ in self._path(one)]
        above = None if parent is None else self._get(parent)
        if parent is not None and (above is None or not above.reported or parent in below):
            self._object(f"parent {parent} of {id_} does not exist, or is below it")
            return
        old, new = provider.root, id_ if above is None else above.root
        provider.parent = parent
        if new == old:
            return
        reported = [one for one in below if (self._cell, one) not in self._details.made]
        if reported:
            self._object(f"a node reports provider {reported[0]}, which is below {id_}")
        if self._ledger.withdrawals.is_waiting((self._cell, old)):
            self._object(f"part of the tree of {old} is still to be withdrawn")
        if old == id_:
            self._roots[id_] = False
            self._members[id_] = []
        else:
            self._members[old] = [one for one in self._members_of(old) if one not in below]
        if above is None:
            self._roots[id_] = True
            self._members[id_] = []
            below = [id_, *(one for one in below if one != id_)]
        for one in below:
            if (there := self._get(one)) is not None:
                there.root = new
        self._add_members(new, below)

    def _path(self, id_: str) -> list[str]:
        path: list[str] = []
        at: str | None = id_
        while at is not None and at not in path:
            path.append(at)
            found = self._get(at)
            at = None if found is None else found.parent
        return path

    def _set_name(self, id_: str, name: str, *, new: bool) -> None:
        if new or name != self._name_of(id_):
            keys = {key[1] for key in self._details.names if key[0] == self._cell} | self._names.keys()
            named = {one for one in keys if one != id_ and self._there.get(one, True) is not None}
            holder = next((one for one in named if self._name_of(one) == name), None)
            if holder is None and name != id_ and self._get(name) is not None and self._name_of(name) == name:
                holder = name
            if holder is not None:
                self._object(f"the name {name!r} is that of provider {holder}")
        self._names[id_] = name

    def _set_inventories(self, change: Data) -> None:
        id_ = change["provider"]
        provider = self._get(id_)
        if provider is None:
            return
        if not provider.reported:
            self._object(f"provider {id_} is withdrawn")
        listed, ledger = change["inventories"], self._ledger
        if len(listed) > ledger.rules.limits.provider_classes:
            self._object(f"provider {id_} would have too many classes")
        for name, inventory in listed.items():
            if not ledger.knows(name):
                self._object(f"class {name} does not exist")
                continue
            self._check_custom("class", name)
            auditor = ledger.auditor(name)
            try:
                provider.stock[name] = auditor.read_set_inventory(inventory)
                if auditor.items(inventory) > ledger.rules.limits.inventory_items:
                    raise Refused
            except Refused:
                self._object(f"the inventory of {name} of {id_} is invalid")
        self._dropped += [
            (id_, name) for name, stock in provider.stock.items() if name not in listed and stock.listed
        ]

    def _check_names(self) -> None:
        """The names that the changed providers have are not more than a cell may have."""
        if not self._providers:
            return
        dropped = set(self._dropped)
        after: dict[str, ProviderNames | None] = {}
        for id_ in self._touched():
            provider = self._get(id_)
            if provider is None:
                continue
            settings = self._settings_of(id_)
            after[id_] = ProviderNames(
                frozenset(name for name in provider.stock if (id_, name) not in dropped),
                frozenset(provider.attributes) | frozenset(settings.attributes),
                provider.traits | settings.traits,
            )
        try:
            self._ledger.names.check(self._cell, after, self._ledger.rules.limits)
        except Refused:
            self._object("the cell would have too many names")

    def _touched(self) -> list[str]:
        """The providers that the transaction may have changed."""
        return [*self._there]

    # -- amounts --------------------------------------------------------------------------------------------

    def _check_amounts(self) -> None:
        ledger = self._ledger
        given, named = self._give_back()
        self._given = given
        self._wanted = wanted = self._asked()
        kept = set()
        for slot, asked in wanted.items():
            amount = sum(ledger.auditor(slot[1]).amount(ask) for ask in asked)
            counted = all(ledger.auditor(slot[1]).count_of(ask) is not None for ask in asked)
            if slot in given and amount <= given[slot] and counted and slot not in named:
                kept.add(slot)
            self._check_slot(slot, asked, given[slot], slot in kept, slot in named)
        for claim in filter(None, self._claims):
            for allocation in claim["allocations"]:
                id_ = allocation["provider"]
                if not all((id_, name) in kept for name in allocation["resources"]):
                    self._check_open(id_)
        for id_, name in self._dropped:
            provider = self._get(id_)
            used = 0 if provider is None else provider.used.get(name, 0)
            asked_there = sum(ledger.auditor(name).amount(ask) for ask in wanted.get((id_, name), ()))
            if used - given[id_, name] + asked_there:
                self._object(f"{name} of {id_} is in use")

    def _give_back(self) -> tuple[Counter[SlotKey], set[SlotKey]]:
        """What the consumers give back: the amounts, and where something by name is among it."""
        limits = self._ledger.rules.limits
        given, named = Counter[SlotKey](), set[SlotKey]()
        weight = 0
        for held in filter(None, self._held.values()):
            for id_, name, amount in held.parts:
                given[id_, name] += amount
            named.update((one["provider"], one["resource_class"]) for one in held.grants)
            weight += held.weight(limits.group_weight)
        if weight > limits.released_parts:
            self._object("it gives back more than one record may")
        return given, named

    def _asked(self) -> dict[SlotKey, list[Any]]:
        """What the consumers ask for."""
        wanted: dict[SlotKey, list[Any]] = {}
        for claim in filter(None, self._claims):
            for allocation in claim["allocations"]:
                for name, ask in allocation["resources"].items():
                    wanted.setdefault((allocation["provider"], name), []).append(ask)
        if sum(map(len, wanted.values())) > self._ledger.rules.limits.asks:
            self._object("it has more asks than one record may")
        return wanted

    def _check_slot(self, slot: SlotKey, asked: list[Any], given: int, kept: bool, named: bool) -> None:
        (id_, name), ledger = slot, self._ledger
        provider = self._get(id_)
        if provider is None or name not in provider.stock:
            self._object(f"provider {id_} has no {name}")
            return
        auditor, stock = ledger.auditor(name), provider.stock[name]
        capacity = auditor.capacity(stock, self._settings_of(id_).override(name))
        counts = [auditor.count_of(ask) for ask in asked]
        if capacity is None or named or None in counts or (self._cell, id_, name) in ledger.consumers.granted:
            self._object(TRANSACTION_BY_NAME, OPAQUE)
            return
        for count in counts:
            if count is None or not 1 <= count <= 2**53 - 1 or not auditor.fits_units(stock, count):
                self._object(f"{count} of {name} of {id_} is not from min_unit to max_unit in steps")
        after = provider.used.get(name, 0) - given + sum(count or 0 for count in counts)
        if after > capacity and not kept:
            self._object(f"{after} of {name} of {id_} would be in use, and its capacity is {capacity}", ROOM)

    def _check_open(self, id_: str) -> None:
        provider = self._get(id_)
        if provider is None:
            return
        root = provider.root
        closed = ""
        if not provider.reported:
            closed = "it is retired"
        elif not self._settings_of(id_).enabled or not self._settings_of(root).enabled:
            closed = "it is not enabled"
        elif not self._roots.get(root, False):
            closed = self._ledger.closed((self._cell, root))
        for tainted in (id_, root):
            if any(hard for _, hard in self._settings_of(tainted).taints.values()):
                closed = closed or "it has a taint"
        if closed:
            self._object(f"{id_} takes no new claims: {closed}")

    def _check_groups(self) -> None:
        """Server groups are only judged of what the store accepts elsewhere: here they are left out."""
        if any(claim["memberships"] for claim in filter(None, self._claims)):
            self._object(TRANSACTION_BY_NAME, OPAQUE)

    def _check_quotas(self) -> None:
        ledger = self._ledger
        if not ledger.has_quotas:
            return
        stock_of = partial(ledger.stock_of, self._cell)
        changes = []
        unknown = False
        for change, claim in zip(self._consumers, self._claims, strict=True):
            key = (self._cell, change["consumer"])
            counted = None if claim is None else amounts_of(claim, (), ledger.classes, self._stock)
            waiting = None
            if ledger.quotas.waits(key):
                waiting = amounts_held(ledger.consumers[key], ledger.classes, stock_of)
            unknown = unknown or any(one is not None and bool(one.unknown) for one in (counted, waiting))
            changes.append((key, claim, counted, waiting))
        for text in ledger.quotas.joint_objections(changes):
            self._object(text)
        if self._reason == "over_quota" and unknown:
            self._object(QUOTA_UNITS, OPAQUE)
        if self._reason == "quota_full":
            self._object(QUOTA_ENTRIES, OPAQUE)

    def _stock(self, id_: str, name: str) -> Any:
        provider = self._get(id_)
        return None if provider is None else provider.stock.get(name)

    def _delete(self, id_: str) -> None:
        provider = self._get(id_)
        if provider is None:
            return
        if (self._cell, id_) not in self._details.made:
            self._object(f"a node reports provider {id_}")
        children = [one for one in self._members_of(provider.root) if self._parent(one) == id_]
        if children:
            self._object(f"provider {id_} has child {children[0]}")
        for name in provider.stock:
            slot = (id_, name)
            asked = sum(self._ledger.auditor(name).amount(ask) for ask in self._wanted.get(slot, ()))
            if provider.used.get(name, 0) - self._given[slot] + asked:
                self._object(f"{name} of provider {id_} is in use")
        self._members_of(provider.root).remove(id_)
        if provider.root == id_:
            self._roots[id_] = False
        self._there[id_] = None

    def _parent(self, id_: str) -> str | None:
        found = self._get(id_)
        return None if found is None else found.parent

    # -- accepted -------------------------------------------------------------------------------------------

    def enter(self, grants: Iterable[Data]) -> None:
        """Enter the transaction into the ledger, as accepted. `grants` are what it was granted by name."""
        ledger, cell, details = self._ledger, self._cell, self._details
        touched = [(cell, id_) for id_ in self._touched()]
        stamps = {key: ledger.stamp(key) for key in touched}
        rows = {key: ledger.row(key) for key in touched}
        used = {key: dict(ledger.providers[key].used) for key in touched if key in ledger.providers}
        deleted = [id_ for id_, provider in self._there.items() if provider is None]
        for id_, provider in self._there.items():
            key = (cell, id_)
            if provider is not None:
                if key not in ledger.providers:
                    details.make(key)
                ledger.providers[key] = replace(provider, used=used.get(key, {}))
        self._enter_trees()
        self._enter_consumers(grants)
        for id_, name in self._dropped:
            if (cell, id_) in ledger.providers:
                ledger.providers[cell, id_].stock.pop(name, None)
        for id_ in deleted:
            if ledger.providers.pop((cell, id_), None) is not None:
                details.forget((cell, id_))
                self._forget_settings((cell, id_))
        details.customs = self._customs
        for id_, name in self._names.items():
            key = (cell, id_)
            details.names.pop(key, None)
            if name != id_ and key in ledger.providers:
                details.names[key] = name
        for key in touched:
            if key in ledger.providers and ledger.stamp(key) != stamps[key]:
                ledger.providers[key].changed = ledger.offset
            if ledger.row(key) != rows[key]:
                ledger.write(key)
            ledger.changes.append((cell, ledger.providers[key].root if key in ledger.providers else key[1]))
        details.judged(self._raises())

    def _enter_trees(self) -> None:
        ledger, cell = self._ledger, self._cell
        for root, members in self._members.items():
            if members:
                ledger.members[cell, root] = dict.fromkeys(members)
            else:
                ledger.members.pop((cell, root), None)
        for root, is_node in self._roots.items():
            if is_node:
                ledger.nodes[cell, root] = LedgerNode(((MADE_INCARNATION, 0),))
                ledger.contested_until.pop((cell, root), None)
                ledger.heard((cell, root))
            else:
                ledger.nodes.pop((cell, root), None)
        for id_, settings in self._settings.items():
            ledger.settings[cell, id_] = settings

    def _forget_settings(self, key: Key) -> None:
        settings = self._ledger.settings.get(key)
        if settings is None or not (settings.traits or settings.aggregates):
            return
        after = settings._replace(revision=settings.revision + 1, traits=frozenset(), aggregates=frozenset())
        if after._replace(revision=0) == NO_SETTINGS:
            del self._ledger.settings[key]
        else:
            self._ledger.settings[key] = after

    def _enter_consumers(self, grants: Iterable[Data]) -> None:
        ledger, cell = self._ledger, self._cell
        left = list(grants)
        # What one consumer gives back another one may get: it is in use meanwhile.
        wanted = [
            (id_, name, ledger.auditor(name).amount(ask))
            for (id_, name), asked in self._wanted.items()
            for ask in asked
        ]
        ledger.take(cell, wanted)
        for change, claim in zip(self._consumers, self._claims, strict=True):
            key = (cell, change["consumer"])
            if claim is None:
                if key in ledger.consumers:
                    ledger.end(key)
                continue
            own = list(_own_grants(claim, left))
            counted = amounts_of(claim, own, ledger.classes, partial(ledger.stock_of, cell))
            ledger.quotas.enter(key, claim, counted)
            enter(ledger, cell, claim, own, replaces=True)
        ledger.take(cell, wanted, -1)

    def _raises(self) -> dict[Key, int]:
        raises = Counter[Key]()
        for change in self._providers:
            raises[self._cell, change["provider"]] += change.get("raises", 0)
        named = {a["provider"] for claim in filter(None, self._claims) for a in claim["allocations"]}
        raises.update((self._cell, id_) for id_ in named)
        return {key: by for key, by in raises.items() if by}


def _own_grants(claim: Data, left: list[Data]) -> Iterator[Data]:
    """The grants of a claim of those of its transaction, which are in the order of its claims; they are taken from `left`."""
    for provider, name, _ in (
        (a["provider"], n, ask) for a in claim["allocations"] for n, ask in a["resources"].items()
    ):
        for at, one in enumerate(left):
            if (one["provider"], one["resource_class"]) == (provider, name):
                yield left.pop(at)
                break
