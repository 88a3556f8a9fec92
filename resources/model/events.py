"""The events: CloudEvents 1.0 in structured JSON, one self-contained object for each record.

`type` contains a version and discriminates the union. A new meaning is a new version: fields inside `data` are never added
to an existing version, so unknown fields are errors there. `time` is for people; the fold uses the timestamps of the log.
`json_schema()` gives the schemas for other languages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreConfig, SchemaValidator, from_json

from vacancy.resources.model.attributes import AttributeName, Attributes, AttributeValue, Operator
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.names import AMOUNT_MAX, CONSUMER_TYPE_MAX, Amount, Id, Symbol, TimeMs
from vacancy.resources.model.request import (
    ALLOCATIONS_MAX,
    Ask,
    ChosenSpec,
    RequestModel,
    RequestSpec,
    RequestSpecV2,
    stop_early,
)
from vacancy.resources.model.server_group import (
    MEMBERSHIPS_MAX,
    GroupId,
    ServerGroupMembership,
    ServerGroupMembershipV2,
)
from vacancy.resources.model.signatures import SigningKeysData, SigningPolicyData
from vacancy.resources.model.taints import TOLERATIONS_MAX, Taint, Toleration
from vacancy.resources.model.transactions import TransactionData

BATCH_MAX = 64
"""The limit of claims, releases or requests in one record."""

PROVIDERS_MAX = 4096
PREDICATES_MAX = 1024
RUNNING_MAX = 4096
MISSING_MAX = 16
RENAMED_CONSUMERS_MAX = 1024
SEQUENCE_MAX = 2**53 - 1
"""The last sequence number of an incarnation."""

_ERRORS_LISTED = 100
BRACKETS_IN_ONE_PASS = 2048
"""Opening brackets of a record up to which JSON is read and validated in one pass. An error has a copy of the value that it
is about, so six missing fields of an object copy all that is in it six times: 5 us for each bracket. Where there are more,
JSON is read into objects first, which errors share."""

Sequence = Annotated[int, Field(ge=1, le=SEQUENCE_MAX)]
Incarnation = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Text = Annotated[str, Field(max_length=1024)]
MachineName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
"""The identity of a machine: a hash of its machine id, or a name that an operator gave it."""


class Envelope(BaseModel):
    """The CloudEvents attributes. Extension attributes (for example a trace parent) are allowed and ignored."""

    # No process needs all events: each model is built when it is first used, which starts a process 0.1 s sooner.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)

    specversion: Literal["1.0"] = "1.0"
    id: Id
    source: Annotated[str, Field(min_length=1, max_length=512)]
    time: Annotated[str, Field(max_length=64)] | None = None


# -- the log itself ---------------------------------------------------------------------------------------


class Rules(RequestModel):
    """The rules in force: their version, and the resource classes of plugins that they allow."""

    version: Annotated[int, Field(ge=1, le=2**31)] = 1
    classes: tuple[Symbol, ...] = ()


class LogOpenedData(RequestModel):
    """The first record of each partition: `log` is the log's UUID."""

    log: Id
    partition: Annotated[int, Field(ge=0)]
    partitions: Annotated[int, Field(ge=1)]
    rules: Rules = Rules()


class RulesSupportedData(RequestModel):
    """The answer of one store to a proposal. `missing` lists what its build lacks; empty: it supports the rules."""

    proposal: Id
    store: Id
    host: Annotated[str, Field(max_length=255)] = ""
    missing: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=320)], ...], Field(max_length=MISSING_MAX)
    ] = ()


class RulesWithdrawnData(RequestModel):
    """`proposal` is the id of the proposal's event."""

    proposal: Id


class StateMarkedData(RequestModel):
    """The store whose worker asks for digests."""

    store: Id
    host: Annotated[str, Field(max_length=255)] = ""


