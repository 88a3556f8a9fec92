"""What a scenario is: a function that runs one candidate and returns results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.scenarios.result import ScenarioResult

Size = Literal["tiny", "quick", "full"]
"""`tiny`: seconds, for tests of the scenario itself. `quick`: all scenarios and candidates in 4 minutes. `full`: in 75."""


def silent(text: str) -> None:
    """Report no progress."""
    del text


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run a scenario. `budget_s`: about how long it may take with one candidate, start and fill included; what does not
    fit is left out and noted. `workdir`: an empty directory for the store. `progress`: receives a line for people."""

    size: Size
    budget_s: float
    workdir: Path
    seed: int = 1
    progress: Callable[[str], None] = silent


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario. `proves`: the header in plain words, which the report prints. `run`: runs the candidate with this name; it
    starts and stops it."""

    name: str
    proves: str
    run: Callable[[str, Plan], list[ScenarioResult]]
