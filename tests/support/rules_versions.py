"""Versions of the rules that only tests have: those of this build, and a later one with an event and two tables more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal

from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.events import Envelope
from vacancy.resources.model.request import RequestModel
from vacancy.resources.state.rule_set import PREVIEWS, Handler, RuleSet, RulesVersions, Upcaster
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
    base = RULES_VERSIONS.of(min(version, RULES_VERSIONS.released.version))
    found = {**base.handlers, **(handlers or {})}
    return RuleSet(
        version,
        "of tests",
        handlers={model: handler for model, handler in found.items() if handler is not None},
        upcasters=upcasters,
        expiries=base.expiries,
        tables=base.tables if tables is None else tables,
        classes=base.classes if classes is None else classes,
        canonical=base.canonical,
        limits=base.limits,
    )


_RELEASED = tuple(one for one in RULES_VERSIONS if not one.preview)
LATER_VERSION = len(_RELEASED) + 1
LATER_BUILD = RulesVersions(
    (
        *_RELEASED,
        rule_set(
            LATER_VERSION,
            handlers={NoteTaken: _fold_note},
            tables=(*_RELEASED[-1].tables, NOTES, NOTE_COUNTS),
        ),
    )
)
"""What a later build would support."""


def _as_release(of: RuleSet) -> RuleSet:
    """A preview under the number that it gets as a release."""
    found = copy(of)
    found.version -= PREVIEWS * of.preview
    return found


RELEASED_BUILD = RulesVersions([_as_release(one) for one in RULES_VERSIONS])
"""This build, once its newest rules are released."""
