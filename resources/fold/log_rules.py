"""The events that set the rules in force: `log.opened` and `rules.activated`."""

from __future__ import annotations

from msgspec.structs import replace

from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import Halt, InvalidRecord
from vacancy.resources.model.events import LogOpenedData, Rules
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.transaction import Transaction


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
    """Set the rules of the partition. They apply from the next record on."""
    here = transaction.partition
    check_rules(
        rules,
        transaction.versions,
        transaction.registry,
        f"partition {here.partition}, offset {transaction.offset}",
    )
    if rules.version < here.rules_version or not set(here.classes) <= set(rules.classes):
        raise InvalidRecord("rules are raised, never lowered: a version or a class is missing")
    transaction.partition = replace(
        here, rules_version=rules.version, classes=tuple(sorted(set(rules.classes)))
    )
