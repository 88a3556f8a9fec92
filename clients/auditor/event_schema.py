"""The schema of the events, as the auditor reads them: a record's event, or None where it is a dead letter.

The auditor shares no code with the fold and its models. JSON is read by the standard library, and its shape is checked
by the msgspec structs below, so that an error in one is not an error in both. The structs only check: the auditor
works on the JSON itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import Meta, Struct, convert, field

from vacancy.resources.model.record import Record

INTEGER_MAX: Final = 2**53 - 1
VALUE_BYTES_MAX: Final = 8 * 1024 * 1024
ALLOCATIONS_MAX: Final = 256


class ReadEvent(NamedTuple):
    """One event: `kind` is its type without prefix, and without `.v1` (`node.reported`), `data` its payload."""

    kind: str
    id: str
    data: dict[str, Any]


def read(record: Record) -> ReadEvent | None:
    """The record's event, or None where it is malformed or of an unknown type."""
    if len(record.value) > VALUE_BYTES_MAX:
        return None
    try:
        text = record.value.decode()  # `loads` itself would accept other encodings, and a byte order mark
        body = json.loads(text)
        if "\\u" in text:
            json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        convert(body, _Event)
    except (ValueError, TypeError, RecursionError):
        return None
    kind = body["type"].removeprefix(_PREFIX).removesuffix(_VERSION)
    data = body.get("data", {})
    if "specs" in data:
        _unshare(data)
    return ReadEvent(kind, body["id"], data)


def _unshare(data: dict[str, Any]) -> None:
    """Give each claim or request of a record its own spec."""
    for one in (*data.get("claims", ()), *data.get("requests", ())):
        if one.get("spec_at") is not None:
            one["spec"] = data["specs"][one["spec_at"]]


def mentions(record: Record, words: Set[bytes]) -> bool:
    """Whether any string of a record may be one of `words`: a fast filter before `read`, which is exact."""
    return b"\\" in record.value or not words.isdisjoint(_STRING.findall(record.value))


def is_cell(key: bytes) -> bool:
    """Whether a record's key may name a cell."""
    return key.isascii() and _CELL.fullmatch(key.decode("ascii")) is not None


@lru_cache(maxsize=65536)
def home(key: bytes, partitions: int) -> int:
    """The partition that a key belongs to: Kafka's murmur2, modulo the number of partitions."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    body, tail = key[: len(key) // 4 * 4], key[len(key) // 4 * 4 :]
    for i in range(0, len(body), 4):
        k = int.from_bytes(body[i : i + 4], "little") * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


# -- values -----------------------------------------------------------------------------------------------

Id = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:/@+=~-]{1,200}\Z")]
Symbol = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9_]{0,254}\Z")]
GroupName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,64}\Z")]
ServerGroupId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:/@+=~-]{1,200}/[A-Za-z0-9._@+=~-]{1,100}\Z")]
AttributeName = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_.-]{0,63}\Z")]
Partition = Annotated[str, Meta(pattern=r"\A[0-9]{1,9}\Z")]
Amount = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Count = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Text = Annotated[str, Meta(max_length=1024)]
ShortText = Annotated[str, Meta(max_length=64)]
AttributeValue = (
    bool | Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)] | Annotated[str, Meta(max_length=255)]
)
Attributes = Annotated[dict[AttributeName, AttributeValue], Meta(max_length=256)]
Object = dict[str, Any]
Asks = dict[Symbol, int | Object]
"""Class -> ask. What an object means is left to the class."""

AsOf = dict[Partition, Amount]
"""Partition -> next offset."""

_STRING = re.compile(rb'"([^"]*)"')
_CELL = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,200}")


class _Strict(Struct, forbid_unknown_fields=True):
    """A part of an event's data. Unknown fields are refused."""


# -- requests ---------------------------------------------------------------------------------------------


class Membership(_Strict):
    group: ServerGroupId
    policy: Literal["affinity", "anti-affinity"]
    hard: bool = True
    max_per_node: Annotated[int, Meta(ge=1, le=1024)] = 1
    scope: Id | None = None

    def __post_init__(self) -> None:
        _check(self.policy != "affinity" or self.max_per_node == 1)


