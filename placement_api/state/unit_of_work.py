"""The unit of work of a request: which view it reads, and the one transaction that it builds.

Placement decorates functions with `reader` and `writer`. The outermost `writer` collects what the objects stage in
a `Draft`, and commits it as one transaction when it ends. Inner ones join it. What is staged is not visible to reads
of the same unit; Placement's code does not need that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import webob.exc
from oslo_log import log as logging
from placement import exception, util

from vacancy.placement_api.state import rejections
from vacancy.placement_api.state.backend import (
    Backend,
    BackendUnavailable,
    ConsumerChange,
    InvalidTransaction,
    Inventory,
    ProviderChange,
    ProviderCreation,
    ProviderMove,
    Transaction,
)
from vacancy.placement_api.state.view import View
from vacancy.resources.model.errors import StoreError

LOG = logging.getLogger(__name__)

Context = Any
"""A `placement.context.RequestContext`. The unit of work is kept in its attribute `vacancy_unit`."""


class NoBackend(Exception):
    """Placement's objects were used before a backend was set."""


_backends: list[Backend] = []
"""The backend of this process: none or one."""


def use_backend(backend: Backend | None) -> None:
    """Sets the backend of this process; None removes it."""
    _backends[:] = [] if backend is None else [backend]


def backend() -> Backend:
    if not _backends:
        raise NoBackend(
            "Placement's objects have no backend: call vacancy.placement_api.state.unit_of_work.use_backend first"
        )
    return _backends[0]


def _read() -> View:
    try:
        return backend().read()
    except StoreError as error:
        raise unavailable(str(error)) from error


def unavailable(text: str) -> Any:
    """An answer 503 with this text, which is an exception, too. Placement logs answers only at level DEBUG."""
    LOG.warning("Answering 503: %s", text)
    return webob.exc.HTTPServiceUnavailable(text, json_formatter=util.json_error_formatter)


class Draft:
    """A transaction that is being built. Changes of one provider are joined, so that its generation steps add up."""

    def __init__(self) -> None:
        self._transaction = Transaction()
        self._providers: dict[str, ProviderChange] = {}
        self._consumers: dict[str, ConsumerChange] = {}

    def stage(self, **effects: tuple[Any, ...]) -> None:
        """Appends to the tuples of the transaction: `stage(create_traits=("CUSTOM_A",))`."""
        joined = {name: (*getattr(self._transaction, name), *values) for name, values in effects.items()}
        self._transaction = replace(self._transaction, **joined)

    def create_provider(self, uuid: str, name: str, parent: str | None) -> None:
        self.stage(create_providers=(ProviderCreation(uuid, name, parent),))

    def move_provider(self, uuid: str, name: str, parent: str | None, was_parent: str | None) -> None:
        self.stage(move_providers=(ProviderMove(uuid, name, parent, was_parent),))

    def change_provider(
        self,
        uuid: str,
        *,
        inventories: Mapping[str, Inventory] | None = None,
        traits: frozenset[str] | None = None,
        aggregates: tuple[str, ...] | None = None,
    ) -> None:
        """Replaces the parts that are given."""
        change = self._providers.get(uuid, ProviderChange(uuid))
        self._providers[uuid] = replace(
            change,
            inventories=change.inventories if inventories is None else inventories,
            traits=change.traits if traits is None else traits,
            aggregates=change.aggregates if aggregates is None else aggregates,
        )

    def step_generation(self, uuid: str, known: int | None) -> None:
        """Raises a provider's generation by one.

        `known` is the generation that the caller believes in, which counts the steps of this draft; None for any.
        Raises ResourceProviderConcurrentUpdateDetected if the draft already expects another one.
        """
        change = self._providers.get(uuid, ProviderChange(uuid))
        expected = change.generation
        if known is not None:
            first = known - change.generation_steps
            if expected not in (None, first):
                raise exception.ResourceProviderConcurrentUpdateDetected()
            expected = first
        self._providers[uuid] = replace(
            change, generation=expected, generation_steps=change.generation_steps + 1
        )

    def change_consumer(self, change: ConsumerChange) -> None:
        """Replaces what a consumer holds; a second change of the same consumer replaces the first."""
        self._consumers[change.uuid] = change

    def transaction(self) -> Transaction:
        return replace(
            self._transaction,
            providers=tuple(self._providers.values()),
            consumers=tuple(self._consumers.values()),
        )


@dataclass(slots=True)
class Unit:
    """What is open on a request's context."""

    view: View
    draft: Draft | None = None


def view(context: Context) -> View:
    """The view of the open unit; outside of one, the newest."""
    unit: Unit | None = getattr(context, "vacancy_unit", None)
    return _read() if unit is None else unit.view


def draft(context: Context) -> Draft:
    """The draft of the open writer."""
    unit: Unit | None = getattr(context, "vacancy_unit", None)
    if unit is None or unit.draft is None:
        raise RuntimeError("a write outside of placement_context_manager.writer")
    return unit.draft


@contextmanager
def reading(context: Context) -> Iterator[None]:
    """One view for all reads inside."""
    if getattr(context, "vacancy_unit", None) is not None:
        yield
        return
    context.vacancy_unit = Unit(_read())
    try:
        yield
    finally:
        context.vacancy_unit = None


@contextmanager
def writing(context: Context) -> Iterator[None]:
    """Commits what was staged inside as one transaction, if no exception leaves it.

    Raises Placement's exception for the reason of a refusal.
    """
    open_unit: Unit | None = getattr(context, "vacancy_unit", None)
    if open_unit is not None and open_unit.draft is not None:
        yield
        return
    new = Draft()
    context.vacancy_unit = Unit(_read(), new)
    try:
        yield
    finally:
        context.vacancy_unit = open_unit
    _commit(new.transaction())


@contextmanager
def independent(context: Context) -> Iterator[None]:
    """Reads the newest state, whatever is open."""
    outer = getattr(context, "vacancy_unit", None)
    context.vacancy_unit = Unit(_read())
    try:
        yield
    finally:
        context.vacancy_unit = outer


def _commit(transaction: Transaction) -> None:
    if transaction.is_empty:
        return
    try:
        rejection = backend().commit(transaction)
    except BackendUnavailable as error:
        known = "nothing was written" if error.outcome_known else "it is not known whether it was written"
        raise unavailable(f"{error}; {known}") from error
    except InvalidTransaction as error:
        raise webob.exc.HTTPBadRequest(str(error), json_formatter=util.json_error_formatter) from error
    if rejection is not None:
        rejections.translate(rejection, transaction, _read())
