"""The auditor's own books of quotas: verdicts that break a limit, and shares that no ledger gave."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from tests.clients.auditor.test_auditor import JSON, Story
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.record import Record

P: JSON = {"project": "p", "unit": "VCPU"}


@pytest.fixture
def story() -> Story:
    """A node with 10 VCPU, and a limit of 6 for project p."""
    story = Story(version=RULES_VERSIONS.newest.version)
    story.node()
    ledger(story, "quota.limit.set", {**P, "limit": 6, "revision": 1})
    return story


def ledger(story: Story, kind: str, data: JSON, key: str = "") -> None:
    """An event whose key is the id of the limit, or another one."""
    story.say(kind, data)
    last = story.records.pop()
    key = key or "quota-" + sha256(b"\0VCPU\0p").hexdigest()[:32]
    story.records.append(Record(last.partition, last.offset, last.timestamp_ms, key.encode(), last.value))


def share(story: Story, amount: int, used: int = 4, *, planned: bool = True) -> None:
    """All steps of a first share: no limit is recalled to what is in use, and then raised."""
    steps = (
        [(1, 0, "planned"), (1, used, "settled"), (2, amount, "planned")] if planned else [(2, amount, "")]
    )
    for number, changed, step in steps:
        change = {**P, "number": number, "amount": changed}
        if step:
            ledger(story, f"quota.share.{step}", {**change, "partition": 0})
        if step != "settled":
            story.say("quota.share.set", change)


def parent(story: Story, project: str, above: str, revision: int = 1, *, planned: bool = True) -> None:
    data = {"project": project, "parent": above, "revision": revision}
    if planned:
        ledger(story, "quota.parent.planned", data, "quota-parents")
    story.say("quota.parent.set", data)


def claim(story: Story, id_: str, amount: int, accepted: bool, **more: Any) -> None:
    story.claim(id_, amount, accepted, project="p", **more)


def test_right_verdicts_are_right(story: Story) -> None:
    claim(story, "a", 4, True)
    share(story, 6)
    claim(story, "b", 3, False)
    claim(story, "c", 2, True)
    story.release("a")
    claim(story, "d", 4, True)
    claim(story, "e", 1, False, user="u")
    assert story.audit().problems == []


@pytest.mark.parametrize(("amount", "accepted"), [(3, True), (2, False)])
def test_wrong_verdicts_are_found(story: Story, amount: int, accepted: bool) -> None:
    claim(story, "a", 4, True)
    share(story, 6)
    claim(story, "b", amount, accepted)
    (problem,) = story.audit().problems
    assert ("VCPU of project p would hold 7 here, and its share is 6" in problem) == accepted


def test_a_project_counts_for_its_parent(story: Story) -> None:
    parent(story, "q", "p")
    story.claim("a", 4, True, project="q")
    share(story, 6)
    story.claim("b", 3, True, project="q")
    (problem,) = story.audit().problems
    assert "VCPU of project p would hold 7 here" in problem


@pytest.mark.parametrize("amount", [1, -1])
def test_a_share_that_no_ledger_gave_is_found(story: Story, amount: int) -> None:
    share(story, amount, planned=False)
    (problem,) = story.audit().problems
    assert f"partition 0 has a share of {amount} of VCPU of project p, and its ledger has none" in problem


def test_more_than_the_ledger_says_is_found(story: Story) -> None:
    claim(story, "a", 4, True)
    share(story, 6)
    ledger(story, "quota.share.planned", {**P, "number": 3, "amount": 1, "partition": 0})
    ledger(story, "quota.share.settled", {**P, "number": 3, "amount": 3, "partition": 0})
    (problem,) = story.audit().problems
    assert "partition 0 has a share of 6 of VCPU of project p, and its ledger says 3" in problem


def test_a_parent_that_no_ledger_decided_is_found(story: Story) -> None:
    parent(story, "q", "p", planned=False)
    (problem,) = story.audit().problems
    assert "partition 0 counts project q for p by revision 1, and nobody decided that" in problem


def test_cycles_of_parents_are_not_decided(story: Story) -> None:
    parent(story, "q", "p")
    for project, above in (("p", "q"), ("p", "top"), ("r", "q"), ("s", "s")):
        ledger(
            story,
            "quota.parent.planned",
            {"project": project, "parent": above, "revision": 1},
            "quota-parents",
        )
    parent(story, "p", "q", planned=False)
    (problem,) = story.audit().problems
    assert "counts project p for q by revision 1, and nobody decided that" in problem


def test_what_has_no_limit_is_recalled_before_shares_are_given(story: Story) -> None:
    claim(story, "a", 9, True)
    ledger(story, "quota.share.planned", {**P, "number": 1, "amount": 6, "partition": 0})
    story.say("quota.share.set", {**P, "number": 1, "amount": 6})
    (problem,) = story.audit().problems
    assert "partition 0 has a share of 6 of VCPU of project p, and its ledger has none" in problem


def test_rules_without_quotas_judge_none() -> None:
    story = Story(version=3)
    story.node()
    share(story, 1, planned=False)
    claim(story, "a", 4, True)
    assert story.audit().problems == []
    assert json.loads(story.records[-1].value)["type"] == "vacancy.claims.requested.v1"
