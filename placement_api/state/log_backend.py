"""Placement's state on vacancy's log and tables: transactions go to the log, the view follows this host's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import JsonValue, ValidationError

from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.transactions import (
    CellState,
    ConsumerIndex,
    ConsumerState,
    ProviderState,
    TransactionClient,
    TransactionOutcome,
)
from vacancy.placement_api.state.backend import (
    ABSENT,
    BackendUnavailable,
    Consumer,
    ConsumerChange,
    InvalidTransaction,
    Inventory,
    Rejection,
    Transaction,
)
from vacancy.placement_api.state.cell_objects import consumer_of, provider_of, time_of
from vacancy.placement_api.state.names import shown_uuid
from vacancy.placement_api.state.view import View
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.allocation_ratio import ratio_text
from vacancy.resources.model import transactions as model
from vacancy.resources.model.errors import (
    LogUnavailable,
    OldRules,
    RecordTooLarge,
    UsageError,
    VacancyError,
)
from vacancy.resources.model.names import CUSTOM_PREFIX
from vacancy.resources.state.tables import CUSTOM_NAMES, PROVIDER_DETAILS, PROVIDERS
from vacancy.streams.log import Log

SOURCE = "/vacancy/placement"
TIMEOUT_S = 10.0
"""How long a write waits for its verdict before it answers 503."""


class LogBackend:
    """One cell of a log, as Placement sees it. Use it from one thread at a time."""

    def __init__(self, log: Log, reader: StoreReader, cell: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._client = TransactionClient(log, reader, cell=cell, source=SOURCE)
        self._state = CellState(reader, cell)
        self._reader = reader
        self._timeout_s = timeout_s
        self._view = _TablesView(self._state)
        reader.watch(self._view.note)

    def read(self) -> View:
        """Raises StoreError if the tables cannot be read."""
        self._state.catch_up()
        self._view.refresh()
        return self._view

    def close(self) -> None:
        self._reader.unwatch(self._view.note)
        self._view.index.close()

    def position(self) -> str:
        return ",".join(
            f"{partition}:{offset}" for partition, offset in sorted(self._reader.position.items())
        )

    def commit(self, transaction: Transaction) -> Rejection | None:
        ids = self._view.ids
        try:
            outcome = self._client.submit(
                names=_name_changes(transaction),
                providers=_provider_changes(transaction, ids),
                consumers=tuple(_consumer_change(one, ids) for one in transaction.consumers),
                timeout_s=self._timeout_s,
            )
        except (ValidationError, VacancyError) as error:
            raise translate_error(error) from error
        self._view.refresh()
        return None if outcome.accepted else _rejection(outcome, transaction, ids)


def translate_error(error: ValidationError | VacancyError) -> BackendUnavailable | InvalidTransaction:
    """What a transaction's error is to a client: its request is invalid, or this service cannot serve it now."""
    if isinstance(error, LogUnavailable | OldRules):
        return BackendUnavailable(str(error), outcome_known=True)
    if isinstance(error, ValidationError | UsageError | RecordTooLarge | RecordRefused):
        return InvalidTransaction(str(error))
    return BackendUnavailable(str(error), outcome_known=False)


# -- names of providers ---------------------------------------------------------------------------------------------