class MembershipV2(_Strict):
    group: ServerGroupId
    policy: Literal["affinity", "anti-affinity", "spread"]
    hard: bool = True
    max_per_node: Annotated[int, Meta(ge=1, le=1024)] = 1
    scope: Id | None = None
    max_skew: Annotated[int, Meta(ge=1, le=1024)] | None = None

    def __post_init__(self) -> None:
        _check(self.policy == "anti-affinity" or self.max_per_node == 1)
        if self.policy == "spread":
            kind = self.scope or "none"
            _check(not kind[-1].isalnum() and (kind[:-1].isalnum() or kind[:-1] == ""))
        else:
            _check(self.max_skew is None)


Memberships = Annotated[list[Membership], Meta(max_length=16)]
MembershipsV2 = Annotated[list[MembershipV2], Meta(max_length=16)]


class RequestGroup(_Strict):
    resources: Asks = {}
    name: GroupName = ""
    same_provider: bool = True
    required: list[Symbol] = []
    forbidden: list[Symbol] = []
    any_traits: list[list[Symbol]] = []
    member_of: list[list[Id]] = []
    not_member_of: list[Id] = []
    in_tree: Id | None = None
    where: Annotated[str, Meta(max_length=4096)] = ""


class Spec(_Strict):
    groups: Annotated[list[RequestGroup], Meta(min_length=1, max_length=64)]
    group_policy: Literal["none", "isolate"] = "none"
    memberships: Memberships = []
    copies: Annotated[int, Meta(ge=1, le=64)] = 1
    copies_on: Literal["any", "distinct"] = "any"
    root_required: list[Symbol] = []
    root_forbidden: list[Symbol] = []
    same_subtree: Annotated[list[list[GroupName]], Meta(max_length=64)] = []

    def __post_init__(self) -> None:
        """Check that what the groups and memberships ask for is possible together."""
        groups = {group.name: group for group in self.groups}
        _check(len(groups) == len(self.groups))
        allocations = sum(
            bool(group.resources) if group.same_provider else len(group.resources) for group in self.groups
        )
        _check(0 < allocations * self.copies <= ALLOCATIONS_MAX)
        _check(all(group.same_provider or group.resources for group in self.groups))
        for names in self.same_subtree:
            _check(bool(names) and all(name in groups and groups[name].same_provider for name in names))
        server_groups = {one.group for one in self.memberships}
        _check(len(server_groups) == len(self.memberships))
        _check(len({group.rpartition("/")[0] for group in server_groups}) <= 1)
        if self.copies > 1 and self.copies_on == "distinct":
            on_one_node = [
                one.policy == "affinity" and one.hard and one.scope is None for one in self.memberships
            ]
            _check(not any(on_one_node))


TaintKey = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,127}\Z")]
TaintValue = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:/@+-]{0,128}\Z")]


class Toleration(_Strict):
    key: TaintKey
    value: TaintValue | None = None


Tolerations = Annotated[list[Toleration], Meta(max_length=32)]


class ChosenSpec(Spec):
    memberships: MembershipsV2 = []  # type: ignore[assignment]


class SpecV2(Spec):
    memberships: MembershipsV2 = []  # type: ignore[assignment]
    alternatives: Annotated[list[Spec], Meta(max_length=8)] = []
    prefer_same_subtree: Annotated[list[list[GroupName]], Meta(max_length=3)] = []
    tolerations: Tolerations = []

    def __post_init__(self) -> None:
        """Check that the alternatives are whole requests, and that preferences are about groups of one of them."""
        super().__post_init__()
        known = []
        for one in (self, *self.alternatives):
            known.append({group.name for group in one.groups if group.same_provider})
            if one is not self:
                _check(one.copies == 1 and not one.memberships)
                allocations = sum(
                    bool(group.resources) if group.same_provider else len(group.resources)
                    for group in one.groups
                )
                _check(allocations * self.copies <= ALLOCATIONS_MAX)
        for names in map(set, self.prefer_same_subtree):
            _check(len(names) > 1 and any(names <= one for one in known))


class ReceivedRequest(_Strict):
    id: Id
    spec: Spec


