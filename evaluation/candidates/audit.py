"""Compares what a store holds with what it said: the same count for every candidate, without any code of the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.candidates.candidate import Fleet, Held, Request
from evaluation.candidates.jobs import JobResult

_NOT_HELD = ("conflict", "no_room", "unavailable")


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. `overcommitted`: amounts beyond the capacity of their provider, all classes together. `lost`: acknowledged
    allocations that are not there. `doubled`: consumers that hold more than they were placed for, or hold something although
    the store said that they do not. `examples`: of problems, for people.
    """

    overcommitted: int
    lost: int
    doubled: int
    examples: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether there is no problem."""
        return not (self.overcommitted or self.lost or self.doubled)

    def counts(self) -> dict[str, int]:
        """The three numbers."""
        return {"overcommitted": self.overcommitted, "lost": self.lost, "doubled": self.doubled}


def audit(
    fleet: Fleet,
    used_share: float,
    held: Iterable[Held],
    results: Iterable[JobResult],
    requests: Sequence[Request],
) -> Audit:
    """Compare all that is held with the results of all jobs since the fleet was filled. `requests`: those of all `Place` jobs.

    An outcome that is not known may have become an allocation or not. It is a problem only if it is held twice.
    """
    expected: dict[str, tuple[str, Mapping[str, int]]] = {}
    refused: set[str] = set()
    free: set[str] = set()
    for result in results:
        for consumer, provider, number in result.placed:
            expected[consumer] = provider, requests[number].resources
        for status in _NOT_HELD:
            refused.update(result.by_status.get(status, ()))
        free.update(result.not_released)
        for consumer in result.released:
            refused.add(consumer)
            expected.pop(consumer, None)
    for consumer in free:
        expected.pop(consumer, None)
    fillers = {one.consumer: one for one in fleet.fillers(used_share)}
    examples: list[str] = []
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    times: Counter[str] = Counter()
    doubled: set[str] = set()
    lost = 0
    for one in held:
        used[one.provider].update(one.resources)
        times[one.consumer] += 1
        said = expected.pop(one.consumer, None)
        filler = fillers.pop(one.consumer, None) if said is None else None
        if times[one.consumer] > 1:
            doubled.add(one.consumer)
        elif said is not None and said != (one.provider, dict(one.resources)):
            lost += 1
            examples.append(f"{one.consumer} holds {dict(one.resources)} of {one.provider}, not {said}")
        elif filler is not None and (filler.provider, dict(filler.resources)) != (
            one.provider,
            dict(one.resources),
        ):
            lost += 1
            examples.append(f"{one.consumer} holds {dict(one.resources)} of {one.provider}")
        elif one.consumer in refused:
            doubled.add(one.consumer)
    examples += [f"{consumer} holds more than it was placed for" for consumer in sorted(doubled)]
    missing = [*expected, *fillers]
    examples += [f"{consumer} holds nothing" for consumer in missing]
    overcommitted = 0
    for name, amounts in used.items():
        totals = fleet.provider(fleet.number(name)).totals
        for cls, amount in amounts.items():
            if (excess := amount - totals.get(cls, 0)) > 0:
                overcommitted += excess
                examples.append(f"{name} has {totals.get(cls, 0)} {cls}, and {amount} are allocated")
    return Audit(overcommitted, lost + len(missing), len(doubled), tuple(examples[:5]))
