"""Limits against a solver that counts everything: what schedulers place, resize and update under random limits, over several
partitions, is what the words of docs/quotas.md allow."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from tests.support.solver.quotas import UNLIMITED, Account, Limits, Scope
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import OverQuota
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells

LOGS = max(2, int(os.environ.get("VACANCY_FLEETS", "150")) // 50)
STEPS = 25
PARTITIONS = 2
PROJECTS, USERS, KINDS = ("p", "q", "top"), ("-", "ana", "bob"), ("INSTANCE", "MIGRATION")
UNITS = ("VCPU", "MEMORY_MB")


class Office:
    """A log with limits, and what the solver knows of it."""

    def __init__(self, site: FollowedLog, scheduler: Scheduler, rng: random.Random) -> None:
        self.site, self.scheduler, self.rng = site, scheduler, rng
        self.quotas = Quotas(site.log, site.reader)
        self.known = Limits()
        self.made = 0
        for at, cell in enumerate(covering_cells(PARTITIONS)):
            site.report(f"n{at}", cell=cell, VCPU={"total": 1000}, MEMORY_MB={"total": 1000})

    def account(self) -> Account:
        return Account(*(self.rng.choice(some) for some in (PROJECTS, USERS, KINDS)))

    def amounts(self) -> dict[str, int]:
        return {unit: self.rng.randint(1, 4) for unit in self.rng.sample(UNITS, self.rng.choice((1, 2)))}

    def tried(self, allowed: bool, change: Callable[[], Any]) -> bool:
        """Try a change, which is made if it is allowed. Returns that."""
        with nullcontext() if allowed else pytest.raises(OverQuota):
            change()
        wait_for(self.site.reader, self.site.log.end())
        return allowed

    def limit(self) -> None:
        project, user = self.rng.choice((*PROJECTS, "")), self.rng.choice((None, None, *USERS[1:]))
        if user is not None and not project:
            user = ""
        scope = Scope(project, user, self.rng.choice(("", "", KINDS[1])), self.rng.choice(UNITS))
        limit = self.rng.choice((UNLIMITED, 0, 2, 5, 5, 8, 12))
        self.quotas.set_limit(
            QuotaScope(project=scope.project, user=scope.user, consumer_type=scope.kind, unit=scope.unit),
            limit,
        )
        self.known.limits[scope] = limit

    def parent(self) -> None:
        project, above = self.rng.choice(("p", "q")), self.rng.choice(("top", ""))
        self.quotas.set_parent(project, above)
        self.known.parents.pop(project, None)
        if above:
            self.known.parents[project] = above

    def place(self) -> None:
        account, amounts = self.account(), self.amounts()
        self.made += 1
        consumer, node = f"c{self.made}", self.rng.randrange(PARTITIONS)
        asks = ",".join(f"{unit}:{amount}" for unit, amount in amounts.items())
        request = PlacementRequest(
            f"resources={asks}&in_tree=n{node}", consumer, None, account.project, account.user, account.kind
        )
        over = [*self.known.exceeded(consumer, account, amounts)]
        shown = self.quotas.exceeded(account.project, account.user, account.kind, amounts)
        found = {Scope(one.project, one.user, one.consumer_type, one.unit) for one in shown}
        assert found == {*over}, f"{account}: {amounts}: {self.known}"
        if self.tried(not over, partial(self.scheduler.place, request)):
            self.known.held[consumer] = account, amounts

    def release(self) -> None:
        for consumer in self.some():
            self.scheduler.release([consumer])
            wait_for(self.site.reader, self.site.log.end())
            del self.known.held[consumer]

    def resize(self) -> None:
        for consumer in self.some():
            account, before = self.known.held[consumer]
            amounts = {**before, self.rng.choice([*before]): self.rng.randint(1, 6)}
            allowed = not [*self.known.exceeded(consumer, account, amounts)]
            if self.tried(allowed, partial(self.scheduler.resize, consumer, amounts)):
                self.known.held[consumer] = account, amounts

    def update(self) -> None:
        for consumer in self.some():
            account, (_, amounts) = self.account(), self.known.held[consumer]
            allowed = not [*self.known.exceeded(consumer, account, amounts)]
            project, user, kind = account
            change = partial(self.scheduler.update, consumer, project=project, user=user, consumer_type=kind)
            if self.tried(allowed, change):
                self.known.held[consumer] = account, amounts

    def some(self) -> list[str]:
        """A consumer, if there are any."""
        return self.rng.sample(sorted(self.known.held), min(1, len(self.known.held)))


@pytest.mark.parametrize("seed", range(LOGS))
def test_what_limits_allow_is_what_counting_everything_allows(seed: int, tmp_path: Path) -> None:
    rng = random.Random(40_000_000 + seed)
    rules = RULES_VERSIONS.newest.version
    with (
        followed_log(tmp_path, partitions=PARTITIONS, rules_version=rules) as site,
        site.scheduler() as scheduler,
    ):
        office = Office(site, scheduler, rng)
        steps = (
            office.limit,
            office.place,
            office.place,
            office.place,
            office.release,
            office.resize,
            office.update,
        )
        for number in range(STEPS):
            step = office.limit if number < 2 else office.parent if rng.random() < 0.1 else rng.choice(steps)
            try:
                step()
            except BaseException as error:
                error.add_note(f"seed {seed}, step {number}: {step.__name__}: {office.known}")
                raise
