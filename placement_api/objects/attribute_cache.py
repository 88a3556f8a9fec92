"""Stands in for `placement.attribute_cache`: names of classes, traits and consumer types and their numbers.

Numbers are local to a process and a view. Placement's code uses them as opaque keys and for sorting; they are in no
answer.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from placement import exception

from vacancy.placement_api.objects import consumer_type
from vacancy.placement_api.state import names, unit_of_work
from vacancy.placement_api.state.view import View

Attrs = namedtuple("Attrs", ["id", "name", "updated_at", "created_at"])

STARTED = datetime.now(UTC)
"""Stands for the time at which standard traits were created: no log has it."""


class _AttributeCache:
    """Looks names up, and loads them again when a class or trait was added or removed since."""

    _not_found: Any = None

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self.clear()

    def clear(self) -> None:
        self._version: int | None = None
        self._by_name: dict[str, Attrs] = {}
        self._names: dict[Any, str] = {}

    def _rows(self, view: View) -> Iterable[Attrs]:
        raise NotImplementedError

    def _load(self) -> None:
        view = unit_of_work.view(self._ctx)
        if self._version == view.version:
            return
        self._version = view.version
        # Placement makes a cache for each request. What it holds is kept with the view, for all requests of this process.
        kept = view.kept_names.get(type(self))
        if kept is None or kept[0] != view.version:
            by_name = {row.name: row for row in self._rows(view)}
            kept = view.version, by_name, {row.id: row.name for row in by_name.values()}
            view.kept_names[type(self)] = kept
        _, self._by_name, self._names = kept

    def id_from_string(self, attr_str: str) -> Any:
        return self.all_from_string(attr_str).id

    def all_from_string(self, attr_str: str) -> Attrs:
        if attr_str not in self._by_name:
            self._load()
        row = self._by_name.get(attr_str)
        if row is None:
            raise self._not_found(name=attr_str)
        return row

    def string_from_id(self, attr_id: Any) -> str:
        if attr_id not in self._names:
            self._load()
        if attr_id not in self._names:
            raise self._not_found(name=attr_id)
        return self._names[attr_id]

    def get_all(self) -> list[Attrs]:
        if not self._by_name:
            self._load()
        return list(self._by_name.values())


class ConsumerTypeCache(_AttributeCache):
    """Consumer types are their own keys, except `unknown`, whose key is None."""

    _not_found = exception.ConsumerTypeNotFound

    def id_from_string(self, attr_str: str) -> Any:
        return consumer_type.key_of(self._ctx, attr_str)

    def all_from_string(self, attr_str: str) -> Attrs:
        return Attrs(self.id_from_string(attr_str), attr_str, None, None)

    def string_from_id(self, attr_id: Any) -> str:
        return consumer_type.NULL_CONSUMER_TYPE_ALIAS if attr_id is None else str(attr_id)

    def get_all(self) -> list[Attrs]:
        return [self.all_from_string(name) for name in consumer_type.known(self._ctx)]


class ResourceClassCache(_AttributeCache):
    """Standard classes have Placement's numbers, custom ones follow from 10,000 in the order of creation."""

    _not_found = exception.ResourceClassNotFound

    def _rows(self, view: View) -> Iterable[Attrs]:
        for name, number in names.standard_classes().items():
            yield Attrs(number, name, None, None)
        for place, (name, created) in enumerate(view.custom_classes.items()):
            yield Attrs(names.FIRST_CUSTOM + place, name, None, created)


class TraitCache(_AttributeCache):
    """Standard traits come first, sorted, then custom ones in the order of creation."""

    _not_found = exception.TraitNotFound

    def _rows(self, view: View) -> Iterable[Attrs]:
        for number, name in enumerate(names.standard_traits(), 1):
            yield Attrs(number, name, None, STARTED)
        first = len(names.standard_traits()) + 1
        for number, (name, created) in enumerate(view.custom_traits.items(), first):
            yield Attrs(number, name, None, created)
