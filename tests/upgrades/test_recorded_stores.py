"""Stores that earlier builds wrote are opened by this one, have the digest of that time, and go on from there.

`record.py` makes a recording: a SQLite log, the store folded from it, and its digest. A store whose format a build does not know
is refused with what to do (`tests/projections/store/test_bad_stores.py`), and never read by guess.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.events_json import provider, reported
from tests.upgrades.builds import HERE, unpack
from tests.upgrades.refold import refolded
from vacancy.clients.replay_tool.replay import digest, replay
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.projections.store.manifest import read_manifest
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log

NAMES = sorted(path.name.removesuffix(".tar.xz") for path in (HERE / "stores").glob("*.tar.xz"))
REGISTRY = installed_registry()


class Recorded:
    """A recording, unpacked."""

    def __init__(self, name: str, home: Path) -> None:
        unpack(HERE / f"stores/{name}.tar.xz", home)
        self.store, self.url = home / "store", f"sqlite://{home}/log.db"
        self.digest: dict[str, Any] = json.loads((home / "digest.json").read_text())


@pytest.fixture(params=NAMES)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Recorded:
    return Recorded(request.param, tmp_path)


def test_each_release_has_a_recording() -> None:
    assert {"rules_4", "rules_6", "rules_7"} <= set(NAMES)


def test_it_is_opened_with_the_digest_of_its_time(recorded: Recorded) -> None:
    found = digest(recorded.store, REGISTRY)
    assert found.whole == recorded.digest["digest"]
    assert list(found.partitions) == recorded.digest["partitions"]
    assert {str(partition): offset for partition, offset in found.position.items()} == recorded.digest[
        "position"
    ]


def test_it_goes_on_and_is_what_a_new_store_is(recorded: Recorded) -> None:
    """It is continued, not made again: its id stays. The log is of that build, too."""
    before = read_manifest(recorded.store)
    assert before is not None
    with open_log(recorded.url) as log:
        cells = covering_cells(len(log.end()))
        log.append(
            [NewRecord(cell, reported(f"new-{cell}", [provider(f"new-{cell}", VCPU=4)])) for cell in cells]
        )
        continued = replay(log, recorded.store, REGISTRY)
        assert continued.position == log.end()
    assert continued.whole == refolded(recorded.url)
    after = read_manifest(recorded.store)
    assert after is not None
    assert after.store == before.store
