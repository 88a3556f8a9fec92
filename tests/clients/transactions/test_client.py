"""Transactions through a log, a worker and a store: verdicts, and what is read after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.transactions import (
    CellState,
    ConsumerChange,
    ConsumerState,
    CustomName,
    InventoryState,
    NameChange,
    ProviderChange,
    TransactionClient,
    TransactionOutcome,
)
from vacancy.resources.model.errors import OutcomeUnknown, UsageError

CELL = "default"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as made:
        yield made


def submitted(log: FollowedLog, **data: Any) -> TransactionOutcome:
    return TransactionClient(log.log, log.reader, cell=CELL).submit(**data)


def made(id_: str = "n1", total: int = 8, **more: Any) -> ProviderChange:
    inventory: dict[str, Any] = {"VCPU": {"total": total, "allocation_ratio": "1.15"}}
    return ProviderChange(provider=id_, op="create", inventories=inventory, raises=1, **more)


def test_what_was_done_is_read_at_once(log: FollowedLog) -> None:
    state = CellState(log.reader, CELL)
    outcome = submitted(
        log,
        names=[NameChange(kind="trait", name="CUSTOM_A", op="create")],
        providers=[made(name="node one", traits=("CUSTOM_A",), aggregates=("a",))],
        consumers=[
            ConsumerChange(
                consumer="i1", generation="absent", project="p", user="u", allocations={"n1": {"VCPU": 9}}
            )
        ],
    )
    assert outcome.reason == "above_max_unit"
    assert list(state.providers()) == []
    outcome = submitted(
        log,
        names=[NameChange(kind="trait", name="CUSTOM_A", op="create")],
        providers=[made(name="node one", traits=("CUSTOM_A",), aggregates=("a",))],
        consumers=[
            ConsumerChange(
                consumer="i1", generation="absent", project="p", user="u", allocations={"n1": {"VCPU": 8}}
            )
        ],
    )
    assert outcome.accepted
    found = state.provider_named("node one")
    assert found is not None
    assert (found.id, found.name, found.generation, found.traits) == ("n1", "node one", 2, ("CUSTOM_A",))
    assert found.aggregates == ("a",)
    assert found.inventories == {"VCPU": InventoryState(8, 0, 1, 8, 1, "1.15", 8, 9)}
    assert found.created_ms == found.changed_ms > 0
    assert list(state.consumers()) == [ConsumerState("i1", "p", "u", "unknown", 1, {"n1": {"VCPU": 8}})]
    assert state.allocations_of("n1") == {"i1": {"VCPU": 8}}
    assert [one.name for one in state.custom_traits()] == ["CUSTOM_A"]
    assert state.custom_classes() == []


def test_a_published_node_is_there_too(log: FollowedLog) -> None:
    log.report("node-1", cell=CELL, CUSTOM_GOLD={"total": 2})
    state = CellState(log.reader, CELL)
    found = state.provider_named("node-1")
    assert found is not None
    assert (found.id, found.generation, found.inventories["CUSTOM_GOLD"].total) == ("node-1", 0, 2)
    assert state.custom_classes() == [CustomName("CUSTOM_GOLD")]
    outcome = submitted(log, providers=[ProviderChange(provider="node-1", generation=1)])
    assert (outcome.reason, outcome.asked, outcome.available) == ("provider_changed", 1, 0)


def test_trees(log: FollowedLog) -> None:
    assert submitted(log, providers=[made("n1"), made("n2", parent="n1")]).accepted
    assert [one.id for one in CellState(log.reader, CELL).tree("n1")] == ["n1", "n2"]


def test_the_same_id_with_other_content_is_refused(log: FollowedLog) -> None:
    assert submitted(log, transaction_id="t", providers=[made("n1")]).accepted
    with pytest.raises(RecordRefused, match="made before with other content"):
        submitted(log, transaction_id="t", providers=[made("n2")])
    with pytest.raises(UsageError, match="twice"):
        submitted(log, providers=[made("n1"), made("n1")])


def test_rules_without_transactions_are_named(tmp_path: Path) -> None:
    with (
        followed_log(tmp_path, rules_version=5) as log,
        pytest.raises(UsageError, match="transactions need version 6"),
    ):
        submitted(log, providers=[made()])


def test_a_store_that_does_not_follow_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    with (
        followed_log(tmp_path, follow=False) as log,
        pytest.raises(OutcomeUnknown, match="the store has not"),
    ):
        submitted(log, providers=[made()], timeout_s=0.3)
