"""etcd as a candidate."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from tests.evaluation.candidates.contract import check_contract, started


def test_contract(tmp_path: Path) -> None:
    check_contract("etcd", tmp_path)


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
