"""The answers of queries about a store: plain data, ready for JSON. Times are in ms since 1970 (UTC)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class InventoryAnswer:
    """What a provider has of one class. `free` is below 0 on a provider that is over capacity.

    `limits` are the class's other columns (min_unit, max_unit, step_size), `record` is its own record;
    `changed` and `taken` are the offsets of the events that last changed it and took from it (-1: none).
    """

    resource_class: str
    capacity: int
    used: int
    free: int
    limits: dict[str, int]
    record: dict[str, Any]
    changed: int
    taken: int


@dataclass(frozen=True, slots=True)
class HoldingAnswer:
    """What one consumer holds of one provider and class. `grant` is in the format of the class."""

    consumer: str
    provider: str
    resource_class: str
    group: str
    grant: Any
    claim: str
    hold_until_ms: int


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """One resource provider. `facts` are the operator settings, or None."""

    id: str
    parent: str | None
    generation: int
    reported: bool
    disabled: bool
    traits: list[str]
    operator_traits: list[str]
    aggregates: list[str]
    attributes: dict[str, str | int | bool]
    operator_attributes: dict[str, str | int | bool]
    inventories: list[InventoryAnswer]
    facts: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ContestedAnswer:
    """A node that events of two writers reach, see `ContestedRow`. `closed`: it takes no new claims for this reason, until
    `until_ms` (log time) if no other conflict comes. `dropped` events were dropped so far, `dropped_reports` of them full
    reports. The last one is at `offset`: it was of incarnation `other` while `incarnation` was open.
    """

    root: str
    cell: str
    partition: int
    closed: bool
    since_ms: int
    until_ms: int
    dropped: int
    dropped_reports: int
    offset: int
    time_ms: int
    reason: str
    incarnation: str
    other: str


State = Literal[
    "open", "disabled", "draining", "incomplete", "contested", "retired", "in two cells", "two names"
]


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """A node. `heard_ms` is the log time of its last event; only an `open` node accepts new claims. `contested` is what
    is known of its conflicts, None if there were none."""

    root: str
    cell: str
    partition: int
    state: State
    heard_ms: int
    incarnation: str
    sequence: int
    contested: ContestedAnswer | None = None


@dataclass(frozen=True, slots=True)
class ExcludedAnswer:
    """A device that nobody gets: an operator excluded it (the settings of `provider` name it), or the host says that it is
    unhealthy (its report names it). `holders` are the consumers that still hold it, or a function of it."""

    provider: str
    resource_class: str
    name: str
    reason: str
    holders: list[str]
    by: Literal["operator", "host"] = "operator"
    cell: str = ""


@dataclass(frozen=True, slots=True)
class TreeAnswer:
    """A provider, its descendants (a parent before its children), its node, and the consumers that hold any of them."""

    id: str
    cell: str
    partition: int
    root: str
    node: NodeAnswer | None
    providers: list[ProviderAnswer]
    holdings: list[HoldingAnswer]
    excluded: list[ExcludedAnswer]
    as_of: dict[int, int]


@dataclass(frozen=True, slots=True)
class ConsumerAnswer:
    """What a consumer holds in one cell. `hold_until_ms` is 0 unless it is an unconfirmed hold."""

    consumer: str
    cell: str
    partition: int
    claim: str
    generation: int
    consumer_type: str
    project: str
    user: str
    request: str | None
    offset: int
    hold_until_ms: int
    holdings: list[HoldingAnswer]


@dataclass(frozen=True, slots=True)
class VerdictAnswer:
    """How a claim was judged; see `VerdictRow`. Deleted once log time passes `deadline_ms`."""

    claim: str
    cell: str
    partition: int
    offset: int
    accepted: bool
    reason: str
    consumer: str
    provider: str
    resource_class: str
    asked: int
    available: int
    taken: int
    deadline_ms: int
    group: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """A request. `outcome` is '' while it is open."""

    id: str
    spec: dict[str, Any]
    received_ms: int
    outcome: str
    claim: str | None
    cell: str | None
    as_of: dict[str, int]
    in_flight: list[str]
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetterAnswer:
    """A record that was refused. `value` is the start of it as text; `size` is its full length in bytes."""

    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    key: str
    value: str
    size: int


@dataclass(slots=True)
class PartitionStatus:
    """The state of one partition. `end` and `lag` (records) are None if the log was not read.

    `time_ms` is its log time, `ahead_s` how far that is ahead of this host's clock. `dead_letters` counts all dead letters,
    including deleted ones. `contested` counts the nodes that are closed because two writers use their names; `dropped` and
    `dropped_reports` count what was dropped of such nodes. `digest` is the last one that was computed beside the fold,
    of position `digested` (-1: none yet). `differs` are the stores of other hosts that said in the log that theirs is another
    one: how, by the id of the store.
    """

    partition: int
    position: int
    end: int | None = None
    lag: int | None = None
    time_ms: int = 0
    ahead_s: float = 0.0
    rules_version: int = 0
    classes: list[str] = field(default_factory=list)
    nodes: int = 0
    providers: int = 0
    allocations: int = 0
    verdicts: int = 0
    requests_open: int = 0
    dead_letters: int = 0
    contested: int = 0
    dropped: int = 0
    dropped_reports: int = 0
    digested: int = -1
    digest: str = ""
    differs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttributeType:
    """How many providers have an attribute of one type; `example` is one of them."""

    providers: int
    example: str


@dataclass(frozen=True, slots=True)
class ColumnsStatus:
    """The memory of this reader's columns: about how many bytes they use, their bound (setting `view_memory_mb`), how many
    names were left out because of it, and some of these names."""

    bytes: int
    bytes_max: int
    left_out: int
    examples: list[str]


@dataclass(frozen=True, slots=True)
class SigningSummary:
    """How far nodes sign. `operator_keys` are those of all partitions together, `must_sign` counts nodes, of which `without_key`
    have none: their events are refused."""

    operator_keys: int
    must_sign: int
    without_key: int


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """The state of a store. `clashes`: roots that are live in two cells, with the cells. `attribute_clashes`: attributes
    that have different types on different providers, with the types. `contested`: nodes that events of two writers reach or
    reached, those that are closed for it first. `excluded`: the devices that nobody gets. `taints`: how many
    providers have each taint, those of the most first."""

    store: str
    log: str
    partitions: list[PartitionStatus]
    node_states: dict[str, int]
    clashes: dict[str, list[str]]
    attribute_clashes: dict[str, dict[str, AttributeType]]
    columns: ColumnsStatus
    contested: list[ContestedAnswer] = field(default_factory=list)
    machine_clashes: dict[str, list[str]] = field(default_factory=dict)
    excluded: list[ExcludedAnswer] = field(default_factory=list)
    taints: dict[str, int] = field(default_factory=dict)
    signing: SigningSummary | None = None
    """How far nodes sign; None where no operator has a key."""
