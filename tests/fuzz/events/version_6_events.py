"""Events of rules version 6 beside those of version 5: transactions over what nodes report, what schedulers claim, and what they
make themselves."""

from __future__ import annotations

import random
from typing import Any

from tests.fuzz.events.version_5_events import Version5Events
from tests.support.logs.events_json import Tape
from tests.support.random_logs.random_transactions import RandomTransactions


class Version6Events(Version5Events):
    """(key, value) of records of a cell of partition 1, without end. Most of them are taken."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str, *, raised: bool = False) -> None:
        super().__init__(rng, tape, cell, raised=raised)
        self._transactions = RandomTransactions(rng, cell, "transaction-", own=0.9)
        self._made: list[dict[str, Any]] = []
        self._deeds = (*self._deeds, *(self._transact,) * 14, self._transact_again)

    def _transact(self) -> tuple[str, dict[str, Any]]:
        data = self._transactions.make(self._now(), self._tape.now_ms)
        self._made.append(data)
        return "transaction.requested.v1", data

    def _transact_again(self) -> tuple[str, dict[str, Any]]:
        """One of the last ones again, sometimes with other content."""
        if not self._made:
            return self._transact()
        data = self._rng.choice(self._made[-3:])
        if self._rng.random() < 0.3:
            data = {**data, "names": [{"kind": "trait", "name": "CUSTOM_OTHER", "op": "ensure"}]}
        return "transaction.requested.v1", data
