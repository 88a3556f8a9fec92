"""Which rules are in force at a place in the log, and what they limit. Written from docs/events.md and docs/limits.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vacancy.clients.auditor.classes.class_auditor import Refused

NO_LIMIT: Final = 2**62


@dataclass(frozen=True, slots=True)
class AuditedLimits:
    """The limits of one version of the rules. The defaults are those of versions 1 and 2."""

    record_marks: int = NO_LIMIT
    predicates: int = NO_LIMIT
    memberships: int = NO_LIMIT
    asks: int = NO_LIMIT
    group_providers: int = NO_LIMIT
    released_parts: int = NO_LIMIT
    expiries: int = NO_LIMIT
    consumers_confirmed: int = NO_LIMIT
    provider_classes: int = NO_LIMIT
    provider_attributes: int = NO_LIMIT
    provider_traits: int = NO_LIMIT
    provider_aggregates: int = NO_LIMIT
    tree_members: int = NO_LIMIT
    cell_classes: int = NO_LIMIT
    cell_attributes: int = NO_LIMIT
    cell_traits: int = NO_LIMIT
    withdrawn_at_once: int = NO_LIMIT


UNLIMITED: Final = AuditedLimits()
BOUNDED: Final = AuditedLimits(
    record_marks=262_144,
    predicates=1_024,
    memberships=128,
    asks=2_048,
    group_providers=4_096,
    released_parts=2_048,
    expiries=1_024,
    consumers_confirmed=4_096,
    provider_classes=64,
    provider_attributes=64,
    provider_traits=512,
    provider_aggregates=256,
    tree_members=4_096,
    cell_classes=1_024,
    cell_attributes=4_096,
    cell_traits=8_192,
    withdrawn_at_once=1_024,
)

BOUNDED_SINCE: Final = 3
"""The first version with limits, with steps of activation, and with contested nodes."""

ONLY_BEFORE: Final = {"consumer.replaced"}
ONLY_SINCE: Final = {"consumer.replaced.v2", "rules.proposed", "rules.supported", "rules.withdrawn"}


@dataclass(slots=True)
class Proposal:
    """Rules that an operator proposed, and whether any store supports them."""

    version: int
    classes: frozenset[str]
    supported: bool = False


@dataclass(slots=True)
class RulesInForce:
    """The rules of one partition, as of the records applied so far. Version 0: it is not opened yet."""

    version: int = 0
    plugins: frozenset[str] = frozenset()
    proposals: dict[str, Proposal] = field(default_factory=dict)

    @property
    def bounded(self) -> bool:
        """Whether records have limits."""
        return self.version >= BOUNDED_SINCE

    @property
    def limits(self) -> AuditedLimits:
        """What a record may cost."""
        return BOUNDED if self.bounded else UNLIMITED

    def allows(self, kind: str) -> bool:
        """Whether an event of this kind has a meaning. Without one it is a dead letter."""
        return kind not in (ONLY_BEFORE if self.bounded else ONLY_SINCE)

    def open(self, rules: Mapping[str, Any]) -> None:
        """The rules of the first record."""
        self.version = rules.get("version", 1)
        self.plugins = frozenset(rules.get("classes", ()))

    def propose(self, id_: str, rules: Mapping[str, Any]) -> None:
        """Keep a proposal. Raises `Refused` where it would lower the rules."""
        version, classes = self._raised(rules)
        self.proposals[id_] = Proposal(version, classes)

    def support(self, data: Mapping[str, Any]) -> None:
        """A store supports a proposal, or says what it lacks. Raises `Refused` where there is no such proposal."""
        proposal = self.proposals.get(data["proposal"])
        if proposal is None:
            raise Refused
        proposal.supported |= not data.get("missing")

    def withdraw(self, id_: str) -> None:
        """Close a proposal. Raises `Refused` where there is none."""
        if self.proposals.pop(id_, None) is None:
            raise Refused

    def activate(self, rules: Mapping[str, Any]) -> None:
        """Raise the rules. Raises `Refused` where they would be lowered, or are not proposed and supported."""
        version, classes = self._raised(rules)
        if self.bounded:
            wanted = Proposal(version, classes, supported=True)
            if wanted not in self.proposals.values():
                raise Refused
            self.proposals = {id_: one for id_, one in self.proposals.items() if one != wanted}
        self.version, self.plugins = version, classes

    def _raised(self, rules: Mapping[str, Any]) -> tuple[int, frozenset[str]]:
        version, classes = rules.get("version", 1), frozenset(rules.get("classes", ()))
        if version < self.version or not classes >= self.plugins:
            raise Refused
        return version, classes
