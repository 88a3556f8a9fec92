"""The released build and this one on one log in Kafka: their workers are in consumer groups, and may share a store."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upgrades.builds import WAIT_S, Build, released_build
from tests.upgrades.fleet import Fleet
from vacancy.resources.fold.rules_versions import RULES_VERSION

pytestmark = pytest.mark.kafka


@pytest.fixture
def fleet(kafka: str, tmp_path: Path) -> Iterator[Fleet]:
    """The log is made by the released build, so it follows its rules."""
    url = f"kafka://{kafka}/upgrade-{uuid.uuid4().hex[:12]}"
    with released_build("rules_4", tmp_path) as old, Build(Path(sys.executable), tmp_path) as new:
        made = old.run("topics", "create", "--log", url, "--partitions", "2", "--replication", "1")
        assert made.code == 0, made.err
        yield Fleet(tmp_path, url, old, new)


def test_builds_share_a_log_and_one_that_cannot_follow_new_rules_is_named(fleet: Fleet) -> None:
    """Each host has a worker of another build. New rules are activated too early: the released build stops and loses nothing."""
    old, new = fleet.old, fleet.new
    with old.worker(*fleet.host("a")) as behind, new.worker(*fleet.host("b")):
        fleet.wait_for_worker("a")
        fleet.wait_for_worker("b")
        fleet.publish(old, "old-1", "a")
        fleet.publish(new, "new-1", "b")
        fleet.place(old, "c-old", "a")
        fleet.place(new, "c-new", "b")
        fleet.publish(old, "old-2", "b")
        fleet.place(new, "c-new-on-old", "a")
        fleet.place(old, "c-old-on-new", "b")
        fleet.check(new, "a")
        fleet.check(old, "b")
        activate = ("rules", "activate", str(RULES_VERSION), *fleet.host("b"), "--timeout", str(WAIT_S))
        refused = new.run(*activate)
        assert refused.code == 1, refused
        assert "cannot follow these rules; upgrade vacancy there" in refused.err
        assert behind.poll() is None
        assert new.json(*activate, "--despite-missing")["version"] == RULES_VERSION
        _, said = behind.communicate(timeout=WAIT_S)
        assert behind.returncode == 1
        assert "upgrade" in said
        fleet.place(new, "c-after", "b")
        fleet.check(new, "a")
        fleet.check(new, "b")


@pytest.mark.long  # the test above is its short form
def test_workers_of_both_builds_share_the_partitions_of_one_store(fleet: Fleet) -> None:
    """A host whose two workers are replaced one after the other, there and back, while both builds publish and place."""
    old, new, host = fleet.old, fleet.new, fleet.host("a")

    def use(step: str) -> None:
        for build, name in ((old, "old"), (new, "new")):
            fleet.publish(build, f"{name}-{step}", "a")
            fleet.place(build, f"c-{name}-{step}", "a")
            fleet.check(build, "a")

    with old.worker(*host):
        fleet.wait_for_worker("a")
        use("old")
        with new.worker(*host):
            use("both")
            with new.worker(*host):
                use("three")
    with new.worker(*host):
        use("new")
        with old.worker(*host):
            use("back")
    with old.worker(*host):
        use("undone")
    with new.worker(*host):
        raised = new.json("rules", "activate", str(RULES_VERSION), *host, "--timeout", str(WAIT_S))
        assert raised["version"] == RULES_VERSION
        fleet.place(new, "c-raised", "a")
        fleet.check(new, "a")