Place = Annotated[int, Meta(ge=0, lt=64)]


class ReceivedRequestV2(_Strict):
    id: Id
    spec_at: Place


class RequestsReceived(_Strict):
    requests: Annotated[list[ReceivedRequest], Meta(min_length=1, max_length=64)]


class RequestsReceivedV2(_Strict):
    specs: Annotated[list[SpecV2], Meta(min_length=1, max_length=64)]
    requests: Annotated[list[ReceivedRequestV2], Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        """Check that each request has a spec."""
        _check(all(one.spec_at < len(self.specs) for one in self.requests))


class ClosedRequest(_Strict):
    id: Id
    outcome: Literal["placed", "no_valid_host", "failed", "unknown"]
    claim: Id | None = None
    cell: Id | None = None
    as_of: AsOf = {}
    in_flight: list[Id] = []
    heard_since_ms: Amount | None = None
    reason: Text = ""


class RequestsClosed(_Strict):
    requests: Annotated[list[ClosedRequest], Meta(min_length=1, max_length=64)]


# -- claims and consumers ---------------------------------------------------------------------------------


class _NamePredicate(_Strict, tag_field="kind"):
    provider: Id
    value: Annotated[str, Meta(max_length=255)] | Amount
    negate: bool = False


class TraitPredicate(_NamePredicate, tag="trait"):
    pass


class AggregatePredicate(_NamePredicate, tag="aggregate"):
    pass


class SubtreePredicate(_NamePredicate, tag="subtree"):
    pass


class GenerationPredicate(_NamePredicate, tag="generation"):
    pass


class AttributePredicate(_Strict, tag_field="kind", tag="attribute"):
    provider: Id
    name: AttributeName
    operator: Literal["==", "!=", "<", "<=", ">", ">=", "has", "lacks"] = "=="
    value: AttributeValue | None = None
    version: bool = False


Predicate = TraitPredicate | AggregatePredicate | SubtreePredicate | GenerationPredicate | AttributePredicate


class Allocation(_Strict):
    provider: Id
    resources: Annotated[Asks, Meta(min_length=1)]
    group: Annotated[str, Meta(max_length=80)] = ""


class Decided(_Strict):
    as_of: AsOf = {}
    seed: int = 0
    policy: ShortText = ""


class Claim(_Strict):
    id: Id
    consumer: Id
    allocations: Annotated[list[Allocation], Meta(min_length=1, max_length=ALLOCATIONS_MAX)]
    deadline_ms: Amount
    consumer_generation: Amount | None = None
    consumer_type: ShortText = ""
    project: Id = ""
    user: Id = ""
    request: Id | None = None
    spec: Spec | None = None
    predicates: Annotated[list[Predicate], Meta(max_length=1024)] = []
    memberships: Memberships = []
    hold_until_ms: Amount | None = None
    decided: Decided = field(default_factory=Decided)


class ClaimV2(Claim, kw_only=True):
    spec: ChosenSpec | None = None
    memberships: MembershipsV2 = []  # type: ignore[assignment]
    tolerations: Tolerations = []


class Replacement(Claim, kw_only=True):
    replaces: Id


class ReplacementV3(ClaimV2, kw_only=True):
    replaces: Id
    leaves: Annotated[list[ServerGroupId], Meta(max_length=16)] = []


class ConsumerUpdate(_Strict):
    consumer: Id
    claim: Id
    project: Id | None = None
    user: Id | None = None
    consumer_type: ShortText | None = None


class ClaimsRequested(_Strict):
    claims: Annotated[list[Claim], Meta(min_length=1, max_length=64)]


class ListedClaim(ClaimV2, kw_only=True):
    spec_at: Place | None = None


class ClaimsRequestedV2(_Strict):
    claims: Annotated[list[ListedClaim], Meta(min_length=1, max_length=64)]
    specs: Annotated[list[ChosenSpec], Meta(max_length=64)] = []
    decided: Decided = field(default_factory=Decided)

    def __post_init__(self) -> None:
        """Check that each place is one of a spec."""
        _check(all(one.spec_at is None or one.spec_at < len(self.specs) for one in self.claims))


class GangRequested(_Strict):
    claims: Annotated[list[ClaimV2], Meta(min_length=2, max_length=64)]

    def __post_init__(self) -> None:
        """Check that the claims are of different consumers, and have one deadline."""
        _check(len({claim.id for claim in self.claims}) == len(self.claims))
        _check(len({claim.consumer for claim in self.claims}) == len(self.claims))
        _check(len({claim.deadline_ms for claim in self.claims}) == 1)


class ConsumerConfirmed(_Strict):
    consumer: Id
    claim: Id


class Release(_Strict):
    consumer: Id
    claim: Id
    deadline_ms: Amount | None = None


class ConsumersReleased(_Strict):
    releases: Annotated[list[Release], Meta(min_length=1, max_length=64)]


# -- nodes and operators ----------------------------------------------------------------------------------


class Provider(_Strict):
    id: Id
    parent: Id | None = None
    inventories: dict[Symbol, Object] = {}
    traits: list[Symbol] = []
    attributes: Attributes = {}


class NodeEvent(_Strict):
    root: Id
    incarnation: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    sequence: Count


class NodeReported(NodeEvent, kw_only=True):
    providers: Annotated[list[Provider], Meta(min_length=1, max_length=4096)]
    consumers: list[Id] | None = None


class NodeRunning(NodeEvent, kw_only=True):
    consumers: Annotated[list[Id], Meta(max_length=4096)]


MachineName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")]


class IdentifiedReport(NodeReported, kw_only=True):
    machine: MachineName | None = None


class Retirement(_Strict):
    root: Id
    incarnation: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    sequence: Count | None = None


class Adoption(_Strict):
    root: Id
    machine: MachineName
    cell: Id | None = None


class NodeCounted(_Strict):
    root: Id


class Renaming(_Strict):
    root: Id
    to: Id
    providers: Annotated[dict[Id, Id], Meta(min_length=1, max_length=4096)]
    consumers: Annotated[list[Id], Meta(max_length=1024)] = []


class NodeChanged(NodeEvent, kw_only=True):
    providers: Annotated[list[Provider], Meta(max_length=4096)] = []
    removed: Annotated[list[Id], Meta(max_length=4096)] = []


class Settings(_Strict):
    status: Literal["enabled", "disabled", "draining"] = "enabled"
    reason: Text = ""
    aggregates: list[Id] = []
    traits: list[Symbol] = []
    overrides: dict[Symbol, Object] = {}
    attributes: Attributes = {}


class Taint(_Strict):
    key: TaintKey
    value: TaintValue = ""
    effect: Literal["no_schedule", "prefer_no_schedule"] = "no_schedule"


class SettingsV2(Settings):
    taints: list[Taint] = []

    def __post_init__(self) -> None:
        """Check that there is one taint of a key."""
        _check(len({one.key for one in self.taints}) == len(self.taints))


class FactsSet(_Strict):
    provider: Id
    revision: Count
    facts: Settings


class FactsSetV2(_Strict):
    provider: Id
    revision: Count
    facts: SettingsV2


# -- the log ----------------------------------------------------------------------------------------------


class Rules(_Strict):
    version: Annotated[int, Meta(ge=1, le=2**31)] = 1
    classes: list[Symbol] = []


class LogOpened(_Strict):
    log: Id
    partition: Annotated[int, Meta(ge=0)]
    partitions: Annotated[int, Meta(ge=1)]
    rules: Rules = field(default_factory=Rules)


class RulesSupported(_Strict):
    proposal: Id
    store: Id
    host: Annotated[str, Meta(max_length=255)] = ""
    missing: Annotated[list[Annotated[str, Meta(min_length=1, max_length=320)]], Meta(max_length=16)] = []


class RulesWithdrawn(_Strict):
    proposal: Id


class Tick(_Strict):
    pass


class StateMarked(_Strict):
    store: Id
    host: Annotated[str, Meta(max_length=255)] = ""


class StateDigested(_Strict):
    store: Id
    position: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    digest: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    host: Annotated[str, Meta(max_length=255)] = ""
    build: Annotated[str, Meta(max_length=64)] = ""


# -- quotas -----------------------------------------------------------------------------------------------

QuotaName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:/@+=~-]{0,200}\Z")]
QuotaAmount = Annotated[int, Meta(ge=-1, le=INTEGER_MAX)]


