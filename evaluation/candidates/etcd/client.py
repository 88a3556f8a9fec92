"""The scheduler's side of etcd: claims as compare-and-swap transactions; and the bulk load and the list of all allocations."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import grpc
import msgspec
from aetcd import rpc

from evaluation.candidates.candidate import ATTEMPTS, Fleet, Held, Json, NotOffered, Outcome, Request, Whole
from evaluation.candidates.etcd.copy import (
    HOSTS,
    PAGE,
    POOLS,
    PROVIDERS,
    EtcdCopy,
    HostCopy,
    NodeValue,
    Row,
    encode,
)
from evaluation.candidates.myriad_fleet import MyriadFleet, is_myriad

_ALLOCATIONS: Final = b"allocations/"
_ALLOCATIONS_END: Final = b"allocations0"
_NODES: Final = b"nodes/"
OPERATIONS: Final = 128
"""Writes of one transaction of a bulk load: etcd's default `max-txn-ops`."""

_LOADS_AT_ONCE: Final = 8
_NODE_TTL_S: Final = 60
_ANSWER_S: Final = 10.0
_CHANNEL: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Each scheduler has one connection for all its calls, as etcd's own client does.
    ("grpc.use_local_subchannel_pool", 1),
)
_EQUAL: Final = rpc.Compare.EQUAL


class AllocationValue(msgspec.Struct):
    """The value of a consumer's key: what it holds, and its request as it was asked."""

    provider: str
    resources: dict[str, int]
    request: Json


_decode_allocation = msgspec.json.Decoder(AllocationValue).decode


_OPEN_S: Final = 60.0