class _Ids:
    """Placement wants uuids; a node that publishes itself may have any id. Such an id is shown as a uuid made of it."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def shown(self, name: str) -> str:
        """The uuid of a provider, an aggregate or a consumer."""
        uuid = shown_uuid(name)
        if uuid != name:
            self._ids[uuid] = name
        return uuid

    def of(self, uuid: str) -> str:
        """The id that was shown as a uuid."""
        return self._ids.get(uuid, uuid)


# -- the view -------------------------------------------------------------------------------------------------------


class _TablesView(View):
    """The providers in memory, everything about consumers from the tables."""

    def __init__(self, state: CellState) -> None:
        super().__init__()
        self.ids = _Ids()
        self.index = ConsumerIndex(state)
        self._state = state
        self._used: dict[str, Mapping[str, int]] = {}
        self._cell = state.cell.encode()
        self._all_changed = True
        self._changed: set[str] = set()
        self._names_changed = True
        self._of_providers = frozenset(
            (PROVIDERS.name, PROVIDER_DETAILS.name, *(state.reader.registry.names))
        )

    def note(self, table: str, keys: Sequence[bytes]) -> None:
        """Remembers what the tables changed. A key ends with the cell and the id."""
        if not table:
            self._all_changed = True
        elif table in self._of_providers or table.startswith(CUSTOM_PREFIX):
            parts = (key.rsplit(b"\0", 2) for key in keys)
            self._changed.update(part[-1].decode() for part in parts if part[-2] == self._cell)
        elif table == CUSTOM_NAMES.name:
            self._names_changed = True

    def refresh(self) -> None:
        """Follows the tables."""
        if self._all_changed:
            self._load_all()
        elif self._changed:
            changed, self._changed = self._changed, set()
            for name in changed:
                self._load(name, self._state.provider(name))
            self._names_changed = True  # a published provider brings its classes and traits
        if self._names_changed:
            self._names_changed = False
            self.set_names(
                {one.name: time_of(one.created_ms) for one in self._state.custom_classes()},
                {one.name: time_of(one.created_ms) for one in self._state.custom_traits()},
            )

    def _load_all(self) -> None:
        self._all_changed, self._changed, self._names_changed = False, set(), True
        found = sorted(self._state.providers(), key=lambda one: one.created_ms)
        there = {self.ids.shown(state.id) for state in found}
        for uuid in [uuid for uuid in self.providers if uuid not in there]:
            self._load(self.ids.of(uuid), None)
        for state in found:
            self._load(state.id, state)

    def _load(self, name: str, state: ProviderState | None) -> None:
        uuid = self.ids.shown(name)
        if state is None:
            if self.providers.get(uuid) is not None:
                self.remove_provider(uuid)
            self._used.pop(uuid, None)
            return
        self.put_provider(provider_of(state, self.ids.shown))
        self._used[uuid] = {name: one.used for name, one in state.inventories.items() if one.used}

    def used(self, uuid: str) -> Mapping[str, int]:
        return self._used.get(uuid, {})

    def holders(self, uuid: str) -> Iterable[Consumer]:
        return map(self._consumer, self.index.holders(self.ids.of(uuid)))

    def consumer(self, uuid: str) -> Consumer | None:
        found = self._state.consumer(self.ids.of(uuid))
        return None if found is None else self._consumer(found)

    def consumers_of(self, project: str, user: str | None) -> Iterable[Consumer]:
        found = self.index.of_project(project)
        return (self._consumer(one) for one in found if not user or one.user == user)

    def _consumer(self, state: ConsumerState) -> Consumer:
        return consumer_of(state, self.ids.shown)


# -- a transaction as the log's event -------------------------------------------------------------------------------


def _name_changes(transaction: Transaction) -> tuple[model.NameChange, ...]:
    renamed = transaction.rename_classes
    ops = (
        *(("class", name, "create") for name in transaction.create_classes),
        *(("trait", name, "create") for name in transaction.create_traits),
        *(("class", new, "create") for _, new in renamed),
        *(("class", old, "delete") for old, _ in renamed),
        *(("class", name, "delete") for name in transaction.delete_classes),
        *(("trait", name, "delete") for name in transaction.delete_traits),
    )
    return tuple(
        model.NameChange.model_validate({"kind": kind, "name": name, "op": op}) for kind, name, op in ops
    )


def _provider_changes(transaction: Transaction, ids: _Ids) -> tuple[model.ProviderChange, ...]:
    allocated = {
        amount.provider for consumer in transaction.consumers for amount in consumer.amounts if amount.used
    }
    return (
        *(
            model.ProviderChange(
                provider=one.uuid,
                op="create",
                name=one.name,
                parent=None if one.parent is None else ids.of(one.parent),
            )
            for one in transaction.create_providers
        ),
        *(
            model.ProviderChange(
                provider=ids.of(one.uuid),
                name=one.name,
                parent="" if one.parent is None else ids.of(one.parent),
            )
            for one in transaction.move_providers
        ),
        *(
            model.ProviderChange(
                provider=ids.of(one.uuid),
                generation=one.generation,
                raises=one.generation_steps - (one.uuid in allocated),
                inventories=None
                if one.inventories is None
                else {name: _inventory(what) for name, what in one.inventories.items()},
                traits=None if one.traits is None else tuple(sorted(one.traits)),
                aggregates=None if one.aggregates is None else tuple(map(ids.of, one.aggregates)),
            )
            for one in transaction.providers
        ),
        *(model.ProviderChange(provider=ids.of(uuid), op="delete") for uuid in transaction.delete_providers),
    )


def _inventory(one: Inventory) -> dict[str, JsonValue]:
    return {
        "total": one.total,
        "reserved": one.reserved,
        "min_unit": one.min_unit,
        "max_unit": one.max_unit,
        "step_size": one.step_size,
        "allocation_ratio": ratio_text(one.allocation_ratio),
    }


def _consumer_change(change: ConsumerChange, ids: _Ids) -> model.ConsumerChange:
    amounts: Counter[tuple[str, str]] = Counter()
    for amount in change.amounts:
        amounts[amount.provider, amount.resource_class] += amount.used
    allocations: dict[str, dict[str, int | dict[str, JsonValue]]] = {}
    for (provider, resource_class), used in amounts.items():
        if used:
            allocations.setdefault(ids.of(provider), {})[resource_class] = used
    generation: int | Literal["absent", "any"] = "any" if change.generation is None else change.generation
    return model.ConsumerChange(
        consumer=ids.of(change.uuid),
        generation="absent" if generation == ABSENT else generation,
        project=change.project,
        user=change.user,
        consumer_type=change.consumer_type or model.UNKNOWN_TYPE,
        allocations=allocations,
    )


# -- a verdict as the reason of a rejection -------------------------------------------------------------------------

_REASONS: Mapping[str, str] = {
    "provider_changed": "provider_generation",
    "name_taken": "name_exists",
    "no_room": "capacity",
    "below_min_unit": "constraints",
    "above_max_unit": "constraints",
    "off_step": "constraints",
    "bad_amount": "constraints",
    "consumer_exists": "consumer_generation",
    "consumer_unknown": "consumer_generation",
    "consumer_changed": "consumer_generation",
}
"""Reasons of the log that have another name in `Rejection`; the others keep theirs."""

_OF_NAMES = frozenset(("name_exists", "name_unknown", "name_in_use"))


def _rejection(outcome: TransactionOutcome, transaction: Transaction, ids: _Ids) -> Rejection:
    reason = outcome.reason
    if reason in _OF_NAMES:
        of_traits = outcome.other in (*transaction.create_traits, *transaction.delete_traits)
        return Rejection(reason.replace("name", "trait" if of_traits else "class"), outcome.other)
    if reason in ("class_unknown", "trait_unknown"):
        return Rejection(reason, outcome.other)
    classes = (outcome.resource_class,) if outcome.resource_class else ()
    subject = outcome.provider or outcome.consumer or outcome.other
    return Rejection(_REASONS.get(reason, reason), ids.shown(subject) if subject else "", classes)
