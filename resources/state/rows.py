"""The rows of the tables, one type for each table. Rows are immutable, and every build encodes them to the same bytes.

Rows are msgpack arrays, by msgspec: making a row takes 0.1 us and decoding it 0.4 us, and the fold makes several rows for
each record. `gc=False`: rows contain no cycles, and the garbage collector would walk hundreds of thousands of them
repeatedly. Tuples without a meaningful order are sorted, so that equal states have equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from vacancy.resources.model.attributes import Pairs
from vacancy.resources.model.taints import RowTaint


class PartitionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The partition itself: its log, its rules in force, its log time (`time_ms`).

    `quotas_from` is the offset of the record that raised its rules to some that count for quotas: what was granted before is
    counted only where `vacancy.quota.counted.v1` did it. It is 0 where the log began with such rules, or has none.
    """

    log: str
    partition: int
    partitions: int
    rules_version: int
    classes: tuple[str, ...]
    time_ms: int
    dead_letters: int = 0
    quotas_from: int = 0


class NodeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node, by its root provider. `incarnations` are (incarnation, last sequence), newest first. `heard_ms` is the log
    time of its last event.

    `complete` is False from a gap in the sequence until the next full report. `retired` is True after `node.retired`.
    """

    incarnations: tuple[tuple[str, int], ...]
    heard_ms: int
    complete: bool = True
    retired: bool = False

    @property
    def open(self) -> bool:
        """Whether the node takes new claims. An operator may still have disabled it (see `why_closed`)."""
        return self.complete and not self.retired


UNTIL_DECIDED: Final = 2**53 - 1
"""`ContestedRow.until_ms` of a node that stays closed until an operator decides which machine it is."""


class ContestedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node that events of two writers reached (rules version 3), by its root. An event that came too late and is no
    repetition is a conflict: it is dropped and counted here, and the node is closed.

    `until_ms` is the log time at which the node opens again if no other conflict comes, `UNTIL_DECIDED`, or 0 if it is no
    longer closed for this reason. `since_ms` is the log time of the first conflict since the node was last open. `dropped` counts the
    conflicts since the node was first contested, `dropped_reports` the full reports among them. `offset`, `time_ms`
    (log time) and `reason` are those of the last one, `incarnation` is the one that the node had then, and `other` that of the dropped event.
    """

    until_ms: int
    since_ms: int
    dropped: int
    dropped_reports: int
    offset: int
    time_ms: int
    reason: str
    incarnation: str
    other: str


class NodeWatchRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What rules version 3 keeps of a node besides its `NodeRow`, by its root. There is a row only if it says something.

    `gaps` are the sequence numbers that events jumped over, by incarnation: (incarnation, ((first, last), ...)).
    `complete` is whether the node would be complete if neither `contested_until_ms` (log time, 0: not contested) nor
    `withdrawing` (part of its tree is still being withdrawn) closed it.
    """

    gaps: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()
    complete: bool = True
    contested_until_ms: int = 0
    withdrawing: bool = False

    @property
    def closes(self) -> bool:
        """Whether this closes the node."""
        return self.withdrawing or self.contested_until_ms > 0


class MachineRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which machine a node is (rules version 4), by its root. There is a row only if it says something.

    `machine` is "" if it is not known. `other` is another machine that reports under the same name, until an operator
    decides ("": none). `refused` are machines that an operator decided not to be the node, the newest first. `waiting`: the
    node has not reported since its machine changed by a decision; with `machine` = "", its machine became another node.
    `strangers` are incarnations whose reports were dropped: their other events are dropped too.
    """

    machine: str = ""
    other: str = ""
    refused: tuple[str, ...] = ()
    waiting: bool = False
    strangers: tuple[str, ...] = ()


class NodeRunningRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node runs, by its root (rules version 5). `incarnations` are (incarnation, last sequence) of what reports it, the
    newest first. `heard_ms` is the log time of the last list, `offset` its place.

    `consumers` are (consumer, log time since when), sorted by consumer. `left` are those that it ran before, with the time of
    the first list without them, the newest first.
    """

    incarnations: tuple[tuple[str, int], ...]
    heard_ms: int
    offset: int
    consumers: tuple[tuple[str, int], ...]
    left: tuple[tuple[str, int], ...] = ()


class MachineNodesRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The nodes of a cell that one machine is, by the machine. More than one: they are closed until an operator decides."""

    roots: tuple[str, ...]


class WithdrawalRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is still to be withdrawn of a tree, by its root (rules version 3). `at_ms` is its deadline.

    `providers` are whole providers, `classes` are some classes of a provider. Each has the offset of the event that
    withdrew it.
    """

    at_ms: int
    providers: tuple[tuple[str, int], ...]
    classes: tuple[tuple[str, int, tuple[str, ...]], ...]


class ProviderRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One resource provider. `members` (only of a root) are all providers of its tree, the root first.

    `reported` is False when the node no longer reports the provider. It then stays, without capacity, until its last
    allocation is released. `changed` is the offset of the event that last changed its traits, its operator settings or its
    set of classes (see `Transaction.generation`).
    """

    root: str
    parent: str | None
    reported_traits: tuple[str, ...]
    classes: tuple[str, ...]
    changed: int
    reported: bool = True
    operator_traits: tuple[str, ...] = ()
    aggregates: tuple[str, ...] = ()
    disabled: bool = False
    members: tuple[str, ...] = ()
    reported_attributes: Pairs = ()
    operator_attributes: Pairs = ()
    taints: tuple[RowTaint, ...] = ()
    """Of rules version 4: the last field, which is left out where it is empty (`tables.GrownTable`)."""

    @property
    def open(self) -> bool:
        """Whether the provider itself takes new claims. Its node may still be closed (see `why_closed`)."""
        return self.reported and not self.disabled

    @property
    def attributes(self) -> dict[str, str | int | bool]:
        """Reported attributes and those of the operator. The operator's value replaces a reported one."""
        return {**dict(self.reported_attributes), **dict(self.operator_attributes)}

    @property
    def traits(self) -> frozenset[str]:
        """Reported traits and those of the operator."""
        return frozenset(self.reported_traits) | frozenset(self.operator_traits)


class Closed(NamedTuple):
    """Why a provider takes no new claims. `by` is the row with the cause: that of the provider or of its root."""

    reason: Literal["retired", "unreported", "incomplete", "disabled"]
    by: ProviderRow


def why_closed(node: NodeRow | None, provider: ProviderRow, root: ProviderRow | None) -> Closed | None:
    """Why a provider takes no new claims, or None if it does. `root` is the row of its tree's root; for a root, the same
    row as `provider`. Columnar readers compute the same from `open` of the three rows (see `FleetView`)."""
    if node is None or node.retired:
        return Closed("retired", provider)
    if not provider.reported:
        return Closed("unreported", provider)
    if not node.complete:
        return Closed("incomplete", provider)
    if provider.disabled or root is None:
        return Closed("disabled", provider)
    return Closed("disabled", root) if root.disabled else None


class ProviderDetailsRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What transactions see of a provider besides its `ProviderRow` (rules version 6). Without a row: generation 0, no times.

    `generation` counts the changes of the provider (see `fold.transactions.generations`), `offset` is the record of the last
    one and `changed_ms` its log time. `name` is '' where its id is its name. `made`: a transaction created it, and no node has
    reported it since.
    """

    generation: int = 0
    offset: int = -1
    changed_ms: int = 0
    name: str = ""
    created_ms: int = 0
    made: bool = False


class SigningKey(NamedTuple):
    """A public Ed25519 key (32 bytes) and the number of the last event that it signed, 0 for none. `running` is that of the last
    list of what the node runs, which another process may send."""

    public: bytes
    last: int = 0
    running: int = 0


class SigningRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who signs in a partition (rules version 7). `operators` are the keys of operators, sorted. `required` are pairs of patterns, of
    cells and of nodes: such nodes must sign. `revoked` are the ids of keys that are not used any more, newest first. `offset` is
    the record that set this, `events` the ids of the events that set the last revisions, newest first."""

    revision: int
    operators: tuple[SigningKey, ...]
    required: tuple[tuple[str, str], ...]
    revoked: tuple[str, ...]
    offset: int
    events: tuple[str, ...] = ()


class NodeKeysRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The keys of a node, by its root (rules version 7). As `SigningRow`."""

    revision: int
    keys: tuple[SigningKey, ...]
    revoked: tuple[str, ...]
    offset: int
    events: tuple[str, ...] = ()


class CustomNameRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A custom resource class or trait that a transaction created: at which offset, and the log time of it."""

    offset: int
    created_ms: int


class OperatorSettingsRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The operator settings of a provider. `events` are the ids of the events that set the last revisions, newest
    first. `overrides` is JSON by class."""

    revision: int
    events: tuple[str, ...]
    status: str
    reason: str
    aggregates: tuple[str, ...]
    traits: tuple[str, ...]
    overrides: dict[str, dict[str, Any]]
    attributes: Pairs = ()
    taints: tuple[RowTaint, ...] = ()
    """Of rules version 4: the last field, which is left out where it is empty (`tables.GrownTable`)."""


class ClassRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A provider's record of one class. `taken` is the offset of the last event that took from it (-1: none), `changed`
    that of the last event that changed its inventory. If the class is no longer `reported`, the row is deleted together
    with its last allocation."""

    record: Any
    taken: int
    changed: int
    reported: bool = True


class AllocationPart(NamedTuple):
    """The resources of one class that one provider gives to a consumer. `grant` is the result of the class."""

    provider: str
    resource_class: str
    group: str
    grant: Any


def granted_by_name(parts: Iterable[AllocationPart]) -> tuple[AllocationPart, ...]:
    """The parts that are particular units, such as devices. Of all classes a plain amount is an int
    (`ResourceClass.is_amount`)."""
    return tuple(part for part in parts if type(part.grant) is not int)


class ServerGroupMember(NamedTuple):
    """A consumer in a server group. `places` has, for each of its copies, the providers from which it has resources,
    without sharing providers. The roots of these providers are its nodes. `offset` is that of its claim."""

    consumer: str
    offset: int
    places: tuple[tuple[str, ...], ...]


class ServerGroupRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A server group: its rule (see `AffinityRule`) and its members, the newest last."""

    policy: str
    hard: bool
    max_per_node: int
    scope: str | None
    members: tuple[ServerGroupMember, ...]


class DomainRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A domain of a cell (rules version 4): an aggregate in which `nodes` nodes take new claims, at least one. `slot` is its
    place in the list of the domains of its kind."""

    nodes: int
    slot: int


class DomainNodeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node was counted for (rules version 4), by its root: whether the node was open, and the domains in which it
    takes new claims."""

    open: bool
    domains: tuple[str, ...]


class AllocationRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a consumer holds, and by which claim. `hold_until_ms` is 0 unless it is an unconfirmed hold; `groups`
    are the names of the server groups that it is in."""

    claim: str
    generation: int
    consumer_type: str
    project: str
    user: str
    request: str | None
    parts: tuple[AllocationPart, ...]
    offset: int
    hold_until_ms: int = 0
    groups: tuple[str, ...] = ()


class VerdictRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a claim was judged. `offset` is the claim's record (-1: cancelled before it came).

    A rejection names what failed: `reason`, provider, class, asked, available, and `taken`, the offset of the
    event that took the last of it (-1: nothing did). Where a server group's rule conflicts, `group` is its id and
    `other` the member (the claim's own consumer, where its copies get in each other's way). An acceptance has the
    `grants` that are not amounts: which devices, which CPUs. They stay readable here after a release.
    """

    accepted: bool
    reason: str
    offset: int
    deadline_ms: int
    fingerprint: bytes
    consumer: str = ""
    provider: str = ""
    resource_class: str = ""
    asked: int = 0
    available: int = 0
    taken: int = -1
    group: str = ""
    other: str = ""
    grants: tuple[AllocationPart, ...] = ()


UNLIMITED: Final = -1
"""The amount of a share or a limit that limits nothing."""


class QuotaShare(NamedTuple):
    """How much of a unit the consumers of a scope may hold in this partition; `consumer_type` is '' for those of all types.
    `number` is that of the change that set it."""

    consumer_type: str
    unit: str
    amount: int
    number: int


class QuotaRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the consumers of a project hold in this partition, or those of a user in a project, and what they may hold.

    `used` is (consumer type, unit, amount), sorted; of a project with `children`, theirs too, and `below` is theirs alone.
    `parent` is the project above.
    The row of the project '' has the limits of projects that have none of their own (see `fold.claims.quotas`).
    """

    used: tuple[tuple[str, str, int], ...] = ()
    shares: tuple[QuotaShare, ...] = ()
    parent: str = ""
    parent_revision: int = 0
    children: int = 0
    below: tuple[tuple[str, str, int], ...] = ()


class LedgerShare(NamedTuple):
    """A partition's share of a limit, as its ledger has it: never less than what the partition has. `recalled` is the
    amount to which the partition is to lower it, or -1 if nothing is recalled. Without an entry, a partition has no limit."""

    partition: int
    number: int
    amount: int
    recalled: int = -1


class QuotaLimitRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The ledger of one limit over all partitions. `events` are the ids of the events that set the last revisions, newest
    first. `by_default` is whether the limit is the default of projects or users without one of their own."""

    project: str
    user: str | None
    consumer_type: str
    unit: str
    limit: int
    revision: int
    events: tuple[str, ...]
    by_default: bool = False
    shares: tuple[LedgerShare, ...] = ()


class QuotaParentRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The project above a project ('': none), as the ledger of parents has it, and how many projects are below it. `events`
    are the ids of the events that set the last revisions, newest first."""

    parent: str = ""
    revision: int = 0
    events: tuple[str, ...] = ()
    children: int = 0


class CellMoveRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A move of a consumer between two cells, by its id (see `fold.claims.cell_moves`). `outcome` is '' while it is open.

    `claim` is what the consumer holds in the cell `source`. In the cell `destination` it is claimed with the id of the move;
    `deadline_ms` and `hold_until_ms` are of that claim. `begun_ms` is log time of the move's own partition.
    """

    consumer: str
    source: str
    claim: str
    destination: str
    deadline_ms: int
    hold_until_ms: int
    begun_ms: int
    waits: bool = False
    outcome: str = ""


class RequestRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A RequestSpec and its outcome ('' while it is open)."""

    spec: bytes
    received_ms: int
    outcome: str = ""
    claim: str | None = None
    cell: str | None = None
    as_of: dict[str, int] = {}
    in_flight: tuple[str, ...] = ()
    reason: str = ""


class DeadLetterRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record that was refused, kept for a person to see. `value` is cut at `DEAD_LETTER_BYTES`."""

    offset: int
    timestamp_ms: int
    reason: str
    key: bytes
    value: bytes
    size: int


class Proposal(NamedTuple):
    """An open proposal to raise the rules. `id` is that of its event, `offset` its record; it ends at log time `ends_ms`.
    `supporting` and `lacking` count the stores that have answered."""

    id: str
    version: int
    classes: tuple[str, ...]
    offset: int
    ends_ms: int
    supporting: int = 0
    lacking: int = 0


class ProposalsRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The open proposals of a partition, the oldest first."""

    open: tuple[Proposal, ...] = ()


class ProposalAnswerRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest answer of a store to a proposal. `missing` is empty where the store's build supports the rules."""

    proposal: str
    store: str
    host: str
    missing: tuple[str, ...]
    offset: int
    ends_ms: int
