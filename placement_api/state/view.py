"""What Placement's queries read: providers in memory with indices, and what a backend knows of consumers.

A backend keeps one view and changes it by whole records, as `put_provider`. Records are immutable; a query that keeps one
is not surprised by a later change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, KeysView, Mapping
from datetime import datetime
from typing import Any

from vacancy.placement_api.state.backend import Consumer, Provider


class View(ABC):
    """All providers, custom classes and custom traits, in the order of creation; consumers by the methods of a backend.

    custom_classes, custom_traits: name -> time of creation.
    version: rises with each change of a class or trait, so that a cache of names knows when it is old.
    kept_names: what such caches have made, with the version that they are of.
    """

    def __init__(self) -> None:
        self.providers: dict[str, Provider] = {}
        self.custom_classes: dict[str, datetime | None] = {}
        self.custom_traits: dict[str, datetime | None] = {}
        self.version = 0
        self.kept_names: dict[type, tuple[int, dict[str, Any], dict[Any, str]]] = {}
        self._by_name: dict[str, str] = {}
        self._children: dict[str, dict[str, None]] = defaultdict(dict)
        self._members: dict[str, dict[str, None]] = defaultdict(dict)
        self._with_trait: dict[str, dict[str, None]] = defaultdict(dict)
        self._with_class: dict[str, dict[str, None]] = defaultdict(dict)
        self._trees: dict[str, dict[str, None]] = defaultdict(dict)

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

    def members(self, aggregate: str) -> KeysView[str]:
        """The uuids of the providers in an aggregate."""
        return self._members.get(aggregate, {}).keys()

    def with_trait(self, trait: str) -> KeysView[str]:
        """The uuids of the providers that have a trait."""
        return self._with_trait.get(trait, {}).keys()

    def with_class(self, resource_class: str) -> KeysView[str]:
        """The uuids of the providers that have an inventory of a class."""
        return self._with_class.get(resource_class, {}).keys()

    @abstractmethod
    def used(self, uuid: str) -> Mapping[str, int]:
        """What all consumers together hold of a provider: resource class -> amount. Zero amounts may be left out."""

    @abstractmethod
    def holders(self, uuid: str) -> Iterable[Consumer]:
        """The consumers that hold something of a provider."""

    @abstractmethod
    def consumer(self, uuid: str) -> Consumer | None:
        """A consumer, or None."""

    @abstractmethod
    def consumers_of(self, project: str, user: str | None) -> Iterable[Consumer]:
        """The consumers of a project, or of one of its users."""

    # -- what backends write --------------------------------------------------------------------------------------

    def put_provider(self, new: Provider) -> None:
        old = self.providers.get(new.uuid)
        if old is not None:
            self._unindex(old)
        self.providers[new.uuid] = new
        self._index(new)

    def remove_provider(self, uuid: str) -> None:
        self._unindex(self.providers.pop(uuid))

    def set_names(
        self, classes: Mapping[str, datetime | None], traits: Mapping[str, datetime | None]
    ) -> None:
        """Replaces the custom classes and traits."""
        old = (list(self.custom_classes.items()), list(self.custom_traits.items()))
        if (list(classes.items()), list(traits.items())) != old:
            self.version += 1
        self.custom_classes, self.custom_traits = dict(classes), dict(traits)

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


def _discard(index: dict[str, dict[str, None]], key: str, value: str) -> None:
    values = index[key]
    values.pop(value, None)
    if not values:
        del index[key]
