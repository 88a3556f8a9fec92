"""Which CPUs of a NUMA cell are pinned for a guest: exact, deterministic, and keeping cores whole where possible.

The thread policies are those of OpenStack Nova (hw:cpu_thread_policy):

* `isolate`: each vCPU has a core of its own, of which no other claim has or gets a thread.
* `require`: only cores with siblings are used, and vCPUs are on sibling threads: none is the only one of the guest on
  its core, except one vCPU where their number is odd.
* `prefer`: as `require` for as many vCPUs as possible; the others on any free CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Policy = Literal["prefer", "isolate", "require"]


class Core(NamedTuple):
    """A core with free CPUs: the number of its threads, and the free CPUs."""

    threads: int
    free: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all of its threads are free."""
        return len(self.free) == self.threads


def most(cores: Iterable[Core], policy: Policy) -> int:
    """The largest number of CPUs that `pick` finds. It finds every smaller number too."""
    if policy == "isolate":
        return sum(core.is_whole for core in cores)
    if policy == "prefer":
        return sum(len(core.free) for core in cores)
    counts = [len(core.free) for core in cores if core.threads > 1]
    together = sum(count for count in counts if count > 1)
    # The only free thread of a core can serve the vCPU that makes the number odd.
    return together + (together % 2 == 0 and 1 in counts)


def pick(cores: Iterable[Core], count: int, policy: Policy) -> list[int] | None:
    """`count` CPUs in the order of the guest's vCPUs (siblings next to each other), or None if there are not enough.

    Partly used cores come first where the policy allows it, then the cores with the lowest numbers.
    """
    cores = list(cores)
    if count > most(cores, policy):
        return None
    if policy == "isolate":
        # A core with fewer siblings wastes less.
        whole = sorted((core for core in cores if core.is_whole), key=lambda c: (c.threads, c.free))
        return sorted(core.free[0] for core in whole[:count])
    together = _side_by_side(cores, min(count, most(cores, "require")))
    left = count - sum(len(cpus) for cpus in together)
    if left:
        taken = {cpu for cpus in together for cpu in cpus}
        # Other CPUs, one by one: first those of cores with siblings.
        others = sorted((c.threads == 1, cpu) for c in cores for cpu in c.free if cpu not in taken)
        together += sorted((cpu,) for _, cpu in others[:left])
    return [cpu for cpus in together for cpu in cpus]


def pick_again(cores: Iterable[Core], count: int, policy: Policy, held: Sequence[int]) -> list[int] | None:
    """As `pick`, for a guest that had the CPUs `held`, in the order of its vCPUs, which are free now. It keeps as many of
    them as the policy allows, its first ones and in their order."""
    cores = list(cores)
    free = {cpu: core for core in cores for cpu in core.free}
    if policy == "require":
        own = [_within(core, held) for core in cores]
        some = min(count, most(own, policy))
        some -= some < count and some % 2  # only one vCPU may be alone on its core
        kept = pick(own, some, policy) or []
    else:
        kept = [cpu for cpu in held if cpu in free]
        if policy == "isolate":
            kept = list({free[cpu].free: cpu for cpu in reversed(kept) if free[cpu].is_whole}.values())[::-1]
        kept = kept[:count]
    taken = frozenset(kept)
    others = [core if taken.isdisjoint(core.free) else _without(core, taken, policy) for core in cores]
    rest = pick(others, count - len(kept), policy)
    return pick(cores, count, policy) if rest is None else kept + rest


def _within(core: Core, held: Sequence[int]) -> Core:
    return Core(core.threads, tuple(cpu for cpu in core.free if cpu in held))


def _without(core: Core, taken: frozenset[int], policy: Policy) -> Core:
    if policy == "isolate":
        return Core(core.threads, ())
    return Core(core.threads, tuple(cpu for cpu in core.free if cpu not in taken))


def _side_by_side(cores: Iterable[Core], count: int) -> list[tuple[int, ...]]:
    """`count` CPUs as the CPUs of each core, at least two of each core but one. `most` is at least `count`."""
    siblings = [core for core in cores if core.threads > 1]
    single = min((core.free for core in siblings if len(core.free) == 1), default=())
    many = sorted((c for c in siblings if len(c.free) > 1), key=lambda c: (c.is_whole, -len(c.free), c.free))
    alone: tuple[int, ...] = single if count % 2 else ()
    left = count - len(alone)
    given: list[tuple[int, ...]] = []
    while many and left >= len(many[0].free):
        given.append(many.pop(0).free)
        left -= len(given[-1])
    if left == 1 and (alone or count % 2 == 0):
        # The last CPU may not be the only one of its core: a core of which an odd number (three or more) was given
        # gives one back.
        odd = next(at for at in reversed(range(len(given))) if len(given[at]) % 2)
        given[odd] = given[odd][:-1]
        left = 2
    if left:
        fits = [core for core in many if len(core.free) >= left]
        best = min(fits, key=lambda c: (c.is_whole, len(c.free), c.free))
        if left == 1:
            alone = best.free[:1]
        else:
            given.append(best.free[:left])
    return [*sorted(given), *((alone,) if alone else ())]