class StateDigestedData(RequestModel):
    """The digest of all rows of a partition of one store, at a position: before the record with this offset. `build` is the version
    of vacancy that folded it."""

    store: Id
    host: Annotated[str, Field(max_length=255)] = ""
    build: Annotated[str, Field(max_length=64)] = ""
    position: Annotated[int, Field(ge=0, le=2**63 - 1)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class TickData(RequestModel):
    """No data: a tick only advances log time."""


class StateMarked(Envelope):
    """A worker appends it every so often. It changes nothing: each store computes a digest of its rows as they are after it."""

    type: Literal["vacancy.state.marked.v1"] = "vacancy.state.marked.v1"
    data: StateMarkedData


class StateDigested(Envelope):
    """What a store found after a mark. It changes nothing: the workers of other stores compare it with their own digest."""

    type: Literal["vacancy.state.digested.v1"] = "vacancy.state.digested.v1"
    data: StateDigestedData


class LogOpened(Envelope):
    type: Literal["vacancy.log.opened.v1"] = "vacancy.log.opened.v1"
    data: LogOpenedData


class RulesActivated(Envelope):
    type: Literal["vacancy.rules.activated.v1"] = "vacancy.rules.activated.v1"
    data: Rules


class RulesProposed(Envelope):
    """The first step: an operator proposes rules. The id of the event is the id of the proposal."""

    type: Literal["vacancy.rules.proposed.v1"] = "vacancy.rules.proposed.v1"
    data: Rules


class RulesSupported(Envelope):
    """The second step: the worker of a store answers whether its build supports proposed rules."""

    type: Literal["vacancy.rules.supported.v1"] = "vacancy.rules.supported.v1"
    data: RulesSupportedData


class RulesWithdrawn(Envelope):
    type: Literal["vacancy.rules.withdrawn.v1"] = "vacancy.rules.withdrawn.v1"
    data: RulesWithdrawnData


class Tick(Envelope):
    type: Literal["vacancy.tick.v1"] = "vacancy.tick.v1"
    data: TickData = TickData()


# -- nodes ------------------------------------------------------------------------------------------------


class ProviderReport(RequestModel):
    """A resource provider as its node reports it. `parent` is None for the root.

    `inventories` maps a resource class to an inventory in the form of that class (for quantities: total, reserved,
    min_unit, max_unit, step_size, allocation_ratio_milli). `attributes` are named values.
    """

    # Factories, because pydantic copies a default `{}` deeply, once for each provider.

    id: Id
    parent: Id | None = None
    inventories: dict[Symbol, dict[str, JsonValue]] = Field(default_factory=dict)
    traits: tuple[Symbol, ...] = ()
    attributes: Attributes = Field(default_factory=dict)


class NodeData(RequestModel):
    """The place of an event in the order of a node's events. The publisher draws `incarnation` at random when it starts.
    `sequence` counts the events of the incarnation from 1."""

    root: Id
    incarnation: Incarnation
    sequence: Sequence


class NodeReportedData(NodeData):
    """The whole tree of a node. `consumers`, if given, are the consumers that the node runs: it confirms their holds."""

    providers: Annotated[tuple[ProviderReport, ...], Field(min_length=1, max_length=PROVIDERS_MAX)]
    consumers: tuple[Id, ...] | None = None


class NodeChangedData(NodeData):
    """The complete reports of added and changed providers, and the ids of removed ones."""

    providers: Annotated[tuple[ProviderReport, ...], Field(max_length=PROVIDERS_MAX)] = ()
    removed: Annotated[tuple[Id, ...], Field(max_length=PROVIDERS_MAX)] = ()


class NodeRunningData(NodeData):
    """All consumers that a node runs. `incarnation` and `sequence` are of what reports them: they are not those of the node's
    own events."""

    consumers: Annotated[tuple[Id, ...], Field(max_length=RUNNING_MAX)]


class IdentifiedReportData(NodeReportedData):
    """A full report that names the machine it comes from. None: the publisher does not know it."""

    machine: MachineName | None = None


class RetirementData(RequestModel):
    """The retirement of one incarnation of a node. `sequence` is that of the incarnation's own event; None: an operator
    retires the incarnation, whatever its publisher sent last."""

    root: Id
    incarnation: Incarnation
    sequence: Sequence | None = None


class AdoptionData(RequestModel):
    """From now on the machine `machine` is the node `root`, and no other node of the record's cell. `cell` is the node's cell,
    where that is another one than the record's."""

    root: Id
    machine: MachineName
    cell: Id | None = None


class RenameData(RequestModel):
    """The node `root` is from now on the node `to`. `providers` names all providers of its tree: the old id -> the new one.
    `consumers` are all consumers that hold something of it."""

    root: Id
    to: Id
    providers: Annotated[dict[Id, Id], Field(min_length=1, max_length=PROVIDERS_MAX)]
    consumers: Annotated[tuple[Id, ...], Field(max_length=RENAMED_CONSUMERS_MAX)] = ()


class NodeCountedData(RequestModel):
    root: Id


class NodeReported(Envelope):
    type: Literal["vacancy.node.reported.v1"] = "vacancy.node.reported.v1"
    data: NodeReportedData


class NodeChanged(Envelope):
    type: Literal["vacancy.node.changed.v1"] = "vacancy.node.changed.v1"
    data: NodeChangedData


class NodeHeartbeat(Envelope):
    type: Literal["vacancy.node.heartbeat.v1"] = "vacancy.node.heartbeat.v1"
    data: NodeData


class NodeRetired(Envelope):
    type: Literal["vacancy.node.retired.v1"] = "vacancy.node.retired.v1"
    data: NodeData


class NodeRunning(Envelope):
    """What a node runs. It decides nothing: `vacancy audit` compares it with what is held."""

    type: Literal["vacancy.node.running.v1"] = "vacancy.node.running.v1"
    data: NodeRunningData


class NodeReportedV2(Envelope):
    """As `NodeReported`. It names the machine, so that the fold notices two machines of one name and one of two names."""

    type: Literal["vacancy.node.reported.v2"] = "vacancy.node.reported.v2"
    data: IdentifiedReportData


class NodeRetiredV2(Envelope):
    """As `NodeRetired`, of one incarnation: it changes nothing where another one is open."""

    type: Literal["vacancy.node.retired.v2"] = "vacancy.node.retired.v2"
    data: RetirementData


class NodeAdopted(Envelope):
    """An operator's decision which machine a node is."""

    type: Literal["vacancy.node.adopted.v1"] = "vacancy.node.adopted.v1"
    data: AdoptionData


class NodeRenamed(Envelope):
    """An operator's decision that a node has another name. What is held of it is held of the new name."""

    type: Literal["vacancy.node.renamed.v1"] = "vacancy.node.renamed.v1"
    data: RenameData


class NodeCounted(Envelope):
    """The domains of a node are counted, if nothing was written of the node since its log has rules that count them."""

    type: Literal["vacancy.node.counted.v1"] = "vacancy.node.counted.v1"
    data: NodeCountedData


# -- operators --------------------------------------------------------------------------------------------


class OperatorSettings(RequestModel):
    """The operator settings of a provider, complete. They survive the node's reports and the node itself.

    The `status` of a root applies to its tree. `overrides` maps a class to the values that the class lets operators
    override. `attributes` replace attributes of the same name that the node reports.
    """

    status: Literal["enabled", "disabled", "draining"] = "enabled"
    reason: Text = ""
    aggregates: tuple[Id, ...] = ()
    traits: tuple[Symbol, ...] = ()
    overrides: dict[Symbol, dict[str, JsonValue]] = {}
    attributes: Attributes = {}


class OperatorSettingsData(RequestModel):
    """`revision` is one more than the revision that the operator read (0 if there was none). If two operators read the same
    revision, the first event in the log wins and the other event is a dead letter."""

    provider: Id
    revision: Sequence
    facts: OperatorSettings


class OperatorSettingsV2(OperatorSettings):
    """Operator settings with taints, at most one of each key. The taints of a root apply to its tree."""

    taints: tuple[Taint, ...] = ()

    @model_validator(mode="after")
    def _keys_are_distinct(self) -> OperatorSettingsV2:
        if len({one.key for one in self.taints}) < len(self.taints):
            raise ValueError("two taints have the same key")
        return self


class OperatorSettingsDataV2(OperatorSettingsData):
    facts: OperatorSettingsV2


class OperatorSettingsSet(Envelope):
    type: Literal["vacancy.facts.set.v1"] = "vacancy.facts.set.v1"
    data: OperatorSettingsData


class OperatorSettingsSetV2(Envelope):
    """As `OperatorSettingsSet`, with taints. The form before sets none, so it removes those that there are."""

    type: Literal["vacancy.facts.set.v2"] = "vacancy.facts.set.v2"
    data: OperatorSettingsDataV2


# -- requests ---------------------------------------------------------------------------------------------


SpecPlace = Annotated[int, Field(ge=0, lt=BATCH_MAX)]
"""The place of a spec among the specs of its record, from 0."""


def _check_places(places: Iterable[int | None], specs: int) -> None:
    """Raise `ValueError` for a place at which a record has no spec."""
    for place in places:
        if place is not None and place >= specs:
            raise ValueError(f"spec_at is {place}, and the record has {specs} specs")


class ReceivedRequest(RequestModel):
    id: Id
    spec: RequestSpec


class ReceivedRequestV2(RequestModel):
    """`spec_at`: the place of its spec in `specs` of the record, from 0."""

    id: Id
    spec_at: SpecPlace


class ClosedRequest(RequestModel):
    """How a request ended. For `no_valid_host`, `as_of` is the position that the scheduler had read, and `in_flight` are
    the ids of its own claims without a verdict at that position, so that the outcome can be checked later. If
    `heard_since_ms` is set, the query considered only nodes with an event since that log time."""

    id: Id
    outcome: Literal["placed", "no_valid_host", "failed", "unknown"]
    claim: Id | None = None
    cell: Id | None = None
    as_of: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Amount] = {}
    in_flight: tuple[Id, ...] = ()
    heard_since_ms: TimeMs | None = None
    reason: Text = ""