class QuotaScope(_Strict):
    project: QuotaName
    unit: Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9_]{0,254}(\.[a-z][a-z0-9_]{0,63})?\Z")]
    user: QuotaName | None = None
    consumer_type: Annotated[str, Meta(max_length=64, pattern=r"\A[^\x00]*\Z")] = ""


class QuotaLimit(QuotaScope, kw_only=True):
    limit: QuotaAmount
    revision: Count
    by_default: bool = False


class QuotaShare(QuotaScope, kw_only=True):
    number: Count
    amount: QuotaAmount


class QuotaPlan(QuotaShare, kw_only=True):
    partition: Annotated[int, Meta(ge=0)]


class QuotaParent(_Strict):
    project: Id
    parent: QuotaName
    revision: Count


class QuotaCounted(_Strict):
    consumers: Annotated[list[Id], Meta(min_length=1, max_length=64)]


# -- transactions -----------------------------------------------------------------------------------------

ShortName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00]*\Z")]
AccountName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[^\x00]*\Z")]


class NameChange(_Strict):
    kind: Literal["class", "trait"]
    name: Annotated[str, Meta(pattern=r"\ACUSTOM_[A-Z0-9_]{1,248}\Z")]
    op: Literal["create", "ensure", "delete"]


class ProviderChange(_Strict):
    provider: Id
    op: Literal["create", "change", "delete"] = "change"
    generation: Amount | None = None
    raises: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    name: ShortName | None = None
    parent: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:/@+=~-]{0,200}\Z")] | None = None
    inventories: dict[Symbol, Object] | None = None
    traits: list[Symbol] | None = None
    aggregates: list[Id] | None = None


