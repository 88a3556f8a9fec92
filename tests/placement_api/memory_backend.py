"""A backend in memory: judges a transaction by brute force, in the words of Placement's rules. The judge of tests."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from vacancy.placement_api.state import names
from vacancy.placement_api.state.backend import (
    ABSENT,
    Amount,
    Consumer,
    ConsumerChange,
    Inventory,
    Provider,
    ProviderChange,
    Rejection,
    Transaction,
)
from vacancy.placement_api.state.view import View


class Refused(Exception):
    def __init__(self, reason: str, subject: str, *resource_classes: str) -> None:
        super().__init__(reason)
        self.rejection = Rejection(reason, subject, resource_classes)


def demand(condition: bool, reason: str, subject: str, *resource_classes: str) -> None:
    if not condition:
        raise Refused(reason, subject, *resource_classes)


class MemoryView(View):
    """Consumers by uuid, and the sums that all views give."""

    def __init__(self) -> None:
        super().__init__()
        self.consumers: dict[str, Consumer] = {}

    def used(self, uuid: str) -> dict[str, int]:
        sums: dict[str, int] = defaultdict(int)
        for one in self.holders(uuid):
            for name, amount in one.allocations[uuid].items():
                sums[name] += amount
        return sums

    def holders(self, uuid: str) -> list[Consumer]:
        return [one for one in self.consumers.values() if uuid in one.allocations]

    def consumer(self, uuid: str) -> Consumer | None:
        return self.consumers.get(uuid)

    def consumers_of(self, project: str, user: str | None) -> list[Consumer]:
        return [
            one
            for one in self.consumers.values()
            if one.project == project and (not user or one.user == user)
        ]


class MemoryBackend:
    """All state in one view. A refused transaction changes nothing: it works on copies of whole records."""

    def __init__(self) -> None:
        self.view = MemoryView()
        self.commits = 0

    def read(self) -> View:
        return self.view

    def close(self) -> None:
        """Nothing to release."""

    def position(self) -> str:
        return str(self.commits)

    def commit(self, transaction: Transaction) -> Rejection | None:
        try:
            _Commit(self.view, transaction).run()
        except Refused as refused:
            return refused.rejection
        self.commits += 1
        return None


class _Commit:
    """One transaction: `providers` and `consumers` are the records as they would be afterwards."""

    def __init__(self, view: MemoryView, transaction: Transaction) -> None:
        self.view = view
        self.transaction = transaction
        self.now = datetime.fromtimestamp(time.time(), UTC)
        self.providers = dict(view.providers)
        self.consumers = dict(view.consumers)
        self.classes = dict(view.custom_classes)
        self.traits = dict(view.custom_traits)

    def run(self) -> None:
        self.change_names()
        self.check_generations()
        self.create_providers()
        self.move_providers()
        for change in self.transaction.providers:
            self.change_provider(change)
        self.change_consumers()
        self.drop_inventories()
        self.delete_providers()
        self.delete_names()
        self.write()

    # -- names ----------------------------------------------------------------------------------------------------

    def change_names(self) -> None:
        for name in self.transaction.create_classes:
            demand(name not in self.classes, "class_exists", name)
            self.classes[name] = self.now
        for name in self.transaction.create_traits:
            demand(name not in self.traits, "trait_exists", name)
            self.traits[name] = self.now
        for old, new in self.transaction.rename_classes:
            demand(old in self.classes, "class_unknown", old)
            demand(new not in self.classes and new not in names.standard_classes(), "class_exists", new)
            self.classes = {new if name == old else name: when for name, when in self.classes.items()}
            for one in list(self.providers.values()):
                inventories = {new if name == old else name: what for name, what in one.inventories.items()}
                self.providers[one.uuid] = replace(one, inventories=inventories)
            for held in list(self.consumers.values()):
                allocations = {
                    uuid: {new if name == old else name: used for name, used in amounts.items()}
                    for uuid, amounts in held.allocations.items()
                }
                self.consumers[held.uuid] = replace(held, allocations=allocations)

    def delete_names(self) -> None:
        for name in self.transaction.delete_classes:
            demand(name in self.classes, "class_unknown", name)
            demand(all(name not in one.inventories for one in self.providers.values()), "class_in_use", name)
            del self.classes[name]
        for name in self.transaction.delete_traits:
            demand(name in self.traits, "trait_unknown", name)
            demand(all(name not in one.traits for one in self.providers.values()), "trait_in_use", name)
            del self.traits[name]

    # -- providers ------------------------------------------------------------------------------------------------

    def check_generations(self) -> None:
        for change in self.transaction.providers:
            one = self.providers.get(change.uuid)
            if one is None:
                compared = change.generation is not None
                raise Refused("provider_generation" if compared else "provider_unknown", change.uuid)
            demand(change.generation in (None, one.generation), "provider_generation", change.uuid)
        for wanted in self.transaction.consumers:
            held = self.consumers.get(wanted.uuid)
            is_now = ABSENT if held is None else held.generation
            demand(wanted.generation in (None, is_now), "consumer_generation", wanted.uuid)

    def create_providers(self) -> None:
        for one in self.transaction.create_providers:
            demand(one.uuid not in self.providers, "provider_exists", one.uuid)
            self.demand_free_name(one.name)
            root = one.uuid
            if one.parent is not None:
                demand(one.parent in self.providers, "parent_unknown", one.parent)
                root = self.providers[one.parent].root
            updated = self.now if one.parent is None else None
            self.providers[one.uuid] = Provider(
                one.uuid, one.name, 0, root, one.parent, created_at=self.now, updated_at=updated
            )

    def demand_free_name(self, name: str) -> None:
        demand(all(one.name != name for one in self.providers.values()), "name_exists", name)

    def move_providers(self) -> None:
        for move in self.transaction.move_providers:
            demand(move.uuid in self.providers, "provider_unknown", move.uuid)
            old = self.providers[move.uuid]
            demand(old.parent == move.was_parent, "parent_changed", move.uuid)
            if move.name != old.name:
                self.demand_free_name(move.name)
            below = set(self.view.below(move.uuid))
            root = move.uuid
            if move.parent is not None:
                demand(move.parent in self.providers, "parent_unknown", move.parent)
                demand(move.parent not in below, "parent_below", move.parent)
                root = self.providers[move.parent].root
            self.providers[move.uuid] = replace(old, name=move.name, parent=move.parent, updated_at=self.now)
            for uuid in below:
                self.providers[uuid] = replace(self.providers[uuid], root=root)

    def change_provider(self, change: ProviderChange) -> None:
        one = self.providers[change.uuid]
        new = replace(one, generation=one.generation + change.generation_steps, updated_at=self.now)
        if change.inventories is not None:
            for name in change.inventories:
                demand(name in self.classes or name in names.standard_classes(), "class_unknown", name)
            dropped = {name: old for name, old in one.inventories.items() if name not in change.inventories}
            timed = {
                name: self.timed(one.inventories.get(name), new) for name, new in change.inventories.items()
            }
            new = replace(new, inventories={**dropped, **timed})
        if change.traits is not None:
            for trait in change.traits:
                demand(trait in self.traits or trait in names.standard_traits(), "trait_unknown", trait)
            new = replace(new, traits=change.traits)
        if change.aggregates is not None:
            new = replace(new, aggregates=change.aggregates)
        self.providers[change.uuid] = new

    def timed(self, old: Inventory | None, new: Inventory) -> Inventory:
        if old is None:
            return replace(new, created_at=self.now)
        return replace(new, created_at=old.created_at, updated_at=self.now)

    def drop_inventories(self) -> None:
        for change in self.transaction.providers:
            if change.inventories is None:
                continue
            one = self.providers[change.uuid]
            dropped = [name for name in one.inventories if name not in change.inventories]
            used = self.used(self.consumers.values())
            in_use = [name for name in dropped if used[change.uuid, name]]
            demand(not in_use, "inventory_in_use", change.uuid, *in_use)
            kept = {name: what for name, what in one.inventories.items() if name in change.inventories}
            self.providers[change.uuid] = replace(one, inventories=kept)

    def delete_providers(self) -> None:
        for uuid in self.transaction.delete_providers:
            demand(uuid in self.providers, "provider_unknown", uuid)
            demand(all(one.parent != uuid for one in self.providers.values()), "provider_has_children", uuid)
            held = any(uuid in one.allocations for one in self.consumers.values())
            demand(not held, "provider_in_use", uuid)
            del self.providers[uuid]

    # -- consumers ------------------------------------------------------------------------------------------------

    def used(self, consumers: Iterable[Consumer]) -> dict[tuple[str, str], int]:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for one in consumers:
            for uuid, amounts in one.allocations.items():
                for name, amount in amounts.items():
                    sums[uuid, name] += amount
        return sums

    def change_consumers(self) -> None:
        if not self.transaction.consumers:
            return
        before = self.used(self.consumers.values())
        changed = {one.uuid for one in self.transaction.consumers}
        used = self.used(one for one in self.consumers.values() if one.uuid not in changed)
        for change in self.transaction.consumers:
            for amount in change.amounts:
                self.judge(amount, used, before)
        for change in self.transaction.consumers:
            self.replace_consumer(change)

    def judge(
        self,
        amount: Amount,
        used: dict[tuple[str, str], int],
        before: dict[tuple[str, str], int],
    ) -> None:
        if amount.used == 0:
            return
        demand(amount.provider in self.providers, "provider_unknown", amount.provider)
        key = (amount.provider, amount.resource_class)
        inventory = self.providers[amount.provider].inventories.get(amount.resource_class)
        if inventory is None:
            raise Refused("no_inventory", *key)
        fits = (
            inventory.min_unit <= amount.used <= inventory.max_unit and amount.used % inventory.step_size == 0
        )
        demand(fits, "constraints", *key)
        used[key] += amount.used
        demand(used[key] <= inventory.capacity or used[key] <= before[key], "capacity", *key)

    def replace_consumer(self, change: ConsumerChange) -> None:
        allocations: dict[str, dict[str, int]] = {}
        for amount in change.amounts:
            if amount.used:
                allocations.setdefault(amount.provider, {})[amount.resource_class] = amount.used
        old = self.consumers.pop(change.uuid, None)
        if allocations:
            self.consumers[change.uuid] = Consumer(
                change.uuid,
                1 if old is None else old.generation + 1,
                change.project,
                change.user,
                change.consumer_type,
                allocations,
                created_at=self.now if old is None else old.created_at,
                updated_at=self.now,
            )

    # -- the end --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        view = self.view
        view.consumers = self.consumers
        for uuid in [uuid for uuid in view.providers if uuid not in self.providers]:
            view.remove_provider(uuid)
        for one in self.providers.values():
            if view.providers.get(one.uuid) is not one:
                view.put_provider(one)
        view.set_names(self.classes, self.traits)
