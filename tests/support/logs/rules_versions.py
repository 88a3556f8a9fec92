"""Versions of the rules that only tests have: those of this build, and a later one with an event and two tables more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model.events import Envelope
from vacancy.resources.model.request import RequestModel
from vacancy.resources.state.rule_set import Handler, RuleSet, RulesVersions, Upcaster
from vacancy.resources.state.tables import Table
from vacancy.resources.state.transaction import Transaction


class _Bytes(Table[bytes]):
    """A table of plain bytes."""

    def encode(self, row: bytes) -> bytes:
        return row

    def decode(self, data: bytes) -> bytes:
        return data


NOTES = _Bytes("notes", bytes, fed=True)
"""The last note of each cell."""

NOTE_COUNTS = _Bytes("note_counts", bytes)
"""How many notes each cell has had; readers get it from RocksDB only."""


class NoteData(RequestModel):
    text: str


class NoteTaken(Envelope):
    type: Literal["vacancy.note.taken.v1"] = "vacancy.note.taken.v1"
    data: NoteData


def _fold_note(transaction: Transaction, event: NoteTaken) -> None:
    key = transaction.cell.encode()
    before = transaction.get(NOTE_COUNTS, key)
    count = 1 if before is None else int(before) + 1
    transaction.put(NOTES, key, event.data.text.encode())
    transaction.put(NOTE_COUNTS, key, b"%d" % count)


def rule_set(
    version: int,
    *,
    handlers: Mapping[type[Any], Handler | None] | None = None,
    upcasters: Mapping[type[Any], Upcaster] | None = None,
    tables: Sequence[Table[Any]] | None = None,
    classes: frozenset[str] | None = None,
) -> RuleSet:
    """The rules of this build of that version, or the newest of them under another number, with these differences. A
    handler that is None is left out."""
    base = RULES_VERSIONS.of(min(version, RULES_VERSION))
    found = {**base.handlers, **(handlers or {})}
    return RuleSet(
        version,
        "of tests",
        handlers={model: handler for model, handler in found.items() if handler is not None},
        upcasters=base.upcasters if upcasters is None else upcasters,
        expiries=base.expiries,
        tables=base.tables if tables is None else tables,
        classes=base.classes if classes is None else classes,
        ask_fields=base.ask_fields,
        canonical=base.canonical,
        limits=base.limits,
        first_error_only=version >= 3,
        keeps_grants=base.keeps_grants,
        excludes_items=base.excludes_items,
        counts_domains=base.counts_domains,
    )


LATER_VERSION = RULES_VERSION + 1
LATER_BUILD = RulesVersions(
    (
        *RULES_VERSIONS,
        rule_set(
            LATER_VERSION,
            handlers={NoteTaken: _fold_note},
            tables=(*RULES_VERSIONS.newest.tables, NOTES, NOTE_COUNTS),
        ),
    )
)
"""What a later build would support."""