class ConsumerChange(_Strict):
    consumer: Id
    generation: Amount | Literal["absent", "any"]
    project: AccountName = "-"
    user: AccountName = "-"
    consumer_type: AccountName = "unknown"
    allocations: dict[Id, Annotated[Asks, Meta(min_length=1)]] = {}


class TransactionRequested(_Strict):
    id: Id
    deadline_ms: Amount
    names: Annotated[list[NameChange], Meta(max_length=64)] = []
    providers: Annotated[list[ProviderChange], Meta(max_length=1024)] = []
    consumers: Annotated[list[ConsumerChange], Meta(max_length=1024)] = []

    def __post_init__(self) -> None:
        _check(len({(one.kind, one.name) for one in self.names}) == len(self.names))
        _check(len({one.provider for one in self.providers}) == len(self.providers))
        _check(len({one.consumer for one in self.consumers}) == len(self.consumers))


# -- signatures -------------------------------------------------------------------------------------------

PublicKey = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
NamePattern = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:/@+=~-]{0,200}\*?[A-Za-z0-9._:/@+=~-]{0,200}\Z")]


class SigningScope(_Strict):
    cell: NamePattern = "*"
    node: NamePattern = "*"


class SigningPolicy(_Strict):
    revision: Count
    operators: Annotated[list[PublicKey], Meta(max_length=8)] = []
    required: Annotated[list[SigningScope], Meta(max_length=64)] = []


class SigningKeys(_Strict):
    root: Id
    revision: Count
    keys: Annotated[list[PublicKey], Meta(max_length=4)] = []


# -- moves between cells ----------------------------------------------------------------------------------


class CellMoveSource(_Strict):
    cell: Id
    claim: Id


class CellMoveBegun(_Strict, kw_only=True):
    move: Id
    consumer: Id
    source: CellMoveSource
    destination: Id
    deadline_ms: Amount
    hold_until_ms: Amount
    waits: bool = False


class CellMoveWithdrawn(_Strict):
    move: Id
    consumer: Id
    deadline_ms: Amount


class CellMoveEnded(_Strict):
    move: Id
    outcome: Literal["finished", "undone", "released"]


# -- envelopes --------------------------------------------------------------------------------------------

_PREFIX, _VERSION = "vacancy.", ".v1"


