"""A real publishing process, killed at random moments, again and again, on one outbox and one log."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.logs.node_logs import ROOT, Tables, as_tree, make_log, node, node_events, numbers
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher, diff
from vacancy.resources.model.events import NodeReported
from vacancy.streams.log import open_log

CELL = "auto-0"
ROUNDS = 10
SEED = 20260101


def publish_forever(url: str, path: Path, seed: int, started: Connection) -> None:
    """Report, then change, and say where it is, until killed."""
    choose = random.Random(seed)
    with open_log(url) as log, Outbox(path) as outbox:
        publisher = Publisher(log, ROOT, CELL, outbox)
        publisher.flush()
        tree = node(1)
        publisher.report(tree)
        publisher.flush()
        started.send(publisher.incarnation)
        while True:
            before, tree = (
                tree,
                node(choose.randint(1, 1000), *(f"numa{n}" for n in range(choose.randint(0, 3)))),
            )
            if choose.random() < 0.1:
                publisher.report(tree)
            else:
                publisher.changed(*diff(before, tree))
            if choose.random() < 0.7:
                publisher.flush()


def test_killed_at_any_moment_it_neither_loses_nor_reorders(tmp_path: Path) -> None:
    url, path = f"sqlite://{tmp_path}/log.db", tmp_path / "outbox.db"
    make_log(url).close()
    choose = random.Random(SEED)
    spawn = multiprocessing.get_context("spawn")
    incarnations = []
    for round_ in range(ROUNDS):
        here, there = spawn.Pipe()
        process = spawn.Process(target=publish_forever, args=(url, path, SEED + round_, there))
        process.start()
        assert here.poll(60), f"the publisher did not start in round {round_} (seed {SEED})"
        incarnations.append(here.recv())
        time.sleep(choose.uniform(0, 0.15))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        process.close()
        here.close()
        there.close()
    with open_log(url) as log:
        with Outbox(path) as outbox:
            last = Publisher(log, ROOT, CELL, outbox)
            left = [pending.event for pending in outbox.pending(10_000)]
            last.flush()
            # What was on its way when the process died is in the log now, whoever sent it.
            assert {(event.incarnation, event.sequence) for event in left} <= set(numbers(log))
            last.report(node(42))
            last.flush()
        said = numbers(log)
        for incarnation in incarnations:
            heard = [sequence for one, sequence in dict.fromkeys(said) if one == incarnation]
            # Nothing overtaken; and nothing lost but what a full report made moot.
            assert heard == sorted(heard), f"seed {SEED}"
            full = {
                event.data.sequence
                for event in node_events(log)
                if event.data.incarnation == incarnation and isinstance(event, NodeReported)
            }
            assert all(b == a + 1 or b in full for a, b in zip([0, *heard], heard, strict=False)), (
                f"seed {SEED}"
            )
            assert heard[0] == 1
        assert list(dict.fromkeys(one for one, _ in said)) == [*incarnations, last.incarnation]
        folded = Tables(log)
        assert folded.tree(CELL) == as_tree(node(42))
        assert folded.node(CELL).open
        assert folded.dead_letters == []
