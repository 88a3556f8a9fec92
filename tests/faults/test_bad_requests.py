"""Bad requests are refused before anything is sent, and do not affect other requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.faults.site_on_disk import Site, check_error_text
from tests.support.logs.events_json import provider, reported
from vacancy.clients.admin.operator import override, set_operator_settings
from vacancy.clients.inspection.status import dead_letters
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.request_language.placement_syntax import parse_document
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.request import RequestGroup, RequestSpec

CELL = covering_cells(2)[0]
ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))
INT53, HUGE = 2**53, 10**40
DEADLINE_S = 599.0
"""Of claims that are valid: no worker sends a tick for them while it is looked whether anything is sent."""


DOCUMENTS: Mapping[str, tuple[str, str]] = {
    "malformed": ('{"groups": [', "Invalid JSON"),
    "nothing": ("", "Invalid JSON"),
    "no object": ("[]", "should be an object"),
    "no groups": ('{"groups": []}', "groups"),
    "nothing asked": ('{"groups": [{}]}', "at least one resource"),
    "unknown field": ('{"groups": [{"resource": {"VCPU": 1}}]}', "groups.0.resource"),
    "wrong type": ('{"groups": [{"resources": {"VCPU": "4"}}]}', "groups.0.resources.VCPU"),
    "fraction": ('{"groups": [{"resources": {"VCPU": 1.5}}]}', "groups.0.resources.VCPU"),
    "negative": ('{"groups": [{"resources": {"VCPU": -1}}]}', "VCPU: -1 is not an amount"),
    "none": ('{"groups": [{"resources": {"VCPU": 0}}]}', "VCPU: 0 is not an amount"),
    "enormous": (f'{{"groups": [{{"resources": {{"VCPU": {HUGE}}}}}]}}', f"VCPU: {HUGE} is not an amount"),
    "unknown class": ('{"groups": [{"resources": {"VCPUS": 1}}]}', "did you mean VCPU"),
    "unknown trait": (
        '{"groups": [{"resources": {"VCPU": 1}, "required": ["HW_CPU_X86_AVX22"]}]}',
        "did you mean HW_CPU_X86_AVX2",
    ),
    "bad name": ('{"groups": [{"resources": {"VCPU": 1}, "in_tree": "node 1"}]}', "groups.0.in_tree"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_invalid_request(name: str) -> None:
    document, fragment = DOCUMENTS[name]
    with pytest.raises(UsageError) as caught:
        parse_document(document, installed_registry())
    check_error_text(caught.value, fragment, "--request")


REQUESTS: Mapping[str, tuple[PlacementRequest, str]] = {
    "unknown class": (
        PlacementRequest(RequestSpec(groups=(RequestGroup(resources={"VCPUS": 1}),))),
        "unknown resource class 'VCPUS'; did you mean VCPU",
    ),
    "unknown trait": (
        PlacementRequest(
            RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}, forbidden=("HW_CPU_AVX2",)),))
        ),
        "unknown trait 'HW_CPU_AVX2'",
    ),
    "negative": (
        PlacementRequest(RequestSpec(groups=(RequestGroup(resources={"VCPU": -1}),))),
        "VCPU: -1 is not an amount; ask for a whole number from 1 to",
    ),
    "enormous": (
        PlacementRequest(RequestSpec(groups=(RequestGroup(resources={"VCPU": INT53}),))),
        f"VCPU: {INT53} is not an amount",
    ),
    "consumer": (PlacementRequest(ONE, consumer="two words"), "'two words' is not a valid consumer id"),
    "request": (PlacementRequest(ONE, id=""), "'' is not a valid request id"),
    "project": (PlacementRequest(ONE, project="a\0b"), r"'a\x00b' is not a valid project id"),
    "user": (PlacementRequest(ONE, user="ü"), "'ü' is not a valid user id"),
    "type": (PlacementRequest(ONE, consumer_type="x" * 65), "is too long; use 64 characters at most"),
    "negative hold": (PlacementRequest(ONE, hold_ms=-1), "a hold of -1 ms is invalid"),
    "enormous hold": (PlacementRequest(ONE, hold_ms=HUGE), f"a hold of {HUGE} ms is invalid"),
    "many traits": (
        PlacementRequest(
            RequestSpec(
                groups=(
                    RequestGroup(resources={"VCPU": 1}, forbidden=tuple(f"CUSTOM_{n}" for n in range(1025))),
                )
            )
        ),
        "the request may need 1028 predicates",
    ),
}


@pytest.fixture(scope="module")
def worked_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with one node and a worker."""
    site = Site.made(tmp_path_factory.mktemp("site"), 2)
    site.append(CELL, reported("node-1", [provider("node-1", VCPU=1000)]))
    with site.with_worker():
        yield site


@pytest.mark.parametrize("name", REQUESTS)
def test_an_invalid_placement_is_not_sent(name: str, worked_site: Site) -> None:
    request, fragment = REQUESTS[name]
    with (
        worked_site.log() as log,
        Scheduler(log, worked_site.store, installed_registry(), deadline_s=DEADLINE_S) as scheduler,
    ):
        before = log.end()
        with pytest.raises(UsageError) as caught:
            scheduler.place(request)
        check_error_text(caught.value, fragment)
        assert log.end() == before
        # Those that share its record are not drawn into it.
        with pytest.raises(UsageError):
            list(scheduler.place_many([PlacementRequest(ONE, consumer=f"with-{name.split()[0]}"), request]))
        outcomes = list(scheduler.place_many([ONE, ONE]))
    assert [outcome.status for outcome in outcomes] == ["placed"] * 2
    with worked_site.reader() as reader:
        assert dead_letters(reader) == []


def test_invalid_settings_and_reports_are_refused_before_anything_is_sent(worked_site: Site) -> None:
    tree = (
        ProviderReport(id="node-9"),
        ProviderReport(id="a", parent="b"),
        ProviderReport(id="b", parent="a"),
    )
    with (
        worked_site.log() as log,
        worked_site.reader() as reader,
        Outbox(worked_site.home / "outbox") as outbox,
    ):
        before = log.end()
        for wrong in (override("VCPU", {"reserved": -1}), override("VCPUS", {"reserved": 1})):
            with pytest.raises(UsageError) as caught:
                set_operator_settings(log, reader, "node-1", wrong)
            check_error_text(caught.value, "VCPU")
        with pytest.raises(VacancyError) as missing:
            set_operator_settings(log, reader, "node-11", override("VCPU", {"reserved": 1}))
        check_error_text(missing.value, "there is no provider 'node-11'", "did you mean node-1")
        publisher = Publisher(log, "node-9", CELL, outbox)
        with pytest.raises(UsageError) as cycle:
            publisher.report(tree)
        check_error_text(cycle.value, "a is its own ancestor (a -> b -> a)")
        assert publisher.flush() == 0
        assert log.end() == before