class _Envelope(Struct, tag_field="type", kw_only=True):
    """The CloudEvents attributes. Unknown ones are allowed."""

    id: Id
    source: Annotated[str, Meta(min_length=1, max_length=512)]
    specversion: Literal["1.0"] = "1.0"
    time: ShortText | None = None


class _LogOpenedEvent(_Envelope, tag=_PREFIX + "log.opened" + _VERSION):
    data: LogOpened


class _RulesActivatedEvent(_Envelope, tag=_PREFIX + "rules.activated" + _VERSION):
    data: Rules


class _RulesProposedEvent(_Envelope, tag=_PREFIX + "rules.proposed" + _VERSION):
    data: Rules


class _RulesSupportedEvent(_Envelope, tag=_PREFIX + "rules.supported" + _VERSION):
    data: RulesSupported


class _RulesWithdrawnEvent(_Envelope, tag=_PREFIX + "rules.withdrawn" + _VERSION):
    data: RulesWithdrawn


class _TickEvent(_Envelope, tag=_PREFIX + "tick" + _VERSION):
    data: Tick = field(default_factory=Tick)


class _StateMarkedEvent(_Envelope, tag=_PREFIX + "state.marked" + _VERSION):
    data: StateMarked


class _StateDigestedEvent(_Envelope, tag=_PREFIX + "state.digested" + _VERSION):
    data: StateDigested


class _NodeRunningEvent(_Envelope, tag=_PREFIX + "node.running" + _VERSION):
    data: NodeRunning


class _NodeReportedEvent(_Envelope, tag=_PREFIX + "node.reported" + _VERSION):
    data: NodeReported


class _NodeChangedEvent(_Envelope, tag=_PREFIX + "node.changed" + _VERSION):
    data: NodeChanged


class _NodeHeartbeatEvent(_Envelope, tag=_PREFIX + "node.heartbeat" + _VERSION):
    data: NodeEvent


class _NodeRetiredEvent(_Envelope, tag=_PREFIX + "node.retired" + _VERSION):
    data: NodeEvent


class _NodeReportedV2Event(_Envelope, tag=_PREFIX + "node.reported.v2"):
    data: IdentifiedReport


class _NodeRetiredV2Event(_Envelope, tag=_PREFIX + "node.retired.v2"):
    data: Retirement


class _NodeAdoptedEvent(_Envelope, tag=_PREFIX + "node.adopted" + _VERSION):
    data: Adoption


class _NodeRenamedEvent(_Envelope, tag=_PREFIX + "node.renamed" + _VERSION):
    data: Renaming


class _NodeCountedEvent(_Envelope, tag=_PREFIX + "node.counted" + _VERSION):
    data: NodeCounted


class _FactsSetEvent(_Envelope, tag=_PREFIX + "facts.set" + _VERSION):
    data: FactsSet


class _FactsSetV2Event(_Envelope, tag=_PREFIX + "facts.set.v2"):
    data: FactsSetV2


class _RequestsReceivedEvent(_Envelope, tag=_PREFIX + "requests.received" + _VERSION):
    data: RequestsReceived


class _RequestsReceivedV2Event(_Envelope, tag=_PREFIX + "requests.received.v2"):
    data: RequestsReceivedV2


class _RequestsClosedEvent(_Envelope, tag=_PREFIX + "requests.closed" + _VERSION):
    data: RequestsClosed


class _ClaimsRequestedEvent(_Envelope, tag=_PREFIX + "claims.requested" + _VERSION):
    data: ClaimsRequested


class _ClaimsRequestedV2Event(_Envelope, tag=_PREFIX + "claims.requested.v2"):
    data: ClaimsRequestedV2


class _GangRequestedEvent(_Envelope, tag=_PREFIX + "gang.requested" + _VERSION):
    data: GangRequested


class _ConsumerReplacedEvent(_Envelope, tag=_PREFIX + "consumer.replaced" + _VERSION):
    data: Claim


class _ConsumerReplacedByIdEvent(_Envelope, tag=_PREFIX + "consumer.replaced.v2"):
    data: Replacement


class _ConsumerMovedEvent(_Envelope, tag=_PREFIX + "consumer.replaced.v3"):
    data: ReplacementV3


