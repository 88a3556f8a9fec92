"""What operators say takes hold, survives reports, and never silently overwrites what another just said."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.admin import operator
from vacancy.clients.admin.operator import CurrentSettings, SettingsChangedByOthers, set_operator_settings
from vacancy.clients.admin.rules import RaiseOptions, activate_classes
from vacancy.clients.inspection.lookup import NotFound, show_consumer, show_provider
from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.classes.quantity import Quantity
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.errors import LogUnavailable, OutcomeUnknown, UsageError, VacancyError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import Receipt

SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 2}),))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as site:
        site.report("node-1", gpus=1)
        yield site


def change(
    site: FollowedLog, what: operator.Change, provider: str = "node-1", **where: str
) -> CurrentSettings:
    return set_operator_settings(site.log, site.reader, provider, what, **where)  # type: ignore[arg-type]


def facts_event(provider: str, revision: int, facts: events.OperatorSettings) -> events.OperatorSettingsSet:
    data = events.OperatorSettingsData(provider=provider, revision=revision, facts=facts)
    return events.OperatorSettingsSet(id=uuid.uuid4().hex, source="/someone-else", data=data)


# -- what takes hold ------------------------------------------------------------------------------------------


def test_revisions_follow_one_another(site: FollowedLog) -> None:
    assert change(site, operator.disable("broken fan")).revision == 1
    now = change(site, operator.drain("broken fan"))
    assert (now.revision, now.facts.status, now.facts.reason) == (2, "draining", "broken fan")
    node = show_provider(site.reader, "node-1").node
    assert node is not None
    assert node.state == "draining"
    assert change(site, operator.enable()).facts == events.OperatorSettingsV2()


def test_what_is_so_already_is_not_said_again(site: FollowedLog) -> None:
    before = site.log.end()
    now = change(site, operator.enable())
    assert (now.changed, now.revision) == (False, 0)
    assert site.log.end() == before


def test_a_disabled_node_is_no_candidate(site: FollowedLog) -> None:
    change(site, operator.disable())
    with site.scheduler() as scheduler:
        assert scheduler.candidates(SPEC).candidates == []
        change(site, operator.enable())
        assert [one.root for one in scheduler.candidates(SPEC).candidates] == ["node-1"]


def test_aggregates_and_traits_are_added_taken_away_and_replaced(site: FollowedLog) -> None:
    change(site, operator.aggregates(add=["b", "a"]))
    assert change(site, operator.aggregates(add=["c"], remove=["a"])).facts.aggregates == ("b", "c")
    assert change(site, operator.aggregates(replace=["z"])).facts.aggregates == ("z",)
    now = change(site, operator.traits(add=["CUSTOM_FAST"]))
    assert (now.facts.traits, now.facts.aggregates) == (("CUSTOM_FAST",), ("z",))
    (node, *_) = show_provider(site.reader, "node-1").providers
    assert (node.aggregates, node.operator_traits, node.traits) == (
        ["z"],
        ["CUSTOM_FAST"],
        ["HW_CPU_X86_AVX2"],
    )


def test_overrides_add_up_until_they_are_cleared(site: FollowedLog) -> None:
    change(site, operator.override("VCPU", {"reserved": 2}))
    change(site, operator.override("VCPU", {"allocation_ratio_milli": 1500}))
    assert vcpu_capacity(site) == 9
    site.report("node-1")
    assert vcpu_capacity(site) == 9, "what operators say survives a report"
    change(site, operator.clear_override("VCPU"))
    assert vcpu_capacity(site) == 8


def test_an_override_that_a_list_of_devices_does_not_honour_is_refused(site: FollowedLog) -> None:
    """Of a list of devices nothing is reserved and nothing multiplied. The change is refused before anything is written."""
    site.report("node-2", PGPU={"devices": {"81:00.0": {}, "82:00.0": {}}}, FPGA={"total": 4})
    before = site.log.end()
    with pytest.raises(UsageError, match="override of reserved has no effect on the inventory of PGPU"):
        change(site, operator.override("PGPU", {"reserved": 1}), "node-2")
    with pytest.raises(UsageError, match="override of allocation_ratio_milli has no effect"):
        change(site, operator.override("PGPU", {"allocation_ratio_milli": 2000}), "node-2")
    assert site.log.end() == before
    change(site, operator.override("FPGA", {"reserved": 1}), "node-2")
    assert capacity(site, "node-2", "FPGA") == 3, "of a number of devices some can be reserved"


def test_an_override_that_lost_its_effect_is_shown_as_such_and_stops_no_other_change(
    site: FollowedLog,
) -> None:
    site.report("node-2", PGPU={"total": 2})
    change(site, operator.override("PGPU", {"reserved": 1}), "node-2")
    assert capacity(site, "node-2", "PGPU") == 1
    site.report("node-2", PGPU={"devices": {"81:00.0": {}, "82:00.0": {}}})
    (node,) = show_provider(site.reader, "node-2").providers
    assert node.facts is not None
    assert node.facts["overrides_without_effect"] == {"PGPU": ["reserved"]}
    assert capacity(site, "node-2", "PGPU") == 2
    assert change(site, operator.disable(), "node-2").changed
    assert change(site, operator.clear_override("PGPU"), "node-2").facts.overrides == {}


def capacity(site: FollowedLog, provider: str, resource_class: str) -> int:
    (node,) = show_provider(site.reader, provider).providers
    return next(one.capacity for one in node.inventories if one.resource_class == resource_class)


def vcpu_capacity(site: FollowedLog) -> int:
    (node, *_) = show_provider(site.reader, "node-1").providers
    return next(one.capacity for one in node.inventories if one.resource_class == "VCPU")


def test_facts_may_come_before_their_provider(site: FollowedLog) -> None:
    with pytest.raises(NotFound, match="no provider 'node-2'"):
        change(site, operator.disable(), "node-2")
    first = change(site, operator.disable("not yet"), "node-2", cell="auto")
    again = change(site, operator.aggregates(add=["a"]), "node-2")
    assert (again.cell, again.revision) == (first.cell, 2), "known from its facts"
    site.report("node-2")
    tree = show_provider(site.reader, "node-2")
    assert tree.node is not None
    assert (tree.node.state, tree.providers[0].aggregates) == ("disabled", ["a"])


def test_a_child_has_facts_of_its_own(site: FollowedLog) -> None:
    change(site, operator.disable("dead"), "node-1:gpu0")
    tree = show_provider(site.reader, "node-1")
    assert [one.disabled for one in tree.providers] == [False, True]
    assert tree.node is not None
    assert tree.node.state == "open"


# -- what does not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (operator.traits(add=["HW_CPU_X86_AVX22"]), "did you mean HW_CPU_X86_AVX2"),
        (operator.traits(add=["lower"]), "unknown trait 'lower'"),
        (operator.aggregates(add=["two words"]), "aggregates"),
        (operator.override("VCPUS", {"reserved": 1}), "unknown resource class 'VCPUS'"),
        (operator.override("VCPU", {"total": 1}), "override of VCPU"),
        (operator.override("VCPU", {"allocation_ratio_milli": 0}), "override of VCPU"),
        (operator.disable("x" * 2000), "reason"),
    ],
)
def test_what_is_invalid_is_not_sent(site: FollowedLog, what: operator.Change, told: str) -> None:
    before = site.log.end()
    with pytest.raises(UsageError, match=told):
        change(site, what)
    assert site.log.end() == before


def test_of_two_operators_who_saw_the_same_the_first_wins(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone else's revision 1 lands after this operator has looked, and before what it says."""
    send = site.log.send
    theirs = facts_event("node-1", 1, events.OperatorSettings(aggregates=("theirs",)))

    def send_after_theirs(entries: list[NewRecord], timeout_s: float) -> Receipt:
        monkeypatch.undo()
        send([NewRecord(entries[0].key, events.encode(theirs))])
        return send(entries, timeout_s)

    monkeypatch.setattr(site.log, "send", send_after_theirs)
    with pytest.raises(SettingsChangedByOthers, match="another operator changed the settings of node-1"):
        change(site, operator.disable())
    assert change(site, operator.disable()).facts.aggregates == ("theirs",), "nothing of theirs is lost"


