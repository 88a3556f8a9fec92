"""Schedulers and taints: a scheduler that has not seen a taint yet loses its claim, and places somewhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.errors import ClaimLost, NoValidHost, UsageError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.taints import Taint
from vacancy.streams.log import Receipt

CELL = "c1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path, rules_version=RULES_VERSIONS.newest.version) as site:
        yield site


def tainting(node: str, *taints: Taint, revision: int = 1) -> events.OperatorSettingsSetV2:
    data = events.OperatorSettingsDataV2(
        provider=node, revision=revision, facts=events.OperatorSettingsV2(taints=taints)
    )
    return events.OperatorSettingsSetV2(id=uuid4().hex, source="/test", data=data)


def taint_before_the_claim(site: FollowedLog, monkeypatch: pytest.MonkeyPatch, node: str) -> list[bytes]:
    """Taint a node between the decision of a scheduler and its first claim. Returns the values of its records of claims."""
    send = site.log.send
    sent: list[bytes] = []

    def send_late(entries: list[NewRecord], timeout_s: float = 10.0) -> Receipt:
        claims = [value for _, value in entries if b"claims.requested" in value]
        if claims and not sent:
            site.log.append([NewRecord(CELL, events.encode(tainting(node, Taint(key="dedicated"))))])
        sent.extend(claims)
        return send(entries, timeout_s)

    monkeypatch.setattr(site.log, "send", send_late)
    return sent


def test_a_claim_that_did_not_see_the_taint_is_rejected_and_the_next_node_taken(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.report("n1", cell=CELL)
    with site.scheduler() as scheduler:
        sent = taint_before_the_claim(site, monkeypatch, "n1")
        with pytest.raises(ClaimLost, match="repelled by taint dedicated on n1"):
            scheduler.place(PlacementRequest("resources=VCPU:1", consumer="late"))
        assert len(sent) == 1, "it claimed the node that it had seen open"
        assert scheduler.allocations("late") == []
        site.report("n2", cell=CELL)
        placed = scheduler.place(PlacementRequest("resources=VCPU:1", consumer="late"))
        assert placed.root == "n2"


def test_the_loser_places_on_another_node(site: FollowedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    site.report("n1", cell=CELL)
    site.report("n2", cell=CELL)
    with site.scheduler() as scheduler:
        tainted = scheduler.candidates("resources=VCPU:1", limit=1).candidates[0].root
    # The same seed chooses the same node again.
    with site.scheduler() as scheduler:
        sent = taint_before_the_claim(site, monkeypatch, tainted)
        placed = scheduler.place(PlacementRequest("resources=VCPU:1", consumer="late"))
        assert placed.root == ({"n1", "n2"} - {tainted}).pop()
        assert len(sent) == 1 + placed.lost_claims


def test_only_claims_that_tolerate_something_say_so(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.report("n1", cell=CELL)
    site.append(CELL, tainting("n1", Taint(key="dedicated", value="db")))
    site.report("n2", cell=CELL)
    with site.scheduler() as scheduler:
        sent: list[bytes] = []
        send = site.log.send

        def noted(entries: list[NewRecord], timeout_s: float = 10.0) -> Receipt:
            sent.extend(value for _, value in entries if b"claims.requested" in value)
            return send(entries, timeout_s)

        monkeypatch.setattr(site.log, "send", noted)
        scheduler.place(PlacementRequest("resources=VCPU:1", consumer="plain"))
        assert len(sent) == 1
        assert b"tolerations" not in sent[0]
        sent.clear()
        placed = scheduler.place(PlacementRequest("resources=VCPU:8&tolerate=dedicated", consumer="db"))
        assert placed.root == "n1"
        assert b"claims.requested.v2" in sent[0]
        assert b'"tolerations":[{"key":"dedicated"}]' in sent[0]


def test_an_evacuation_and_a_move_to_another_cell_carry_tolerations(site: FollowedLog) -> None:
    for node, cell in (("n1", CELL), ("n2", CELL), ("n3", "c2")):
        site.report(node, cell=cell)
        site.append(cell, tainting(node, Taint(key="dedicated", value="db")))
    site.append(CELL, tainting("n2", Taint(key="dedicated", value="web"), revision=2))
    request = PlacementRequest("resources=VCPU:1&in_tree=n1&tolerate=dedicated=db", consumer="db")
    with site.scheduler() as scheduler:
        scheduler.place(request)
        (left,) = scheduler.evacuate("n1")
        assert left.to == "", "the other node of the cell is dedicated to others"
        moved = scheduler.move_to_cell("db", cell="c2")
        assert moved.status == "finished"
        site.append("c2", tainting("n3", Taint(key="dedicated", value="web"), revision=2))
        site.report("n4", cell="c2")
        site.append("c2", tainting("n4", Taint(key="dedicated", value="db")))
        (gone,) = scheduler.evacuate("n3")
        assert gone.to == "n4"


def test_an_operator_moves_a_consumer_to_a_node_whose_taint_it_does_not_tolerate_yet(
    site: FollowedLog,
) -> None:
    """What is tolerated in addition goes with the consumer from then on, as what its request tolerated does."""
    for node, cell in (("n1", CELL), ("n2", CELL), ("n3", "c2")):
        site.report(node, cell=cell)
    site.append(CELL, tainting("n2", Taint(key="dedicated", value="db")))
    site.append("c2", tainting("n3", Taint(key="maintenance")))
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=VCPU:1&in_tree=n1&tolerate=spare", consumer="vm"))
        for wrong in ((), ("dedicated=web",), ("dedicated=",)):
            with pytest.raises(NoValidHost):
                scheduler.move("vm", tolerate=wrong)
        with pytest.raises(UsageError, match="'=db' is no taint"):
            scheduler.move("vm", tolerate=["=db"])
        assert scheduler.move("vm", tolerate=["dedicated=db"]).root == "n2"
        site.append(CELL, tainting("n1", Taint(key="spare", value="1"), revision=1))
        assert scheduler.move("vm").root == "n1", "what its request tolerated, it tolerates"
        assert scheduler.move("vm").root == "n2", "it goes on to tolerate what a move named"
        site.append(CELL, tainting("n1", Taint(key="rack", value="7"), revision=2))
        (stays,) = scheduler.evacuate("n2", dry_run=True)
        assert stays.to == ""
        (leaves,) = scheduler.evacuate("n2", tolerate=["rack"])
        assert leaves.to == "n1"
        with pytest.raises(NoValidHost):
            scheduler.move_to_cell("vm", cell="c2")
        assert scheduler.move_to_cell("vm", cell="c2", tolerate=["maintenance"]).status == "finished"


def test_a_resize_elsewhere_and_more_on_a_tainted_node_tolerate_what_is_named(site: FollowedLog) -> None:
    for node in ("n1", "n2"):
        site.report(node, cell=CELL)
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=VCPU:2&in_tree=n1", consumer="vm"))
        site.append(CELL, tainting("n1", Taint(key="dedicated")))
        with pytest.raises(NoValidHost):
            scheduler.resize("vm", {"VCPU": 3})
        assert scheduler.resize("vm", {"VCPU": 1}).root == "n1", "less is no worse"
        assert scheduler.resize("vm", {"VCPU": 3}, tolerate=["dedicated"]).root == "n1"
        assert scheduler.resize("vm", {"VCPU": 4}).root == "n1"
