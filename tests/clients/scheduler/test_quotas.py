"""Limits over several partitions: divided, moved between them, never exceeded, and whole again after any kill."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.quotas import Limit, Quotas
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import OverQuota, UsageError
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import ALLOCATIONS, DEAD_LETTERS, QUOTA_LIMITS, QUOTAS, quota_key
from vacancy.streams.log import AppendedAt, Log

PARTITIONS = 4
ROUNDS = int(os.environ.get("VACANCY_QUOTA_ROUNDS", "1"))
VCPU = QuotaScope(project="p", unit="VCPU")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    """Four cells with a node of 100 VCPU each."""
    with followed_log(tmp_path, partitions=PARTITIONS) as found:
        for at, cell in enumerate(covering_cells(PARTITIONS)):
            found.report(f"n{at}", cell=cell, VCPU={"total": 100})
        yield found


def request(
    project: str = "p", amount: int = 1, user: str = "-", node: int | None = None
) -> PlacementRequest:
    tree = "" if node is None else f"&in_tree=n{node}"
    return PlacementRequest(f"resources=VCPU:{amount}{tree}", project=project, user=user)


def check_sums(site: FollowedLog) -> Limit:
    """The limit of the project: what its ledger gives is at most the limit, and covers what partitions have."""
    wait_for(site.reader, site.log.end())
    found = Quotas(site.log, site.reader).limit(VCPU)
    assert found is not None
    (row,) = [row for _, _, row in site.reader.scan(QUOTA_LIMITS) if row.project == "p"]
    given = {share.partition: share.amount for share in row.shares}
    assert sum(given.values()) <= found.limit
    assert all((one.share or 0) <= given.get(one.partition, 0) for one in found.shares)
    return found


def test_a_limit_is_divided_and_holds_in_all_cells_together(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        for node in (0, 0, 1):
            scheduler.place(request(amount=3, node=node))
        wait_for(site.reader, site.log.end())
        found = Quotas(site.log, site.reader).set_limit(VCPU, 12)
        assert (found.limit, found.used) == (12, 9)
        assert sorted((one.used, one.share) for one in found.shares) == [(0, 0), (0, 1), (3, 4), (6, 7)]
        # All that is left goes to a cell of which the share is full: it is fetched from the others.
        scheduler.place(request(amount=3, node=3))
        assert check_sums(site).used == 12
        with pytest.raises(OverQuota, match=r"project p, VCPU: used 12, asked 1, limit 12 ") as refused:
            scheduler.place(request(node=2))
        assert refused.value.exit_code == 8
        scheduler.place(request(project="other", amount=20, node=2))


def test_defaults_have_exceptions_and_follow_their_changes(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    default = QuotaScope(project="", unit="VCPU")
    quotas.set_limit(default, 2)
    quotas.set_limit(QuotaScope(project="q", unit="VCPU"), -1)
    with site.scheduler() as scheduler:
        scheduler.place(request(node=0))
        scheduler.place(request(node=1))
        with pytest.raises(OverQuota, match="used 2, asked 1, limit 2 "):
            scheduler.place(request(node=2))
        scheduler.place(request(project="q", amount=50, node=2))
        quotas.set_limit(default, 3)
        scheduler.place(request(node=2))
        found = check_sums(site)
        assert (found.limit, found.by_default, found.used) == (3, True, 3)


def test_a_default_does_not_hold_for_a_project_while_it_has_children(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(QuotaScope(project="", unit="VCPU"), 1)
    with site.scheduler() as scheduler:
        scheduler.place(request(node=0))
        quotas.set_parent("q", "p")
        quotas.set_limit(QuotaScope(project="", unit="VCPU"), 2)
        scheduler.place(request(amount=3, node=1))
        assert not quotas.exceeded("p", "-", "INSTANCE", {"VCPU": 9})
        quotas.set_parent("q", "")
        with pytest.raises(OverQuota, match="used 4, asked 1, limit 2"):
            scheduler.place(request(node=2))


def test_a_limit_after_none_is_in_force_in_each_partition(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(VCPU, -1)
    with site.scheduler() as scheduler:
        scheduler.place(request(amount=4, node=1))
        assert [one.share for one in quotas.set_limit(VCPU, 2).shares] == [0, 0, 0, 0]
        for node in range(PARTITIONS):
            with pytest.raises(OverQuota, match="used 4, asked 1, limit 2"):
                scheduler.place(request(node=node))


def test_what_a_new_child_holds_is_used_of_the_limit_in_all_partitions(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(VCPU, 4)
    with site.scheduler() as scheduler:
        scheduler.place(request("child", amount=4, node=0))
        quotas.set_parent("child", "p")
        assert check_sums(site).used == 4
        for node in range(PARTITIONS):
            with pytest.raises(OverQuota, match="used 4, asked 1, limit 4"):
                scheduler.place(request(node=node))


def test_users_and_parents_have_limits_of_their_own(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(QuotaScope(project="p", user="u", unit="VCPU"), 1)
    quotas.set_parent("p", "domain")
    quotas.set_parent("q", "domain")
    quotas.set_limit(QuotaScope(project="domain", unit="VCPU"), 4)
    with site.scheduler() as scheduler:
        scheduler.place(request(user="u", node=0))
        with pytest.raises(OverQuota, match="project p user u, VCPU: used 1, asked 1, limit 1 "):
            scheduler.place(request(user="u", node=1))
        scheduler.place(request(project="q", amount=3, node=1))
        with pytest.raises(OverQuota, match="project domain, VCPU: used 4, asked 2, limit 4 "):
            scheduler.place(request(amount=2, node=2))


def test_nothing_is_granted_until_less_than_a_lowered_limit_is_held(site: FollowedLog) -> None:
    """Kueue refuses to admit in a queue whose quota was lowered below its usage until enough has ended (kueue#314)."""
    quotas = Quotas(site.log, site.reader)
    with site.scheduler() as scheduler:
        held = [
            scheduler.place(request(amount=amount, node=node)).consumer
            for node, amount in ((0, 3), (1, 1), (1, 2))
        ]
        wait_for(site.reader, site.log.end())
        quotas.set_limit(VCPU, 8)
        quotas.set_limit(VCPU, 4)
        for used, left in ((6, held[:1]), (3, ())):
            if used > 4:
                for node in range(PARTITIONS):
                    with pytest.raises(OverQuota, match=f"used {used}, asked 1, limit 4 "):
                        scheduler.place(request(node=node))
            scheduler.release(left)
            wait_for(site.reader, site.log.end())
        scheduler.place(request(node=0))
        for node in range(PARTITIONS):
            with pytest.raises(OverQuota, match="used 4, asked 1, limit 4 "):
                scheduler.place(request(node=node))
        scheduler.release(held[1:2])
        wait_for(site.reader, site.log.end())
        scheduler.place(request(node=3))
        assert check_sums(site).used == 4


def test_a_limit_below_what_is_held_is_kept_wherever_consumers_leave(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        held = [scheduler.place(request(amount=2, node=node)).consumer for node in (0, 1)]
        wait_for(site.reader, site.log.end())
        Quotas(site.log, site.reader).set_limit(VCPU, 3)
        scheduler.resize(held[0], {"VCPU": 1})
        for node in range(PARTITIONS):
            with pytest.raises(OverQuota, match="used 3, asked 1, limit 3 "):
                scheduler.place(request(node=node))
        scheduler.release(held[1:])
        wait_for(site.reader, site.log.end())
        scheduler.place(request(amount=2, node=2))
        with pytest.raises(OverQuota, match="used 3, asked 1, limit 3 "):
            scheduler.place(request(node=0))


def test_a_change_of_the_project_fetches_the_share_that_it_needs(site: FollowedLog) -> None:
    Quotas(site.log, site.reader).set_limit(VCPU, 4)
    with site.scheduler() as scheduler:
        placed = scheduler.place(request("other", amount=4, node=2))
        scheduler.update(placed.consumer, project="p")
        assert check_sums(site).used == 4
        more = scheduler.place(request("other", node=1))
        with pytest.raises(OverQuota, match="project p, VCPU: used 4, asked 1, limit 4"):
            scheduler.update(more.consumer, project="p")
        ((_, row),) = scheduler.allocations(more.consumer)
        assert row.project == "other"
        assert not [row for _, _, row in site.reader.scan(DEAD_LETTERS)], "nothing was written in vain"


def test_a_limit_that_was_unlimited_is_lowered_to_what_all_cells_hold(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    assert quotas.set_limit(VCPU, -1).limit == -1
    with site.scheduler() as scheduler:
        for node, amount in ((0, 5), (1, 3)):
            scheduler.place(request(amount=amount, node=node))
        wait_for(site.reader, site.log.end())
        found = quotas.set_limit(VCPU, 10)
        assert sum(one.share or 0 for one in found.shares) == 10
        scheduler.place(request(amount=2, node=3))
        for node in range(PARTITIONS):
            with pytest.raises(OverQuota, match="used 10, asked 1, limit 10 "):
                scheduler.place(request(node=node))
        assert check_sums(site).used == 10
        quotas.set_limit(VCPU, -1)
        scheduler.place(request(amount=50, node=2))


@pytest.mark.parametrize(("first", "second"), [(-1, 6), (6, -1)])
def test_a_change_to_or_from_unlimited_that_was_killed_is_finished_by_a_claim(
    site: FollowedLog, first: int, second: int
) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(VCPU, first)
    killed = KilledLog(site.log, 1, has_it=False)  # the limit is in the log, no share is
    with pytest.raises(Killed):
        Quotas(killed, site.reader).set_limit(VCPU, second)  # type: ignore[arg-type]
    with site.scheduler() as scheduler:
        for node in range(2):
            scheduler.place(request(amount=3, node=node))
        if second < 0:
            scheduler.place(request(amount=20, node=2))
        else:
            quotas.set_limit(VCPU, second)
            with pytest.raises(OverQuota, match="used 6, asked 1, limit 6 "):
                scheduler.place(request(node=3))
            check_sums(site)


# -- parents ------------------------------------------------------------------------------------------------------


def parents(site: FollowedLog, project: str) -> set[str]:
    """The parent of a project in each partition."""
    wait_for(site.reader, site.log.end())
    cells = covering_cells(PARTITIONS)
    rows = [site.reader.get(QUOTAS, quota_key(project), cell=cell) for cell in cells]
    return {"" if row is None else row.parent for row in rows}


def test_of_two_operators_who_set_a_parent_one_wins_everywhere(site: FollowedLog) -> None:
    failures: dict[str, str] = {}
    start = threading.Barrier(4)

    def run(parent: str) -> None:
        with StoreReader(site.store, site.registry) as reader:
            quotas = Quotas(site.log, reader)
            start.wait()
            try:
                quotas.set_parent("p", parent)
            except RecordRefused as error:
                failures[parent] = str(error)

    names = {f"domain{n}" for n in range(4)}
    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Quotas(site.log, site.reader).finish_parents()
    (winner,) = parents(site, "p")
    assert winner in names - failures.keys()
    for said in failures.values():
        assert "was set by someone else" in said
        assert "is the last, domain" in said


def test_a_cycle_of_parents_is_refused_and_a_killed_change_is_finished(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_parent("p", "q")
    with pytest.raises(RecordRefused, match="a parent has no parent itself"):
        quotas.set_parent("q", "p")
    for appends in (1, 2):  # the parent is decided, and no partition counts, or all do
        killed = KilledLog(site.log, appends, has_it=False)
        with suppress(Killed):
            Quotas(killed, site.reader).set_parent("p", f"domain{appends}")  # type: ignore[arg-type]
        Quotas(site.log, site.reader).set_parent("other", f"domain{appends}")
        assert parents(site, "p") == {f"domain{appends}"}


def test_what_is_held_below_a_parent_counts_after_each_change(site: FollowedLog) -> None:
    """Siblings may use what others do not: their own limits together may be more than that of the parent."""
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(QuotaScope(project="domain", unit="VCPU"), 10)
    for project in ("p", "q"):
        quotas.set_limit(QuotaScope(project=project, unit="VCPU"), 8)
    with site.scheduler() as scheduler:
        scheduler.place(request(amount=7, node=0))
        wait_for(site.reader, site.log.end())
        quotas.set_parent("p", "domain")
        quotas.set_parent("q", "domain")
        # 7 of the 10 are in one cell, which had a share of 3: the rest is 3, in whatever cell it is asked for.
        with pytest.raises(OverQuota, match="project domain, VCPU: used 7, asked 4, limit 10 "):
            scheduler.place(request(project="q", amount=4, node=1))
        scheduler.place(request(project="q", amount=3, node=1))
        for node in range(PARTITIONS):
            with pytest.raises(OverQuota, match="project domain, VCPU: used 10, asked 1, limit 10 "):
                scheduler.place(request(project="q", node=node))
        wait_for(site.reader, site.log.end())
        quotas.set_parent("p", "")
        scheduler.place(request(project="q", amount=5, node=2))
        with pytest.raises(OverQuota, match="project q, VCPU: used 8, asked 1, limit 8 "):
            scheduler.place(request(project="q", node=3))
        wait_for(site.reader, site.log.end())
        domain = quotas.limit(QuotaScope(project="domain", unit="VCPU"))
        assert domain is not None
        assert domain.used == 8


def test_a_project_that_becomes_a_parent_leaves_the_default(site: FollowedLog) -> None:
    quotas = Quotas(site.log, site.reader)
    quotas.set_limit(QuotaScope(project="", unit="VCPU"), 2)
    with site.scheduler() as scheduler:
        scheduler.place(request(project="domain", node=0))
        wait_for(site.reader, site.log.end())
        quotas.set_parent("p", "domain")
        scheduler.place(request(project="domain", amount=5, node=1))
        quotas.set_limit(QuotaScope(project="", unit="VCPU"), 3)
        scheduler.place(request(project="domain", amount=5, node=2))
        with pytest.raises(OverQuota, match="project p, VCPU: used 0, asked 4, limit 3 "):
            scheduler.place(request(amount=4, node=1))


def test_rules_without_quotas_say_so(tmp_path: Path) -> None:
    with followed_log(tmp_path, rules_version=3) as old, pytest.raises(UsageError, match="rules activate 4"):
        Quotas(old.log, old.reader)


# -- races --------------------------------------------------------------------------------------------------------


def race(site: FollowedLog, seed: int, limit: int, schedulers: int = 8) -> Limit:
    """Schedulers take a limit until it is full, each with its own choice of cells; some give back on the way."""
    Quotas(site.log, site.reader).set_limit(VCPU, limit)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        try:
            with site.scheduler() as scheduler:
                while True:
                    placed = scheduler.place(
                        request(amount=rng.randint(1, 2), node=rng.randrange(PARTITIONS)), timeout_s=60
                    )
                    if rng.random() < 0.2:
                        scheduler.release([placed.consumer])
        except OverQuota:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(schedulers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    found = check_sums(site)
    assert found.used <= limit
    return found


def test_racing_schedulers_never_exceed_a_limit(site: FollowedLog) -> None:
    """One round, or VACANCY_QUOTA_ROUNDS of them (`make explore`), each with another limit."""
    for seed in range(1, ROUNDS + 1):
        found = race(site, seed=seed, limit=10 + seed % 5)
        assert found.used > 0
        with site.scheduler() as scheduler:
            held = {key.partition(b"\0")[2].decode() for _, key, _ in site.reader.scan(ALLOCATIONS)}
            scheduler.release(held if ROUNDS > 1 else ())


# -- kills --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class KilledLog:
    """A log whose writer is killed at its n-th append: before the log has the records, or after."""

    def __init__(self, log: Log, after: int, *, has_it: bool) -> None:
        self._log, self._left, self._has_it = log, after, has_it

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> list[AppendedAt]:
        self._left -= 1
        if self._left < 0:
            if self._has_it:
                self._log.append(entries, timeout_s)
            raise Killed
        return self._log.append(entries, timeout_s)

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


@pytest.mark.parametrize("has_it", [False, True])
def test_a_kill_between_the_steps_of_a_transfer_loses_nothing(site: FollowedLog, has_it: bool) -> None:
    with site.scheduler() as scheduler:
        scheduler.place(request(amount=5, node=0))
        wait_for(site.reader, site.log.end())
        Quotas(site.log, site.reader).set_limit(VCPU, 9)
        for at in range(8):
            killed = KilledLog(site.log, at, has_it=has_it)
            try:
                Quotas(killed, site.reader).fetch(VCPU, 1 + at % 3, 4)  # type: ignore[arg-type]
            except Killed:
                check_sums(site)
            assert Quotas(site.log, site.reader).fetch(VCPU, 1 + at % 3, 4)
            found = check_sums(site)
            assert sum(one.share or 0 for one in found.shares) == 9, "nothing is lost"
            # and back, so that the next round has all steps before it
            assert Quotas(site.log, site.reader).fetch(VCPU, 1 + (at + 1) % 3, 4)
        wait_for(site.reader, site.log.end())
    # What a repeated step makes of a ledger that went on is a dead letter at most, and none here.
    assert [row.reason for _, _, row in site.reader.scan(DEAD_LETTERS)] == []
