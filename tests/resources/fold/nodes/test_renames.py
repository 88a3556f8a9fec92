"""What one event may rename is limited, and the limit is on what it moves."""

from __future__ import annotations

import pytest

from tests.support.logs.events_json import START_MS, event, opened, provider, reported
from tests.support.models.memory_state import MemoryState
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import DEAD_LETTERS, PROVIDERS, dead_letter_key, key

CELL = covering_cells(1)[0]
RULES = RULES_VERSIONS.newest
LIMIT = RULES.limits.renamed


@pytest.mark.parametrize("parts", [LIMIT // 2 - 1, LIMIT // 2])
def test_one_event_renames_so_many_providers_and_inventories(parts: int) -> None:
    """A node and its parts have an inventory each, so each counts two."""
    state, registry = MemoryState(), Registry()
    names = ["old", *(f"old:{n}" for n in range(parts))]
    tree = [provider(name, None if name == "old" else "old", VCPU=1) for name in names]
    renamed = {name: name.replace("old", "new") for name in names}
    for offset, value in enumerate(
        [
            opened(classes=(), version=RULES.version),
            reported("old", tree),
            event("node.renamed.v1", {"root": "old", "to": "new", "providers": renamed}),
        ]
    ):
        state.commit(fold(state, Record(0, offset, START_MS, CELL.encode(), value), registry))
    letter = state.get(DEAD_LETTERS, dead_letter_key(0))
    fits = 2 * (parts + 1) <= LIMIT
    assert (state.get(PROVIDERS, key(CELL, "new")) is not None) == fits
    assert (state.get(PROVIDERS, key(CELL, "old")) is None) == fits
    assert (letter is None) == fits
    if letter is not None:
        assert letter.reason.startswith(f"renaming old would move {2 * (parts + 1):,} parts of it")
