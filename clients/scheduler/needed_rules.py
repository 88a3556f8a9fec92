"""Checks before anything is sent that a log's rules have what a request uses."""

from __future__ import annotations

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.state.rule_set import PREVIEWS
from vacancy.resources.state.tables import PARTITION, PARTITION_KEY


def check_rules_have(reader: StoreReader, model: type, what: str) -> None:
    """Raise `UsageError` unless the rules of all partitions allow the event `model`, which `what` needs."""
    for cell in covering_cells(reader.manifest.partitions):
        row = reader.get(PARTITION, PARTITION_KEY, cell=cell)
        if row is None or model not in reader.versions.of(row.rules_version).event_models:
            needed = next(rules for rules in reader.versions if model in rules.event_models)
            number = needed.version - PREVIEWS * needed.preview
            raise UsageError(
                f"the log follows rules version {row.rules_version if row else 0}, and {what} need version {number}",
                where=f"store {reader.path}",
                do="version 4 is a preview: only a log made by `vacancy topics create --preview-rules` follows it"
                if needed.preview
                else f"raise the rules with `vacancy rules activate {number}`",
            )
