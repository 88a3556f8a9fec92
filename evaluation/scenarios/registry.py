"""The scenarios by name, in the order in which they run."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from evaluation.scenarios.scenario import Scenario

_ALL: Final[tuple[Scenario, ...]] = ()

SCENARIOS: Final = MappingProxyType({one.name: one for one in _ALL})
"""Name -> scenario."""