def test_one_who_goes_on_from_what_was_said_takes_nothing_from_it(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = site.log.send
    theirs = facts_event("node-1", 2, events.OperatorSettings(status="disabled", aggregates=("theirs",)))

    def send_before_theirs(entries: list[NewRecord], timeout_s: float) -> Receipt:
        monkeypatch.undo()
        return send([*entries, NewRecord(entries[0].key, events.encode(theirs))], timeout_s)

    monkeypatch.setattr(site.log, "send", send_before_theirs)
    assert change(site, operator.disable()).changed


def test_the_store_not_reading_is_an_outcome_not_known_yet(tmp_path: Path) -> None:
    with followed_log(tmp_path, follow=False) as site:
        with pytest.raises(OutcomeUnknown, match="once the position is past offset 1") as raised:
            set_operator_settings(
                site.log, site.reader, "node-1", operator.disable(), cell="auto", timeout_s=0.05
            )
        assert raised.value.exit_code == 6


def test_a_log_that_does_not_answer_is_an_outcome_not_known_yet(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(entries: object, timeout_s: float = 0.0) -> None:
        raise LogUnavailable("the log did not answer", where="test")

    monkeypatch.setattr(site.log, "append", no_answer)
    with pytest.raises(OutcomeUnknown, match="did not report whether it has revision 1"):
        change(site, operator.disable())


# -- classes --------------------------------------------------------------------------------------------------


def test_a_plugin_counts_once_it_is_activated(tmp_path: Path) -> None:
    registry = Registry([Quantity("LICENCE")])
    with followed_log(tmp_path, registry=registry) as site:
        site.report("node-1", LICENCE={"total": 5})
        with pytest.raises(NotFound):
            show_provider(site.reader, "node-1")
        with pytest.raises(RecordRefused, match="LICENCE is not allowed by the log's rules"):
            set_operator_settings(
                site.log, site.reader, "n", operator.override("LICENCE", {"reserved": 1}), cell="auto"
            )
        assert activate_classes(site.log, site.reader, RaiseOptions(answers_s=0.0)).classes == ("LICENCE",)
        site.report("node-1", LICENCE={"total": 5})
        (node,) = show_provider(site.reader, "node-1").providers
        assert [one.capacity for one in node.inventories] == [5]
        before = site.log.end()
        assert activate_classes(site.log, site.reader, RaiseOptions(answers_s=0.0)).classes == ()
        assert site.log.end() == before


# -- consumers ------------------------------------------------------------------------------------------------


def test_a_hold_is_kept_when_it_is_confirmed(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        placed = scheduler.place(PlacementRequest(SPEC, consumer="c", hold_ms=60_000))
    assert show_consumer(site.reader, "c")[0].hold_until_ms > 0
    assert operator.confirm(site.log, site.reader, "c") == [placed.cell]
    assert show_consumer(site.reader, "c")[0].hold_until_ms == 0
    before = site.log.end()
    assert operator.confirm(site.log, site.reader, "c") == [placed.cell]
    assert site.log.end() == before, "what is kept already needs no word"
    assert operator.confirm(site.log, site.reader, "nobody") == []


def test_a_hold_that_ended_cannot_be_kept(site: FollowedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.scheduler() as scheduler:
        placed = scheduler.place(PlacementRequest(SPEC, consumer="c", hold_ms=60_000))
    send = site.log.send
    release = events.Release(consumer="c", claim=placed.claim)
    data = events.ConsumersReleasedData(releases=(release,))
    gone = NewRecord(placed.cell, events.encode(events.ConsumersReleased(id="r", source="/test", data=data)))

    def send_after_release(entries: list[NewRecord], timeout_s: float) -> Receipt:
        monkeypatch.undo()
        send([gone])
        return send(entries, timeout_s)

    monkeypatch.setattr(site.log, "send", send_after_release)
    with pytest.raises(VacancyError, match="had ended before it was confirmed"):
        operator.confirm(site.log, site.reader, "c")
