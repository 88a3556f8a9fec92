"""A deployment that is imported and exported again is the one that it was."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.placement_api.transfer.cells import empty_cell, unseen
from tests.placement_api.transfer.placement_database import (
    dump,
    empty_database,
    fleet_database,
    random_fleet,
)
from vacancy.placement_api.transfer.database import Database
from vacancy.placement_api.transfer.transfer import export_from, import_into

SEEDS = int(os.environ.get("VACANCY_TRANSFER_SEEDS", "4"))


def same_generations(before: Path, after: Path) -> None:
    """Generations of providers are kept, or higher where the copy itself needed more."""
    new: dict[str, int] = dict(dump(after)["generations"])
    for uuid, generation in dump(before)["generations"]:
        assert new[uuid] >= generation


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_deployment_comes_back(seed: int, tmp_path: Path) -> None:
    """Stated exceptions: times, numbers of rows, generations of consumers; generations of providers may be higher."""
    source, target, cell = tmp_path / "source.db", tmp_path / "target.db", empty_cell()
    copied = import_into(cell, Database(fleet_database(source, random_fleet(seed))), unseen)
    assert copied.refusals == ()
    assert copied.findings == ()
    assert copied.comparison is not None
    assert copied.comparison.differences == ()
    back = export_from(cell, empty_database(target), unseen)
    assert back.comparison is not None
    assert back.comparison.differences == ()
    before, after = dump(source), dump(target)
    same_generations(source, target)
    for rows in (before, after):
        rows.pop("generations")
    assert before == after


class Interrupted(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_import_that_ends_anywhere_goes_on(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends before or after a transaction, again and again; each run does a part of the rest."""
    rng = random.Random(seed)
    source, cell = Database(fleet_database(tmp_path / "source.db", random_fleet(seed, 30, 40))), empty_cell()
    monkeypatch.setattr("vacancy.placement_api.transfer.cell._ITEMS_MAX", 7)
    submit, left = cell._submit, 0

    def until_it_ends(arguments: dict[str, Any]) -> str:
        nonlocal left
        left -= 1
        if left == 0 and rng.random() < 0.5:
            raise Interrupted
        reason = submit(arguments)
        if left == 0:
            raise Interrupted
        return reason

    monkeypatch.setattr(cell, "_submit", until_it_ends)
    interrupted = 0
    while True:
        left = rng.randrange(1, 6)
        try:
            copied = import_into(cell, source, unseen, go_on=True)
        except Interrupted:
            interrupted += 1
            if interrupted == 3:
                monkeypatch.setattr(cell, "_submit", submit)
            continue
        break
    assert interrupted == 3
    assert copied.refusals == ()
    assert copied.comparison is not None
    assert copied.comparison.differences == ()
