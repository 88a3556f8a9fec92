"""A node is retired from any host, in the incarnation that is known, and what is held of it is named."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.admin.retirement import StillHeld, held_text, retire
from vacancy.clients.inspection.lookup import NotFound, show_consumer, show_provider
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Receipt

CELL = "c1"


@pytest.fixture(params=[3, RULES_VERSION])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FollowedLog]:
    with followed_log(tmp_path, rules_version=request.param) as site:
        site.report("node-1", cell=CELL, gpus=1)
        yield site


def state(site: FollowedLog) -> str:
    node = show_provider(site.reader, "node-1").node
    assert node is not None
    return node.state


def test_a_node_is_retired_in_its_own_cell(site: FollowedLog) -> None:
    found = retire(site.log, site.reader, "node-1")
    assert (found.cell, found.held, found.changed) == (CELL, [], True)
    before = site.log.end()
    assert not retire(site.log, site.reader, "node-1").changed
    for name, error in (("node-2", NotFound), ("node-1:gpu0", VacancyError)):
        with pytest.raises(error, match=name):
            retire(site.log, site.reader, name)
    assert site.log.end() == before


def test_a_part_of_a_node_is_not_retired(site: FollowedLog) -> None:
    with pytest.raises(UsageError, match="node-1:gpu0 is a part of node node-1"):
        retire(site.log, site.reader, "node-1:gpu0")
    assert state(site) == "open"


def test_what_is_held_needs_force_and_is_kept(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        for number in range(7):
            scheduler.place(PlacementRequest("resources=VCPU:1", consumer=f"vm-{number}"))
    with pytest.raises(
        StillHeld, match=r"7 consumers hold something of it: vm-0 \(1 VCPU of node-1\).*2 more"
    ):
        retire(site.log, site.reader, "node-1")
    assert state(site) == "open"
    held = retire(site.log, site.reader, "node-1", force=True).held
    assert held_text(held[:1]) == "1 consumer holds something of it: vm-0 (1 VCPU of node-1)"
    assert show_consumer(site.reader, "vm-6")[0].holdings


def test_a_node_that_reports_at_the_same_time_is_not_retired(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another publisher opens an incarnation after the operator has looked."""
    send = site.log.send
    data = events.NodeReportedData(
        root="node-1",
        incarnation=uuid.uuid4().hex[:16],
        sequence=1,
        providers=(events.ProviderReport(id="node-1", inventories={"VCPU": {"total": 16}}),),
    )
    report = events.NodeReported(id="r", source="/test", data=data)

    def send_after_report(entries: list[NewRecord], timeout_s: float) -> Receipt:
        monkeypatch.undo()
        send([NewRecord(CELL, events.encode(report))])
        return send(entries, timeout_s)

    monkeypatch.setattr(site.log, "send", send_after_report)
    with pytest.raises(VacancyError, match="was not retired: it reported at the same time"):
        retire(site.log, site.reader, "node-1")
    assert show_provider(site.reader, "node-1").providers[0].inventories[0].capacity == 16
