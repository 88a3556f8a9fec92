"""Classes that the auditor cannot judge: a plugin's class without a class auditor of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from vacancy.clients.auditor.classes.class_auditor import OPAQUE, ClassAuditor, Objection, Slot
from vacancy.clients.auditor.classes.quantity import check_quantity_override
from vacancy.clients.auditor.not_judged import NO_CLASS_AUDITOR


class UnjudgedStock(NamedTuple):
    """An inventory of unknown content."""

    listed: bool = True

    def withdrawn(self) -> UnjudgedStock:
        return UnjudgedStock(listed=False)


class Unjudged(ClassAuditor[UnjudgedStock]):
    """Accepts whatever the store decided. A rejection counts as one that cannot be verified."""

    is_judged: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name

    def read_inventory(self, inventory: Mapping[str, Any]) -> UnjudgedStock:
        return UnjudgedStock()

    def check_override(self, override: Mapping[str, Any]) -> None:
        check_quantity_override(override)

    def objections(self, slot: Slot[UnjudgedStock], asks: Sequence[Any]) -> Iterable[Objection]:
        yield Objection(OPAQUE, NO_CLASS_AUDITOR.format(name=self.name))