class EtcdConnection:
    """One scheduler's connection, with its copy of the providers."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_CHANNEL)
        self._kv = rpc.KVStub(self._channel)
        self._lease = rpc.LeaseStub(self._channel)
        self._rng = rng
        self._copy = EtcdCopy(self._channel, rng)
        self._follower: asyncio.Task[None] | None = None
        self._hosts: HostCopy | None = None
        self._host_follower: asyncio.Task[None] | None = None
        self._placed: dict[str, tuple[str, dict[str, int]]] = {}
        self._busy: dict[str, asyncio.Future[None]] = {}
        self._leases: dict[str, int] = {}
        self._alive: _KeepAlive | None = None

    async def open(self) -> None:
        """Make the copy and follow its changes. A busy machine may need several attempts to connect."""
        async with asyncio.timeout(_OPEN_S):
            await self._channel.channel_ready()
        await self._copy.load()
        self._follower = asyncio.create_task(self._copy.follow())

    async def query(self, request: Request, limit: int) -> list[str]:
        """The names of up to `limit` providers that match and have room, from the copy."""
        if is_myriad(request):
            return (await self._host_copy()).hosts.find(request, limit, self._rng)
        refuse_qualities(request)
        return [row.name for row in self._copy.find(request, limit)]

    async def _host_copy(self) -> HostCopy:
        """The copy of the hosts with many qualities, which is made at the first query for them."""
        if self._hosts is None:
            self._hosts = HostCopy(self._channel)
            self._host_follower = asyncio.create_task(self._hosts.follow(await self._hosts.load()))
        return self._hosts

    async def place(self, consumer: str, request: Request) -> Outcome:
        """Claim a provider that the copy finds; see `Connection.place`."""
        refuse_qualities(request)
        conflicts = 0
        while conflicts < ATTEMPTS:
            if not await self._is_up():
                return Outcome("unavailable", conflicts=conflicts, reason="etcd does not answer")
            try:
                row = await self._choose(request)
            except grpc.aio.AioRpcError as error:
                return Outcome("unavailable", conflicts=conflicts, reason=str(error.details()))
            if row is None:
                return Outcome("no_room", conflicts=conflicts)
            if (other := self._busy.get(row.name)) is not None:
                await (
                    other
                )  # a claim of this scheduler: wait, because a second one would only conflict with it
                continue
            self._busy[row.name] = asyncio.get_running_loop().create_future()
            try:
                claimed = await self._claim(consumer, request, row)
            except grpc.aio.AioRpcError as error:
                return Outcome("unknown", row.name, conflicts, str(error.details()))
            finally:
                self._busy.pop(row.name).set_result(None)
            if claimed:
                self._placed[consumer] = (row.name, dict(request.resources))
                return Outcome("placed", row.name, conflicts)
            conflicts += 1
        return Outcome("conflict", conflicts=conflicts)

    async def release(self, consumer: str) -> bool:
        """Give back what was placed for the consumer; tries again while other claims change the provider."""
        name, resources = self._placed[consumer]
        row = self._copy[name]
        key = _ALLOCATIONS + consumer.encode()
        while True:
            compare = [
                _unchanged(row),
                rpc.Compare(result=rpc.Compare.GREATER, target=rpc.Compare.VERSION, key=key, version=0),
            ]
            writes = [_put(PROVIDERS + name.encode(), row.value(resources, -1)), _delete(key)]
            try:
                if await self._commit(compare, writes, row):
                    break
                if not (await self._kv.Range(rpc.RangeRequest(key=key, count_only=True))).count:
                    break
            except grpc.aio.AioRpcError:
                return False
        del self._placed[consumer]
        return True

    async def heartbeat(self, node: str) -> None:
        """Renew the lease of the node's key. Make both the first time, and after the lease has expired."""
        try:
            if self._alive is None:
                self._alive = _KeepAlive(self._lease)
            if node in self._leases and await self._alive.keep(self._leases[node]):
                return
            granted = await self._lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=_NODE_TTL_S))
            await self._kv.Put(rpc.PutRequest(key=_NODES + node.encode(), lease=granted.ID))
            self._leases[node] = granted.ID
        except (grpc.aio.AioRpcError, OSError) as error:  # a `TimeoutError` is an `OSError`
            alive, self._alive = self._alive, None
            if alive is not None:
                alive.close()
            raise ConnectionError("etcd does not answer") from error

    async def whole(self, consumer: str) -> Whole:
        """What is stored about a placed consumer: its key, then the key of its provider."""
        found = await self._kv.Range(rpc.RangeRequest(key=_ALLOCATIONS + consumer.encode()))
        value = _decode_allocation(found.kvs[0].value)
        provider = await self._kv.Range(rpc.RangeRequest(key=PROVIDERS + value.provider.encode()))
        totals = msgspec.json.decode(provider.kvs[0].value, type=NodeValue).totals
        return Whole(
            Request.from_json(value.request), Held(consumer, value.provider, value.resources), totals, 2
        )

    async def close(self) -> None:
        """End the watch and close the connection."""
        if self._alive is not None:
            self._alive.close()
        for follower in (self._follower, self._host_follower):
            if follower is not None:
                follower.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await follower
        await self._channel.close()

    # -- steps of a claim -----------------------------------------------------------------------------------------

    async def _is_up(self) -> bool:
        """Wait until the connection is made. If it is not, nothing was sent."""
        if self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return True
        try:
            await asyncio.wait_for(self._channel.channel_ready(), _ANSWER_S)
        except TimeoutError:
            return False
        return True

    async def _choose(self, request: Request) -> Row | None:
        """A provider at random; one without a claim of this scheduler under way, if there is one."""
        found = self._copy.find(request, 2)
        if not found:
            await self._copy.catch_up()
            found = self._copy.find(request, 2)
        return next((row for row in found if row.name not in self._busy), found[0] if found else None)

    async def _claim(self, consumer: str, request: Request, row: Row) -> bool:
        key = _ALLOCATIONS + consumer.encode()
        allocation = AllocationValue(row.name, dict(request.resources), request.as_json())
        compare = [
            _unchanged(row),
            rpc.Compare(result=_EQUAL, target=rpc.Compare.CREATE, key=key, create_revision=0),
        ]
        writes = [
            _put(PROVIDERS + row.name.encode(), row.value(request.resources, 1)),
            _put(key, encode(allocation)),
        ]
        return await self._commit(compare, writes, row)

    async def _commit(self, compare: list[Any], writes: list[Any], row: Row) -> bool:
        """Commit a transaction that writes a provider first. If it is refused, the copy gets what the provider is now."""
        key = PROVIDERS + row.name.encode()
        read = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        request = rpc.TxnRequest(compare=compare, success=writes, failure=[read])
        answer = await self._kv.Txn(request, timeout=_ANSWER_S)
        if not answer.succeeded:
            self._copy.apply(answer.responses[0].response_range.kvs)
            return False
        self._copy.apply(
            [rpc.KeyValue(key=key, value=writes[0].request_put.value, mod_revision=answer.header.revision)]
        )
        return True