class RequestsReceivedData(RequestModel):
    requests: Annotated[tuple[ReceivedRequest, ...], Field(min_length=1, max_length=BATCH_MAX)]


class RequestsReceivedDataV2(RequestModel):
    """Requests that ask for the same share one of `specs`."""

    specs: Annotated[tuple[RequestSpecV2, ...], Field(min_length=1, max_length=BATCH_MAX)]
    requests: Annotated[tuple[ReceivedRequestV2, ...], Field(min_length=1, max_length=BATCH_MAX)]

    @model_validator(mode="after")
    def _specs_are_there(self) -> RequestsReceivedDataV2:
        _check_places((one.spec_at for one in self.requests), len(self.specs))
        return self


class RequestsClosedData(RequestModel):
    requests: Annotated[tuple[ClosedRequest, ...], Field(min_length=1, max_length=BATCH_MAX)]


class RequestsReceived(Envelope):
    type: Literal["vacancy.requests.received.v1"] = "vacancy.requests.received.v1"
    data: RequestsReceivedData


class RequestsReceivedV2(Envelope):
    """As `RequestsReceived`. Requests may have alternatives, preferences and tolerations."""

    type: Literal["vacancy.requests.received.v2"] = "vacancy.requests.received.v2"
    data: RequestsReceivedDataV2


