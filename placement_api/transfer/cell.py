"""A cell of a log as source and as target of a copy: it is read from this host's tables, and written by transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeVar

from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.transactions import CellState, TransactionClient
from vacancy.clients.transactions.client import LATE, TransactionOutcome
from vacancy.placement_api.state.backend import ABSENT
from vacancy.placement_api.state.cell_objects import consumer_of, provider_of
from vacancy.placement_api.state.names import shown_uuid
from vacancy.placement_api.transfer.deployment import Deployment
from vacancy.placement_api.transfer.endpoint import Progress, Refusal
from vacancy.placement_api.transfer.plan import ClosingStep, ConsumerStep, Inventories, Plan, ProviderStep
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.allocation_ratio import ratio_text
from vacancy.resources.model.errors import InvalidRecord, OutcomeUnknown, UsageError, VacancyError
from vacancy.resources.model.transactions import (
    RAISES_MAX,
    UNKNOWN_TYPE,
    ConsumerChange,
    NameChange,
    ProviderChange,
)
from vacancy.streams.log import Log

SOURCE: Final = "/vacancy/placement/import"
TIMEOUT_S: Final = 60.0
"""How long a transaction waits for its verdict. A worker that has just started may have much to fold."""

_WEIGHT_MAX: Final = 400
"""Weight of a transaction: inventories, traits, aggregates and asks. It is far below the limits of a record, and such a transaction
is folded in some milliseconds, so that others who write to the cell do not wait long."""
_ITEMS_MAX: Final = 60

T = TypeVar("T")


class Cell:
    """One cell. The reader is of a store on this host that a worker keeps."""

    def __init__(self, log: Log, reader: StoreReader, cell: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._client = TransactionClient(log, reader, cell=cell, source=SOURCE)
        self._state = CellState(reader, cell)
        self._cell, self._timeout_s = cell, timeout_s

    @property
    def name(self) -> str:
        return f"cell {self._cell}"

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, progress: Progress | None = None) -> Deployment:
        self._state.catch_up()
        return read_cell(self._state)

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, plan: Plan, progress: Progress | None = None) -> list[Refusal]:
        """Raises `LogUnavailable` and `OutcomeUnknown` as `TransactionClient.submit` does. What was written so far stays, and a new
        plan goes on after it."""
        writing = _Writing(self._submit, plan.steps, progress)
        names = [("class", name) for name in plan.classes] + [("trait", name) for name in plan.traits]
        writing.batches(
            names,
            weight=lambda _: 1,
            subject=" ".join,
            arguments=lambda batch: {"names": [_name(kind, name) for kind, name in batch]},
        )
        writing.batches(
            plan.providers,
            weight=_provider_weight,
            subject=lambda one: f"provider {one.provider.uuid}",
            arguments=lambda batch: {"providers": [_provider_change(one) for one in batch]},
        )
        writing.batches(
            plan.consumers,
            weight=lambda one: sum(map(len, one.consumer.allocations.values())),
            subject=lambda one: f"consumer {one.consumer.uuid}",
            arguments=lambda batch: {"consumers": [_consumer_change(one) for one in batch]},
        )
        self._state.catch_up()
        writing.batches(
            plan.closings,
            weight=lambda one: 1 + len(one.inventories or ()),
            subject=lambda one: f"provider {one.provider}",
            arguments=lambda batch: {"providers": [*filter(None, map(self._closing_change, batch))]},
        )
        return writing.refusals

    def _submit(self, arguments: dict[str, Any]) -> str:
        """Submit a transaction. Returns the reason of its rejection, "" if it was accepted."""
        if not any(arguments.values()):
            return ""
        try:
            outcome = self._client.submit(**arguments, timeout_s=self._timeout_s)
            if outcome.reason == LATE:
                outcome = self._client.submit(**arguments, timeout_s=self._timeout_s)
        except OutcomeUnknown:
            raise
        except (UsageError, RecordRefused) as error:
            return error.what
        return "" if outcome.accepted else _reason(outcome)

    def _closing_change(self, step: ClosingStep) -> ProviderChange | None:
        there = self._state.provider(step.provider)
        if there is None:
            return None
        raises = min(max(0, step.generation - there.generation), RAISES_MAX)
        if not raises and step.inventories is None:
            return None
        inventories = None if step.inventories is None else _inventories(step.inventories)
        return ProviderChange(provider=step.provider, raises=raises, inventories=inventories)


class _Writing:
    """Writes the steps of a plan in batches. What a batch is refused for is found by halving it."""

    def __init__(
        self, submit: Callable[[dict[str, Any]], str], steps: int, progress: Progress | None
    ) -> None:
        self._submit, self._steps, self._progress = submit, steps, progress
        self._done = 0
        self.refusals: list[Refusal] = []

    def batches(
        self,
        items: Iterable[T],
        *,
        weight: Callable[[T], int],
        subject: Callable[[T], str],
        arguments: Callable[[Sequence[T]], dict[str, Any]],
    ) -> None:
        """Write all items, in their order."""
        for batch in _batches(items, weight):
            self._write(batch, subject, arguments)
            self._done += len(batch)
            if self._progress is not None:
                self._progress(self._done, self._steps)

    def _write(
        self,
        batch: Sequence[T],
        subject: Callable[[T], str],
        arguments: Callable[[Sequence[T]], dict[str, Any]],
    ) -> None:
        try:
            reason = self._submit(arguments(batch))
        except (InvalidRecord, ValueError) as error:  # a name or a number that no event can have
            reason = _first_line(error)
        if not reason:
            return
        if len(batch) == 1:
            self.refusals.append(Refusal(subject(batch[0]), reason))
            return
        middle = len(batch) // 2
        self._write(batch[:middle], subject, arguments)
        self._write(batch[middle:], subject, arguments)


def _batches(items: Iterable[T], weight: Callable[[T], int]) -> Iterator[list[T]]:
    batch: list[T] = []
    total = 0
    for item in items:
        of_item = weight(item)
        if batch and (total + of_item > _WEIGHT_MAX or len(batch) == _ITEMS_MAX):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += of_item
    if batch:
        yield batch


def _provider_weight(step: ProviderStep) -> int:
    return 1 + 4 * len(step.inventories or ()) + len(step.traits or ()) + len(step.aggregates or ())


def _first_line(error: Exception) -> str:
    if isinstance(error, VacancyError):
        return error.what
    return " ".join(str(error).split())[:200]


def _reason(outcome: TransactionOutcome) -> str:
    """Why a transaction was rejected, with what is known of it."""
    known = [("provider", outcome.provider), ("class", outcome.resource_class), ("name", outcome.other)]
    if outcome.asked or outcome.available:
        known += [("asked", str(outcome.asked)), ("available", str(outcome.available))]
    details = ", ".join(f"{name} {value}" for name, value in known if value)
    return f"{outcome.reason} ({details})" if details else outcome.reason


# -- steps as changes of a transaction ------------------------------------------------------------------------------


def _name(kind: str, name: str) -> NameChange:
    return NameChange.model_validate({"kind": kind, "name": name, "op": "ensure"})


def _provider_change(step: ProviderStep) -> ProviderChange:
    provider = step.provider
    moved = step.create or step.place
    return ProviderChange(
        provider=provider.uuid,
        op="create" if step.create else "change",
        raises=0 if step.create else 1,
        name=provider.name if moved else None,
        parent=(provider.parent or "") if moved else None,
        inventories=None if step.inventories is None else _inventories(step.inventories),
        traits=None if step.traits is None else tuple(sorted(step.traits)),
        aggregates=step.aggregates,
    )


def _inventories(inventories: Inventories) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "total": one.total,
            "reserved": one.reserved,
            "min_unit": one.min_unit,
            "max_unit": one.max_unit,
            "step_size": one.step_size,
            "allocation_ratio": ratio_text(one.allocation_ratio),
        }
        for name, one in inventories.items()
    }


def _consumer_change(step: ConsumerStep) -> ConsumerChange:
    consumer = step.consumer
    generation: int | Literal["absent"] = "absent" if step.generation == ABSENT else step.generation
    return ConsumerChange.model_validate(
        {
            "consumer": consumer.uuid,
            "generation": generation,
            "project": consumer.project,
            "user": consumer.user,
            "consumer_type": consumer.consumer_type or UNKNOWN_TYPE,
            "allocations": consumer.allocations,
        }
    )


# -- the tables as a deployment -------------------------------------------------------------------------------------


def read_cell(state: CellState) -> Deployment:
    """What a cell has, as its reader sees it now. Ids that are no uuids are shown as the API shows them."""
    states = list(state.providers())
    consumers = (consumer_of(one, shown_uuid) for one in state.consumers())
    usages = {
        shown_uuid(one.id): used
        for one in states
        if (used := {name: what.used for name, what in one.inventories.items() if what.used})
    }
    return Deployment(
        {shown_uuid(one.id): provider_of(one, shown_uuid) for one in states},
        {one.uuid: one for one in consumers},
        tuple(one.name for one in state.custom_classes()),
        tuple(one.name for one in state.custom_traits()),
        usages,
    )
