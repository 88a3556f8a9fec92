"""The auditor on moves: what an ask that stays the same keeps, server groups, and accounts that change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.auditor.test_auditor import JSON, Story, a_claim, provider
from vacancy.clients.auditor import AuditReport
from vacancy.clients.auditor.not_judged import CHANGED_BY_NAME
from vacancy.resources.fold.rules_versions import RULES_VERSIONS

PCI = "PCI_DEVICE"
TWO: JSON = {"devices": {"5:0": {}, "6:0": {}}}


@pytest.fixture
def story() -> Story:
    """A node with two devices, of which `a` has 5:0."""
    story = Story(version=RULES_VERSIONS.newest.version)
    story.node("n", {**provider("n", 10), "inventories": {"VCPU": {"total": 10}, PCI: TWO}})
    asks(story, "a", {PCI: {"count": 1}}, ["5:0"])
    return story


def asks(story: Story, id_: str, resources: JSON, grant: list[str] | None, **more: Any) -> None:
    allocations = [{"provider": "n", "resources": resources}]
    story.claim(id_, accepted=grant is not None, allocations=allocations, **more)
    if grant:
        story.verdicts[-1]["grants"] = [{"provider": "n", "resource_class": PCI, "group": "", "grant": grant}]


def move(resources: JSON, **more: Any) -> JSON:
    allocations = [{"provider": "n", "resources": resources}]
    claim = a_claim("b", allocations=allocations, consumer="of-a", consumer_generation=1)
    return {**claim, "replaces": "a", **more}


def says(story: Story, claim: JSON, grant: list[str] | None) -> list[str]:
    """The problems of a move with this verdict."""
    offset = story.say("consumer.replaced.v3", claim)
    verdict: JSON = {"claim": "b", "cell": story.cell, "partition": 0, "offset": offset}
    grants = [{"provider": "n", "resource_class": PCI, "group": "", "grant": grant}]
    story.verdicts.append({**verdict, "accepted": grant is not None, "grants": grants if grant else []})
    report = story.audit()
    assert report.unverifiable == 0
    return report.problems


@pytest.mark.parametrize(("grant", "is_right"), [(["5:0"], True), (["6:0"], False), (None, False)])
def test_an_ask_that_stays_keeps_its_grant(story: Story, grant: list[str] | None, is_right: bool) -> None:
    problems = says(story, move({PCI: {"count": 1}, "VCPU": 3}), grant)
    assert (problems == []) == is_right
    if grant == ["6:0"]:
        assert "an ask for PCI_DEVICE stays the same, and its grant does not" in problems[0]


def test_what_stays_is_right_on_a_closed_provider_too(story: Story) -> None:
    story.facts("n", 1, status="disabled")
    assert says(story, move({PCI: {"count": 1}}), ["5:0"]) == []


def test_what_is_new_is_wrong_on_a_closed_provider(story: Story) -> None:
    story.facts("n", 1, status="disabled")
    (problem,) = says(story, move({PCI: {"count": 1}, "VCPU": 1}), ["5:0"])
    assert "was accepted, but n: " in problem


def rejected(story: Story, resources: JSON) -> AuditReport:
    """The audit of a rejected move of `a`, which holds 5:0."""
    offset = story.say("consumer.replaced.v3", move(resources))
    verdict = {"claim": "b", "cell": story.cell, "partition": 0, "offset": offset, "accepted": False}
    story.verdicts.append(verdict)
    return story.audit()


@pytest.mark.parametrize(("count", "is_right"), [(2, False), (3, True)])
def test_a_changed_ask_by_name_that_was_rejected_is_judged(story: Story, count: int, is_right: bool) -> None:
    """What its consumer gives back counts as free."""
    report = rejected(story, {PCI: {"count": count}})
    assert report.unverifiable == 0
    assert (report.problems == []) == is_right
    assert is_right or "but it fits" in report.problems[0]


def test_what_a_changed_ask_keeps_of_a_closed_provider_is_not_judged(story: Story) -> None:
    story.facts("n", 1, status="disabled")
    report = rejected(story, {PCI: {"count": 1, "where": {"address": "5:0"}}})
    assert (report.problems, report.unverifiable) == ([], 1)
    assert list(report.unverifiable_reasons) == [CHANGED_BY_NAME]


@pytest.mark.parametrize("leaves", [True, False])
def test_a_consumer_stays_in_a_group_that_it_does_not_leave(leaves: bool) -> None:
    story = Story(version=RULES_VERSIONS.newest.version)
    story.node()
    group = {"group": f"{story.cell}/g", "policy": "anti-affinity"}
    story.claim("a", 1, memberships=[group])
    left = {"leaves": [group["group"]]} if leaves else {}
    assert says(story, move({"VCPU": 2}, **left), []) == []
    story.claim("c", 1, leaves, memberships=[group])
    assert story.audit().problems == []


@pytest.mark.parametrize(("project", "generation"), [("q", 2), ("-", 1)])
def test_an_update_changes_the_generation(story: Story, project: str, generation: int) -> None:
    story.say("consumer.updated", {"consumer": "of-a", "claim": "a", "project": project})
    claim = {**move({PCI: {"count": 1}}), "consumer_generation": generation}
    assert says(story, claim, ["5:0"]) == []
