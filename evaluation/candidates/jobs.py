"""What the process of a scheduler can be asked to do, and what it returns, as JSON objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from evaluation.candidates.candidate import SMALL, Json, Request

END: Final = "end"
"""In place of a job: end the one that is under way."""


@dataclass(frozen=True, slots=True)
class Job:
    """Base of all jobs. `start_at`: when to start (`time.monotonic`, which all processes of a machine share); 0: at once."""

    start_at: float = 0.0

    def as_json(self) -> Json:
        """The job as a JSON object."""
        data: dict[str, Any] = {"job": type(self).__name__}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            data[name] = [one.as_json() for one in value] if name == "requests" else value
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The job of a JSON object."""
        kept = {name: value for name, value in data.items() if name != "job"}
        if "requests" in kept:
            kept["requests"] = tuple(Request.from_json(one) for one in kept["requests"])
        return cls(**kept)


@dataclass(frozen=True, slots=True)
class Place(Job):
    """Place consumers `PREFIX-0`, `PREFIX-1` …, with the requests in turn, `in_flight` calls at once.

    It ends after `seconds` (0: no limit), after `most` calls (0: no limit), or, with `until_full`, once a call finds no room.
    Each `release_every`th placed consumer is released at once (0: none).
    """

    prefix: str = ""
    requests: tuple[Request, ...] = (SMALL,)
    in_flight: int = 1
    seconds: float = 0.0
    most: int = 0
    until_full: bool = False
    release_every: int = 0


@dataclass(frozen=True, slots=True)
class Query(Job):
    """Query for the requests in turn, one after the other: until `most` queries are done or `seconds` have passed. With `keep` the
    result has the names that the last one found. `pause_s`: between two of them."""

    requests: tuple[Request, ...] = (SMALL,)
    most: int = 100
    seconds: float = 10.0
    limit: int = 10
    keep: bool = False
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Heartbeats(Job):
    """Send heartbeats of nodes `first` to `first` + `nodes` - 1 in turn for `seconds`, `in_flight` at once. `rate`: of this
    process, in 1/s; 0: as many as it can."""

    first: int = 0
    nodes: int = 1
    seconds: float = 10.0
    in_flight: int = 1
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Release(Job):
    """Release consumers that this process placed, `in_flight` at once."""

    consumers: tuple[str, ...] = ()
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Watch(Job):
    """Query for the first request until its answer is empty (`until_empty`) or not empty; at most `seconds`."""

    requests: tuple[Request, ...] = (SMALL,)
    until_empty: bool = True
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Read(Job):
    """Read all about one consumer that is placed (`Connection.whole`), `most` times."""

    consumer: str = ""
    most: int = 1


JOBS = {one.__name__: one for one in (Place, Query, Heartbeats, Release, Watch, Read)}


@dataclass(slots=True)
class JobResult:
    """What a job did. Times are seconds of `time.monotonic`, durations are in ms.

    `placed`: [consumer, provider, number of its request]. `by_status`: the consumers of all other outcomes. `ms`: of each
    placement, query, heartbeat, release or read that succeeded, in the order of their ends, at `ends`. `conflicts`: refused
    claims. `released`: acknowledged; `not_released`: of unknown outcome. `found`: of a query the number of answers; of a watch
    1 if it ended by the answer. `cpu_s`: of this process. `memory_bytes`: at the end. `not_offered`: the reason if the store
    cannot do it. `errors`: calls without an answer. `whole`: see `candidate.Whole`. `names`: what the last query found.
    """

    started: float = 0.0
    ended: float = 0.0
    placed: list[tuple[str, str, int]] = field(default_factory=list)
    by_status: dict[str, list[str]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    conflicts: int = 0
    released: list[str] = field(default_factory=list)
    not_released: list[str] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    found: int = 0
    errors: int = 0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    not_offered: str | None = None
    whole: Json | None = None
    names: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """The result as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The result of a JSON object."""
        made = cls(**data)
        made.placed = [(consumer, provider, number) for consumer, provider, number in made.placed]
        return made

    def took(self, started: float, ended: float) -> None:
        """Note the duration of one call that succeeded."""
        self.ms.append(round((ended - started) * 1e3, 4))
        self.ends.append(round(ended, 5))


def all_ms(results: Sequence[JobResult]) -> list[float]:
    """The durations of all results, sorted."""
    return sorted(ms for one in results for ms in one.ms)
