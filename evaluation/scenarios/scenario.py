"""What a scenario is: a function that runs one candidate and returns results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from evaluation.scenarios.result import ScenarioResult

if TYPE_CHECKING:
    from evaluation.scenarios.running import SharedSite

Size = Literal["tiny", "quick", "full"]
"""`tiny`: seconds, for tests of the scenario itself. `quick`: all scenarios and candidates in 4 minutes. `full`: in 50 to 75."""


TINY_NODES: Final = 60
QUICK_NODES: Final = 1_000
SHARED_USED: Final = 0.3
"""The fleet of all scenarios of small sizes, and the share of it that is allocated before: so they can share a candidate that
runs."""


def silent(text: str) -> None:
    """Report no progress."""
    del text


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run a scenario. `budget_s`: about how long it may take with one candidate, start and fill included; what does not
    fit is left out and noted. `workdir`: an empty directory for the store. `progress`: receives a line for people. `shared`: where
    to find the candidate that the scenario before has used, and where to leave it.
    """

    size: Size
    budget_s: float
    workdir: Path
    seed: int = 1
    progress: Callable[[str], None] = silent
    shared: SharedSite | None = None

    def used_share(self, full: float) -> float:
        """The share of the fleet that is allocated before: `full` in a full run."""
        return full if self.size == "full" else SHARED_USED


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario. `proves`: the header in plain words, which the report prints. `run`: runs the candidate with this name; it
    starts and stops it. What it has returned is kept if it fails later. `weight`: its part of the time of a comparison."""

    name: str
    proves: str
    run: Callable[[str, Plan], Iterable[ScenarioResult]]
    weight: float = 1.0
