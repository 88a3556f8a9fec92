"""Hosts with many qualities in Placement: trees of providers as Nova, Neutron and Cyborg report them, and queries as Nova sends them.

Versions and attributes of devices are traits, one for each value, because Placement compares no numbers but amounts. So a request
for a version names all known ones that are new enough. Server groups are Nova's, which looks for their hosts itself. There is no order
but the random one, so an order needs all candidates.

Fleets are inserted into the tables like larger ones in `placement_fill.py`. Traits, classes and the owner of consumers are made through
the API first.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from evaluation.candidates.candidate import Expression, Json, NotOffered, Request
from evaluation.candidates.myriad_fleet import (
    DRIVERS,
    HYPERVISORS,
    MODELS,
    ZONES,
    Host,
    MyriadFleet,
    version_key,
)
from evaluation.candidates.placement.fill import claim_body, insert, owner_columns
from evaluation.candidates.placement.http import PlacementApi
from evaluation.candidates.placement.mariadb import MariadbServer
from evaluation.candidates.placement.names import name_of, uuid_of

Parameters = dict[str, Any]


# -- the fleet as rows --------------------------------------------------------------------------------------------------


class MyriadProvider:
    """A provider of a tree: its inventories, traits and aggregates."""

    def __init__(self, name: str, parent: str | None, root: str, inventories: Mapping[str, int]) -> None:
        self.name, self.parent, self.root = name, parent, root
        self.inventories = dict(inventories)
        self.traits: list[str] = []
        self.aggregates: list[str] = []


def myriad_providers(fleet: MyriadFleet) -> list[MyriadProvider]:
    """The providers of all hosts, each after its parent, and the shared disks."""
    providers = [one for host in fleet.hosts for one in _tree(host)]
    return providers + [_pool(name, free) for name, free in fleet.pools.items()]


def _tree(host: Host) -> Iterator[MyriadProvider]:
    root = MyriadProvider(host.name, None, host.name, host.totals)
    root.traits = [*host.traits, _version_trait(host.hypervisor)]
    root.aggregates = [*host.aggregates, *([host.pool] if host.pool else [])]
    yield root
    for number, cell in enumerate(host.cells):
        name = f"{host.name}_n{number}"
        yield MyriadProvider(name, host.name, host.name, {"PCPU": cell.cpus, "MEMORY_MB": cell.memory_mb})
        for at, device in enumerate(cell.devices):
            one = MyriadProvider(f"{name}_d{at}", name, host.name, {"PGPU": 1})
            one.traits = [
                _product_trait(device.vendor, device.product),
                _memory_trait(device.memory_mb),
                _driver_trait(device.driver),
            ]
            yield one
        for gpu in cell.gpus:
            one = MyriadProvider(gpu.name, name, host.name, {"CUSTOM_GPU_MILLI": gpu.milli})
            one.traits = [f"CUSTOM_{gpu.model}"]
            yield one
        for nic in cell.nics:
            card = {"NET_BW_EGR_KILOBIT_PER_SEC": nic.kilobits, "SRIOV_NET_VF": nic.functions}
            one = MyriadProvider(nic.name, name, host.name, card)
            one.traits = [_network_trait(nic.network)]
            yield one


def _pool(name: str, free: int) -> MyriadProvider:
    pool = MyriadProvider(name, None, name, {"DISK_GB": free})
    pool.traits, pool.aggregates = ["MISC_SHARES_VIA_AGGREGATE"], [name]
    return pool


def _version_trait(version: str) -> str:
    return f"CUSTOM_HYPERVISOR_{version.replace('.', '_')}"


def _product_trait(vendor: str, product: str) -> str:
    return f"CUSTOM_PCI_{vendor}_{product}".upper()


def _memory_trait(memory_mb: int) -> str:
    return f"CUSTOM_GPU_MEMORY_{memory_mb}"


def _driver_trait(driver: int) -> str:
    return f"CUSTOM_DRIVER_{driver}"


def _network_trait(network: str) -> str:
    return f"CUSTOM_PHYSNET_{network.upper()}"


async def load(port: int, database: MariadbServer, fleet: MyriadFleet) -> None:
    """Load a fleet. The first resident is made through the API, which makes the project, the user and the type of consumer."""
    providers = myriad_providers(fleet)
    api = PlacementApi(port)
    known = set((await api.must("GET", "/traits"))["traits"])
    for trait in sorted({trait for one in providers for trait in one.traits} - known):
        await api.must("PUT", f"/traits/{trait}")
    await api.must("PUT", "/resource_classes/CUSTOM_GPU_MILLI")
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        ids = _insert_providers(cursor, providers)
        connection.commit()
        first, *others = fleet.hosts
        body = claim_body({uuid_of(first.name): {"resources": dict(first.resident)}})
        await api.must("PUT", f"/allocations/{uuid_of(first.consumer)}", body)
        connection.commit()
        _insert_residents(cursor, others, ids, owner_columns(cursor))
        connection.commit()
        for table in ("resource_providers", "inventories", "allocations", "resource_provider_aggregates"):
            cursor.execute(f"ANALYZE TABLE {table}")


def _insert_providers(cursor: Any, providers: Sequence[MyriadProvider]) -> dict[str, int]:
    """Insert trees and all that belongs to them. Returns the number of each provider."""
    cursor.execute("SELECT COALESCE(MAX(id), 0) FROM resource_providers")
    ids = {one.name: number for number, one in enumerate(providers, cursor.fetchone()[0] + 1)}
    traits, classes = _ids(cursor, "traits"), _ids(cursor, "resource_classes")
    names = sorted({name for one in providers for name in one.aggregates})
    insert(cursor, "placement_aggregates", ("uuid",), [(uuid_of(name),) for name in names])
    cursor.execute("SELECT uuid, id FROM placement_aggregates")
    aggregates = dict(cursor.fetchall())
    trees = [
        (ids[one.name], uuid_of(one.name), one.name, 1, ids[one.root], ids.get(one.parent or ""))
        for one in providers
    ]
    columns = ("id", "uuid", "name", "generation", "root_provider_id", "parent_provider_id")
    insert(cursor, "resource_providers", columns, trees)
    columns = ("resource_provider_id", "resource_class_id", "total", "reserved", "min_unit", "max_unit")
    amounts = [
        (ids[one.name], classes[name], total, 0, 1, total, 1, 1.0)
        for one in providers
        for name, total in one.inventories.items()
    ]
    insert(cursor, "inventories", (*columns, "step_size", "allocation_ratio"), amounts)
    has = [(ids[one.name], traits[trait]) for one in providers for trait in one.traits]
    insert(cursor, "resource_provider_traits", ("resource_provider_id", "trait_id"), has)
    within = [(ids[one.name], aggregates[uuid_of(name)]) for one in providers for name in one.aggregates]
    insert(cursor, "resource_provider_aggregates", ("resource_provider_id", "aggregate_id"), within)
    return ids


def _insert_residents(
    cursor: Any, hosts: Sequence[Host], ids: Mapping[str, int], owner: Mapping[str, int]
) -> None:
    classes = _ids(cursor, "resource_classes")
    consumers = [(uuid_of(host.consumer), 1, *owner.values()) for host in hosts]
    insert(cursor, "consumers", ("uuid", "generation", *owner), consumers)
    used = [
        (ids[host.name], uuid_of(host.consumer), classes[name], amount)
        for host in hosts
        for name, amount in host.resident.items()
    ]
    columns = ("resource_provider_id", "consumer_id", "resource_class_id", "used")
    insert(cursor, "allocations", columns, used)


def _ids(cursor: Any, table: str) -> dict[str, int]:
    cursor.execute(f"SELECT name, id FROM {table}")
    return dict(cursor.fetchall())


# -- requests -----------------------------------------------------------------------------------------------------------


def candidates_path(request: Request, limit: int | None) -> str:
    """A request as a query for allocation candidates, as far as Placement can express it. Raises `NotOffered` for a quality that the
    adapter does not know. Each group has a name, so that one provider serves all of it."""
    unknown = [name for name in request.qualities if name not in _QUALITIES and name not in _IN_CLIENT]
    if unknown:
        raise NotOffered(f"the adapter has no query for {', '.join(unknown)}")
    amounts = ",".join(f"{name}:{amount}" for name, amount in request.resources.items())
    query: Parameters = {"resources_HOST": amounts, "required_HOST": [",".join(request.required)]}
    for name, value in request.qualities.items():
        if name in _QUALITIES:
            _QUALITIES[name](value, query)
    if sum(name.startswith("resources") for name in query) > 1:
        query.setdefault("group_policy", "none")
    if limit is not None:
        query["limit"] = limit
    return f"/allocation_candidates?{urlencode(query, doseq=True, safe=':,!_')}"


def _forbidden(names: list[str], query: Parameters) -> None:
    query["required_HOST"] += [f"!{name}" for name in names]


def _any_of(lists: list[list[str]], query: Parameters) -> None:
    query["required_HOST"] += [f"in:{','.join(names)}" for names in lists]


def _member_of(lists: list[list[str]], query: Parameters) -> None:
    query["member_of_HOST"] = [f"in:{','.join(map(uuid_of, names))}" for names in lists]


def _not_member_of(names: list[str], query: Parameters) -> None:
    query["member_of_HOST"] = [f"!in:{','.join(map(uuid_of, names))}"]


def _hypervisor_at_least(text: str, query: Parameters) -> None:
    least = version_key(text)
    known = [_version_trait(one) for one in HYPERVISORS if version_key(one) >= least]
    query["required_HOST"].append(f"in:{','.join(known)}")


def _numa(asks: list[Json], query: Parameters) -> None:
    for number, ask in enumerate(asks):
        query[f"resources_NUMA{number}"] = f"PCPU:{ask['cpus']},MEMORY_MB:{ask['memory_mb']}"
    query["group_policy"] = "isolate"


def _device(ask: Json, query: Parameters) -> None:
    required = []
    if "product" in ask:
        required.append(_product_trait(ask["vendor"], ask["product"]))
    if "memory_mb" in ask:
        known = sorted({one.memory_mb for one in MODELS if one.memory_mb >= ask["memory_mb"]})
        required.append(f"in:{','.join(map(_memory_trait, known))}")
    if "driver" in ask:
        required.append(f"in:{','.join(_driver_trait(one) for one in DRIVERS if one >= ask['driver'])}")
    for number in range(ask["count"]):
        query[f"resources_GPU{number}"] = "PGPU:1"
        query[f"required_GPU{number}"] = required
    query["group_policy"] = "isolate"


def _near(ask: Json, query: Parameters) -> None:
    query["resources_CELL"] = f"PCPU:{ask['cpus']},MEMORY_MB:{ask['memory_mb']}"
    query["resources_GPU"] = "PGPU:1"
    query["required_GPU"] = _product_trait(ask["vendor"], ask["product"])
    query["resources_NIC"] = "SRIOV_NET_VF:1"
    query["same_subtree"] = "_CELL,_GPU,_NIC"


def _gpu_share(ask: Json, query: Parameters) -> None:
    query["resources_GPU"] = f"CUSTOM_GPU_MILLI:{ask['milli']}"
    query["required_GPU"] = f"CUSTOM_{ask['model']}"


def _bandwidth(ask: Json, query: Parameters) -> None:
    query["resources_NET"] = f"NET_BW_EGR_KILOBIT_PER_SEC:{ask['kilobits']}"
    query["required_NET"] = _network_trait(ask["network"])


def _disk_gb(amount: int, query: Parameters) -> None:
    """The group without a name: a sharing provider may serve a part of it. It also has the VCPUs, because Placement names a shared disk
    only once, with one of its hosts, if that disk serves all of a group."""
    vcpus, _, others = query["resources_HOST"].partition(",")
    query["resources_HOST"] = others
    query["resources"] = f"{vcpus},DISK_GB:{amount}"


def _gang(size: int, query: Parameters) -> None:
    """One candidate for each host, because hosts have one provider that serves the group."""


_QUALITIES: Final[Mapping[str, Callable[[Any, Parameters], None]]] = {
    "forbidden": _forbidden,
    "any_of": _any_of,
    "member_of": _member_of,
    "not_member_of": _not_member_of,
    "hypervisor_at_least": _hypervisor_at_least,
    "numa": _numa,
    "device": _device,
    "near": _near,
    "gpu_share": _gpu_share,
    "bandwidth": _bandwidth,
    "disk_gb": _disk_gb,
    "gang": _gang,
}


class MyriadQueries:
    """The queries of one scheduler. It keeps which host is in which zone, as Nova keeps the hosts of its aggregates."""

    def __init__(self, api: PlacementApi) -> None:
        self._api = api
        self._zones: dict[str, str] = {}

    async def find(self, request: Request, limit: int) -> list[str]:
        """Up to `limit` hosts that serve a request."""
        qualities = request.qualities
        if "order" in qualities:
            return await self._ordered(request, limit)
        if "gang" in qualities:
            found = await self._hosts(candidates_path(request, qualities["gang"]))
            return found if len(found) == qualities["gang"] else []
        if "apart_from" in qualities:
            taken = await self._hosts_of(qualities["apart_from"]["members"])
            found = await self._hosts(candidates_path(request, limit + len(taken)))
            return [name for name in found if name not in taken][:limit]
        if "spread" in qualities:
            zones = await self._open_zones(qualities["spread"])
            within = Request(request.resources, request.required, {"member_of": [zones]})
            return await self._hosts(candidates_path(within, limit))
        # A host can be in several candidates, one for each choice among its providers. To have all hosts, all are needed.
        return (await self._hosts(candidates_path(request, limit if limit <= _SMALL else None)))[:limit]

    async def _hosts(self, path: str) -> list[str]:
        answer = await self._api.must("GET", path)
        return list(dict.fromkeys(_host_of(one) for one in answer["allocation_requests"]))

    async def _ordered(self, request: Request, limit: int) -> list[str]:
        """All candidates, sorted by what the summaries say is left."""
        answer = await self._api.must("GET", candidates_path(request, None))
        free = {
            name_of(uuid): resources["VCPU"]["capacity"] - resources["VCPU"]["used"]
            for uuid, one in answer["provider_summaries"].items()
            if "VCPU" in (resources := one["resources"])
        }
        hosts = dict.fromkeys(_host_of(one) for one in answer["allocation_requests"])
        return sorted(hosts, key=free.__getitem__)[:limit]

    async def _hosts_of(self, members: list[str]) -> dict[str, str]:
        """Host -> a member of a group that is on it."""
        found = {}
        for member in members:
            answer = await self._api.must("GET", f"/allocations/{uuid_of(member)}")
            found.update({name_of(uuid).partition("_")[0]: member for uuid in answer["allocations"]})
        return found

    async def _open_zones(self, ask: Json) -> list[str]:
        """The zones that may have one more member."""
        if not self._zones:
            for zone in ZONES:
                answer = await self._api.must("GET", f"/resource_providers?member_of={uuid_of(zone)}")
                self._zones.update({one["name"]: zone for one in answer["resource_providers"]})
        counts = Counter(dict.fromkeys(ZONES, 0))
        counts.update(self._zones[host] for host in await self._hosts_of(ask["members"]))
        least = min(counts.values())
        return [zone for zone, count in counts.items() if count < least + ask["max_skew"]]


_SMALL: Final = 10


def _host_of(candidate: Json) -> str:
    """The host of an allocation candidate, which can have a shared disk, too."""
    names = (name_of(uuid).partition("_")[0] for uuid in candidate["allocations"])
    return next(name for name in names if not name.startswith("pool-"))


def expressed(request: Request, limit: int) -> Expression:
    """How a request is expressed."""
    path = candidates_path(request, limit)
    always = (MyriadQueries.find, MyriadQueries._hosts, _host_of)
    also = [
        function
        for name, functions in _IN_CLIENT.items()
        if name in request.qualities
        for function in functions
    ]
    return Expression("filter in the client" if also else "one query", path, (*always, *also))


_IN_CLIENT: Final[Mapping[str, tuple[Callable[..., Any], ...]]] = {
    "apart_from": (MyriadQueries._hosts_of,),
    "spread": (MyriadQueries._hosts_of, MyriadQueries._open_zones),
    "order": (MyriadQueries._ordered,),
}
"""The qualities that the scheduler looks after, and how."""
