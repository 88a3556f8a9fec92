"""A record that may cost the fold more than it should, and the records before it."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.support.logs.events_json import START_MS
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.partitioner import covering_cells

CELL: Final = covering_cells(1)[0]
DEADLINE_MS: Final = START_MS + 500_000
HOLD_MS: Final = START_MS + 60_000


class Case(NamedTuple):
    """Records that prepare a partition, and the value of the one that is measured, that much later in log time. `version` is
    that of the rules with which the log begins."""

    before: list[bytes]
    value: bytes
    later_ms: int = 0
    version: int = RULES_VERSION
