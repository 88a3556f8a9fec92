"""Two hosts follow one Kafka log: their workers compare digests, and a row that is altered on one of them is noticed by both."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tests.cli.command import Vacancy
from tests.live.site import WorkerCommand, new_topic, report, until
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.projections.store.store import Store
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.state.tables import NODES

pytestmark = pytest.mark.kafka

(CELL,) = covering_cells(1)
OFTEN = ("--digest-every", "0.5s")


def differs(worker: WorkerCommand, other: str) -> bool:
    """Whether a worker shows that the store `other` differs, and no other store."""
    return list(worker.status()["partitions"][0]["differs"]) == [other]


def test_hosts_compare_digests_and_notice_a_row_that_is_altered(kafka: str, tmp_path: Path) -> None:
    stores = [tmp_path / name for name in ("a", "b")]
    with new_topic(kafka, 1) as log:
        log.append([report(CELL, f"n{number}") for number in range(5)])
        workers = [WorkerCommand(log, store, *OFTEN) for store in stores]
        with workers[0], workers[1]:
            names = [json.loads((store / "store.json").read_text())["store"] for store in stores]

            def compared() -> bool:
                with Vacancy(tmp_path, log=log.url) as vacancy:
                    found = [
                        vacancy.json("status", "--store", store)["partitions"][0]["digested"]
                        for store in stores
                    ]
                return all(position > 0 for position in found)

            until(compared, "no digests")
            assert [worker.status()["partitions"][0]["differs"] for worker in workers] == [{}, {}]
        with Store(stores[1], log=log.identity().log, partitions=1, registry=installed_registry()) as store:
            tables = store.partition(0)
            ((key, data), *_) = tables.scan(NODES.family)
            tables._dbs[NODES.family][key] = data[:-1] + bytes((data[-1] ^ 1,))
        log.append([report(CELL, "n9")])
        workers = [WorkerCommand(log, store, *OFTEN) for store in stores]
        with workers[0], workers[1]:
            for worker, other in zip(workers, reversed(names), strict=True):
                until(partial(differs, worker, other), "the difference is not noticed")
                assert "vacancy_worker_differing_stores" in worker.get("/metrics").text
                until(partial(worker.said, "state differs from that of another host"), "it does not say so")
        with Vacancy(tmp_path, log=log.url, store=str(stores[1])) as vacancy:
            found = vacancy.run_shared("verify", "--json")
            assert found.code == 5
            (parted,) = json.loads(found.out)["parted"]
            assert parted["altered"]
            assert [row["table"] for row in parted["rows"]] == [NODES.name]
            assert 0 < parted["equal"] < parted["differs"]
    assert [list((store / "digests").glob("*")) for store in stores] == [[], []]
