"""A log, hosts with a store each, and a released and this build that follow and write the log at the same time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from tests.upgrades.builds import WAIT_S, Build
from tests.upgrades.refold import refolded


@dataclass
class Fleet:
    """The log at `url`; the stores are in `home`."""

    home: Path
    url: str
    old: Build
    new: Build

    def host(self, name: str) -> tuple[str, ...]:
        """The options that name the log and a host's store."""
        return ("--log", self.url, "--store", str(self.home / name))

    def wait_for_worker(self, host: str) -> None:
        """Wait until a worker follows both partitions with the store of a host."""
        for partition in (0, 1):
            file, until = self.home / host / f"p{partition:05}.ring", time.monotonic() + WAIT_S
            while not file.exists():
                assert time.monotonic() < until, file
                time.sleep(0.1)

    def publish(self, build: Build, node: str, host: str) -> None:
        """Report a node with 8 CPUs, and wait until a host's store has it."""
        file, outbox = self.home / f"{node}.json", self.home / f"{node}.outbox"
        file.write_text(json.dumps([{"id": node, "inventories": {"VCPU": {"total": 8}}}]))
        once = ("publish", "--once", "--file", str(file), "--outbox", str(outbox), "--timeout", str(WAIT_S))
        assert build.json(*once, *self.host(host))["outcome"] == "applied"

    def place(self, build: Build, consumer: str, host: str) -> None:
        """Place a consumer with 2 CPUs by the tables of a host."""
        place = ("place", "--consumer", consumer, "--resources", "VCPU:2", "--timeout", str(WAIT_S))
        build.json(*place, *self.host(host))

    def check(self, build: Build, host: str) -> None:
        """What a build finds in a store is what this build folds from the first record up to there."""
        found = build.json("digest", "--store", str(self.home / host))
        position = {int(partition): offset for partition, offset in found["position"].items()}
        assert found["digest"] == refolded(self.url, position), (host, position)