class _KeepAlive:
    """One stream of lease renewals, as etcd's own client keeps it. Answers come in the order of the requests."""

    def __init__(self, stub: Any) -> None:
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._call = stub.LeaseKeepAlive(self._sent())
        self._reader = asyncio.create_task(self._read())

    async def keep(self, lease: int) -> bool:
        """Renew a lease, and wait for the answer: whether there is still such a lease. Raises `ConnectionError` if the stream
        breaks."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._requests.put_nowait(rpc.LeaseKeepAliveRequest(ID=lease))
        return await asyncio.wait_for(answer, _ANSWER_S)

    def close(self) -> None:
        """End the stream. Who waits for an answer gets a `ConnectionError`."""
        self._reader.cancel()
        self._call.cancel()
        self._fail()

    async def _sent(self) -> AsyncIterator[Any]:
        while True:
            yield await self._requests.get()

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for response in self._call:
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(response.TTL > 0)
        self._fail()

    def _fail(self) -> None:
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ConnectionError("the stream of renewals is broken"))
        self._waiting.clear()


def refuse_qualities(request: Request) -> None:
    """Raise `NotOffered` if a request asks for more than amounts and traits."""
    if request.qualities:
        raise NotOffered(f"the adapter has no code for {', '.join(request.qualities)}")


def load(port: int, fleet: Fleet, used_share: float) -> None:
    """Load a fleet with transactions of `OPERATIONS` writes."""
    _load(port, _keys(fleet, used_share))


def load_myriad(port: int, fleet: MyriadFleet) -> None:
    """Load the hosts with many qualities: one document each, and one for each shared disk."""
    hosts = ((HOSTS + host.name.encode(), encode(host.as_json())) for host in fleet.hosts)
    pools = ((POOLS + name.encode(), encode(free)) for name, free in fleet.pools.items())
    _load(port, chain(hosts, pools))


def _load(port: int, keys: Iterable[tuple[bytes, bytes]]) -> None:
    with _sync_channel(port) as channel:
        txn = rpc.KVStub(channel).Txn
        waiting: deque[Any] = deque()
        operations: list[Any] = []
        for key, value in keys:
            operations.append(_put(key, value))
            if len(operations) == OPERATIONS:
                waiting.append(txn.future(rpc.TxnRequest(success=operations)))
                operations = []
                if len(waiting) == _LOADS_AT_ONCE:
                    waiting.popleft().result()
        if operations:
            waiting.append(txn.future(rpc.TxnRequest(success=operations)))
        for one in waiting:
            one.result()


def held(port: int) -> Iterator[Held]:
    """All allocations, as of one revision."""
    with _sync_channel(port) as channel:
        kv = rpc.KVStub(channel)
        key, revision = _ALLOCATIONS, 0
        while True:
            request = rpc.RangeRequest(key=key, range_end=_ALLOCATIONS_END, limit=PAGE, revision=revision)
            page = kv.Range(request)
            revision = revision or page.header.revision
            for one in page.kvs:
                value = _decode_allocation(one.value)
                yield Held(one.key[len(_ALLOCATIONS) :].decode(), value.provider, value.resources)
            if not page.more:
                return
            key = page.kvs[-1].key + b"\0"


def _sync_channel(port: int) -> Any:
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=_CHANNEL)


def _keys(fleet: Fleet, used_share: float) -> Iterator[tuple[bytes, bytes]]:
    """The keys of a fleet and its first allocations."""
    for provider in fleet.providers():
        filler = fleet.filler(provider, used_share)
        used = {} if filler is None else dict(filler.resources)
        value = NodeValue(dict(provider.totals), list(provider.traits), used)
        yield PROVIDERS + provider.name.encode(), encode(value)
        if filler is not None:
            allocation = AllocationValue(provider.name, used, Request(used).as_json())
            yield _ALLOCATIONS + filler.consumer.encode(), encode(allocation)


def _unchanged(row: Row) -> Any:
    return rpc.Compare(
        result=_EQUAL, target=rpc.Compare.MOD, key=PROVIDERS + row.name.encode(), mod_revision=row.revision
    )


def _put(key: bytes, value: bytes) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))


def _delete(key: bytes) -> Any:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
