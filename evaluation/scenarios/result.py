"""The result of one scenario with one candidate under one set of conditions, and its form in JSON.

```json
{"scenario": "racing", "candidate": "postgresql", "not_offered": null,
 "conditions": {"nodes": 10000, "fill": 0.0, "claims_in_flight": 64, "schedulers": 4, "replicas": 1,
                "acknowledgement": "the commit is in the write-ahead log on disk (fsync)", "cores": 2, "seconds": 10.0},
 "figures": [{"name": "placements", "unit": "1/s", "better": "more", "runs": [2890.1, 2911.4, 2875.0],
              "median": 2890.1, "spread": 36.4}],
 "counts": {"placed": 8676, "conflicts": 2, "given_up": 0, "no_room": 0, "unavailable": 0, "unknown": 0,
            "overcommitted": 0, "lost": 0, "doubled": 0},
 "notes": ["4 of 4 schedulers ended in time"]}
```

A scenario that runs under several conditions (1, 2, 4 and 8 schedulers) has one result for each.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self

Better = Literal["more", "less", "neither"]
"""Which of two values of a figure is better, for the comparison."""

COUNTS: Final = (
    *("placed", "conflicts", "given_up", "no_room", "unavailable", "unknown"),
    *("overcommitted", "lost", "doubled"),
)
"""The names in `ScenarioResult.counts`.

`conflicts` counts refused claims, also where the call then found another provider; `given_up` calls of which each claim was
refused. `overcommitted`: amounts allocated beyond the capacity of their provider, all classes together. `lost`: allocations that were
acknowledged and are not there. `doubled`: consumers that hold more than they were placed for, or hold something although the
store said that they do not.
"""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which conditions the figures were measured. `nodes`: providers. `fill`: the share of them that was allocated
    before. `claims_in_flight`: for each scheduler. `seconds`: how long each run was, 0 where a run ends by itself.
    `cores`: of the machine, which the store and the schedulers share."""

    nodes: int
    fill: float
    claims_in_flight: int
    schedulers: int
    replicas: int
    acknowledgement: str
    seconds: float = 0.0
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure. `runs`: its value in each run. `spread`: the largest less the smallest of them, in the same unit."""

    name: str
    unit: str
    better: Better
    runs: tuple[float, ...]
    median: float
    spread: float

    @classmethod
    def of(cls, name: str, unit: str, better: Better, runs: Sequence[float]) -> Self:
        """The figure of these runs, of which there is at least one."""
        kept = tuple(round(value, 6) for value in runs)
        return cls(
            name, unit, better, kept, round(statistics.median(kept), 6), round(max(kept) - min(kept), 6)
        )


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """See the module. `not_offered`: why the candidate has no figures here; None if it has. `notes`: for people, a sentence
    each. `cells`: what is said of this candidate in each row of a table with a column for each candidate, by the row's name."""

    scenario: str
    candidate: str
    conditions: Conditions
    figures: tuple[Figure, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_offered: str | None = None
    cells: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The result of a JSON object."""
        return cls(
            data["scenario"],
            data["candidate"],
            Conditions(**data["conditions"]),
            tuple(Figure(**{**figure, "runs": tuple(figure["runs"])}) for figure in data["figures"]),
            dict(data["counts"]),
            tuple(data["notes"]),
            data["not_offered"],
            dict(data.get("cells", {})),
        )
