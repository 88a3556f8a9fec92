"""Withdrawals in steps: after the last step the state is the one that a withdrawal at once would have left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, event, opened
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_trees import CELL, RandomTrees
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.model.record import Record
from vacancy.resources.state.rule_set import RuleSet, RulesVersions
from vacancy.resources.state.tables import (
    DEAD_LETTERS,
    PARTITION,
    VERDICTS,
    WITHDRAWALS,
)
from vacancy.resources.state.transaction import Changes

TICK = event("tick.v1", {})


def versions(withdrawn_at_once: int) -> RulesVersions:
    """The versions of this build, with another limit for withdrawals in version 3."""
    rules = RULES_VERSIONS.of(3)
    changed = RuleSet(
        3,
        rules.summary,
        handlers=rules.handlers,
        upcasters=rules.upcasters,
        expiries=rules.expiries,
        tables=rules.tables,
        classes=rules.classes,
        canonical=rules.canonical,
        limits=replace(rules.limits, withdrawn_at_once=withdrawn_at_once),
    )
    return RulesVersions([RULES_VERSIONS.of(1), RULES_VERSIONS.of(2), changed])


class Partition:
    """A partition that is folded with one limit. `pending` is whether something is still to be withdrawn."""

    def __init__(self, withdrawn_at_once: int) -> None:
        self.versions = versions(withdrawn_at_once)
        self.state = MemoryState()
        self.commit(self.fold(Record(0, 0, START_MS, CELL.encode(), opened(version=3))))

    def fold(self, record: Record) -> Changes:
        return fold(self.state, record, REGISTRY, self.versions)

    def commit(self, changes: Changes) -> None:
        self.state.commit(changes)

    def rows(self) -> list[tuple[str, bytes, bytes]]:
        left_out = (DEAD_LETTERS.name, PARTITION.name)
        return [item for item in self.state.items() if item[0] not in left_out]

    @property
    def pending(self) -> bool:
        return any(item[0] == WITHDRAWALS.name for item in self.state.items())


def refused(changes: Changes) -> str:
    """Why a record is a dead letter, or ''."""
    return next((row.reason for row in changes.get(DEAD_LETTERS, {}).values() if row is not None), "")


@pytest.mark.parametrize("seed", range(12))
def test_all_steps_together_are_one_withdrawal(seed: int) -> None:
    """What the two must judge differently is left out of both: a report of a tree that is still being withdrawn is refused,
    and so are claims on it."""
    stepwise, at_once = Partition(1 + seed % 5), Partition(NO_LIMIT)
    waited = compared = 0
    for record in RandomTrees(seed).records(400):
        ours, theirs = stepwise.fold(record), at_once.fold(record)
        if stepwise.pending and (
            "still being withdrawn" in refused(ours) or ours.get(VERDICTS) != theirs.get(VERDICTS)
        ):
            record = record._replace(value=TICK)
            ours, theirs = stepwise.fold(record), at_once.fold(record)
        stepwise.commit(ours)
        at_once.commit(theirs)
        waited += stepwise.pending
        if not stepwise.pending:
            compared += 1
            assert stepwise.rows() == at_once.rows(), record
    for offset in range(401, 500):
        record = Record(0, offset, START_MS, CELL.encode(), TICK)
        stepwise.commit(stepwise.fold(record))
        at_once.commit(at_once.fold(record))
    assert not stepwise.pending
    assert stepwise.rows() == at_once.rows()
    assert waited > 5
    assert compared > 20
