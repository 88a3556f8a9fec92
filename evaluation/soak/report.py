"""The result of a soak test: lost events, double allocations, and the growth of memory."""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from evaluation.soak.journal import journal_of
from evaluation.soak.processes import KEPT_NODES, NODES, SoakSite, root_number
from vacancy.clients.auditor import audit
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.replay_tool.verify import LogRecords, rebuild
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.moves.cell_moves import SOURCE as CELL_MOVE
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.state.tables import ALLOCATIONS, split_key
from vacancy.streams.log import Log

# -- memory ---------------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """Resident memory of a process: `at_s` after the start of the test, `age_s` after the start of this `life`."""

    part: str
    life: int
    at_s: float
    age_s: float
    mb: float


def judge_memory(samples: Sequence[Sample], seconds: float, killed: Iterable[str]) -> dict[str, Any]:
    """Compare the memory of each process in the first and in the last third of the test, in MB.

    For a process that was not killed these are the medians of the two thirds. The memory of a killed process starts
    again with each life: lives that began in the first third are compared with lives that began in the last third, at
    equal age; ages that only one of them reached are omitted.
    """
    found = {}
    for part in sorted({sample.part for sample in samples}):
        own = [sample for sample in samples if sample.part == part]
        found[part] = _equal_age(own, seconds) if part in set(killed) else _thirds(own, seconds)
    return found


