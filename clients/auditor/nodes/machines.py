"""Which machine is which node, by the auditor's own books, from rules version 4 on.

The ledger asks whether an event of a node counts, and whether the node is closed because its machine is in doubt. Nothing is
stored that follows from something else: doubt is found again at each question.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vacancy.clients.auditor.claims.consumers import Key

KEPT: Final = 8
"""Refused machines of a node, and incarnations whose reports were dropped."""

NAMELESS: Final = "-"
"""A publisher that names no machine."""


@dataclass(slots=True)
class NodeMachine:
    """What is known of a node's machine. `rival` reports under the same name and nobody has decided; `refused` were decided
    against; `awaited`: the node has not reported since a decision; `ignored` are incarnations of other machines."""

    machine: str | None = None
    rival: str | None = None
    refused: list[str] = field(default_factory=list)
    awaited: bool = False
    ignored: list[str] = field(default_factory=list)


class Machines:
    """The machines of the nodes of one partition, by (cell, root)."""

    def __init__(self) -> None:
        self._nodes: dict[Key, NodeMachine] = {}

    def in_doubt(self, node: Key) -> bool:
        """Whether the node takes no claims before an operator decides, or its machine reports."""
        known = self._nodes.get(node)
        if known is None:
            return False
        return known.awaited or known.rival is not None or len(self.names(node[0], known.machine)) > 1

    def names(self, cell: str, machine: str | None) -> list[Key]:
        """The nodes of a cell that this machine is."""
        if machine is None:
            return []
        return [key for key, one in self._nodes.items() if key[0] == cell and one.machine == machine]

    def may_report(self, node: Key, machine: str | None) -> bool:
        """Whether a full report that names this machine counts."""
        known = self._nodes.get(node, NodeMachine())
        if (machine or NAMELESS) in known.refused:
            return False
        if known.machine is not None:
            return known.machine == machine
        return machine is not None or not known.awaited

    def drop_report(self, node: Key, machine: str | None, incarnation: str) -> None:
        """A full report did not count."""
        known = self._nodes.setdefault(node, NodeMachine())
        known.ignored = _first(incarnation, known.ignored)
        if not known.awaited and (machine or NAMELESS) not in known.refused:
            known.rival = machine or NAMELESS

    def reported(self, node: Key, machine: str | None, incarnation: str) -> list[Key]:
        """A full report counted. Returns the nodes that this concerns."""
        known = self._nodes.get(node)
        if known is None and machine is None:
            return []
        before = self.names(node[0], known.machine if known else None)
        known = self._nodes.setdefault(node, NodeMachine())
        known.machine, known.awaited = machine or known.machine, False
        known.ignored = [one for one in known.ignored if one != incarnation]
        return [node, *before, *self.names(node[0], machine)]

    def ignores(self, node: Key, incarnation: str) -> bool:
        """Whether a change or a heartbeat of this incarnation changes nothing."""
        known = self._nodes.get(node)
        return known is not None and (known.awaited or incarnation in known.ignored)

    def is_foreign(self, node: Key, incarnation: str) -> bool:
        """Whether this incarnation is of a machine whose reports do not count."""
        known = self._nodes.get(node)
        return known is not None and incarnation in known.ignored

    def awaits(self, node: Key) -> bool:
        """Whether the node has not reported since a decision."""
        known = self._nodes.get(node)
        return known is not None and known.awaited

    def retire(self, node: Key) -> list[Key]:
        """A node was retired: only what an operator decided against stays. Returns the nodes that this concerns."""
        known = self._nodes.pop(node, None)
        if known is None:
            return []
        concerned = [node, *self.names(node[0], known.machine)]
        if known.refused:
            self._nodes[node] = NodeMachine(refused=known.refused)
        return concerned

    def forget(self, node: Key) -> None:
        """A node's incarnations are forgotten."""
        self._nodes.pop(node, None)

    def give_up(self, node: Key, incarnation: str | None) -> None:
        """The machine of a node is another node now. `incarnation` is the node's newest."""
        known = self._nodes[node]
        if known.machine is not None:
            known.refused = _first(known.machine, known.refused)
        known.machine, known.awaited = None, True
        if incarnation is not None:
            known.ignored = _first(incarnation, known.ignored)

    def adopt(self, node: Key, machine: str, incarnation: str) -> list[Key]:
        """The machine is this node from now on. Returns the nodes that this concerns."""
        known = self._nodes.setdefault(node, NodeMachine())
        against = [known.machine or NAMELESS, *([known.rival] if known.rival else []), *known.refused]
        known.refused = [one for one in dict.fromkeys(against) if one != machine][:KEPT]
        concerned = [node, *self.names(node[0], known.machine), *self.names(node[0], machine)]
        if known.machine != machine:
            known.machine, known.awaited = machine, True
            known.ignored = _first(incarnation, known.ignored)
        known.rival = None
        return concerned

    def rename(self, node: Key, to: Key, *, is_new: bool) -> list[Key]:
        """A node has another name. `is_new` is whether nobody reports that name."""
        machine = self.machine(node)
        concerned = [*self.retire(node), to]
        if is_new and machine is not None:
            known = self._nodes.setdefault(to, NodeMachine())
            known.machine, known.refused = machine, [one for one in known.refused if one != machine]
        return concerned

    def machine(self, node: Key) -> str | None:
        """The machine of a node, where it is known."""
        known = self._nodes.get(node)
        return None if known is None else known.machine


def _first(one: str, others: list[str]) -> list[str]:
    return [one, *(other for other in others if other != one)][:KEPT]
