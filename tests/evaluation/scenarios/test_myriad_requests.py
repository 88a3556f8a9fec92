"""The twenty requests: each tells hosts apart, and a wrong answer is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.client_filter import Hosts
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.scenarios.myriad_requests import MyriadRequest, matching, myriad_requests, wrong_answer

FLEET = MyriadFleet(300, 7)
REQUESTS = myriad_requests(FLEET)


def test_there_are_twenty_different_requests() -> None:
    assert len({one.name for one in REQUESTS}) == len(REQUESTS) == 20


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda one: one.name)
def test_a_request_tells_hosts_apart(asked: MyriadRequest) -> None:
    right = matching(FLEET, asked.request)
    assert 3 < len(right) < FLEET.size
    names = [host.name for host in sorted(right, key=lambda host: host.free["VCPU"])]
    size = asked.request.qualities.get("gang", len(names))
    assert wrong_answer(FLEET, asked.request, names[:size]) is None
    assert wrong_answer(FLEET, asked.request, names[1:size]) is not None
    other = next(host.name for host in FLEET.hosts if host.name not in names)
    assert wrong_answer(FLEET, asked.request, [*names[1:size], other]) is not None


def test_an_order_is_checked() -> None:
    (asked,) = (one for one in REQUESTS if "order" in one.request.qualities)
    names = [host.name for host in matching(FLEET, asked.request)]
    assert wrong_answer(FLEET, asked.request, names) == "the hosts are in another order"


def test_a_gang_that_does_not_fit_has_no_hosts() -> None:
    (asked,) = (one for one in REQUESTS if "gang" in one.request.qualities)
    few = MyriadFleet(4)
    assert wrong_answer(few, asked.request, []) is None
    assert wrong_answer(few, asked.request, [few.hosts[0].name]) is not None


def test_a_fleet_survives_json_and_its_spread_group_keeps_its_rule() -> None:
    again = MyriadFleet.from_json(FLEET.as_json())
    assert again.hosts == FLEET.hosts
    assert (
        Hosts(host.as_json() for host in again.hosts).host_of[FLEET.hosts[5].consumer] == FLEET.hosts[5].name
    )
    zones = [host.zone for host in FLEET.hosts if host.group == "api"]
    counts = [zones.count(zone) for zone in set(zones)]
    assert max(counts) - min(counts) == 1
