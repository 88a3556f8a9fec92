"""The auditor on gangs: claims that are accepted together or not at all."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.clients.auditor.test_auditor import JSON, Story, a_claim
from vacancy.resources.fold.rules_versions import RULES_VERSIONS

GANG_REJECTED = "gang_rejected"


@pytest.fixture
def story() -> Story:
    """A node with 10 VCPU."""
    story = Story(version=RULES_VERSIONS.newest.version)
    story.node()
    return story


def gang(story: Story, amounts: dict[str, int], reasons: dict[str, str] | None = None, **more: Any) -> None:
    """A gang of claims, and its verdicts: accepted, or rejected for these reasons."""
    offset = story.say("gang.requested", {"claims": [a_claim(id_, n, **more) for id_, n in amounts.items()]})
    for id_ in amounts:
        reason = (reasons or {}).get(id_, "")
        verdict: JSON = {"claim": id_, "cell": story.cell, "partition": story.partition, "offset": offset}
        story.verdicts.append(
            {**verdict, "accepted": not reason, "reason": reason, "deadline_ms": more.get("deadline_ms", 0)}
        )


def test_right_verdicts_are_right(story: Story) -> None:
    gang(story, {"a": 4, "b": 3})
    gang(story, {"c": 2, "d": 2}, {"c": GANG_REJECTED, "d": "no_room"})
    gang(story, {"e": 1, "f": 9}, {"e": GANG_REJECTED, "f": "no_room"})
    gang(story, {"g": 1, "h": 2})
    story.claim("i", 1, False)
    story.release("a")
    story.claim("j", 4, True)
    report = story.audit()
    assert report.problems == []
    assert (report.accepted, report.rejected, report.unverifiable) == (5, 5, 0)


@pytest.mark.parametrize(
    ("amounts", "reasons", "problem"),
    [
        ({"a": 6, "b": 6}, {}, "claim b in .* was accepted, but"),
        ({"a": 5, "b": 5}, {"a": GANG_REJECTED, "b": "no_room"}, "claim b in .* was rejected"),
        ({"a": 5, "b": 6}, {"b": "no_room"}, "only a part of the gang of claim a was accepted"),
        ({"a": 5, "b": 6}, {"a": GANG_REJECTED, "b": GANG_REJECTED}, "0 claims of the gang of claim a"),
        ({"a": 11, "b": 11}, {"a": "no_room", "b": "no_room"}, "2 claims of the gang of claim a"),
    ],
)
def test_wrong_verdicts_are_found(
    story: Story, amounts: dict[str, int], reasons: dict[str, str], problem: str
) -> None:
    gang(story, amounts, reasons)
    found = story.audit()
    assert any(re.search(problem, one) for one in found.problems), found.problems


def test_older_rules_take_no_gang_up() -> None:
    story = Story(version=3)
    story.node()
    gang(story, {"a": 1, "b": 1})
    assert story.audit().extra_verdicts == 2
