"""The class under test, what Hypothesis may give it, and records that it made along random histories."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

from vacancy.resources.classes.resource_class import Granted, ResourceClass, Shortfall

T = TypeVar("T")

STEPS_MAX = 8
"""Events of one random history."""


@dataclass(frozen=True)
class ClassUnderTest:
    """A resource class, and strategies for what it accepts.

    `inventories` and `overrides` are what `report` and `check_override` accept, `asks` what `check_ask` accepts. All
    are JSON. Small numbers and few names test most: asks should often fail, and often ask for the same units.
    """

    resource_class: ResourceClass[Any]
    inventories: st.SearchStrategy[Any]
    asks: st.SearchStrategy[Any]
    overrides: st.SearchStrategy[Any] = field(default_factory=lambda: st.just({}))


class Held(NamedTuple):
    """A claim that was granted and not released."""

    ask: Any
    grant: Any


@dataclass
class History:
    """A record after random events. `inventory` and `override` are the last ones; a record that is `withdrawn` has
    nothing to give."""

    record: Any
    inventory: Mapping[str, Any]
    override: Mapping[str, Any]
    held: list[Held]
    withdrawn: bool = False


class Draw:
    """Draws of one example for a subject."""

    def __init__(self, subject: ClassUnderTest, data: st.DataObject) -> None:
        self.subject = subject
        self.of: ResourceClass[Any] = subject.resource_class
        self._data = data

    def value(self, strategy: st.SearchStrategy[T]) -> T:
        """A value of any strategy."""
        return self._data.draw(strategy)

    def ask(self) -> Any:
        """A valid ask."""
        return self.value(self.subject.asks)

    def inventory(self) -> Any:
        """A valid inventory."""
        return self.value(self.subject.inventories)

    def override(self) -> Any:
        """A valid override."""
        return self.value(self.subject.overrides)

    def history(self, *, may_withdraw: bool = True) -> History:
        """A record after a report and up to `STEPS_MAX` more events."""
        inventory = self.inventory()
        found = History(self.of.report(inventory, None), inventory, {}, [])
        for _ in range(self.value(st.integers(0, STEPS_MAX))):
            # Claims twice as often: the other events need something that is held.
            step = self.value(st.sampled_from("cccrriow" if may_withdraw else "cccrrio"))
            self._step(step, found)
        return found

    def _step(self, step: str, found: History) -> None:
        of = self.of
        if step == "c":
            ask = self.ask()
            outcome = of.claim(found.record, ask)
            if isinstance(outcome, Granted):
                found.record = outcome.record
                found.held.append(Held(ask, through_json(outcome.grant)))
        elif step == "r" and found.held:
            held = found.held.pop(self.value(st.integers(0, len(found.held) - 1)))
            found.record = of.release(found.record, held.grant)
        elif step == "i":
            found.inventory = self.inventory()
            found.record, found.withdrawn = of.report(found.inventory, found.record), False
        elif step == "o":
            found.override = self.override()
            found.record = of.override(found.record, found.override)
        elif step == "w":
            found.record, found.withdrawn = of.withdraw(found.record), True


def through_json(value: T) -> T:
    """A value as it comes out of the log: JSON that was encoded and decoded."""
    decoded: T = json.loads(json.dumps(value, allow_nan=False))
    return decoded


def unchanged(value: Any) -> Any:
    """A copy to compare a value with later."""
    return copy.deepcopy(value)


def granted(outcome: Granted | Shortfall) -> bool:
    """Whether a claim fits."""
    return isinstance(outcome, Granted)
