"""The scenarios by name, in the order in which they run."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from evaluation.scenarios import (
    crash,
    footprint,
    heartbeats,
    isolation,
    myriad_qualities,
    one_store,
    racing,
    rebuild,
    scale,
    staleness,
)
from evaluation.scenarios.running import or_reason
from evaluation.scenarios.scenario import Scenario

_ALL: Final[tuple[Scenario, ...]] = (
    racing.SCENARIO,
    scale.SCENARIO,
    crash.SCENARIO,
    isolation.SCENARIO,
    heartbeats.SCENARIO,
    footprint.SCENARIO,
    one_store.SCENARIO,
    staleness.SCENARIO,
    rebuild.SCENARIO,
    # The last one: its hosts stay in a store that scenarios share.
    myriad_qualities.SCENARIO,
)

SCENARIOS: Final = MappingProxyType(
    {one.name: replace(one, run=or_reason(one.name, one.run)) for one in _ALL}
)
"""Name -> scenario. A candidate that is not installed, or does not offer what a scenario needs, has a result with the reason."""
