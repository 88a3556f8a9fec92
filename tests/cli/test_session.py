"""A working day with the command: create a log, report nodes, place and release consumers, check the state."""

from __future__ import annotations

import json
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file
from tests.support.logs.events_json import rules_in_steps
from vacancy.clients.runtime.bootstrap import installed_registry, open_store
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import RequestRow
from vacancy.resources.state.tables import REQUESTS
from vacancy.streams.log import open_log

SMALL = ("--resources", "VCPU:1,MEMORY_MB:256")


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log with two nodes, and a worker that follows it."""
    home = tmp_path_factory.mktemp("session")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        made = vacancy.json("topics", "create", "--partitions", 2)
        assert made["partitions"] == 2
        for root, gpus in (("node-1", 2), ("node-2", 0)):
            vacancy("publish", "--once", "--file", node_file(home, root, gpus=gpus))
        with vacancy.worker():
            yield vacancy


def test_nodes_are_there_once_they_have_reported(vacancy: Vacancy) -> None:
    found = vacancy.json("show", "nodes")
    assert {node["root"]: node["state"] for node in found["nodes"]} == {"node-1": "open", "node-2": "open"}
    tree = vacancy.json("show", "provider", "node-1")
    assert [one["id"] for one in tree["providers"]] == ["node-1", "node-1:gpu0", "node-1:gpu1"]
    memory = next(i for i in tree["providers"][0]["inventories"] if i["resource_class"] == "MEMORY_MB")
    assert (memory["capacity"], memory["record"]["reserved"]) == (15872, 512)
    assert "node-1:gpu1" in vacancy("show", "provider", "node-1")


def test_allocations_are_shown_until_they_are_released(vacancy: Vacancy) -> None:
    candidates = vacancy.json("candidates", *SMALL, "--in-tree", "node-2")
    assert [one["root"] for one in candidates["candidates"]] == ["node-2"]
    placed = vacancy.json("place", *SMALL, "--in-tree", "node-2", "--consumer", "web-1", "--seed", 1)
    assert (placed["status"], placed["root"]) == ("placed", "node-2")
    (held,) = vacancy.json("show", "consumer", "web-1")
    assert {(h["resource_class"], h["grant"]) for h in held["holdings"]} == {("VCPU", 1), ("MEMORY_MB", 256)}
    assert vacancy.json("show", "claim", placed["claim"])["accepted"] is True
    until = time.monotonic() + 90  # the outcome is written down after the claim, and nobody waits for it
    while vacancy.json("show", "request", placed["request"])["outcome"] != "placed":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [h["consumer"] for h in vacancy.json("show", "provider", "node-2")["holdings"]] == [
        "web-1",
        "web-1",
    ]
    again = vacancy.fails(7, "place", *SMALL, "--in-tree", "node-2", "--consumer", "web-1")
    assert (
        f"consumer web-1 exists: it holds 1 VCPU, 256 MEMORY_MB of node-2 in cell {placed['cell']} by"
        in again
    )
    assert f"by claim {placed['claim']}" in again
    assert "`vacancy release web-1`" in again
    silent = vacancy.fails(3, "place", *SMALL, "--max-staleness", 0)
    assert "no valid host" in silent
    vacancy("place", *SMALL, "--max-staleness", 3600, "--consumer", "heard-1")
    vacancy("release", "heard-1")
    vacancy("release", "web-1")
    assert "holds nothing" in vacancy.fails(1, "show", "consumer", "web-1")
    assert "no allocations of web-1" in vacancy.fails(1, "release", "web-1")


def test_groups_are_served_by_several_providers(vacancy: Vacancy, tmp_path: Path) -> None:
    query = "resources=VCPU:2&resources1=CUSTOM_GPU:1&resources2=CUSTOM_GPU:1&group_policy=isolate"
    placed = vacancy.json("place", "--query", query, "--consumer", "train-1")
    assert {one["provider"] for one in placed["allocations"]} == {"node-1", "node-1:gpu0", "node-1:gpu1"}
    spec = json.dumps({"groups": [{"resources": {"CUSTOM_GPU": 1}}]})
    ended = vacancy.run("candidates", "--request", "-", stdin=spec)
    assert ended.code == 3, "both GPUs are taken"
    typical = vacancy("typical", "CUSTOM_GPU")
    assert [one["request"]["groups"][1]["resources"] for one in json.loads(typical)["typical"]] == [
        {"CUSTOM_GPU": 1}
    ]
    vacancy("release", "train-1")
    assert "no consumer holds an amount of CUSTOM_GPU" in vacancy.fails(2, "typical", "CUSTOM_GPU")
    file = tmp_path / "typical.json"
    file.write_text(typical)
    first = (
        "candidates",
        "--resources",
        "VCPU:7",
        "--limit",
        1,
        "--order",
        "least_fragmentation",
        "--typical",
        file,
    )
    # With one core left the GPUs of the first node were no use to anyone; the second node has none.
    assert [one["root"] for one in vacancy.json(*first)["candidates"]] == ["node-2"]
    assert "node-1:gpu" in vacancy.run("candidates", "--request", "-", stdin=spec).out


def test_server_groups_copies_and_usage(vacancy: Vacancy) -> None:
    cell = vacancy.json("show", "provider", "node-1")["cell"]
    apart = ("--group-anti-affinity", f"{cell}/web")
    placed = vacancy.json("place", *SMALL, *apart, "--consumer", "web-a", "--project", "p")
    assert placed["cell"] == cell
    shown = vacancy.json("show", "group", f"{cell}/web")
    assert (shown["policy"], shown["hard"], shown["nodes"]) == ("anti-affinity", True, {placed["root"]: 1})
    assert "web-a" in vacancy("show", "group", f"{cell}/web")
    near = vacancy.json("candidates", *SMALL, "--soft-group-affinity", f"{cell}/other")
    assert {one["cell"] for one in near["candidates"]} == {cell}
    assert "has another rule" in vacancy.fails(2, "place", *SMALL, "--group-affinity", f"{cell}/web")
    told = vacancy("place", *SMALL, "--copies", 2, "--consumer", "twins", "--project", "p")
    assert told.startswith("placed 2 copies of twins in cell ")
    (held,) = vacancy.json("show", "consumer", "twins")
    assert {one["group"] for one in held["holdings"]} == {"#1", "#2"}
    (used,) = vacancy.json("usage", "--project", "p", "--by", "project")["usages"]
    assert used == {"name": "p", "consumers": 2, "usages": {"MEMORY_MB": 768, "VCPU": 3}}
    assert "VCPU" in vacancy("usage")
    vacancy("release", "web-a", "twins")
    assert "has no members" in vacancy.fails(1, "show", "group", f"{cell}/web")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("--group-affinity", "web"), "'web' is not a server group"),
        (("--group-affinity", "c/web:2"), "max_per_node is for anti-affinity"),
        (("--group-affinity", "c/g", "--group-anti-affinity", "c/g"), "group c/g is named twice"),
        (("--group-affinity", "c/g", "--copies", 2, "--copies-on", "distinct"), "distinct nodes"),
        (("--copies", 0), "greater than or equal to 1"),
        (("--copies", 65), "less than or equal to 64"),
        (("--copies-on", "moon"), "'any' or 'distinct'"),
    ],
)
def test_invalid_server_groups_and_copies_are_refused(
    vacancy: Vacancy, said: tuple[object, ...], told: str
) -> None:
    assert told in vacancy.fails(2, "place", *SMALL, *said)


def test_a_hold_stays_once_it_is_confirmed(vacancy: Vacancy) -> None:
    vacancy("place", *SMALL, "--consumer", "held-1", "--hold", 300)
    (held,) = vacancy.json("show", "consumer", "held-1")
    assert held["hold_until_ms"] > time.time() * 1000
    vacancy("confirm", "held-1")
    (kept,) = vacancy.json("show", "consumer", "held-1")
    assert kept["hold_until_ms"] == 0
    vacancy("release", "held-1")


def test_operators_close_and_change_providers(vacancy: Vacancy) -> None:
    only_1 = (*SMALL, "--in-tree", "node-1")
    vacancy("provider", "disable", "node-1", "--reason", "new fans")
    assert "no valid host" in vacancy.fails(3, "place", *only_1)
    assert "disabled (new fans)" in vacancy("show", "provider", "node-1")
    vacancy("provider", "enable", "node-1")
    vacancy("provider", "aggregate", "node-1", "--add", "rack-7")
    found = vacancy.json("candidates", *SMALL, "--member-of", "in:rack-7,rack-8")["candidates"]
    assert [one["root"] for one in found] == ["node-1"]
    now = vacancy.json("provider", "override", "node-1", "VCPU", "--ratio", "2.5", "--reserved", 1)
    assert now["facts"]["overrides"] == {"VCPU": {"reserved": 1, "allocation_ratio_milli": 2500}}
    assert now["revision"] == 4
    inventories = vacancy.json("show", "provider", "node-1")["providers"][0]["inventories"]
    assert next(i for i in inventories if i["resource_class"] == "VCPU")["capacity"] == 17
    vacancy("provider", "override", "node-1", "VCPU", "--clear")


def test_every_copy_of_the_state_is_the_same_and_passes_the_audit(vacancy: Vacancy) -> None:
    vacancy("place", *SMALL, "--consumer", "audited-1")
    vacancy("release", "audited-1")
    second = vacancy.home / "second"

    def copies() -> list[object]:
        return [
            vacancy.json("digest"),
            vacancy.json("replay", "--into", second),
            vacancy.json("digest", "--store", second),
        ]

    live, *others = vacancy.settled(copies)
    assert others == [live, live]
    verified = vacancy.json("verify")
    assert verified["ok"]
    assert verified["audit"]["accepted"] >= 1
    assert verified["audit"]["unverifiable"] <= 1  # a request that left silent nodes out
    status = vacancy.settled(lambda: vacancy.json("status"))
    assert [one["lag"] for one in status["partitions"]] == [0, 0]
    assert status["node_states"] == {"open": 2}


def test_verify_finds_a_store_that_differs_from_its_log(vacancy: Vacancy) -> None:
    wrong = vacancy.home / "wrong"
    vacancy("replay", "--into", wrong)
    with (
        open_log(vacancy.environment["VACANCY_LOG"]) as log,
        open_store(wrong, log, installed_registry()) as store,
    ):
        tables = store.partition(1)
        tables.stage({REQUESTS: {b"never-asked": RequestRow(b"{}", 0)}})
        tables.commit(tables.local.position, 0, tables.local.checksum)
    ended = vacancy.run("verify", "--store", wrong)
    assert ended.code == 5
    assert "the store differs from the log in partitions 1" in ended.err
    assert "--rebuild" in ended.err


def test_a_broken_store_is_moved_aside_and_rebuilt(vacancy: Vacancy) -> None:
    broken = vacancy.home / "broken"
    vacancy("replay", "--into", broken)
    (broken / "store.json").write_text("{")
    assert "vacancy replay --rebuild" in vacancy.fails(1, "digest", "--store", broken)
    ended = vacancy.run("replay", "--rebuild", "--into", broken)
    assert ended.code == 0
    assert "is now" in ended.err
    assert len(list(vacancy.home.glob("broken.old-*"))) == 1
    in_use = vacancy.fails(1, "replay", "--rebuild")
    assert "another process writes this store" in in_use
    elsewhere = vacancy.home / "no-store"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    assert "no store" in vacancy.fails(1, "replay", "--rebuild", "--into", elsewhere)
    assert (elsewhere / "thesis.txt").exists()


def test_dead_letters_are_shown(vacancy: Vacancy) -> None:
    with open_log(vacancy.environment["VACANCY_LOG"]) as log:
        (landed,) = log.append([NewRecord(covering_cells(2)[0], b"no event at all")])
    until = time.monotonic() + 90
    while not (found := vacancy.json("dead-letters", "--partition", 0)["dead_letters"]):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert (found[0]["offset"], found[0]["value"]) == (landed.offset, "no event at all")
    assert "Invalid JSON" in vacancy("dead-letters")


def test_without_a_worker_the_outcome_is_not_known_yet(vacancy: Vacancy) -> None:
    alone = vacancy.home / "alone"
    vacancy("replay", "--into", alone)
    unknown = vacancy.fails(6, "place", *SMALL, "--consumer", "lone-1", "--store", alone, "--timeout", 0.2)
    assert "it is decided once log time" in unknown
    settle = shlex.split(unknown.partition("`vacancy ")[2].partition("`")[0])
    assert settle[:2] == ["settle", "lone-1"]
    still = vacancy.fails(6, *settle, "--store", alone, "--timeout", 0.2)
    assert "is not known yet: log time has not passed" in still
    assert vacancy(*settle) == f"placed lone-1 in cell {settle[5]} by claim {settle[3]}\n"
    assert vacancy.json("settle", "lone-1")["claim"] == settle[3]
    waiting = vacancy.fails(6, "provider", "drain", "node-2", "--store", alone, "--timeout", 0.2)
    assert "the store has not read that far" in waiting
    assert "check that `vacancy worker` runs" in waiting
    vacancy("provider", "enable", "node-2")
    vacancy("release", "lone-1")


def test_a_consumer_without_a_claim_may_be_placed_after_the_deadline(vacancy: Vacancy) -> None:
    nobody = vacancy.fails(4, "settle", "nobody", "--deadline", 0.3)
    assert "nobody was not placed: its deadline has passed" in nobody
    assert nobody.endswith("place it again")


def test_a_worker_reports_which_partitions_have_stopped(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        with open_log(vacancy.environment["VACANCY_LOG"]) as log:
            log.append([NewRecord(covering_cells(2)[1], value) for value in rules_in_steps(99)])
        process = vacancy.start("worker")
        said = ""
        assert process.stderr is not None
        while "caught up" not in said:
            said = process.stderr.readline()
            assert said
        assert "at 0:1, except partition 1, which stopped with the error above; store" in said
        process.terminate()
        _, error = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "\nvacancy: the log's rules are version 99" in "\n" + error


def test_an_interrupt_ends_a_command_without_output(vacancy: Vacancy) -> None:
    alone = vacancy.home / "interrupted"
    vacancy("replay", "--into", alone)
    process = vacancy.start(
        "place", *SMALL, "--store", str(alone), "--timeout", "50", "--consumer", "interrupted"
    )
    until = time.monotonic() + 90
    while not _log_has(vacancy, b'"interrupted"'):  # its claim, after which it waits
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (130, "", "")


def _log_has(vacancy: Vacancy, text: bytes) -> bool:
    with open_log(vacancy.environment["VACANCY_LOG"]) as log:
        return any(
            text in record.value
            for partition in range(log.partitions)
            for record in log.read(partition, 0, 100_000)
        )


def test_a_closed_pipe_ends_a_command_without_output(vacancy: Vacancy) -> None:
    process = vacancy.start("classes")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(90) == 141
    process.stderr.close()


def test_a_publisher_sends_changes_until_it_is_stopped(vacancy: Vacancy, tmp_path: Path) -> None:
    file = node_file(tmp_path, "node-3")
    with vacancy.serving(
        "publish", "--file", file, "--interval", 0.1, until="publishing", stop=signal.SIGINT
    ):
        _until(vacancy, "node-3", vcpus=8)
        node_file(tmp_path, "node-3", vcpus=16)
        _until(vacancy, "node-3", vcpus=16)
    vacancy("publish", "--retire", "--file", file)
    until = time.monotonic() + 90
    while vacancy.run_shared("show", "provider", "node-3").code == 0:
        assert time.monotonic() < until
        time.sleep(0.05)


def _until(vacancy: Vacancy, root: str, vcpus: int) -> None:
    until = time.monotonic() + 90
    while True:
        ended = vacancy.run_shared("show", "provider", root, "--json")
        if ended.code == 0:
            inventories = json.loads(ended.out)["providers"][0]["inventories"]
            if any(i["resource_class"] == "VCPU" and i["capacity"] == vcpus for i in inventories):
                return
        assert time.monotonic() < until, ended


def test_attributes_are_set_shown_and_used_in_requests(vacancy: Vacancy) -> None:
    said = vacancy(
        "provider", "set", "node-1", "--attribute", "hypervisor_version=8.2.10", "--attribute", "cores=64"
    )
    assert 'attributes cores=64 hypervisor_version="8.2.10"' in said
    vacancy("provider", "set", "node-2", "--attribute", 'cores="many"', "--attribute", "secure_boot=true")
    assert 'operator\'s attributes: cores="many" secure_boot=true' in vacancy("show", "provider", "node-2")

    def roots(*more: str) -> set[str]:
        return {one["root"] for one in vacancy.json("candidates", *more)["candidates"]}

    assert roots(*SMALL, "--where", 'attributes.hypervisor_version >= version("8.2")') == {"node-1"}
    assert roots(*SMALL, "--where", "attributes.secure_boot // as asked", "--where", "VCPU.free > 0") == {
        "node-2"
    }
    assert roots("--query", "resources=VCPU:1&where=attributes.cores>=64") == {"node-1"}
    assert roots("--group", 'a=VCPU:1;where=attributes.cores == "many"') == {"node-2"}
    weighed = vacancy.json("candidates", *SMALL, "--weigh", "attributes.secure_boot ? 1 : 0")["candidates"]
    assert [one["root"] for one in weighed] == ["node-2", "node-1"]

    placed = vacancy.json("place", *SMALL, "--where", "attributes.cores >= 64", "--consumer", "valued-1")
    assert placed["root"] == "node-1"
    vacancy("release", "valued-1")
    clash = vacancy.json("status")["attribute_clashes"]
    assert clash == {
        "cores": {
            "numbers": {"providers": 1, "example": "node-1"},
            "text": {"providers": 1, "example": "node-2"},
        }
    }
    assert "attribute cores has several types" in vacancy("status")


def test_expressions_that_no_provider_can_satisfy_are_explained(vacancy: Vacancy) -> None:
    vacancy("provider", "set", "node-1", "--attribute", "site=north")
    wrong = vacancy.fails(
        3, "candidates", *SMALL, "--where", "attributes.site > 3 && attributes.nothing == 1"
    )
    assert "attribute site is text everywhere ('north' on node-1), and compared with numbers" in wrong
    assert "no provider has an attribute nothing" in wrong
    lost = vacancy.fails(3, "place", *SMALL, "--where", 'attributes.site >= version("2")')
    assert "attribute site is nowhere a version ('north' on node-1)" in lost
    typed = vacancy.fails(2, "provider", "set", "node-1", "--attribute", "site=7")
    assert "attribute site of node-1 is text ('north'), not a number (7)" in typed
    refused = vacancy.fails(2, "place", *SMALL, "--where", "attributes.site > 8.2")
    assert "numbers with a fraction are not supported (--where, character 19: 8.2)" in refused
    vacancy("provider", "set", "node-1", "--unset-attribute", "site")
    assert "site" not in vacancy("show", "provider", "node-1")
