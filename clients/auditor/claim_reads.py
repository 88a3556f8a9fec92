"""What judging a claim can read at most of large rows (`claim_reads`, docs/limits.md), counted from the auditor's own ledger.

The rules count what is read once for all claims of a record once, and so less than this. So a claim may be rejected with
`record_full` where this sum is over the limit, and where it is not, the rejection is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vacancy.clients.auditor.claims.server_groups import members
from vacancy.clients.auditor.ledger import Ledger

CLAIM_READS: Final = 8_192
"""The limit for all claims of a record."""

_MOVED: Final = 3
"""A changed ask of a move is looked at so often."""


def most_reads(ledger: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool) -> int | None:
    """How much judging a claim can read; None where a class or a group does not tell."""
    reads = sum(_of_predicate(ledger, cell, predicate) for predicate in claim.get("predicates", ()))
    for one in claim.get("memberships", ()):
        if one["policy"] == "spread":
            return None
        there = members(ledger, one["group"])
        # Members are looked at once as they are, and once without the consumer.
        reads += 2 * sum(1 + sum(map(len, held.copies)) for held in there)
    for allocation in claim["allocations"]:
        for name, ask in allocation["resources"].items():
            of_ask = _of_ask(ledger, cell, (allocation["provider"], name), ask, replaces=replaces)
            if of_ask is None:
                return None
            reads += of_ask
    return reads


def _of_predicate(ledger: Ledger, cell: str, predicate: Mapping[str, Any]) -> int:
    provider = ledger.providers.get((cell, predicate["provider"]))
    if provider is None or predicate["kind"] not in ("generation", "subtree"):
        return 0
    tree = (cell, provider.root)
    if predicate["kind"] == "subtree":
        return len(ledger.members.get(tree, ())) + 1
    waiting = ledger.withdrawals.names(tree, predicate["provider"]) or ()
    return len({*provider.stock, *waiting})


def _of_ask(ledger: Ledger, cell: str, slot: tuple[str, str], ask: Any, *, replaces: bool) -> int | None:
    id_, name = slot
    stock = ledger.stock_of(cell, id_, name)
    if stock is None:
        return 0
    by = ledger.consumers.granted.get((cell, id_, name), {})
    held = [grant for grants in by.values() for grant in grants]
    reads = ledger.auditor(name).most_reads(stock, held, ask)
    if reads is None:
        return None
    return reads * (_MOVED if replaces else 1) + (sum(map(_size, held)) if replaces else 0)


def _size(grant: Any) -> int:
    """How many names a grant has."""
    if isinstance(grant, Mapping):
        return sum(map(_size, grant.values()))
    return sum(map(_size, grant)) if isinstance(grant, list) else 1