class _ConsumerUpdatedEvent(_Envelope, tag=_PREFIX + "consumer.updated" + _VERSION):
    data: ConsumerUpdate


class _ConsumerConfirmedEvent(_Envelope, tag=_PREFIX + "consumer.confirmed" + _VERSION):
    data: ConsumerConfirmed


class _ConsumersReleasedEvent(_Envelope, tag=_PREFIX + "consumers.released" + _VERSION):
    data: ConsumersReleased


class _QuotaLimitSetEvent(_Envelope, tag=_PREFIX + "quota.limit.set" + _VERSION):
    data: QuotaLimit


class _QuotaSharePlannedEvent(_Envelope, tag=_PREFIX + "quota.share.planned" + _VERSION):
    data: QuotaPlan


class _QuotaShareSetEvent(_Envelope, tag=_PREFIX + "quota.share.set" + _VERSION):
    data: QuotaShare


class _QuotaShareSettledEvent(_Envelope, tag=_PREFIX + "quota.share.settled" + _VERSION):
    data: QuotaPlan


class _QuotaParentPlannedEvent(_Envelope, tag=_PREFIX + "quota.parent.planned" + _VERSION):
    data: QuotaParent


class _QuotaParentSetEvent(_Envelope, tag=_PREFIX + "quota.parent.set" + _VERSION):
    data: QuotaParent


class _QuotaCountedEvent(_Envelope, tag=_PREFIX + "quota.counted" + _VERSION):
    data: QuotaCounted


class _TransactionRequestedEvent(_Envelope, tag=_PREFIX + "transaction.requested" + _VERSION):
    data: TransactionRequested


class _SigningPolicySetEvent(_Envelope, tag=_PREFIX + "signing.policy.set" + _VERSION):
    data: SigningPolicy


class _SigningKeysSetEvent(_Envelope, tag=_PREFIX + "signing.keys.set" + _VERSION):
    data: SigningKeys


class _CellMoveBegunEvent(_Envelope, tag=_PREFIX + "cell.move.begun" + _VERSION):
    data: CellMoveBegun


class _CellMoveWithdrawnEvent(_Envelope, tag=_PREFIX + "cell.move.withdrawn" + _VERSION):
    data: CellMoveWithdrawn


class _CellMoveEndedEvent(_Envelope, tag=_PREFIX + "cell.move.ended" + _VERSION):
    data: CellMoveEnded


_Event = (
    _TransactionRequestedEvent
    | _SigningPolicySetEvent
    | _SigningKeysSetEvent
    | _CellMoveBegunEvent
    | _CellMoveWithdrawnEvent
    | _CellMoveEndedEvent
    | _QuotaLimitSetEvent
    | _QuotaSharePlannedEvent
    | _QuotaShareSetEvent
    | _QuotaShareSettledEvent
    | _QuotaParentPlannedEvent
    | _QuotaParentSetEvent
    | _QuotaCountedEvent
    | _LogOpenedEvent
    | _RulesActivatedEvent
    | _RulesProposedEvent
    | _RulesSupportedEvent
    | _RulesWithdrawnEvent
    | _TickEvent
    | _StateMarkedEvent
    | _StateDigestedEvent
    | _NodeRunningEvent
    | _NodeReportedEvent
    | _NodeChangedEvent
    | _NodeHeartbeatEvent
    | _NodeRetiredEvent
    | _NodeReportedV2Event
    | _NodeRetiredV2Event
    | _NodeAdoptedEvent
    | _NodeRenamedEvent
    | _NodeCountedEvent
    | _FactsSetEvent
    | _FactsSetV2Event
    | _RequestsReceivedEvent
    | _RequestsReceivedV2Event
    | _RequestsClosedEvent
    | _ClaimsRequestedEvent
    | _ClaimsRequestedV2Event
    | _GangRequestedEvent
    | _ConsumerReplacedEvent
    | _ConsumerReplacedByIdEvent
    | _ConsumerMovedEvent
    | _ConsumerUpdatedEvent
    | _ConsumerConfirmedEvent
    | _ConsumersReleasedEvent
)


def _check(holds: bool) -> None:
    """Raise ValueError where a rule that the types do not express is violated."""
    if not holds:
        raise ValueError
