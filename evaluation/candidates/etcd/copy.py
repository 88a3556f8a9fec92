"""A scheduler's copy of all providers in etcd: listed once, then kept by a watch.

So Kubernetes does it, and so etcd's own documentation recommends it: reads of a large range are expensive, and a watch delivers
each change once. A copy may be some milliseconds old. That can cost a claim a conflict, and never overcommits, because each
claim compares the revision of its provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc
import msgspec
from aetcd import rpc

from evaluation.candidates.candidate import Request
from evaluation.candidates.client_filter import Hosts

PROVIDERS: Final = b"providers/"
PROVIDERS_END: Final = b"providers0"
"""The key after the last one with this prefix."""

HOSTS: Final = b"myriad/hosts/"
POOLS: Final = b"myriad/pools/"
POOLS_END: Final = b"myriad/pools0"

PAGE: Final = 5_000
"""Keys of one range read. An answer must stay below gRPC's limit of 4 MiB a message."""

_TRIES_PER_CANDIDATE: Final = 8
_PAUSE_S: Final = 0.05


class NodeValue(msgspec.Struct):
    """The value of a provider's key."""

    totals: dict[str, int]
    traits: list[str]
    used: dict[str, int]


_decode = msgspec.json.Decoder(NodeValue).decode
encode = msgspec.json.Encoder().encode


class Row:
    """A provider in the copy. `revision`: the revision of etcd that changed it last."""

    __slots__ = ("name", "revision", "totals", "traits", "used")

    def __init__(self, name: str, value: NodeValue, revision: int) -> None:
        self.name = name
        self.revision = revision
        self.totals, self.traits, self.used = value.totals, frozenset(value.traits), value.used

    def has_room(self, resources: Mapping[str, int]) -> bool:
        """Whether it has these amounts free."""
        used, totals = self.used, self.totals
        return all(used.get(name, 0) + amount <= totals.get(name, 0) for name, amount in resources.items())

    def value(self, resources: Mapping[str, int], sign: int) -> bytes:
        """The value of its key once these amounts were claimed (`sign` 1) or released (-1)."""
        used = dict(self.used)
        for name, amount in resources.items():
            used[name] = used.get(name, 0) + sign * amount
        return encode(NodeValue(self.totals, sorted(self.traits), used))


class EtcdCopy:
    """The copy of one scheduler. `load` lists all providers; `follow` keeps it until it is cancelled."""

    def __init__(self, channel: Any, rng: random.Random) -> None:
        self._kv = rpc.KVStub(channel)
        self._watch = rpc.WatchStub(channel)
        self._rng = rng
        self._rows: dict[str, Row] = {}
        self._with_traits: dict[tuple[str, ...], list[Row]] = {}
        self._revision = 0

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    async def load(self) -> None:
        """List all providers, as of one revision."""
        await self._read_changes(0)

    async def catch_up(self) -> None:
        """Read what has changed since the last answer of the watch. The copy is not older than this call then."""
        await self._read_changes(self._revision)

    async def _read_changes(self, after: int) -> None:
        """Read the providers that changed after a revision, in pages, all as of the revision of the first page."""
        key, revision = PROVIDERS, 0
        while True:
            request = rpc.RangeRequest(
                key=key,
                range_end=PROVIDERS_END,
                limit=PAGE,
                revision=revision,
                min_mod_revision=after + 1 if after else 0,
            )
            page = await self._kv.Range(request)
            revision = revision or page.header.revision
            self.apply(page.kvs)
            if not page.more:
                break
            key = page.kvs[-1].key + b"\0"
        self._revision = max(self._revision, revision)

    async def follow(self) -> None:
        """Apply what the watch delivers until cancelled. A watch that breaks is continued from the revision that it had reached."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                call = self._watch.Watch()
                created = rpc.WatchCreateRequest(
                    key=PROVIDERS, range_end=PROVIDERS_END, start_revision=self._revision + 1
                )
                await call.write(rpc.WatchRequest(create_request=created))
                async for response in call:
                    if response.compact_revision:
                        await self.load()
                        break
                    self.apply(event.kv for event in response.events)
                    self._revision = max(self._revision, response.header.revision)
            await asyncio.sleep(_PAUSE_S)

    def apply(self, keys: Iterable[Any]) -> None:
        """Take over keys of providers that are newer than what the copy has."""
        for key in keys:
            name = key.key[len(PROVIDERS) :].decode()
            row = self._rows.get(name)
            if row is not None and row.revision >= key.mod_revision:
                continue
            value = _decode(key.value)
            if row is None or row.traits != frozenset(value.traits):
                self._rows[name] = Row(name, value, key.mod_revision)
                self._with_traits.clear()
            else:
                row.totals, row.used, row.revision = value.totals, value.used, key.mod_revision

    def find(self, request: Request, limit: int) -> list[Row]:
        """Up to `limit` providers that match and have room, in a random order."""
        rows = self._matching(request.required)
        if not rows:
            return []
        found: dict[str, Row] = {}
        resources = request.resources
        choose = self._rng.randrange
        for _ in range(_TRIES_PER_CANDIDATE * limit):
            row = rows[choose(len(rows))]
            if row.has_room(resources):
                found[row.name] = row
                if len(found) == limit:
                    return list(found.values())
        start = choose(len(rows))
        for number in range(start - len(rows), start):
            row = rows[number]
            if row.has_room(resources):
                found[row.name] = row
                if len(found) == limit:
                    break
        chosen = list(found.values())
        self._rng.shuffle(chosen)
        return chosen

    def _matching(self, required: tuple[str, ...]) -> list[Row]:
        rows = self._with_traits.get(required)
        if rows is None:
            wanted = set(required)
            rows = [row for row in self._rows.values() if wanted <= row.traits]
            self._with_traits[required] = rows
        return rows


class HostCopy:
    """A scheduler's copy of the hosts with many qualities: listed once, then kept by a watch, as documents that a filter reads."""

    def __init__(self, channel: Any) -> None:
        self._kv = rpc.KVStub(channel)
        self._watch = rpc.WatchStub(channel)
        self.hosts = Hosts()

    async def load(self) -> int:
        """List all hosts and shared disks, as of one revision, which is returned."""
        key, revision = HOSTS, 0
        while True:
            request = rpc.RangeRequest(key=key, range_end=POOLS_END, limit=PAGE, revision=revision)
            page = await self._kv.Range(request)
            revision = revision or page.header.revision
            self._apply(page.kvs)
            if not page.more:
                return revision
            key = page.kvs[-1].key + b"\0"

    async def follow(self, revision: int) -> None:
        """Apply what changes after a revision, until cancelled. A watch that breaks is begun again after another list."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                call = self._watch.Watch()
                created = rpc.WatchCreateRequest(key=HOSTS, range_end=POOLS_END, start_revision=revision + 1)
                await call.write(rpc.WatchRequest(create_request=created))
                async for response in call:
                    self._apply(event.kv for event in response.events)
            await asyncio.sleep(_PAUSE_S)
            with contextlib.suppress(grpc.aio.AioRpcError):
                revision = await self.load()

    def _apply(self, keys: Iterable[Any]) -> None:
        for key in keys:
            if key.key.startswith(HOSTS):
                self.hosts.put(msgspec.json.decode(key.value))
            else:
                self.hosts.pools[key.key[len(POOLS) :].decode()] = msgspec.json.decode(key.value)
