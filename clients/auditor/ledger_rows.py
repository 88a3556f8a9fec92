"""What the auditor's books keep of nodes and their providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vacancy.clients.auditor.inventory import Stock


@dataclass(slots=True)
class LedgerProvider:
    """A provider; `changed` is its generation, the offset of the last event that changed it but for its use."""

    root: str
    parent: str | None = None
    reported: bool = True
    traits: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    stock: dict[str, Stock] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    changed: int = -1


@dataclass(slots=True)
class LedgerNode:
    """A root's life. `incarnations` are (incarnation, last sequence), newest first."""

    incarnations: list[tuple[str, int]]
    complete: bool = True
    retired_ms: int | None = None
