"""What a query finds: candidates, and what each of their providers would give."""

from __future__ import annotations

from typing import NamedTuple

from vacancy.resources.model.request import Ask


class ServedGroup(NamedTuple):
    """What one provider would give to one group: class -> ask (empty where the group asks for traits only)."""

    provider: str
    resources: dict[str, Ask]
    group: str


class Candidate(NamedTuple):
    """A place for a request: a tree, and what each of its providers would give.

    `from_sharing` are the providers among them that belong to other trees: sharing providers. A candidate for several
    copies has the allocations of all copies and the root of the first; `copies` has one candidate for each copy. `choice` is
    the number of the request's choice that it is a place for (`CompiledRequest.choices`).
    """

    cell: str
    root: str
    allocations: tuple[ServedGroup, ...]
    from_sharing: tuple[str, ...] = ()
    copies: tuple[Candidate, ...] = ()
    choice: int = 0

    @property
    def mappings(self) -> dict[str, tuple[str, ...]]:
        """Group -> the providers that serve it."""
        found: dict[str, dict[str, None]] = {}
        for served in self.allocations:
            found.setdefault(served.group, {})[served.provider] = None
        return {group: tuple(providers) for group, providers in found.items()}
