"""Raising the rules of a log counts what is held already, in batches, and goes on after an interruption."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.admin.counting import Counted, count_earlier
from vacancy.clients.admin.rules import RaiseOptions, activate_rules
from vacancy.clients.inspection.uncounted import uncounted
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.resources.model import events
from vacancy.resources.model.errors import OutcomeUnknown, VacancyError
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import CELL_COUNTS, domain_count_name, key
from vacancy.streams.log import AppendedAt, Log

CELLS = covering_cells(2)
VCPU = QuotaScope(project="p", unit="VCPU")
QUICK = RaiseOptions(timeout_s=20.0, answers_s=0.01)
AGAIN = "`vacancy rules activate 4`"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    """A log of version 3 with a node in each cell. In the first, 150 consumers hold devices or VCPU, in the second 10 do."""
    with followed_log(tmp_path, rules_version=3) as site:
        devices: dict[str, Any] = {"devices": {f"d{n:03}": {} for n in range(40)}}
        for number, cell in enumerate(CELLS):
            site.report(f"n{number}", cell=cell, VCPU={"total": 200}, PCI_DEVICE=devices)
            facts = events.OperatorSettings(aggregates=(f"zone-{number}",))
            data = events.OperatorSettingsData(provider=f"n{number}", revision=1, facts=facts)
            site.append(cell, events.OperatorSettingsSet(id=uuid.uuid4().hex, source="/test", data=data))
        hold(site, 0, 150)
        hold(site, 1, 10)
        yield site


def hold(site: FollowedLog, cell: int, count: int) -> None:
    """`count` consumers of projects p and q get 1 VCPU each; the first 40 of them a device, too."""
    deadline_ms = site.reader.log_time_ms(cell) + 60_000
    made = [
        events.Claim(
            id=f"c-{cell}-{n}",
            consumer=f"i-{cell}-{n}",
            project="p" if n % 3 else "q",
            allocations=(
                events.Allocation(
                    provider=f"n{cell}", resources={"VCPU": 1, **({"PCI_DEVICE": 1} if n < 40 else {})}
                ),
            ),
            deadline_ms=deadline_ms,
        )
        for n in range(count)
    ]
    for at in range(0, count, 32):
        data = events.ClaimsRequestedData(claims=tuple(made[at : at + 32]))
        site.append(CELLS[cell], events.ClaimsRequested(id=uuid.uuid4().hex, source="/test", data=data))


def raise_only(site: FollowedLog) -> None:
    """Raise the rules without counting, as a command that was killed after the activation."""
    rules = events.Rules(version=4)
    for partition, cell in enumerate(CELLS):
        site.append(cell, events.RulesProposed(id="p-1", source="/test", data=rules))
        data = events.RulesSupportedData(proposal="p-1", store="s", host="h")
        site.append(cell, events.RulesSupported(id=f"s-{partition}", source="/test", data=data))
        site.append(cell, events.RulesActivated(id=f"a-{partition}", source="/test", data=rules))


def domains(site: FollowedLog) -> list[int | None]:
    return [site.reader.get(CELL_COUNTS, key(cell, domain_count_name("zone-")), cell=cell) for cell in CELLS]


def test_an_activation_counts_all_that_is_held(site: FollowedLog) -> None:
    assert uncounted(site.reader).text == ""
    raised = activate_rules(site.log, site.reader, 4, QUICK)
    assert (raised.outcome, raised.counted) == ("activated", Counted(160, 2))
    raised.check()
    assert uncounted(site.reader).allocations == 0
    assert domains(site) == [1, 1]
    quotas = Quotas(site.log, site.reader)
    assert quotas.set_limit(VCPU, 300).used == 106
    assert quotas.set_limit(QuotaScope(project="q", unit="PCI_DEVICE"), 300).used == 18
    end = site.log.end()
    assert activate_rules(site.log, site.reader, 4, QUICK).counted == Counted()
    assert site.log.end() == end
    found = verify(site.log, site.store, site.registry)
    assert (found.different, found.audit.problems) == ([], [])


def test_what_is_not_counted_is_named_until_the_command_was_run_again(site: FollowedLog) -> None:
    raise_only(site)
    left = uncounted(site.reader)
    assert (left.allocations, uncounted(site.reader, "p").allocations) == (160, 106)
    assert left.text.startswith(
        "160 allocations are not counted yet, from before the log had quotas: `vacancy rules activate 4`"
    )
    data = events.QuotaParentData(project="p", parent="top", revision=1)
    site.append("quota-parents", events.QuotaParentPlanned(id="p-2", source="/test", data=data))
    assert uncounted(site.reader, "top").allocations == 106
    assert Quotas(site.log, site.reader).set_limit(VCPU, 300).used == 0
    raised = activate_rules(site.log, site.reader, 4, QUICK)
    assert (raised.outcome, raised.counted.allocations) == ("unchanged", 160)
    assert uncounted(site.reader, "p").text == ""
    limit = Quotas(site.log, site.reader).limit(VCPU)
    assert limit is not None
    assert limit.used == 106


class FailingLog:
    """A log that is lost after some records."""

    def __init__(self, log: Log, records: int) -> None:
        self._log, self._left = log, records

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> list[AppendedAt]:
        """Append as many as are left, then fail."""
        there = entries[: self._left]
        self._left -= len(there)
        places = self._log.append(there, timeout_s) if there else []
        if len(there) < len(entries):
            raise KeyboardInterrupt
        return places


def test_an_interrupted_count_is_continued(site: FollowedLog) -> None:
    raise_only(site)
    for records in (1, 1, 1):
        with pytest.raises(KeyboardInterrupt):
            count_earlier(FailingLog(site.log, records), site.reader, again=AGAIN)  # type: ignore[arg-type]
        wait_for(site.reader, site.log.end())
    left = uncounted(site.reader).allocations
    assert 0 < left < 160
    assert count_earlier(site.log, site.reader, again=AGAIN).allocations == left
    assert Quotas(site.log, site.reader).set_limit(VCPU, 300).used == 106
    assert verify(site.log, site.store, site.registry).audit.problems == []


def test_a_store_that_does_not_follow_is_named(tmp_path: Path, site: FollowedLog) -> None:
    raise_only(site)
    site.stop_following()
    with pytest.raises(
        OutcomeUnknown, match="the log has counts of what is held, but the store has not read that far"
    ) as found:
        count_earlier(site.log, site.reader, again=AGAIN, timeout_s=0.2)
    assert "look with `vacancy rules activate 4`" in str(found.value)


def test_what_the_rules_refuse_to_count_is_named(site: FollowedLog) -> None:
    raise_only(site)
    for number in range(512):
        data = events.QuotaShareData(project="p", unit=f"CUSTOM_U{number}", number=1, amount=1)
        event = events.QuotaShareSet(id=uuid.uuid4().hex, source="/test", data=data)
        site.log.append([NewRecord(CELLS[1], events.encode(event))])
    wait_for(site.reader, site.log.end())
    raised = activate_rules(site.log, site.reader, 4, QUICK)
    assert (raised.counted.allocations, raised.counted.left) == (154, 6)
    with pytest.raises(
        VacancyError,
        match="6 allocations are not counted for quotas: consumer i-1-1 is not counted: quota_full",
    ):
        raised.check()