class RequestsClosed(Envelope):
    type: Literal["vacancy.requests.closed.v1"] = "vacancy.requests.closed.v1"
    data: RequestsClosedData


# -- claims and consumers ---------------------------------------------------------------------------------


class Allocation(RequestModel):
    """What one provider gives: class -> ask. `group` names the request group that it serves. If the request has several
    copies, `#` and the number of the copy follow (`gpu#2`)."""

    provider: Id
    resources: Annotated[dict[Symbol, Ask], Field(min_length=1)]
    group: Annotated[str, Field(max_length=80)] = ""


class Predicate(RequestModel):
    """A condition that must still be true of a provider when the claim is judged.

    `trait` and `aggregate`: the provider has the trait, or is in the aggregate, that `value` names; with `negate`, it does
    not or is not. `subtree`: the provider in `value` is this provider or one of its ancestors. `generation`: the
    provider's generation is `value`.
    """

    provider: Id
    kind: Literal["trait", "aggregate", "subtree", "generation"]
    value: Annotated[str, Field(max_length=255)] | Amount
    negate: bool = False


class AttributePredicate(RequestModel):
    """A comparison of an attribute that must still be true when the claim is judged (`attributes.holds`).

    `has` and `lacks` take no value. With `version`, both sides are compared as versions.
    """

    provider: Id
    kind: Literal["attribute"]
    name: AttributeName
    operator: Operator = "=="
    value: AttributeValue | None = None
    version: bool = False


AnyPredicate = Annotated[Predicate | AttributePredicate, Field(discriminator="kind")]


class Decision(RequestModel):
    """The basis of the scheduler's decision: the position that it had read, its seed and its policy. It allows a replay."""

    as_of: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Amount] = {}
    seed: int = 0
    policy: Annotated[str, Field(max_length=64)] = ""


_NO_DECISION = Decision()


class Claim(RequestModel):
    """A scheduler's request for an allocation. `deadline_ms` and `hold_until_ms` are log time.

    `consumer_generation` is None for a consumer that must not exist yet, else the generation that it must have.
    `hold_until_ms`: the allocation ends at that time unless it was confirmed. `memberships`: the server groups that the
    consumer is in as long as it has this allocation. The fold judges the hard ones.
    """

    id: Id
    consumer: Id
    consumer_generation: Amount | None = None
    consumer_type: Annotated[str, Field(max_length=CONSUMER_TYPE_MAX)] = "INSTANCE"
    project: Id = "-"
    user: Id = "-"
    request: Id | None = None
    spec: RequestSpec | None = None
    allocations: Annotated[tuple[Allocation, ...], Field(min_length=1, max_length=ALLOCATIONS_MAX)]
    predicates: Annotated[tuple[AnyPredicate, ...], Field(max_length=PREDICATES_MAX)] = ()
    memberships: Annotated[
        tuple[SerializeAsAny[ServerGroupMembership], ...], Field(max_length=MEMBERSHIPS_MAX)
    ] = ()
    deadline_ms: TimeMs
    hold_until_ms: TimeMs | None = None
    decided: Decision = _NO_DECISION


class ClaimV2(Claim):
    """`tolerations`: the taints of providers that do not repel it. Its request has the same ones, if it has any. Its server
    groups may be spread."""

    spec: ChosenSpec | None = None
    memberships: Annotated[
        tuple[SerializeAsAny[ServerGroupMembershipV2], ...], Field(max_length=MEMBERSHIPS_MAX)
    ] = ()
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=TOLERATIONS_MAX)] = ()


class Replacement(Claim):
    """A claim for a consumer that holds something. `replaces` is the id of the claim of the allocation that it replaces."""

    replaces: Id


