"""What one record may cost, and what the state of a provider, a tree and a cell may hold.

Each version of the rules has its limits (`RuleSet.limits`). They are functions of the record's bytes and of the state, so
every build decides the same. A record, or the part of it, that is over a limit is refused, and the reason names the
limit. docs/limits.md explains each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

NO_LIMIT: Final = 2**62

NAMED_PART_WEIGHT: Final = 64
"""How many parts of an allocation one counts as that was granted by name (devices, CPUs): giving it back goes through all
devices or CPUs of the provider."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one version of the rules. The defaults are those of versions 1 and 2."""

    record_bytes: int = 8 * 1024 * 1024
    """Bytes of a record's value."""

    record_marks: int = NO_LIMIT
    """Commas, colons and opening brackets (`,` `:` `[` `{`) in a record's value, counted before it is parsed."""

    predicates: int = NO_LIMIT
    """Predicates of all claims of a record."""

    memberships: int = NO_LIMIT
    """Memberships in server groups of all claims of a record."""

    asks: int = NO_LIMIT
    """Asks of all claims of a record: one for each class of each allocation."""

    claim_reads: int = NO_LIMIT
    """What judging the claims of a record may read of large rows: the devices and CPUs of an inventory, the ancestors of
    a provider, the classes of a provider for its generation, the providers that the members of a server group name. A
    claim that would read more is rejected (`record_full`)."""

    group_providers: int = NO_LIMIT
    """Providers that all members of one server group name, counted once for each copy that names them."""

    released_parts: int = NO_LIMIT
    """Parts of allocations that the releases of one record give back. A part that was granted by
    name counts as `NAMED_PART_WEIGHT`. A release that would exceed it is a dead letter, unless it is the first of the
    record that gives something back."""

    group_weight: int = 0
    """How many parts each server group of a consumer counts as where its allocation ends, in `released_parts` and `expiries`:
    all members of the group are written again."""

    expiries: int = NO_LIMIT
    """Units of deadlines that end at one record; the others end at the next records. A deadline is one unit, and a hold
    one more for each part of its allocation (`NAMED_PART_WEIGHT` for one that was granted by name)."""

    consumers_confirmed: int = NO_LIMIT
    """Consumers in one full report."""

    provider_classes: int = NO_LIMIT
    """Resource classes of one provider."""

    provider_attributes: int = NO_LIMIT
    """Attributes that a node reports of one provider, or that an operator sets."""

    provider_traits: int = NO_LIMIT
    """Traits that a node reports of one provider, or that an operator sets."""

    provider_aggregates: int = NO_LIMIT
    """Aggregates of one provider."""

    provider_taints: int = NO_LIMIT
    """Taints of one provider."""

    inventory_items: int = NO_LIMIT
    """Items of one inventory, as its class counts them (`ResourceClass.items`): devices, GPUs and the types that they can
    run, cores of a NUMA cell (at least one for two CPUs). Giving back one of them goes through all."""

    tree_members: int = NO_LIMIT
    """Providers of one tree, with those that stay only because part of them is in use."""

    cell_classes: int = NO_LIMIT
    """Names of resource classes in one cell."""

    cell_attributes: int = NO_LIMIT
    """Names of attributes in one cell."""

    cell_traits: int = NO_LIMIT
    """Names of traits in one cell."""

    changed_names: int = NO_LIMIT
    """Names in the sets of names (of classes, of traits, of attributes) that providers get or lose by one report or one
    event of operator settings. A set that many providers share counts once."""

    withdrawn_at_once: int = NO_LIMIT
    """Inventories and providers of a tree that are withdrawn at one record; the others follow at the next records. Four
    traits and attributes of a provider weigh as much as one inventory."""

    machine_names: int = NO_LIMIT
    """Nodes of a cell that one machine reports as, until an operator decides."""

    renamed: int = NO_LIMIT
    """What one event renames: providers, their inventories, and the parts of the allocations of them (one that was granted
    by name counts as 16), with all members of their server groups."""

    proposals: int = NO_LIMIT
    """Open proposals to raise the rules of one partition."""

    proposal_classes: int = NO_LIMIT
    """Resource classes of plugins in one proposal."""

    proposal_answers: int = NO_LIMIT
    """Stores whose answers to one proposal are recorded."""

    quota_entries: int = NO_LIMIT
    """Entries of one row of quotas: (consumer type, unit) of what is held and of what is limited. Without this limit,
    nothing is counted for quotas."""

    counted_parts: int = NO_LIMIT
    """Parts of allocations that one event counts, which were granted under rules without quotas. A part that was granted by name
    counts as `NAMED_PART_WEIGHT`. The first allocation of an event is always counted."""


LIMITS_1: Final = Limits()
LIMITS_3: Final = Limits(
    record_marks=262_144,
    predicates=1_024,
    memberships=128,
    asks=2_048,
    claim_reads=8_192,
    group_providers=4_096,
    released_parts=2_048,
    expiries=1_024,
    consumers_confirmed=4_096,
    provider_classes=64,
    provider_attributes=64,
    provider_traits=512,
    provider_aggregates=256,
    inventory_items=512,
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
LIMITS_4: Final = replace(
    LIMITS_3,
    group_weight=16,
    machine_names=8,
    renamed=2_560,
    quota_entries=512,
    counted_parts=2_048,
    provider_taints=16,
)
