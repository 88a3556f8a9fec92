"""What happens in each second: records folded, claims accepted, claims rejected by reason. As long as the page's server runs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vacancy.resources.state.tables import VERDICTS

KEPT: Final = 300
"""Seconds that are kept."""

ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True)
class Rate:
    """One look: `at_ms` (ms since 1970, UTC), and what came a second since the one before."""

    at_ms: int
    records: float
    verdicts: dict[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> float:
        """Claims accepted a second."""
        return self.verdicts.get(ACCEPTED, 0.0)

    @property
    def rejected(self) -> float:
        """Claims rejected a second."""
        return sum(self.verdicts.values()) - self.accepted


class Rates:
    """Counts verdicts as they are read (`count` is a listener of `StoreReader`), and makes a `Rate` at each look."""

    def __init__(self) -> None:
        self.kept: deque[Rate] = deque(maxlen=KEPT)
        self._verdicts = Counter[str]()
        self._last: tuple[float, int] | None = None

    def count(self, verdicts: Sequence[tuple[bytes, bytes]]) -> None:
        """Count these verdicts (key, encoded row)."""
        for _, data in verdicts:
            row = VERDICTS.decode(data)
            self._verdicts[ACCEPTED if row.accepted else row.reason] += 1

    def look(self, position: Mapping[int, int], now_s: float, at_ms: int) -> Rate:
        """What came since the last look. `now_s` is of a monotonic clock."""
        records = sum(position.values())
        before_s, before = self._last or (now_s, records)
        passed_s = max(now_s - before_s, 0.001)
        self._last = now_s, records
        verdicts = {name: round(count / passed_s, 1) for name, count in sorted(self._verdicts.items())}
        self._verdicts.clear()
        rate = Rate(at_ms, round(max(0, records - before) / passed_s, 1), verdicts)
        self.kept.append(rate)
        return rate