class ReplacementV3(Replacement, ClaimV2):
    """`leaves` are the server groups that the consumer leaves. It stays in all others that it is in, and joins those in
    `memberships`."""

    spec: ChosenSpec | None = None
    memberships: Annotated[
        tuple[SerializeAsAny[ServerGroupMembershipV2], ...], Field(max_length=MEMBERSHIPS_MAX)
    ] = ()
    leaves: Annotated[tuple[GroupId, ...], Field(max_length=MEMBERSHIPS_MAX)] = ()


class ClaimsRequestedData(RequestModel):
    claims: Annotated[tuple[Claim, ...], Field(min_length=1, max_length=BATCH_MAX)]


class ListedClaim(ClaimV2):
    """A claim in a record of claims. `spec_at`: the place of its spec in `specs` of the record, from 0, unless it has a spec of
    its own."""

    spec_at: SpecPlace | None = None


class ClaimsRequestedDataV2(RequestModel):
    """Claims for the same share one of `specs`. `decided` is the basis of those that have none of their own."""

    claims: Annotated[tuple[ListedClaim, ...], Field(min_length=1, max_length=BATCH_MAX)]
    specs: Annotated[tuple[ChosenSpec, ...], Field(max_length=BATCH_MAX)] = ()
    decided: Decision = _NO_DECISION

    @model_validator(mode="after")
    def _specs_are_there(self) -> ClaimsRequestedDataV2:
        _check_places((one.spec_at for one in self.claims), len(self.specs))
        return self

    def whole(self) -> tuple[ListedClaim, ...]:
        """The claims with what they share: each has its spec and the basis of its decision."""
        shared = [
            {"spec": one.spec if one.spec_at is None else self.specs[one.spec_at], "spec_at": None}
            for one in self.claims
        ]
        return tuple(
            one.model_copy(update=own if one.decided != _NO_DECISION else {**own, "decided": self.decided})
            for one, own in zip(self.claims, shared, strict=True)
        )


