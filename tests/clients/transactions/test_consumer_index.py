"""The index of consumers finds what a pass over all consumers finds, whatever was changed and by whom."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.transactions import (
    CellState,
    ConsumerChange,
    ConsumerIndex,
    ProviderChange,
    TransactionClient,
)
from vacancy.clients.transactions import consumer_index as module
from vacancy.resources.state.tables import ALLOCATIONS

CELL = "default"
PROVIDERS = ("n1", "n2", "n3")
PROJECTS = ("p", "q")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as made:
        stock: dict[str, Any] = {"VCPU": {"total": 1_000}}
        TransactionClient(made.log, made.reader, cell=CELL).submit(
            providers=[ProviderChange(provider=one, op="create", inventories=stock) for one in PROVIDERS]
        )
        yield made


def change(log: FollowedLog, rng: random.Random) -> None:
    """One transaction that changes what some consumers hold. Half of them are of another cell."""
    cell = rng.choice((CELL, "default2"))
    consumers = [
        ConsumerChange(
            consumer=one,
            generation="any",
            project=rng.choice(PROJECTS),
            user="u",
            allocations={name: {"VCPU": 1} for name in rng.sample(PROVIDERS, rng.randrange(3))},
        )
        for one in rng.sample([f"i{number}" for number in range(6)], 2)
    ]
    TransactionClient(log.log, log.reader, cell=cell).submit(consumers=consumers)


def check(index: ConsumerIndex, state: CellState) -> None:
    every = list(state.consumers())
    for provider in PROVIDERS:
        assert list(index.holders(provider)) == [one for one in every if provider in one.allocations]
    for project in PROJECTS:
        assert list(index.of_project(project)) == [one for one in every if one.project == project]


@pytest.mark.parametrize("seed", range(2))
def test_it_finds_what_a_pass_over_all_consumers_finds(seed: int, log: FollowedLog) -> None:
    rng, state = random.Random(seed), CellState(log.reader, CELL)
    index = ConsumerIndex(state)
    for _ in range(12):
        for _ in range(rng.randrange(4)):
            change(log, rng)
        check(index, state)
    index.close()


def test_a_worker_of_an_older_build_does_not_pass_on_changes(
    log: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a worker is only possible under rules without transactions. What it did is seen, also after it was upgraded."""
    rng, state = random.Random(2), CellState(log.reader, CELL)
    index = ConsumerIndex(state)
    with monkeypatch.context() as older:
        older.setattr(ALLOCATIONS, "fed", False)
        older.setattr(module, "TransactionRequested", object)  # no rules have it
        for _ in range(4):
            check(index, state)
            change(log, rng)
    check(index, state)
    change(log, rng)
    check(index, state)
    index.close()


def test_an_index_that_nobody_asks_is_forgotten(log: FollowedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNREAD_MAX", 3)
    rng, state = random.Random(1), CellState(log.reader, CELL)
    index = ConsumerIndex(state)
    check(index, state)
    for _ in range(20):
        change(log, rng)
    assert not index._entries
    check(index, state)
    index.close()
