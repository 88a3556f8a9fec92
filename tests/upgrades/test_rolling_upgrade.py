"""An upgrade of one process after the other: the released build and this one follow and write one log at the same time.

The released build is the one that introduced rules version 4. Its log stays at version 4 until every process has this build.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upgrades.builds import HERE, WAIT_S, Build, released_build, unpack
from tests.upgrades.fleet import Fleet
from vacancy.resources.fold.rules_versions import RULES_VERSION


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    unpack(HERE / "stores/rules_4.tar.xz", tmp_path)
    with released_build("rules_4", tmp_path) as old, Build(Path(sys.executable), tmp_path) as new:
        yield Fleet(tmp_path, f"sqlite://{tmp_path}/log.db", old, new)


def test_builds_share_a_log_and_the_rules_are_raised_after_the_last_one(fleet: Fleet) -> None:
    """In the order of docs/operating.md. At each step every store is what the log says."""
    old, new = fleet.old, fleet.new
    with old.worker(*fleet.host("store")), new.worker(*fleet.host("b")):
        # Publishers and schedulers of both builds, beside workers of their own build and of the other.
        fleet.publish(old, "old-1", "store")
        fleet.wait_for_worker("b")
        fleet.publish(new, "new-1", "b")
        fleet.place(old, "c-old", "store")
        fleet.place(new, "c-new", "b")
        fleet.place(new, "c-new-on-old", "store")
        fleet.place(old, "c-old-on-new", "b")  # workers are upgraded before the schedulers of their host
        fleet.publish(old, "old-2", "b")
        for build, host in ((old, "store"), (new, "store"), (old, "b")):
            fleet.check(build, host)
    # The host gets this build: it continues the store.
    new.json("replay", "--log", fleet.url, "--into", str(fleet.home / "store"))
    fleet.check(new, "store")
    with old.worker(*fleet.host("store")):
        # And back: as long as the log has the rules of the released build, an upgrade can be undone.
        fleet.place(old, "c-back", "store")
        fleet.check(old, "store")
    with new.worker(*fleet.host("b")):
        raised = new.json("rules", "activate", str(RULES_VERSION), *fleet.host("b"), "--timeout", str(WAIT_S))
        assert raised["version"] == RULES_VERSION
        fleet.check(new, "b")
    before = old.json("digest", "--store", str(fleet.home / "store"))["position"]
    with old.worker(*fleet.host("store")) as worker:
        # The released build stops where it cannot follow, says what to do, and keeps what it has.
        _, said = worker.communicate(timeout=WAIT_S)
        assert worker.returncode == 1
        assert "upgrade" in said
    after = new.json("digest", "--store", str(fleet.home / "store"))["position"]
    assert all(after[partition] >= offset for partition, offset in before.items())
    fleet.check(new, "store")