class GangRequestedData(RequestModel):
    """Claims of different consumers, all with one deadline."""

    claims: Annotated[tuple[ClaimV2, ...], Field(min_length=2, max_length=BATCH_MAX)]

    @model_validator(mode="after")
    def _are_one_gang(self) -> GangRequestedData:
        for what, names in (
            ("claim", [claim.id for claim in self.claims]),
            ("consumer", [claim.consumer for claim in self.claims]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{what} {twice} is in the gang twice")
        if len({claim.deadline_ms for claim in self.claims}) > 1:
            raise ValueError("the claims of a gang have one deadline")
        return self


class ConsumerRef(RequestModel):
    """A consumer and the claim of its allocation."""

    consumer: Id
    claim: Id


class ConsumerUpdate(ConsumerRef):
    """A consumer, the claim of its allocation, and what changes of it; None: it stays."""

    project: Id | None = None
    user: Id | None = None
    consumer_type: Annotated[str, Field(max_length=CONSUMER_TYPE_MAX)] | None = None


class Release(ConsumerRef):
    """`deadline_ms` is that of the claim. A release that comes before its claim cancels the claim until that time."""

    deadline_ms: TimeMs | None = None


class ConsumersReleasedData(RequestModel):
    releases: Annotated[tuple[Release, ...], Field(min_length=1, max_length=BATCH_MAX)]


class ClaimsRequested(Envelope):
    """Up to 64 claims, each judged by itself, in order."""

    type: Literal["vacancy.claims.requested.v1"] = "vacancy.claims.requested.v1"
    data: ClaimsRequestedData


class ClaimsRequestedV2(Envelope):
    """As `ClaimsRequested`. Claims may tolerate taints, their server groups may be spread, and what they have in common is in
    the record once."""

    type: Literal["vacancy.claims.requested.v2"] = "vacancy.claims.requested.v2"
    data: ClaimsRequestedDataV2


class GangRequested(Envelope):
    """Up to 64 claims of different consumers that are accepted together or not at all."""

    type: Literal["vacancy.gang.requested.v1"] = "vacancy.gang.requested.v1"
    data: GangRequestedData


class ConsumerReplaced(Envelope):
    """A move or a resize: the whole allocation of the consumer is replaced, or nothing changes."""

    type: Literal["vacancy.consumer.replaced.v1"] = "vacancy.consumer.replaced.v1"
    data: Claim


class ConsumerReplacedV2(Envelope):
    """As `ConsumerReplaced`. It names the claim that it replaces, so that nobody moves a consumer without knowing it."""

    type: Literal["vacancy.consumer.replaced.v2"] = "vacancy.consumer.replaced.v2"
    data: Replacement


class ConsumerReplacedV3(Envelope):
    """As `ConsumerReplacedV2`. The consumer keeps the grants of asks that are the same, and stays in its server groups
    unless it leaves them."""

    type: Literal["vacancy.consumer.replaced.v3"] = "vacancy.consumer.replaced.v3"
    data: ReplacementV3


class ConsumerUpdated(Envelope):
    """Another project, user or type of a consumer. What it holds stays."""

    type: Literal["vacancy.consumer.updated.v1"] = "vacancy.consumer.updated.v1"
    data: ConsumerUpdate


class ConsumerConfirmed(Envelope):
    type: Literal["vacancy.consumer.confirmed.v1"] = "vacancy.consumer.confirmed.v1"
    data: ConsumerRef


class ConsumersReleased(Envelope):
    type: Literal["vacancy.consumers.released.v1"] = "vacancy.consumers.released.v1"
    data: ConsumersReleasedData


# -- transactions -----------------------------------------------------------------------------------------


class TransactionRequested(Envelope):
    """Changes of names, providers and consumers of a cell, judged whole: all are done, or none. Its verdict is recorded as that
    of a claim."""

    type: Literal["vacancy.transaction.requested.v1"] = "vacancy.transaction.requested.v1"
    data: TransactionData


# -- moves between cells ----------------------------------------------------------------------------------


class CellMoveHalf(RequestModel):
    """What a consumer holds in a cell by a claim."""

    cell: Id
    claim: Id


class CellMoveBegunData(RequestModel):
    """A consumer is to leave the cell of `source` for `destination`. The id of the move is also that of its claim in
    `destination`. `deadline_ms` and `hold_until_ms` are those of this claim, in the log time of its partition. With `waits`,
    a scheduler that resumes the move does not confirm it: an operator does, or the node that runs the consumer."""

    move: Id
    consumer: Id
    source: CellMoveHalf
    destination: Id
    deadline_ms: TimeMs
    hold_until_ms: TimeMs
    waits: bool = False


class CellMoveWithdrawnData(RequestModel):
    """The claim of a move, in the cell that it is for. `deadline_ms` is that of the claim."""

    move: Id
    consumer: Id
    deadline_ms: TimeMs


class CellMoveEndedData(RequestModel):
    """`finished`: the consumer holds what the move claimed, and no longer its source. `undone`: it is where it was. `released`:
    it holds neither, because somebody released it while it was being moved."""

    move: Id
    outcome: Literal["finished", "undone", "released"]


class CellMoveBegun(Envelope):
    """The first step of a move between cells. Its key is the id of the move, as for `CellMoveEnded`."""

    type: Literal["vacancy.cell.move.begun.v1"] = "vacancy.cell.move.begun.v1"
    data: CellMoveBegunData


class CellMoveWithdrawn(Envelope):
    """The claim of a move is given up, unless it was confirmed: then this changes nothing. Its key is the cell of the claim."""

    type: Literal["vacancy.cell.move.withdrawn.v1"] = "vacancy.cell.move.withdrawn.v1"
    data: CellMoveWithdrawnData


class CellMoveEnded(Envelope):
    """The last step of a move between cells."""

    type: Literal["vacancy.cell.move.ended.v1"] = "vacancy.cell.move.ended.v1"
    data: CellMoveEndedData


# -- quotas -----------------------------------------------------------------------------------------------

UNIT_PATTERN = r"^[A-Z][A-Z0-9_]{0,254}(\.[a-z][a-z0-9_]{0,63})?$"
QuotaScopeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/@+=~-]{0,200}$")]
LIMITED_TYPE_PATTERN = r"^[^\x00]{0,64}$"
"""A consumer type that a limit names. NUL separates the parts of the limit's id."""
QuotaAmount = Annotated[int, Field(ge=-1, le=AMOUNT_MAX)]
"""An amount, or -1: no limit."""


class QuotaScope(RequestModel):
    """What a limit is for: a project, or a user in a project, and one unit (`VCPU`, `NUMA_CELL.memory_mb`).

    `user` is None for the project as a whole. The project '' is each project that has no limit of its own; with the user ''
    it is each user in each project. `consumer_type` is '' for consumers of all types.
    """

    project: QuotaScopeName
    user: QuotaScopeName | None = None
    consumer_type: Annotated[str, Field(pattern=LIMITED_TYPE_PATTERN)] = ""
    unit: Annotated[str, Field(pattern=UNIT_PATTERN)]


class QuotaLimitData(QuotaScope):
    """The limit over all partitions, -1 for none. `revision` is one more than the one that was read (0 if there was none)."""

    limit: QuotaAmount
    by_default: bool = False
    revision: Sequence


class QuotaShareData(QuotaScope):
    """A change of the share that a partition has of a limit. `number` counts the changes of this share from 1."""

    number: Sequence
    amount: QuotaAmount


class QuotaPlanData(QuotaShareData):
    """A change of a share, as the limit's ledger has it."""

    partition: Annotated[int, Field(ge=0)]


class QuotaParentData(RequestModel):
    """The project above a project; '' if there is none. `revision` is one more than the one that was read."""

    project: Id
    parent: QuotaScopeName
    revision: Sequence


class QuotaLimitSet(Envelope):
    """An operator sets a limit. Its key is the limit's id (`quota_limit_id`), as for the other events of the ledger."""

    type: Literal["vacancy.quota.limit.set.v1"] = "vacancy.quota.limit.set.v1"
    data: QuotaLimitData


class QuotaSharePlanned(Envelope):
    """The first step of a change of a share: the ledger gives the partition more, or recalls some of what it has."""

    type: Literal["vacancy.quota.share.planned.v1"] = "vacancy.quota.share.planned.v1"
    data: QuotaPlanData


class QuotaShareSet(Envelope):
    """The second step, in the partition itself: it takes the share, which may be less than what it holds."""

    type: Literal["vacancy.quota.share.set.v1"] = "vacancy.quota.share.set.v1"
    data: QuotaShareData


class QuotaShareSettled(Envelope):
    """The last step after a recall: the ledger has what the partition gave back."""

    type: Literal["vacancy.quota.share.settled.v1"] = "vacancy.quota.share.settled.v1"
    data: QuotaPlanData


class QuotaParentPlanned(Envelope):
    """An operator sets the parent of a project. Its key is `quota-parents`: one ledger decides on all parents."""

    type: Literal["vacancy.quota.parent.planned.v1"] = "vacancy.quota.parent.planned.v1"
    data: QuotaParentData


class QuotaParentSet(Envelope):
    """The second step: a project counts for its parent too. Every partition gets this event, with one of its cells as key."""

    type: Literal["vacancy.quota.parent.set.v1"] = "vacancy.quota.parent.set.v1"
    data: QuotaParentData


class QuotaCountedData(RequestModel):
    """Consumers of a cell whose allocations are to be counted."""

    consumers: Annotated[tuple[Id, ...], Field(min_length=1, max_length=BATCH_MAX)]


class QuotaCounted(Envelope):
    """What these consumers hold is counted, as far as it was granted under rules without quotas and was not counted yet."""

    type: Literal["vacancy.quota.counted.v1"] = "vacancy.quota.counted.v1"
    data: QuotaCountedData


class SigningPolicySet(Envelope):
    """An operator says which keys operators have, and which nodes must sign. An operator's key signs it: the first one is pinned by
    the first of these events. Every partition gets one, with one of its cells as key."""

    type: Literal["vacancy.signing.policy.set.v1"] = "vacancy.signing.policy.set.v1"
    data: SigningPolicyData


class SigningKeysSet(Envelope):
    """An operator says which keys a node has. An operator's key signs it."""

    type: Literal["vacancy.signing.keys.set.v1"] = "vacancy.signing.keys.set.v1"
    data: SigningKeysData


Event = (
    NodeReported
    | NodeHeartbeat
    | NodeChanged
    | NodeRetired
    | NodeReportedV2
    | NodeRetiredV2
    | NodeAdopted
    | NodeRenamed
    | NodeCounted
    | ClaimsRequested
    | ClaimsRequestedV2
    | GangRequested
    | ConsumersReleased
    | ConsumerConfirmed
    | ConsumerReplaced
    | ConsumerReplacedV2
    | ConsumerReplacedV3
    | ConsumerUpdated
    | RequestsReceived
    | RequestsReceivedV2
    | RequestsClosed
    | OperatorSettingsSet
    | OperatorSettingsSetV2
    | Tick
    | LogOpened
    | RulesActivated
    | RulesProposed
    | RulesSupported
    | RulesWithdrawn
    | QuotaLimitSet
    | QuotaSharePlanned
    | QuotaShareSet
    | QuotaShareSettled
    | QuotaParentPlanned
    | QuotaParentSet
    | QuotaCounted
    | CellMoveBegun
    | CellMoveWithdrawn
    | CellMoveEnded
    | StateMarked
    | StateDigested
    | NodeRunning
    | TransactionRequested
    | SigningPolicySet
    | SigningKeysSet
)

EVENT_MODELS: tuple[type[Envelope], ...] = get_args(Event)
"""All events that this build can read. The rules of a log decide which of them it allows."""


@lru_cache(maxsize=16)
def _adapter_of(models: tuple[type[Envelope], ...]) -> TypeAdapter[Any]:
    union: Any = Annotated[Union[models], Field(discriminator="type")]  # noqa: UP007 - of what is known at run time
    return TypeAdapter(union)


@lru_cache(maxsize=16)
def _validator_of(models: tuple[type[Envelope], ...], first_error_only: bool) -> Callable[[bytes], Any]:
    adapter = _adapter_of(models)
    if not first_error_only:
        return adapter.validate_json
    schema = _shared_defaults(stop_early(adapter.core_schema, limited=True))
    # Nearly all texts are new ids: to remember those would cost more than it saves.
    keys_only = CoreConfig(cache_strings="keys")
    validate_json = SchemaValidator(schema, keys_only, _use_prebuilt=False).validate_json
    validate_objects = SchemaValidator(_of_objects(schema), _use_prebuilt=False).validate_python

    def validate(value: bytes) -> Any:
        # JSON has at most one opening bracket for every two bytes. To delete them is the fastest way to count them.
        size = len(value)
        if (
            size > 2 * BRACKETS_IN_ONE_PASS
            and size - len(value.translate(None, b"{[")) > BRACKETS_IN_ONE_PASS
        ):
            return validate_objects(from_json(value))
        return validate_json(value)

    return validate


def _shared_defaults(schema: Any) -> Any:
    """The schema with one instance of each default that is a model, for all events. Models are frozen; pydantic would copy those
    with a dict in them, which takes 25 us."""
    if isinstance(schema, dict):
        changed = {name: _shared_defaults(part) for name, part in schema.items()}
        if schema.get("type") == "default" and isinstance(default := schema.get("default"), BaseModel):
            del changed["default"]
            changed["default_factory"] = lambda: default
        return changed
    return [_shared_defaults(part) for part in schema] if isinstance(schema, list) else schema


def _of_objects(schema: Any) -> Any:
    """The schema for objects of Python that were JSON: an array may be a list, and an object a dict."""
    if isinstance(schema, dict):
        changed = {name: _of_objects(part) for name, part in schema.items()}
        if schema.get("type") in ("tuple", "list", "model"):
            changed["strict"] = False
        return changed
    return [_of_objects(part) for part in schema] if isinstance(schema, list) else schema


def event_parser(
    models: Iterable[type[Envelope]], *, first_error_only: bool = False
) -> Callable[[bytes], Any]:
    """A function that reads one record's value as one of these events (two or more). It raises `InvalidRecord` with
    the path and the text of the first error, also for an event of another type. With `first_error_only` it stops at the
    first error of each list, also where the list is too long as well."""
    validate = _validator_of(tuple(models), first_error_only)

    def parse_event(value: bytes) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise InvalidRecord(_first_error(error, value)) from None
        except ValueError as error:  # of `from_json`
            raise InvalidRecord(f"Invalid JSON: {error}") from None

    return parse_event


def parse(value: bytes) -> Event:
    """Parse the value of a record, independent of the log's rules. Raises `InvalidRecord`."""
    event: Event = event_parser(EVENT_MODELS)(value)
    return event


def _first_error(error: ValidationError, value: bytes) -> str:
    if error.error_count() <= _ERRORS_LISTED:
        first: Any = error.errors(include_url=False, include_context=False)[0]
    else:
        # A list of all errors takes 2 us for each of them. As JSON without their inputs they take a tenth of that.
        text = error.json(include_url=False, include_context=False, include_input=False)
        first, _ = json.JSONDecoder().raw_decode(text, 1)
        first["input"] = _input_at(json.loads(value), first["loc"][1:])
    if first["type"] == "union_tag_invalid":
        return f"type: no event of the log's rules is {str(first['input'].get('type'))[:80]!r}"
    path = ".".join(str(part) for part in first["loc"][1:])
    shown = first["input"] if isinstance(first["input"], str | int | float) else ""
    got = f", got {str(shown)[:80]!r}" if shown != "" else ""
    return f"{path + ': ' if path else ''}{first['msg']}{got}"


def _input_at(value: Any, path: Iterable[str | int]) -> Any:
    """What stands at the path of an error. Some of its parts are not in the value: the kinds of a union, a missing field."""
    last: Any = None
    for part in path:
        if part == "[key]":
            return last
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            last, value = part, value[part]  # type: ignore[index]
    return value


def claims_of(event: Event) -> tuple[Claim, ...]:
    """The claims that an event has, in their order: those of a record of claims or of a gang, or a replacement."""
    if isinstance(event.data, Claim):
        return (event.data,)
    if isinstance(event, ClaimsRequestedV2):
        return event.data.whole()
    if isinstance(event, ClaimsRequested | GangRequested):
        return event.data.claims
    return ()


def encode(event: Event) -> bytes:
    """Encode the value of a record. Fields at their defaults are left out, except those that a CloudEvent needs."""
    body = event.model_dump(mode="json", exclude_defaults=True)
    return _adapter_json({"specversion": "1.0", "type": event.type, **body, "data": body.get("data", {})})


_adapter_json = TypeAdapter(dict[str, Any]).dump_json
_fast_json = msgspec.json.Encoder().encode


def encode_plain(type_: str, id_: str, source: str, data: dict[str, Any]) -> bytes:
    """Encode the value of a record from data that is JSON already, without validation. It is for producers of many events a
    second, which must make valid data."""
    return _fast_json({"specversion": "1.0", "type": type_, "id": id_, "source": source, "data": data})


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of all events."""
    return _adapter_of(EVENT_MODELS).json_schema()
