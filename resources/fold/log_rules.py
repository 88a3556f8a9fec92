"""The events that set the rules in force: `log.opened`, and those that raise the rules.

Rules versions 1 and 2 raise the rules with one event. A record with a version or a class that no build has then stops
every build. From version 3 on there are three events: an operator proposes rules, the worker of each store answers whether
its build supports them, and an operator activates them. An activation without an open proposal that a store supports is a
dead letter, so no single record stops a partition.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.record_limits import check_limit
from vacancy.resources.model.errors import Halt, InvalidRecord
from vacancy.resources.model.events import (
    MISSING_MAX,
    LogOpenedData,
    Rules,
    RulesProposed,
    RulesSupportedData,
    RulesWithdrawnData,
)
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.resources.state.rows import PartitionRow, Proposal, ProposalAnswerRow, ProposalsRow
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import (
    DEADLINES,
    PARTITION,
    PARTITION_KEY,
    PROPOSAL_ANSWERS,
    PROPOSALS,
    answer_key,
    deadline_key,
)
from vacancy.resources.state.transaction import State, Transaction

PROPOSAL: Final = b"P"
ANSWER: Final = b"A"
PROPOSAL_KEPT_MS: Final = 24 * 3600 * 1000
"""How long a proposal stays open, in log time. Its answers stay readable as long."""

RELEASED_MAX: Final = 1_000_000
"""Rules that are not released may have a number above this, in a build for trials. No log is raised to such a number."""

_NONE: Final = ProposalsRow()


def check_rules(rules: Rules, versions: RulesVersions, registry: Registry, where: str) -> None:
    """Raise `Halt` if this build does not support the version, or lacks the class of a plugin."""
    if rules.version not in versions:
        raise Halt(
            f"the log's rules are version {rules.version}, this build supports up to {versions.newest.version}",
            where=where,
            do="upgrade vacancy on this host, then start again",
        )
    missing = [name for name in rules.classes if name not in registry.plugins]
    if missing:
        raise Halt(
            f"the log's rules allow resource class {', '.join(missing)}, which this build does not have",
            where=where,
            do="install the package that provides it, then start again",
        )


def fold_log_opened(transaction: Transaction, data: LogOpenedData) -> None:
    """A second `log.opened`. It changes nothing if it names the same log."""
    here = transaction.partition
    if (data.log, data.partition) != (here.log, here.partition):
        raise InvalidRecord(f"the log was opened before, as {here.log}")


def fold_rules_activated(transaction: Transaction, rules: Rules) -> None:
    """Rules versions 1 and 2: set the rules of the partition. They apply from the next record on."""
    check_rules(rules, transaction.versions, transaction.registry, _where(transaction))
    if not _raises(transaction.partition, rules):
        raise InvalidRecord(_NEVER_LOWERED)
    _set_rules(transaction, rules.version, _classes(rules))


_NEVER_LOWERED: Final = "rules are raised, never lowered: a version or a class is missing"


# -- in three steps, from version 3 on --------------------------------------------------------------------


def fold_rules_proposed(transaction: Transaction, event: RulesProposed) -> None:
    """Open a proposal. Rules that are proposed already, or are in force, change nothing."""
    rules, limits = event.data, transaction.rules.limits
    here, classes = transaction.partition, _classes(event.data)
    if not _raises(here, rules):
        raise InvalidRecord(_NEVER_LOWERED)
    if rules.version > max(RELEASED_MAX, here.rules_version):
        raise InvalidRecord(
            f"rules version {rules.version} is a preview: only a new log follows it, from its first record"
        )
    if (rules.version, classes) == (here.rules_version, here.classes):
        return
    count, limit = len(classes), limits.proposal_classes
    check_limit(transaction.rules, "the proposal has", count, "classes", limit, " a proposal")
    proposals = _proposals(transaction)
    known = next((one for one in proposals if one.id == event.id), None)
    if known is not None and (known.version, known.classes) != (rules.version, classes):
        raise InvalidRecord(f"proposal {event.id} was made before with other rules, at offset {known.offset}")
    if any((one.version, one.classes) == (rules.version, classes) for one in proposals):
        return
    if len(proposals) >= limits.proposals:
        raise InvalidRecord(
            f"{len(proposals):,} proposals are open, and rules version {here.rules_version} allows"
            f" {limits.proposals:,}"
        )
    ends_ms = transaction.time_ms + PROPOSAL_KEPT_MS
    made = Proposal(event.id, rules.version, classes, transaction.offset, ends_ms)
    _put_proposals(transaction, (*proposals, made))
    transaction.put(DEADLINES, _proposal_deadline(made), b"")


def fold_rules_supported(transaction: Transaction, answer: RulesSupportedData) -> None:
    """Record the answer of a store. It replaces the store's answer before. An answer to a proposal that is not open
    changes nothing: workers answer while an operator activates or withdraws."""
    proposals = _proposals(transaction)
    proposal = next((one for one in proposals if one.id == answer.proposal), None)
    if proposal is None:
        return
    key = answer_key(proposal.offset, answer.store)
    before = transaction.get(PROPOSAL_ANSWERS, key)
    limit = transaction.rules.limits.proposal_answers
    if before is None and proposal.supporting + proposal.lacking >= limit:
        raise InvalidRecord(
            f"proposal {proposal.id} has {limit:,} answers, and rules version"
            f" {transaction.partition.rules_version} allows no more"
        )
    if before is None:
        transaction.put(DEADLINES, deadline_key(proposal.ends_ms, ANSWER, key), b"")
    row = ProposalAnswerRow(
        proposal.id, answer.store, answer.host, answer.missing, transaction.offset, proposal.ends_ms
    )
    transaction.put(PROPOSAL_ANSWERS, key, row)
    supporting, lacking = proposal.supporting, proposal.lacking
    for counted, sign in ((before, -1), (row, 1)):
        if counted is not None:
            supporting += 0 if counted.missing else sign
            lacking += sign if counted.missing else 0
    _replace_proposal(transaction, proposal, proposal._replace(supporting=supporting, lacking=lacking))


def fold_rules_withdrawn(transaction: Transaction, data: RulesWithdrawnData) -> None:
    """Close a proposal without activating it."""
    proposal = next((one for one in _proposals(transaction) if one.id == data.proposal), None)
    if proposal is None:
        raise InvalidRecord(f"no proposal {data.proposal} is open")
    _replace_proposal(transaction, proposal, None)
    transaction.delete(DEADLINES, _proposal_deadline(proposal))


def fold_rules_activation(transaction: Transaction, rules: Rules) -> None:
    """Set proposed rules that at least one store supports. They apply from the next record on.

    It closes the proposal, and every other one that no longer raises the rules. Raises `Halt` if this build does not
    support the rules.
    """
    if not _raises(transaction.partition, rules):
        raise InvalidRecord(_NEVER_LOWERED)
    wanted = (rules.version, _classes(rules))
    proposals = _proposals(transaction)
    proposal = next((one for one in proposals if (one.version, one.classes) == wanted), None)
    if proposal is None:
        raise InvalidRecord("no open proposal has this version and these classes")
    if not proposal.supporting:
        raise InvalidRecord(f"no store has answered that it supports proposal {proposal.id}")
    check_rules(rules, transaction.versions, transaction.registry, _where(transaction))
    _set_rules(transaction, *wanted)
    here = transaction.partition
    kept = tuple(one for one in proposals if one is not proposal and _raises(here, one))
    _put_proposals(transaction, kept)
    for one in proposals:
        if one not in kept:
            transaction.delete(DEADLINES, _proposal_deadline(one))


def expire_proposal(transaction: Transaction, _at_ms: int, key: bytes) -> None:
    """Close a proposal that was made `PROPOSAL_KEPT_MS` ago. `key` is its offset."""
    kept = tuple(one for one in _proposals(transaction) if answer_key(one.offset, "") != key)
    _put_proposals(transaction, kept)


def expire_answer(transaction: Transaction, _at_ms: int, key: bytes) -> None:
    """Delete an answer whose proposal has ended."""
    transaction.delete(PROPOSAL_ANSWERS, key)


# -- what a worker answers --------------------------------------------------------------------------------


def missing_here(rules: Rules | Proposal, versions: RulesVersions, registry: Registry) -> tuple[str, ...]:
    """What a build with these versions and classes lacks to follow the rules, in words; at most `MISSING_MAX` of them."""
    missing = [] if rules.version in versions else [f"rules version {rules.version}"]
    missing += [f"resource class {name}" for name in rules.classes if name not in registry.plugins]
    if len(missing) > MISSING_MAX:
        missing[MISSING_MAX - 1 :] = [f"{len(missing) - MISSING_MAX + 1} more resource classes"]
    return tuple(missing)


def unanswered(
    state: State, store: str, versions: RulesVersions, registry: Registry
) -> tuple[RulesAnswer, ...]:
    """What this store still has to answer: to each open proposal, once. It answers again after its build has changed."""
    here = state.get(PARTITION, PARTITION_KEY)
    if here is None or PROPOSALS not in versions.of(here.rules_version).tables:
        return ()
    limit = versions.of(here.rules_version).limits.proposal_answers
    found = []
    for one in (state.get(PROPOSALS, PARTITION_KEY) or _NONE).open:
        answer = RulesAnswer(one.id, missing_here(one, versions, registry))
        row = state.get(PROPOSAL_ANSWERS, answer_key(one.offset, store))
        if row is None and one.supporting + one.lacking >= limit:
            continue
        if row is None or row.missing != answer.missing:
            found.append(answer)
    return tuple(found)


# -- helpers ----------------------------------------------------------------------------------------------


def _where(transaction: Transaction) -> str:
    return f"partition {transaction.partition.partition}, offset {transaction.offset}"


def _classes(rules: Rules) -> tuple[str, ...]:
    return tuple(sorted(set(rules.classes)))


def _raises(here: PartitionRow, rules: Rules | Proposal) -> bool:
    """Whether the rules have at least the version and the classes in force."""
    return rules.version >= here.rules_version and set(here.classes) <= set(rules.classes)


def _set_rules(transaction: Transaction, version: int, classes: tuple[str, ...]) -> None:
    here = transaction.partition
    begins = transaction.versions.of(version).counts_quotas and not transaction.rules.counts_quotas
    transaction.partition = replace(
        here,
        rules_version=version,
        classes=classes,
        quotas_from=transaction.offset if begins else here.quotas_from,
    )


def _proposals(transaction: Transaction) -> tuple[Proposal, ...]:
    return (transaction.get(PROPOSALS, PARTITION_KEY) or _NONE).open


def _put_proposals(transaction: Transaction, proposals: tuple[Proposal, ...]) -> None:
    if proposals:
        transaction.put(PROPOSALS, PARTITION_KEY, ProposalsRow(proposals))
    else:
        transaction.delete(PROPOSALS, PARTITION_KEY)


def _replace_proposal(transaction: Transaction, old: Proposal, new: Proposal | None) -> None:
    changed = (new if one is old else one for one in _proposals(transaction))
    _put_proposals(transaction, tuple(one for one in changed if one is not None))


def _proposal_deadline(proposal: Proposal) -> bytes:
    return deadline_key(proposal.ends_ms, PROPOSAL, answer_key(proposal.offset, ""))
