"""Tables that pages read, with what the pages keep beside them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.ui.health import Health, HealthWatch
from vacancy.ui.nodes import FleetNodes


class Tables:
    """The tables of now, or of one position. For the thread of the tables."""

    def __init__(self, query: StoreQuery, silent_s: float) -> None:
        self.query = query
        self.reader: StoreReader = query.reader
        self.nodes = FleetNodes(query.reader)
        self.watch = HealthWatch(query.reader, self.nodes, silent_s)

    def health(self, ends: Mapping[int, int] | None) -> Health:
        """The strip of these tables. `ends`: where the log ends now; tables of the past are not behind it."""
        return self.watch.look(None if self.reader.still else ends, time.monotonic())
