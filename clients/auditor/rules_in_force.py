"""Which rules are in force at a place in the log, and what they limit. Written from docs/events.md and docs/limits.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.deadlines import Deadlines

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
    counted_parts: int = NO_LIMIT
    group_weight: int = 0
    expiries: int = NO_LIMIT
    inventory_items: int = NO_LIMIT
    consumers_confirmed: int = NO_LIMIT
    provider_classes: int = NO_LIMIT
    provider_attributes: int = NO_LIMIT
    provider_traits: int = NO_LIMIT
    provider_aggregates: int = NO_LIMIT
    tree_members: int = NO_LIMIT
    cell_classes: int = NO_LIMIT
    cell_attributes: int = NO_LIMIT
    cell_traits: int = NO_LIMIT
    changed_names: int = NO_LIMIT
    withdrawn_at_once: int = NO_LIMIT
    proposals: int = NO_LIMIT
    proposal_classes: int = NO_LIMIT
    proposal_answers: int = NO_LIMIT


UNLIMITED: Final = AuditedLimits()
BOUNDED: Final = AuditedLimits(
    record_marks=262_144,
    predicates=1_024,
    memberships=128,
    asks=2_048,
    group_providers=4_096,
    released_parts=2_048,
    expiries=1_024,
    inventory_items=512,
    consumers_confirmed=4_096,
    provider_classes=64,
    provider_attributes=64,
    provider_traits=512,
    provider_aggregates=256,
    tree_members=4_096,
    cell_classes=1_024,
    cell_attributes=4_096,
    cell_traits=8_192,
    changed_names=16_384,
    withdrawn_at_once=512,
    proposals=8,
    proposal_classes=64,
    proposal_answers=1_024,
)

IDENTIFIED: Final = replace(BOUNDED, group_weight=16, counted_parts=2_048)

BOUNDED_SINCE: Final = 3
"""The first version with limits, with steps of activation, and with contested nodes."""

RELEASED_MAX: Final = 1_000_000
"""No log is raised to a version with a larger number."""

IDENTIFIED_SINCE: Final = 4
"""The first version whose reports name machines, and whose retirements are of an incarnation."""

EXCLUDING_SINCE: Final = 4
"""The first version in which operators exclude single devices."""

MACHINE_NAMES: Final = 8
"""Nodes of a cell that one machine may report as."""

PROVIDER_TAINTS: Final = 16
"""Taints of one provider."""

RENAMED: Final = 2_560
"""What one event may rename."""

ONLY_IDENTIFIED: Final = {
    "node.reported.v2",
    "node.retired.v2",
    "node.adopted",
    "node.renamed",
    "facts.set.v2",
    "requests.received.v2",
    "claims.requested.v2",
    "consumer.replaced.v3",
    "consumer.updated",
    "gang.requested",
    "node.counted",
    "quota.limit.set",
    "quota.share.planned",
    "quota.share.set",
    "quota.share.settled",
    "quota.parent.planned",
    "quota.parent.set",
    "quota.counted",
    "cell.move.begun",
    "cell.move.withdrawn",
    "cell.move.ended",
}
SAYING_SINCE: Final = 5
"""The first version in which stores say their checksums, and nodes what they run."""

ONLY_SAYING: Final = {"state.marked", "state.digested", "node.running"}
TRANSACTIONS_SINCE: Final = 6
"""The first version with transactions, and with generations of providers that count changes."""

ONLY_TRANSACTIONS: Final = {"transaction.requested"}
SIGNED_SINCE: Final = 7
"""The first version in which nodes sign where operators require it."""

ONLY_SIGNED: Final = {"signing.policy.set", "signing.keys.set"}
ONLY_BEFORE: Final = {"consumer.replaced"}
ONLY_SINCE: Final = {"consumer.replaced.v2", "rules.proposed", "rules.supported", "rules.withdrawn"}


PROPOSAL_MS: Final = 24 * 3_600_000
ANSWER, PROPOSAL = b"A", b"P"
"""The kinds of deadlines of answers and of proposals."""


class AuditedRules(NamedTuple):
    """A version, and the classes of plugins that are allowed."""

    version: int
    classes: frozenset[str]

    def raises(self, other: AuditedRules) -> bool:
        """Whether these rules have all that other rules have."""
        return self.version >= other.version and self.classes >= other.classes


@dataclass(slots=True)
class Proposal:
    """Rules that an operator proposed in a record at `offset`. `answers`: store -> whether it supports them."""

    id: str
    rules: AuditedRules
    offset: int
    ends_ms: int
    answers: dict[str, bool] = field(default_factory=dict)

    @property
    def subject(self) -> bytes:
        """The subject of its deadline, and the beginning of those of its answers."""
        return self.offset.to_bytes(8, "big")


class RulesInForce:
    """The rules of one partition, as of the records applied so far. Version 0: it is not opened yet."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.now = AuditedRules(0, frozenset())
        self.proposals: list[Proposal] = []
        self._deadlines = deadlines

    @property
    def bounded(self) -> bool:
        """Whether records have limits."""
        return self.now.version >= BOUNDED_SINCE

    @property
    def identified(self) -> bool:
        """Whether reports name machines."""
        return self.now.version >= IDENTIFIED_SINCE

    @property
    def excluding(self) -> bool:
        """Whether operators may exclude single devices."""
        return self.now.version >= EXCLUDING_SINCE

    @property
    def has_transactions(self) -> bool:
        """Whether there are transactions."""
        return self.now.version >= TRANSACTIONS_SINCE

    @property
    def are_signed(self) -> bool:
        """Whether signatures are checked."""
        return self.now.version >= SIGNED_SINCE

    @property
    def limits(self) -> AuditedLimits:
        """What a record may cost."""
        if self.identified:
            return IDENTIFIED
        return BOUNDED if self.bounded else UNLIMITED

    def allows(self, kind: str) -> bool:
        """Whether an event of this kind has a meaning. Without one it is a dead letter."""
        if kind in ONLY_IDENTIFIED:
            return self.identified
        if kind in ONLY_SAYING:
            return self.now.version >= SAYING_SINCE
        if kind in ONLY_TRANSACTIONS:
            return self.has_transactions
        if kind in ONLY_SIGNED:
            return self.are_signed
        return kind not in (ONLY_BEFORE if self.bounded else ONLY_SINCE)

    def open(self, data: Mapping[str, Any]) -> None:
        """The rules of the first record."""
        self.now = _read(data)

    def propose(self, id_: str, data: Mapping[str, Any], *, offset: int, time_ms: int) -> None:
        """Open a proposal. Raises `Refused` where it lowers the rules, names one that was never released, is too large or one too many,
        or where its id has another proposal."""
        rules = _read(data)
        if rules.version > max(RELEASED_MAX, self.now.version):
            raise Refused
        if not rules.raises(self.now) or len(rules.classes) > self.limits.proposal_classes:
            raise Refused
        if any(one.id == id_ and one.rules != rules for one in self.proposals):
            raise Refused
        if rules == self.now or any(one.rules == rules for one in self.proposals):
            return
        if len(self.proposals) >= self.limits.proposals:
            raise Refused
        proposal = Proposal(id_, rules, offset, time_ms + PROPOSAL_MS)
        self.proposals.append(proposal)
        self._deadlines.set(proposal.ends_ms, PROPOSAL, proposal.subject)

    def answer(self, data: Mapping[str, Any]) -> None:
        """The answer of a store; its last one to a proposal counts. Raises `Refused` where there are too many stores."""
        for proposal in self.proposals:
            if proposal.id == data["proposal"]:
                store = data["store"]
                if store not in proposal.answers:
                    if len(proposal.answers) >= self.limits.proposal_answers:
                        raise Refused
                    self._deadlines.set(proposal.ends_ms, ANSWER, proposal.subject + store.encode())
                proposal.answers[store] = not data.get("missing")

    def withdraw(self, id_: str) -> None:
        """Close a proposal. Raises `Refused` where it is not open."""
        if not any(one.id == id_ for one in self.proposals):
            raise Refused
        self._close(lambda one: one.id == id_)

    def end_proposal(self, subject: bytes) -> None:
        """Close a proposal whose time is over."""
        self.proposals = [one for one in self.proposals if one.subject != subject]

    def activate(self, data: Mapping[str, Any]) -> None:
        """Raise the rules. Raises `Refused` where that lowers them, or where a store must support them first."""
        rules = _read(data)
        if not rules.raises(self.now):
            raise Refused
        if self.bounded and not any(
            one.rules == rules and any(one.answers.values()) for one in self.proposals
        ):
            raise Refused
        self.now = rules
        self._close(lambda one: one.rules == rules or not one.rules.raises(rules))

    def _close(self, which: Callable[[Proposal], bool]) -> None:
        for one in filter(which, self.proposals):
            self._deadlines.clear(one.ends_ms, PROPOSAL, one.subject)
        self.proposals = [one for one in self.proposals if not which(one)]


def _read(data: Mapping[str, Any]) -> AuditedRules:
    return AuditedRules(data.get("version", 1), frozenset(data.get("classes", ())))
