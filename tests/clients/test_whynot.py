"""Why a node is no candidate: its state, and the events behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.followed import Followed, followed, wait_for
from vacancy.clients import operator
from vacancy.clients.placement import PlacementRequest
from vacancy.clients.taking import Events, place_text, taking_text
from vacancy.clients.whynot import Lack, why_not
from vacancy.resources import events
from vacancy.resources.errors import NoValidHost
from vacancy.resources.partitioner import covering_cells
from vacancy.resources.request import RequestGroup, RequestSpec
from vacancy.streams.log import open_log


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Followed]:
    with followed(tmp_path) as site:
        yield site


CELLS = covering_cells(2)
SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 6}),))


def lacks_of(site: Followed, node: str, spec: RequestSpec = SPEC, **more: object) -> list[Lack]:
    told = why_not(site.reader, spec, node, log=site.log, **more)  # type: ignore[arg-type]
    assert not told.fits
    return [lack for group in told.groups for lack in group.providers[0].lacks] + told.whole


def test_the_consumer_that_took_the_last_is_found_after_it_is_gone(site: Followed) -> None:
    """It is found in the log, and while it holds something in the tables too."""
    site.report("n1", cell=CELLS[0])
    with site.scheduler() as scheduler:
        first = scheduler.place(PlacementRequest(SPEC, consumer="c1"))
        offset = lacks_of(site, "n1")[0].event
        assert offset is not None
        taken = offset.offset
        assert (offset.consumer, offset.type) == ("c1", "vacancy.claims.requested.v1")
        told = why_not(site.reader, SPEC, "n1").groups[0].providers[0].lacks[0].event
        assert told is not None
        assert (told.offset, told.time_ms, told.consumer) == (taken, None, "c1")
        scheduler.release([first])
        wait_for(site.reader, site.log.end())
        assert why_not(site.reader, SPEC, "n1").fits
        spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 9}),))
        again = lacks_of(site, "n1", spec)[0].event
        assert again is not None
        assert (again.offset, again.consumer) == (taken, "c1")
        assert taking_text(again).startswith(f"last taken by c1 at {again.partition}:{taken}, 20")
        gone = why_not(site.reader, spec, "n1").groups[0].providers[0].lacks[0].event
        assert gone is not None
        assert (gone.consumer, place_text(gone)) == (None, f"{gone.partition}:{taken}")
        assert taking_text(gone) == f"last taken at {gone.partition}:{taken}"


def test_another_log_is_not_asked(site: Followed, tmp_path: Path) -> None:
    site.report("n1", cell=CELLS[0])
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(SPEC, consumer="c1"))
    wait_for(site.reader, site.log.end())
    with followed(tmp_path / "other") as other, open_log(other.log.url) as wrong:
        found = Events(site.reader, wrong).taking(CELLS[0], 3, "n1", "VCPU")
        assert found.time_ms is None


def test_what_is_too_small_was_taken_by_nobody(site: Followed) -> None:
    site.report("n1", cell=CELLS[0])
    spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 9}),))
    assert [(one.constraint, one.event) for one in lacks_of(site, "n1", spec)] == [
        ("VCPU: free >= 9", None),
        ("VCPU: max_unit >= 9", None),
    ]


def test_a_node_in_two_cells_is_told_where(site: Followed) -> None:
    for cell in CELLS:
        site.report("n1", cell=cell)
    (lack,) = lacks_of(site, "n1")
    assert lack.why == (
        f"its node is live in cells {' and '.join(sorted(CELLS))}: retire it in the one that it left"
    )


def test_a_node_with_a_gap_is_incomplete(site: Followed) -> None:
    site.report("n1", cell=CELLS[0])
    node = site.reader
    row = why_not(node, SPEC, "n1").node
    assert row is not None
    data = events.NodeChangedData(root="n1", incarnation=row.incarnation, sequence=row.sequence + 2)
    site.append(CELLS[0], events.NodeChanged(id=uuid4().hex, source="/test", data=data))
    (lack,) = lacks_of(site, "n1")
    assert lack.why == "a report of its node is missing: its next full report makes it whole"


def test_a_part_is_closed_by_itself_and_by_its_node(site: Followed) -> None:
    site.report("n1", cell=CELLS[0], gpus=1)
    spec = RequestSpec(groups=(RequestGroup(resources={"CUSTOM_GPU": 1}),))
    operator.set_facts(site.log, site.reader, "n1:gpu0", operator.disable("hot"))
    (lack,) = lacks_of(site, "n1", spec)
    assert lack.why == "n1:gpu0 is disabled by an operator (hot), revision 1"
    assert lack.event is not None
    assert lack.event.source == operator.SOURCE
    operator.set_facts(site.log, site.reader, "n1:gpu0", operator.enable())
    operator.set_facts(site.log, site.reader, "n1", operator.drain())
    (lack,) = lacks_of(site, "n1", spec)
    assert lack.why == "n1 is draining by an operator, revision 1"


def test_the_error_explains_itself_when_it_is_asked(site: Followed) -> None:
    site.report("n1", cell=CELLS[0])
    spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 9}),))
    with site.scheduler() as scheduler:
        with pytest.raises(NoValidHost) as raised:
            scheduler.place(spec)
        told = raised.value.explanation
        assert (told.nodes, told.left, [one.root for one in told.nearest]) == (1, 0, ["n1"])
        assert raised.value.explanation is told
        assert scheduler.explain(spec) == told
        assert scheduler.explain(SPEC).left == 1
