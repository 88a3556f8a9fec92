"""A request in the form that queries work with, made once where it enters: its bytes, its expressions, its cache key."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Raw

from vacancy.projections.query.conditions.predicate_ast import Expression
from vacancy.projections.query.model import Candidate
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec, RequestSpecV2, spec_bytes
from vacancy.resources.model.taints import tolerated_of

Made = TypeVar("Made")


class CompiledRequest:
    """A request, ready to be queried for and to be claimed with.

    `key` is the spec's JSON as bytes: requests that ask for the same have equal keys, so what was made of one is found
    for the other. `wire` is the same JSON as it goes into a record of the log. `expressions` has the compiled
    `where` of each group, by its text. `has_affinity`: whether it depends on other consumers, or asks for several
    copies. `choices`: what it stands for if it has alternatives or preferences, in order of preference
    (`RequestSpecV2.choices`); none for all other requests. `needs`: what it asks for that older rules do not have, as (class,
    field of the ask; '' for the class itself). `tolerated`: the taints that it tolerates, also of each of its choices. Made by `vacancy.clients.request_language.request_compiler`, which also checks the request; here for
    requests without expressions.
    """

    __slots__ = (
        *("_copy", "_memo", "choices", "expressions", "has_affinity", "key", "needs", "spec", "tolerated"),
        "wire",
    )

    def __init__(
        self,
        spec: RequestSpec,
        expressions: Mapping[str, Expression] | None = None,
        key: bytes | None = None,
        tolerated: frozenset[tuple[str, str | None]] = frozenset(),
    ) -> None:
        self.spec = spec
        self.key = spec_bytes(spec) if key is None else key
        self.wire = Raw(self.key)
        self.expressions: Mapping[str, Expression] = expressions or {}
        self.has_affinity = bool(spec.memberships) or spec.copies > 1
        self.needs: frozenset[tuple[str, str]] = frozenset()
        self.choices: Sequence[CompiledRequest] = ()
        self.tolerated = tolerated
        if isinstance(spec, RequestSpecV2):
            self.tolerated = tolerated_of(spec.tolerations)
            self.choices = [
                CompiledRequest(one, self.expressions, tolerated=self.tolerated) for one in spec.choices
            ]
        self._copy: CompiledRequest | None = None
        self._memo: dict[Hashable, Any] = {}

    @property
    def alternatives(self) -> Sequence[CompiledRequest]:
        """The request and its alternatives in order, without what is only preferred."""
        if not self.choices or not isinstance(self.spec, RequestSpecV2):
            return (self,)
        return [self.choices[at] for at in self.spec.alternative_choices]

    def alternative_of(self, candidate: Candidate) -> int:
        """The number of the alternative that a candidate is a place for; 0: the request's own groups."""
        if not self.choices or not isinstance(self.spec, RequestSpecV2):
            return 0
        return bisect_left(self.spec.alternative_choices, candidate.choice)

    @property
    def copy(self) -> CompiledRequest:
        """One copy of it, without server groups."""
        if not self.has_affinity:
            return self
        if self._copy is None:
            spec = self.spec.model_copy(update={"memberships": (), "copies": 1})
            self._copy = CompiledRequest(spec, self.expressions, tolerated=self.tolerated)
        return self._copy

    def remember(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of the request alone, made once. Only few keys should be in use: nothing is thrown away."""
        found: Made | None = self._memo.get(key)
        if found is None:
            found = self._memo[key] = make()
        return found


def expression_of(expressions: Mapping[str, Expression], text: str) -> Expression:
    """The compiled expression of a text. Raises `UsageError` where it was not compiled."""
    found = expressions.get(text)
    if found is None:
        raise UsageError(
            "an expression was not compiled", where=text[:80], do="compile the request, or ask a Scheduler"
        )
    return found