def _thirds(samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    first = [sample.mb for sample in samples if sample.at_s <= seconds / 3]
    last = [sample.mb for sample in samples if sample.at_s >= seconds * 2 / 3]
    return _compared(first, last, len({sample.life for sample in samples}))


def _equal_age(samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    by_age: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for sample in samples:
        born = sample.at_s - sample.age_s
        if born <= seconds / 3:
            by_age[round(sample.age_s / 5)][0].append(sample.mb)
        elif born >= seconds * 2 / 3:
            by_age[round(sample.age_s / 5)][1].append(sample.mb)
    both = [
        (statistics.median(early), statistics.median(late))
        for early, late in by_age.values()
        if early and late
    ]
    return _compared([early for early, _ in both], [late for _, late in both], len({s.life for s in samples}))


def _compared(first: Sequence[float], last: Sequence[float], lives: int) -> dict[str, Any]:
    if not first or not last:
        return {"lives": lives, "first_third_mb": None, "last_third_mb": None, "growth": None}
    before, after = statistics.median(first), statistics.median(last)
    return {
        "lives": lives,
        "first_third_mb": round(before, 1),
        "last_third_mb": round(after, 1),
        "growth": round(after / before - 1, 4),
    }


def by_tenths(samples: Sequence[Sample], seconds: float) -> dict[str, list[float]]:
    """The median memory of each process in each tenth of the test, in MB."""
    found: dict[str, list[float]] = {}
    for part in sorted({sample.part for sample in samples}):
        tenths: list[list[float]] = [[] for _ in range(10)]
        for sample in samples:
            if sample.part == part:
                tenths[min(9, int(sample.at_s / seconds * 10))].append(sample.mb)
        found[part] = [round(statistics.median(tenth), 1) for tenth in tenths if tenth]
    return found


_REPORTS = ("vacancy.node.reported.v1", "vacancy.node.reported.v2")
_CLAIMS = ("vacancy.claims.requested.v1", "vacancy.claims.requested.v2", "vacancy.gang.requested.v1")

# -- state ----------------------------------------------------------------------------------------------------


def judge_state(
    site: SoakSite, log: Log, stores: Sequence[Path], schedulers: Sequence[str]
) -> dict[str, Any]:
    """Fold the log again and compare it with every store, audit all claims, and compare each journal with the log.

    The workers must have stopped. Records that a worker has not folded, such as the last ticks of another, are folded
    here first.
    """
    registry = installed_registry()
    live = [replay(log, store, registry) for store in stores]
    with tempfile.TemporaryDirectory(prefix="vacancy-soak-", dir=site.home) as scratch:
        rebuilt, verdicts, *_ = rebuild(log, Path(scratch) / "store", registry, live[0].position, None)
    audited = audit({p: LogRecords(log, p, end) for p, end in live[0].position.items()}, verdicts)
    accepted = {verdict["claim"] for verdict in verdicts if verdict["accepted"]}
    content = _read_log(log, live[0].position)
    twice = [consumer for consumer, claims in content.consumers.items() if len(claims & accepted) > 1]
    lost = _lost_reports(site, content.reports) + _lost_placements(site, stores[0], schedulers, accepted)
    lost += [f"{root}: its outbox is not empty" for root in KEPT_NODES if _has_pending(site, root)]
    lost += [f"a move between cells is open: {one}" for one in audited.open_moves]
    return {
        "records": sum(live[0].position.values()),
        "records_twice": content.twice,
        "claims": audited.claims,
        "accepted": audited.accepted,
        "rejected": audited.rejected,
        "after_deadline": audited.late,
        "released": audited.released,
        "overcommitted": audited.overcommitted,
        "wrong_rejections": audited.wrong_rejections,
        "missing_verdicts": audited.missing_verdicts,
        "not_judged": audited.unverifiable,
        "not_judged_for": audited.unverifiable_reasons,
        "events": content.events,
        "problems": audited.problems[:10],
        "double_claims": len(twice),
        "lost_events": len(lost),
        "lost": lost[:10],
        "settled": dict(Counter(what for name in schedulers for what, *_ in journal_of(site.journal(name)))),
        "digests_equal": all(one == rebuilt for one in live),
        "ok": audited.ok and not twice and not lost and all(one == rebuilt for one in live),
    }


class _LogContent(NamedTuple):
    """The content of the log: the report numbers of each life of the publisher, the claims of each consumer, and how many
    records there are of each event."""

    reports: dict[str, set[int]]
    twice: int
    consumers: dict[str, set[str]]
    events: dict[str, int]


def _read_log(log: Log, position: dict[int, int]) -> _LogContent:
    reports: dict[str, set[int]] = defaultdict(set)
    consumers: dict[str, set[str]] = defaultdict(set)
    kinds = Counter[str]()
    twice = 0
    for partition, end in position.items():
        for record in LogRecords(log, partition, end):
            event = msgspec.json.decode(record.value)
            kind, data = event["type"], event["data"]
            kinds[kind] += 1
            if kind in _REPORTS and (node := root_number(data["root"])) is not None:
                own, number = reports[data["incarnation"]], (data["sequence"] - 1) * NODES + node
                twice += number in own
                own.add(number)
            elif kind in _CLAIMS and event["source"] != CELL_MOVE:
                for claim in data["claims"]:
                    consumers[claim["consumer"]].add(claim["id"])
    return _LogContent(reports, twice, consumers, dict(sorted(kinds.items())))


def _lost_reports(site: SoakSite, reports: dict[str, set[int]]) -> list[str]:
    """Reports that the log confirmed but does not have."""
    confirmed = dict(journal_of(site.journal("publisher")))
    return [
        f"life {life}: report {number} was confirmed but is not in the log"
        for life, count in confirmed.items()
        for number in set(range(count)) - reports[life]
    ]


def _lost_placements(site: SoakSite, store: Path, schedulers: Sequence[str], accepted: set[str]) -> list[str]:
    """Differences between the outcomes in the schedulers' journals and the tables."""
    with StoreReader(store, installed_registry(), with_view=False) as reader:
        held = {split_key(name)[1]: row.claim for _, name, row in reader.scan(ALLOCATIONS)}
    lost = []
    for name in schedulers:
        last = {line[1]: line for line in journal_of(site.journal(name))}
        for what, consumer, *words in last.values():
            if what == "placed" and held.get(consumer) != words[0]:
                lost.append(f"{consumer}: was placed by {words[0]} but does not hold the allocation")
            if what in ("placed", "releasing") and words[0] not in accepted:
                lost.append(f"{consumer}: claim {words[0]} was reported as accepted but is not")
            if what == "changing":
                lost.append(f"{consumer}: what it holds after a change was not settled")
            if what in ("void", "lost", "no_valid_host") and consumer in held:
                lost.append(f"{consumer}: was reported as not placed but has an allocation")
    return lost


def _has_pending(site: SoakSite, root: str) -> bool:
    with Outbox(site.outbox(root)) as outbox:
        return bool(outbox.pending(1))
