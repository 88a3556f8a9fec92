"""How long queries, claims and placements take, from the metrics that schedulers serve.

Only a scheduler knows these times: a request and its claims are appended together, and its outcome is appended later, with others, so
the times of their records are no measure. The page reads the histograms of the schedulers that it is given, as Prometheus does.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from vacancy.clients.metrics.scheduler_metrics import CLAIM_SECONDS, PLACEMENT_SECONDS, QUERY_SECONDS
from vacancy.streams.printable import printable

LOOK_S: Final = 5.0
KEPT: Final = 60
"""Looks that are kept: five minutes."""

KINDS: Final[Mapping[str, str]] = {
    QUERY_SECONDS.name: "query",
    CLAIM_SECONDS.name: "claim",
    PLACEMENT_SECONDS.name: "placement",
}
"""Name of a histogram -> what it measures."""

_HEADERS: Final = {"Accept": "text/plain", "Accept-Encoding": "identity"}
_ANSWER_S: Final = 3.0
_BYTES_MAX: Final = 2_000_000

Buckets = dict[float, float]
"""Upper bound of a bucket, in seconds -> how many took at most so long."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What one kind of operation took in a while, in seconds. The quantiles are None where there was none."""

    kind: str
    count: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class Latencies:
    """The last five minutes. `p99_s`: kind -> the quantile at each look, None where there was no such operation."""

    schedulers: int
    silent: list[str]
    """The addresses that did not answer at the last look, with the reason."""
    kinds: list[Latency]
    p99_s: dict[str, list[float | None]]


class LatencyWatch:
    """Reads the metrics of schedulers at `addresses` (URLs) every five seconds while `run` runs. For one event loop."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = tuple(addresses)
        self._before: dict[str, dict[tuple[str, str], Buckets]] = {}
        """Address -> (kind, scheduler) -> its buckets at the last look."""
        self._kept: deque[dict[str, Buckets]] = deque(maxlen=KEPT)
        self._silent: dict[str, str] = {}

    async def run(self) -> None:
        """Look until it is cancelled."""
        if not self._addresses:
            return
        async with ClientSession(timeout=ClientTimeout(_ANSWER_S), auto_decompress=False) as session:
            while True:
                await self.look(session)
                await asyncio.sleep(LOOK_S)

    async def look(self, session: ClientSession) -> None:
        """Ask all schedulers once."""
        found = await asyncio.gather(*(self._ask(session, one) for one in self._addresses))
        sums: dict[str, Buckets] = {}
        for address, series in zip(self._addresses, found, strict=True):
            before = self._before.get(address)
            if series is None:
                continue
            if before is not None:  # when what is there at the first look was counted is not known
                _add(sums, series, before)
            self._before[address] = series
        self._kept.append(sums)

    async def _ask(self, session: ClientSession, address: str) -> dict[tuple[str, str], Buckets] | None:
        try:
            async with session.get(address, allow_redirects=False, headers=_HEADERS) as answer:
                if answer.status != HTTPStatus.OK:
                    raise ValueError(f"status {answer.status}")
                data = bytearray()
                async for chunk in answer.content.iter_any():
                    data += chunk
                    if len(data) > _BYTES_MAX:
                        raise ValueError(f"more than {_BYTES_MAX} bytes")
            series = await asyncio.to_thread(histograms, data.decode())
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            self._silent[address] = printable(str(error) or type(error).__name__)
            return None
        self._silent.pop(address, None)
        return series

    def read(self) -> Latencies | None:
        """What was found in the last five minutes; None where no scheduler is named."""
        if not self._addresses:
            return None
        total = {kind: _sum(look.get(kind, {}) for look in self._kept) for kind in KINDS.values()}
        kinds = [
            Latency(
                kind,
                int(max(buckets.values(), default=0)),
                *(quantile(buckets, q) for q in (0.5, 0.95, 0.99)),
            )
            for kind, buckets in total.items()
        ]
        p99 = {kind: [quantile(look.get(kind, {}), 0.99) for look in self._kept] for kind in KINDS.values()}
        names = {scheduler for series in self._before.values() for _, scheduler in series}
        silent = [f"{address}: {why}" for address, why in self._silent.items()]
        return Latencies(len(names), silent, kinds, p99)


def histograms(text: str) -> dict[tuple[str, str], Buckets]:
    """The histograms of `KINDS` in a text of Prometheus' format: (kind, scheduler) -> buckets. Raises `ValueError`."""
    found: dict[tuple[str, str], Buckets] = {}
    for family in text_string_to_metric_families(text):
        kind = KINDS.get(family.name)
        if kind is None:
            continue
        for sample in family.samples:
            if sample.name.endswith("_bucket") and "le" in sample.labels:
                buckets = found.setdefault((kind, sample.labels.get("scheduler", "")), {})
                buckets[float(sample.labels["le"])] = sample.value
    return found


def _add(
    sums: dict[str, Buckets],
    now: Mapping[tuple[str, str], Buckets],
    before: Mapping[tuple[str, str], Buckets],
) -> None:
    """Add what came since the look before. A count that went back is that of a scheduler that was started again."""
    for key, buckets in now.items():
        earlier = before.get(key, {})
        again = any(count < earlier.get(bound, 0) for bound, count in buckets.items())
        into = sums.setdefault(key[0], {})
        for bound, count in buckets.items():
            into[bound] = into.get(bound, 0) + count - (0 if again else earlier.get(bound, 0))


def _sum(looks: Iterable[Buckets]) -> Buckets:
    found: Buckets = {}
    for buckets in looks:
        for bound, count in buckets.items():
            found[bound] = found.get(bound, 0) + count
    return found


def quantile(buckets: Buckets, share: float) -> float | None:
    """The quantile, as Prometheus' `histogram_quantile` has it: operations are spread evenly in a bucket, and what took longer
    than the largest bound counts as that bound. None where there are none."""
    ordered: Sequence[tuple[float, float]] = sorted(buckets.items())
    count = ordered[-1][1] if ordered else 0
    if count <= 0:
        return None
    rank, below, below_count = share * count, 0.0, 0.0
    for bound, at_most in ordered:
        if at_most >= rank:
            if math.isinf(bound) or at_most == below_count:
                return below
            return below + (bound - below) * (rank - below_count) / (at_most - below_count)
        below, below_count = bound, at_most
    return below
