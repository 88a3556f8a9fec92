"""A typical workload: a device class and weighted requests. The order `least_fragmentation` uses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from vacancy.resources.model.names import Symbol
from vacancy.resources.model.request import RequestGroup, RequestModel, RequestSpec

TYPICAL_MAX = 256


class TypicalRequest(RequestModel):
    """A request, and its frequency relative to the others."""

    request: RequestSpec
    weight: Annotated[int, Field(ge=1, le=10**9)] = 1


class Workload(RequestModel):
    """The demand on a fleet, written by an operator or counted from requests. `device` is the class whose providers are
    shared, for example GPUs with 1000 units each. The requests may also ask for other classes."""

    device: Symbol
    typical: Annotated[tuple[TypicalRequest, ...], Field(min_length=1, max_length=TYPICAL_MAX)]

    @model_validator(mode="after")
    def _some_ask_for_devices(self) -> Workload:
        if not any(needs_of(one.request, self.device).devices for one in self.typical):
            raise ValueError(f"no typical request asks for an amount of {self.device}")
        return self


class Needs(NamedTuple):
    """A request as a tree sees it: hashable, so that requests that need the same are one.

    `host` is what it asks of other classes, over all its groups. `devices` are the amounts that its groups ask
    of the device class, the largest first; `shared`: whether two of them may be served by one device.
    `device_groups` and `host_groups` are the groups' other conditions (traits, aggregates), as JSON of groups
    without name and resources.
    """

    host: tuple[tuple[str, int], ...]
    devices: tuple[int, ...]
    shared: bool
    device_groups: tuple[str, ...]
    host_groups: tuple[str, ...]


def needs_of(spec: RequestSpec, device: str) -> Needs:
    """What a request needs. Asks that are not amounts are left out: the measure cannot count them."""
    host: dict[str, int] = {}
    devices: list[int] = []
    conditions: dict[bool, set[str]] = {True: set(), False: set()}
    for group in spec.groups:
        asks_device = False
        for name, ask in group.resources.items():
            if isinstance(ask, dict):
                continue  # an object: only its class can read it
            if name == device:
                devices.append(ask)
                asks_device = True
            else:
                host[name] = host.get(name, 0) + ask
        conditions[asks_device].add(_bare(group))
    return Needs(
        tuple(sorted(host.items())),
        tuple(sorted(devices, reverse=True)),
        len(devices) > 1 and spec.group_policy == "none",
        tuple(sorted(conditions[True])),
        tuple(sorted(conditions[False] - {_ANY})),
    )


def condition(text: str) -> RequestGroup:
    """The group that `Needs` has as JSON."""
    return RequestGroup.model_validate_json(text)


def tally(specs: Iterable[tuple[RequestSpec, int]], device: str, limit: int = TYPICAL_MAX) -> Workload:
    """The `limit` most frequent needs in these (request, count) pairs, the most frequent first."""
    counts: dict[Needs, int] = {}
    first: dict[Needs, RequestSpec] = {}
    for spec, count in specs:
        needs = needs_of(spec, device)
        first.setdefault(needs, spec)
        counts[needs] = counts.get(needs, 0) + count
    most = sorted(counts, key=lambda needs: -counts[needs])[:limit]
    return Workload(
        device=device,
        typical=tuple(TypicalRequest(request=first[needs], weight=counts[needs]) for needs in most),
    )


def _bare(group: RequestGroup) -> str:
    return group.model_copy(update={"name": "", "resources": {}}).model_dump_json(exclude_defaults=True)


_ANY = "{}"
