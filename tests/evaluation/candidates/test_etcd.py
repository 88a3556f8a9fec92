"""etcd as a candidate."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.candidate import Fleet, Request
from tests.evaluation.candidates.contract import started


def test_heartbeats_survive_a_cancelled_one_and_a_kill(tmp_path: Path) -> None:
    one = started("etcd")
    one.start(tmp_path)

    async def check() -> None:
        connection = await one.connect(one.connection(0))
        nodes = [f"node-{number}" for number in range(20)]
        for _ in range(3):
            await asyncio.gather(*map(connection.heartbeat, nodes))
        cut_off = asyncio.create_task(connection.heartbeat(nodes[0]))
        await asyncio.sleep(0)
        cut_off.cancel()
        await connection.heartbeat(nodes[0])
        one.kill()
        with pytest.raises(ConnectionError):
            await connection.heartbeat(nodes[0])
        one.restart()
        while True:
            try:
                await connection.heartbeat(nodes[0])
                break
            except ConnectionError:
                await asyncio.sleep(0.05)
        await connection.close()

    try:
        asyncio.run(asyncio.wait_for(check(), 60))
    finally:
        one.stop()


def test_a_copy_is_read_in_pages_and_catches_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = started("etcd")
    from evaluation.candidates.etcd import copy as etcd_copy

    monkeypatch.setattr(etcd_copy, "PAGE", 7)
    anywhere = Request({"VCPU": 1})

    async def check() -> None:
        connection = await one.connect(one.connection(0))
        description = one.connection(1)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{description['port']}") as channel:
            copy = etcd_copy.EtcdCopy(channel, random.Random(1))
            await copy.load()
            assert len(copy.find(anywhere, 100)) == 30
            outcomes = [await connection.place(f"c-{number}", anywhere) for number in range(20)]
            await copy.catch_up()
            placed = Counter(outcome.provider for outcome in outcomes)
            assert {name: copy[name].used["VCPU"] for name in placed} == placed
        await connection.close()

    try:
        one.start(tmp_path)
        one.fill(Fleet(30), 0.0)
        asyncio.run(asyncio.wait_for(check(), 60))
    finally:
        one.stop()
