"""Limits of projects and users for the solver in `brute_force`, by the words of docs/quotas.md: one list of consumers and one of
limits for the whole log, without shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

UNLIMITED = -1


class Scope(NamedTuple):
    """What a limit is for. `user` is None for the project as a whole; '' as project or user is the default; `kind` is a
    consumer type, '' for all."""

    project: str
    user: str | None
    kind: str
    unit: str


class Account(NamedTuple):
    project: str
    user: str
    kind: str


@dataclass
class Limits:
    limits: dict[Scope, int] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    """Project -> the project above it."""
    held: dict[str, tuple[Account, Mapping[str, int]]] = field(default_factory=dict)
    """Consumer -> whose it is, and unit -> amount."""

    def exceeded(self, consumer: str, account: Account, amounts: Mapping[str, int]) -> Iterator[Scope]:
        """The scopes whose limit does not allow this consumer to hold these amounts (instead of what it holds)."""
        after = {**self.held, consumer: (account, amounts)}
        for scope in self._scopes(account, amounts):
            limit = self._limit(scope)
            rises = self._used(after, scope) > self._used(self.held, scope)
            if limit != UNLIMITED and rises and self._used(after, scope) > limit:
                yield scope

    def _scopes(self, account: Account, amounts: Mapping[str, int]) -> Iterator[Scope]:
        """All scopes that count a consumer."""
        above = self.parents.get(account.project)
        whose: list[tuple[str, str | None]] = [(account.project, None)]
        whose += [(above, None)] if above else []
        whose += [(account.project, account.user)] if account.user != "-" else []
        for project, user in whose:
            for kind in ("", account.kind):
                for unit in amounts:
                    yield Scope(project, user, kind, unit)

    def _limit(self, scope: Scope) -> int:
        if scope in self.limits:
            return self.limits[scope]
        if scope.user is None and scope.project in self.parents.values():
            return UNLIMITED
        user = None if scope.user is None else ""
        return self.limits.get(scope._replace(project="", user=user), UNLIMITED)

    def _used(self, held: Mapping[str, tuple[Account, Mapping[str, int]]], scope: Scope) -> int:
        return sum(
            amounts.get(scope.unit, 0)
            for account, amounts in held.values()
            if scope.project
            in (account.project, self.parents.get(account.project) if scope.user is None else "")
            and scope.user in (None, account.user)
            and scope.kind in ("", account.kind)
        )
