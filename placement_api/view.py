"""Placement's state in memory, with the indices that its queries need.

A backend keeps one view and changes it by whole records: `put_provider`, `put_consumer` and so on. Records are
immutable; a query that keeps one is not surprised by a later change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from vacancy.placement_api.backend import Consumer, Provider

Usage = dict[str, int]


class View:
    """All providers, consumers, custom classes and custom traits, by their natural keys, in the order of creation.

    custom_classes, custom_traits: name -> time of creation.
    version: rises with each change of a class or trait, so that a cache of names knows when it is old.
    """

    def __init__(self) -> None:
        self.providers: dict[str, Provider] = {}
        self.consumers: dict[str, Consumer] = {}
        self.custom_classes: dict[str, datetime | None] = {}
        self.custom_traits: dict[str, datetime | None] = {}
        self.version = 0
        self._by_name: dict[str, str] = {}
        self._children: dict[str, dict[str, None]] = defaultdict(dict)
        self._members: dict[str, dict[str, None]] = defaultdict(dict)
        self._with_trait: dict[str, dict[str, None]] = defaultdict(dict)
        self._with_class: dict[str, dict[str, None]] = defaultdict(dict)
        self._trees: dict[str, dict[str, None]] = defaultdict(dict)
        self._used: dict[str, Usage] = defaultdict(dict)
        self._holders: dict[str, dict[str, None]] = defaultdict(dict)

    # -- what queries read ----------------------------------------------------------------------------------------

    def provider_named(self, name: str) -> Provider | None:
        uuid = self._by_name.get(name)
        return None if uuid is None else self.providers[uuid]

    def children(self, uuid: str) -> Iterable[str]:
        """The uuids of the providers whose parent is this one."""
        return self._children.get(uuid, {}).keys()

    def tree(self, root: str) -> Iterable[str]:
        """The uuids of all providers under a root, the root among them; nothing for what is not a root."""
        return self._trees.get(root, {}).keys()

    def below(self, uuid: str) -> Iterator[str]:
        """A provider and all providers under it."""
        yield uuid
        for child in self.children(uuid):
            yield from self.below(child)

    @property
    def has_nested_providers(self) -> bool:
        return bool(self._children)

    def members(self, aggregate: str) -> Iterable[str]:
        """The uuids of the providers in an aggregate."""
        return self._members.get(aggregate, {}).keys()

    def with_trait(self, trait: str) -> Iterable[str]:
        """The uuids of the providers that have a trait."""
        return self._with_trait.get(trait, {}).keys()

    def with_class(self, resource_class: str) -> Iterable[str]:
        """The uuids of the providers that have an inventory of a class."""
        return self._with_class.get(resource_class, {}).keys()

    def used(self, uuid: str) -> Mapping[str, int]:
        """What all consumers together hold of a provider: resource class -> amount. Zero amounts are left out."""
        return self._used.get(uuid, {})

    def holders(self, uuid: str) -> Iterable[str]:
        """The uuids of the consumers that hold something of a provider."""
        return self._holders.get(uuid, {}).keys()

    @property
    def projects(self) -> set[str]:
        return {one.project for one in self.consumers.values()}

    @property
    def users(self) -> set[str]:
        return {one.user for one in self.consumers.values()}

    # -- what backends write --------------------------------------------------------------------------------------

    def put_provider(self, new: Provider) -> None:
        old = self.providers.get(new.uuid)
        if old is not None:
            self._unindex(old)
        self.providers[new.uuid] = new
        self._index(new)

    def remove_provider(self, uuid: str) -> None:
        self._unindex(self.providers.pop(uuid))

    def put_consumer(self, new: Consumer) -> None:
        old = self.consumers.get(new.uuid)
        if old is not None:
            self._count(old, -1)
        self.consumers[new.uuid] = new
        self._count(new, 1)

    def remove_consumer(self, uuid: str) -> None:
        self._count(self.consumers.pop(uuid), -1)

    def put_class(self, name: str, created_at: datetime | None) -> None:
        self.custom_classes[name] = created_at
        self.version += 1

    def remove_class(self, name: str) -> None:
        del self.custom_classes[name]
        self.version += 1

    def put_trait(self, name: str, created_at: datetime | None) -> None:
        self.custom_traits[name] = created_at
        self.version += 1

    def remove_trait(self, name: str) -> None:
        del self.custom_traits[name]
        self.version += 1

    def _index(self, one: Provider) -> None:
        self._by_name[one.name] = one.uuid
        self._trees[one.root][one.uuid] = None
        if one.parent is not None:
            self._children[one.parent][one.uuid] = None
        for aggregate in one.aggregates:
            self._members[aggregate][one.uuid] = None
        for trait in one.traits:
            self._with_trait[trait][one.uuid] = None
        for resource_class in one.inventories:
            self._with_class[resource_class][one.uuid] = None

    def _unindex(self, one: Provider) -> None:
        if self._by_name.get(one.name) == one.uuid:
            del self._by_name[one.name]
        _discard(self._trees, one.root, one.uuid)
        if one.parent is not None:
            _discard(self._children, one.parent, one.uuid)
        for aggregate in one.aggregates:
            _discard(self._members, aggregate, one.uuid)
        for trait in one.traits:
            _discard(self._with_trait, trait, one.uuid)
        for resource_class in one.inventories:
            _discard(self._with_class, resource_class, one.uuid)

    def _count(self, one: Consumer, sign: int) -> None:
        for provider, amounts in one.allocations.items():
            used = self._used[provider]
            for resource_class, amount in amounts.items():
                left = used.get(resource_class, 0) + sign * amount
                if left:
                    used[resource_class] = left
                else:
                    used.pop(resource_class, None)
            if not used:
                del self._used[provider]
            if sign > 0:
                self._holders[provider][one.uuid] = None
            else:
                _discard(self._holders, provider, one.uuid)


def _discard(index: dict[str, dict[str, None]], key: str, value: str) -> None:
    values = index[key]
    values.pop(value, None)
    if not values:
        del index[key]
