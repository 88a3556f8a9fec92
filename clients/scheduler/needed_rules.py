"""Checks before anything is sent that a log's rules have what a request uses."""

from __future__ import annotations

from collections.abc import Callable

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import OldRules, UsageError
from vacancy.resources.model.events import ClaimsRequestedV2, RequestsReceivedV2
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.server_group import (
    AffinityRule,
    ServerGroupMembership,
    group_cell,
    group_name,
    spread_membership,
)
from vacancy.resources.state.rule_set import RuleSet
from vacancy.resources.state.tables import GROUPS, PARTITION, PARTITION_KEY, key


def check_request(reader: StoreReader, request: CompiledRequest, *, recorded: bool) -> None:
    """Raise `UsageError` unless the rules of all partitions have what a request uses. `recorded`: the request is written to the
    log. Its server groups must have the rules that it names, as far as the tables know."""
    if request.tolerated:
        check_rules(reader, lambda rules: ClaimsRequestedV2 in rules.event_models, "tolerations need")
    if spread_membership(request.spec.memberships) is not None:
        check_rules(
            reader, lambda rules: ClaimsRequestedV2 in rules.event_models, "spread server groups need"
        )
    if request.choices and recorded:
        check_rules(
            reader,
            lambda rules: RequestsReceivedV2 in rules.event_models,
            "alternatives and preferences need",
        )
    for name, field in sorted(request.needs):
        if field:
            has, what = (
                (lambda rules, of=(name, field): of[1] in rules.ask_fields.get(of[0], ())),
                (f"`{field}` in an ask for {name} needs"),
            )
        else:
            has, what = (lambda rules, of=name: of in rules.classes), f"class {name} needs"
        check_rules(reader, has, what)
    for one in request.spec.memberships if recorded else ():
        _check_group(reader, one)


def _check_group(reader: StoreReader, wanted: ServerGroupMembership) -> None:
    """The fold rejects another rule than that of the members that there are: no other place helps."""
    row = reader.get(GROUPS, key(group_cell(wanted.group), group_name(wanted.group)))
    if row is None or not row.members:
        return
    there = AffinityRule(row.policy, row.hard, row.max_per_node, row.scope)
    if there != wanted.rule:
        raise UsageError(
            f"server group {wanted.group} has another rule: {_rule_text(there)}, not {_rule_text(wanted.rule)}",
            where=f"store {reader.path}",
            do="name the group with its rule, or use another group: the rule stays until the last member has left",
        )


def _rule_text(rule: AffinityRule) -> str:
    most = f", at most {rule.max_per_node} together" if rule.policy == "anti-affinity" else ""
    if rule.spreads:
        most = f", skew at most {rule.max_per_node}"
    where = f", by aggregates {rule.scope}..." if rule.scope else ""
    return f"{'hard' if rule.hard else 'soft'} {rule.policy}{most}{where}"


def check_rules(reader: StoreReader, has: Callable[[RuleSet], bool], what: str) -> None:
    """Raise `OldRules` unless `has` holds for the rules of all partitions. `what` starts the sentence about the version."""
    for cell in covering_cells(reader.manifest.partitions):
        row = reader.get(PARTITION, PARTITION_KEY, cell=cell)
        if row is None or not has(reader.versions.of(row.rules_version)):
            needed = next(rules.version for rules in reader.versions if has(rules))
            raise OldRules(
                f"the log follows rules version {row.rules_version if row else 0}, and {what} version {needed}",
                where=f"store {reader.path}",
                do=f"raise the rules with `vacancy rules activate {needed}`",
            )
