"""The interface of a store under test. Everything that the series of tests knows about a store is here.

For advocates of another store: write one module with two classes, and add one line to `registry.py`.

* A `Candidate` lives in the process that runs the tests. It starts the processes of the store, loads a fleet in bulk,
  kills and restarts the store, and reads back all allocations at the end.
* A `Connection` lives in a scheduler's process, of which there are up to 8. It is opened from the JSON object that
  `Candidate.connection` returned. It does what the scheduler of a cloud does, in the best way that the store offers: find
  providers with room, claim one, release it. The tests call it from one event loop with a number of calls under way at once.

The rules are the same for every candidate:

* `place` chooses among the providers that match in a random order, so that schedulers do not all choose the same one.
* A claim that was refused because another one came first is a conflict. `place` then tries another provider, up to
  `ATTEMPTS` claims for one call.
* `placed` means that the allocation survives a kill of the store's processes. If the store offers less in its recommended
  settings, say so in `About.acknowledgement`; the report prints it beside each figure.
* A thing that the store cannot do raises `NotOffered` with a reason for the report. It is not an error.

`tests/evaluation/candidates/contract.py` checks an adapter on a tiny fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from evaluation.candidates.myriad_fleet import MyriadFleet

ATTEMPTS: Final = 32
"""Claims that one call of `place` makes at most."""

QUERY_LIMIT: Final = 10
"""How many providers `place` asks the store for, where the store is asked for a list."""

Json = dict[str, Any]
"""A JSON object."""


class NotOffered(Exception):
    """The store does not offer what was asked. The text is the reason, one line, for the report."""


# -- what is stored ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Provider:
    """A compute node. `totals`: resource class -> amount, all of it can be allocated. `traits`: what it is or has."""

    name: str
    totals: Mapping[str, int]
    traits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """An allocation: what a consumer holds of a provider."""

    consumer: str
    provider: str
    resources: Mapping[str, int]


COMMON: Final = "HW_CPU_X86_AVX2"
"""A trait that half of the providers have, but none with `RARE`."""

RARE: Final = "CUSTOM_RARE"
"""A trait that one provider of a thousand has; in a fleet of less than a thousand, one provider."""

_SIZES: Final = (32, 64, 96, 128)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Providers that are made by a rule from a seed, so that each process can compute them.

    `kind`: `plain` nodes have room for dozens of instances, `brim` nodes for four requests of one VCPU. The memory and
    disk of plain nodes are not used up before their VCPUs by the requests in use here.
    """

    size: int
    seed: int = 1
    kind: Literal["plain", "brim"] = "plain"

    @staticmethod
    def name(number: int) -> str:
        """The name of a provider."""
        return f"node-{number:07}"

    @staticmethod
    def number(name: str) -> int:
        """The number of a provider with this name."""
        return int(name.removeprefix("node-"))

    def provider(self, number: int) -> Provider:
        """Provider `number`, from 0 to `size` - 1."""
        mixed = ((number + 1) * 2_654_435_761 + self.seed * 40_503) >> 7
        is_rare = number % 1000 == self.seed % min(1000, self.size)
        traits = (
            ("COMPUTE_NODE", RARE)
            if is_rare
            else ("COMPUTE_NODE", COMMON)
            if mixed & 1
            else ("COMPUTE_NODE",)
        )
        if self.kind == "brim":
            return Provider(self.name(number), {"VCPU": 4, "MEMORY_MB": 16_384, "DISK_GB": 400}, traits)
        vcpus = _SIZES[mixed >> 1 & 3]
        totals = {"VCPU": vcpus, "MEMORY_MB": vcpus * 8192, "DISK_GB": vcpus * 100}
        return Provider(self.name(number), totals, traits)

    def providers(self) -> Iterator[Provider]:
        """All providers, in the order of their numbers."""
        return map(self.provider, range(self.size))

    def filler(self, provider: Provider, used_share: float) -> Held | None:
        """The allocation that a provider has before the tests start: the share `used_share` of each class, rounded down.
        None if that is nothing."""
        used = {name: int(total * used_share) for name, total in provider.totals.items()}
        if not all(used.values()):
            return None
        return Held(f"fill-{provider.name}", provider.name, used)

    def fillers(self, used_share: float) -> Iterator[Held]:
        """The allocations of all providers before the tests start."""
        for provider in self.providers():
            filler = self.filler(provider, used_share)
            if filler is not None:
                yield filler

    def places(self, request: Request, used_share: float = 0.0) -> int:
        """How many times the fleet can serve a request of amounts and traits."""
        found = 0
        for provider in self.providers():
            if set(request.required) <= set(provider.traits):
                found += min(
                    (provider.totals.get(name, 0) - int(provider.totals.get(name, 0) * used_share)) // amount
                    for name, amount in request.resources.items()
                )
        return found

    def as_json(self) -> Json:
        """The fleet as a JSON object."""
        return {"size": self.size, "seed": self.seed, "kind": self.kind}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The fleet of a JSON object."""
        return cls(data["size"], data["seed"], data["kind"])


# -- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What one consumer asks for: amounts and required traits, which every candidate serves.

    `qualities` has what else is asked, by name. Only the scenario of the myriad qualities uses it, with the names in
    `evaluation/scenarios/myriad_requests.py`, and with the trait `MYRIAD` in each request. A connection that does not know one of
    the names raises `NotOffered`.
    """

    resources: Mapping[str, int]
    required: tuple[str, ...] = ()
    qualities: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> Json:
        """The request as a JSON object."""
        return {
            "resources": dict(self.resources),
            "required": list(self.required),
            "qualities": dict(self.qualities),
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The request of a JSON object."""
        return cls(data["resources"], tuple(data.get("required", ())), data.get("qualities", {}))


SMALL: Final = Request({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 10}, (COMMON,))
"""The request of OpenStack Placement's own performance job, with a trait that half of the providers have."""

Status = Literal["placed", "conflict", "no_room", "unavailable", "unknown"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call of `place` ended.

    * `placed`: the consumer holds what was requested on `provider`. The store has acknowledged it.
    * `conflict`: each of `ATTEMPTS` claims was refused because another claim came first. Nothing is held.
    * `no_room`: no provider matches with room. Nothing is held.
    * `unavailable`: the store did not answer, and no claim was sent. Nothing is held.
    * `unknown`: a claim was sent and its answer did not come. The consumer may hold it or not.

    `conflicts` counts claims that were refused on the way, also where another one was accepted then.
    """

    status: Status
    provider: str = ""
    conflicts: int = 0
    reason: str = ""


# -- what a store says about itself -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that the adapter chose. `source`: the page of the store's own documentation that recommends it, or the
    reason if no page does."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class About:
    """What the report prints beside each figure of a store.

    `acknowledgement`: what is true once `place` returns `placed`, in one sentence (which process has written what, and
    where). `durability`: which loss that survives: the store's process, the machine, a disk. `replicas`: copies of the data
    at the time of the acknowledgement. `processes`: which processes run, and how many. `code_lines`: lines of Python, SQL
    and settings in the adapter, without comments and blank lines. `review`: how the adapter compares with what the store's own
    documentation recommends: pools, indexes, batching, durability, version.
    """

    version: str
    settings: tuple[Setting, ...]
    acknowledgement: str
    durability: str
    replicas: int
    processes: str
    code_lines: int
    review: str


@dataclass(frozen=True, slots=True)
class Fill:
    """How a fleet was loaded: the time, and the method in a few words (`COPY`, `bulk insert`, `one report a node`)."""

    seconds: float
    how: str


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the processes of the store use now. The schedulers' processes are measured by the harness and not included.

    `memory_bytes`: proportional memory of all processes (PSS: shared pages are counted once). `disk_bytes`: of its files.
    `cpu_s`: processor time since the start of the processes that run now.
    """

    memory_bytes: int
    disk_bytes: int
    processes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Whole:
    """All that the store has about one consumer: its request as it was asked, what it holds, and the inventory of the provider.

    `reads`: how many reads of the store it took.
    """

    request: Request
    held: Held
    totals: Mapping[str, int]
    reads: int


How = Literal["one query", "filter in the client"]
"""How a request is expressed: the store answers it, or the scheduler looks through what the store returns or has copied to it."""


@dataclass(frozen=True, slots=True)
class Expression:
    """How an adapter expresses a request of the myriad qualities. `text`: what the store is asked, or what the filter is over.
    `also`: functions of the adapter that run for the request only once the store is asked; their lines are counted, too."""

    how: How
    text: str
    also: tuple[Callable[..., Any], ...] = ()


@dataclass(frozen=True, slots=True)
class CutOff:
    """What was cut off. `what`: for people. `has_cells`: whether the store has parts that fail alone; if not, all of it was cut
    off. `contains`: whether a provider is in the part that was cut off."""

    what: str
    has_cells: bool
    contains: Callable[[str], bool] = field(default=lambda _: True)


# -- the two classes of an adapter ------------------------------------------------------------------------------------


class Connection(Protocol):
    """One scheduler's connection to the store. All calls come from one event loop; many may be under way at once."""

    async def query(self, request: Request, limit: int) -> list[str]:
        """The names of up to `limit` providers that match and have room, in a random order."""

    async def place(self, consumer: str, request: Request) -> Outcome:
        """Find a provider and claim it for a new consumer; see the rules at the top of this module.

        It does not raise if the store is away: see `Outcome`. After the store has come back, later calls work again.
        """

    async def release(self, consumer: str) -> bool:
        """Give back what this connection placed for the consumer. Returns whether the store acknowledged it."""

    async def heartbeat(self, node: str) -> None:
        """Record that a node is alive now. Raises `NotOffered` if the store has no place for that, and `ConnectionError` if it
        does not answer."""

    async def whole(self, consumer: str) -> Whole:
        """The request, the allocation and the inventory of a placed consumer. Raises `NotOffered` if the store does not have
        all three."""

    async def close(self) -> None:
        """Close the connection."""


class Candidate(Protocol):
    """A store under test, in the process that runs the tests.

    The order of calls is: `missing`, `start`, `fill`, then `connection`, `kill`, `restart`, `held`, `footprint` and the
    others in any order, then `stop`. `about` may be called at any time. All calls block until they are done.
    """

    name: str
    """Its name in the registry and in the report."""

    def missing(self) -> str | None:
        """One line that says what is not installed here and how to install it; None if all is there."""

    def about(self) -> About:
        """What the report prints beside each figure."""

    def start(self, workdir: Path) -> None:
        """Start the store with its data in `workdir`, an empty directory, on free ports of 127.0.0.1. Returns once it serves."""

    def fill(self, fleet: Fleet, used_share: float) -> Fill:
        """Load a fleet into the empty store, with the allocations of `fleet.fillers(used_share)`. Bulk loads are allowed. Returns
        once queries see all of it."""

    def connection(self, scheduler_number: int) -> Json:
        """What a scheduler's process needs to connect, as a JSON object. Schedulers are numbered from 0."""

    @staticmethod
    async def connect(description: Json) -> Connection:
        """Open a connection; called in the scheduler's process with the object that `connection` returned."""

    def kill(self) -> str:
        """End the processes that hold the acknowledged data with SIGKILL, all at once; of several replicas only the one that
        leads. Returns what was killed, for the report."""

    def restart(self) -> None:
        """Start what was killed. Returns once the store serves again."""

    def held(self) -> Iterator[Held]:
        """All allocations, also those of `fill`, read from the store itself (not from what the adapter remembers)."""

    def footprint(self) -> Footprint:
        """What its processes use now."""

    def rebuild(self) -> float:
        """Make one more working replica from nothing, and return the seconds until it could serve a query. Raises `NotOffered` if
        the store has no replicas in this set-up."""

    def fill_myriad(self, fleet: MyriadFleet) -> Fill:
        """Load the hosts of the myriad qualities, beside what is in the store, in the form in which it answers `Connection.query`
        for them best. Returns once queries see all of it. Raises `NotOffered` if the store cannot have such hosts."""

    def express(self, request: Request) -> Expression:
        """How a request of the myriad qualities is expressed. It runs the code of the adapter that a query for it runs before the
        store is asked, or over the copy; the scenario counts the lines of the functions that ran. Raises `NotOffered` if the request
        cannot be expressed."""

    def cut_off(self) -> CutOff:
        """Cut off the smallest part of the store that can fail alone, without a word to anybody: its process stops (SIGSTOP), or its
        messages do not come. What is not acknowledged may be lost."""

    def heal(self) -> None:
        """Undo `cut_off`. May be called twice."""

    def stop(self) -> None:
        """End all processes. May be called after any error, and twice."""


@runtime_checkable
class HasHosts(Protocol):
    """What a candidate has in addition if schedulers need a process of their host, so that a host can be cut off and others go on."""

    def connection_elsewhere(self, scheduler_number: int) -> Json:
        """What a scheduler on another host needs to connect. The first call starts what that host needs, and waits until it serves."""

    def cut_off_host(self) -> CutOff:
        """Cut off the host of the schedulers that `Candidate.connection` connects, as `Candidate.cut_off` does."""

    def heal_host(self) -> None:
        """Undo `cut_off_host`. May be called twice."""


@runtime_checkable
class WarmsUp(Protocol):
    """What a candidate has in addition if its store gets fast only after some half a minute of work."""

    def prepare_for_short_runs(self) -> None:
        """Called before `start`, where each run takes a second or so: choose the settings that get warm soon. They are part of
        `about` then."""
