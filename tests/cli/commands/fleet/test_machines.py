"""Nodes that come, go and lie, with real publishers that have a state directory each: an operator decides by one command."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Vacancy, log_of_version, node_file
from vacancy.resources.model.partitioner import cell_for

PARTITIONS = 4
NODE = "node-1"


def file_of(directory: Path, vcpus: int, name: str = NODE) -> Path:
    """A file that describes a node with that many VCPU."""
    directory.mkdir(exist_ok=True)
    return node_file(directory, name, vcpus)


def hosts(path: Path) -> tuple[Vacancy, Vacancy]:
    """Two hosts with a log in common: each has a state directory, the first has the store."""
    common = {"log": f"sqlite://{path}/log.db", "store": f"{path}/store"}
    for name in ("a", "b"):
        (path / name).mkdir()
    return Vacancy(path / "a", **common), Vacancy(path / "b", **common)


def free(vacancy: Vacancy) -> int:
    """The VCPU of the node that nobody holds."""
    (provider,) = vacancy.json("show", "provider", NODE)["providers"]
    (inventory,) = [one for one in provider["inventories"] if one["resource_class"] == "VCPU"]
    return int(inventory["free"])


def test_two_machines_of_one_name_never_take_turns(tmp_path: Path) -> None:
    first, second = hosts(tmp_path)
    with first as a, second as b:
        a("topics", "create", "--partitions", PARTITIONS)
        large = ("publish", "--once", "--file", file_of(tmp_path / "a", 64), "--machine", "A")
        small = ("publish", "--once", "--file", file_of(tmp_path / "b", 8), "--machine", "B")
        with a.worker():
            assert a.run_shared(*large).code == 0
            a("place", "--resources", "VCPU:4", "--consumer", "vm-1")
            for _ in range(2):
                result = b.run_shared(*small)
                assert "machine B reports as node-1, which is machine A" in result.err, result
                assert free(a) == 60
                result = a.run_shared(*large)
                assert f"vacancy provider adopt {NODE}" in result.err, result
                assert free(a) == 60
            assert a.run_shared("place", "--resources", "VCPU:1").code == 3
            assert "machine B reports as node-1, which is machine A" in a("status")
            assert "machine B reports as node-1" in a("why-not", NODE, "--resources", "VCPU:1")
            assert a.json("status")["node_states"] == {"contested": 1}
            # The operator decides for the second machine. What is held stays.
            assert "is machine B" in a("provider", "adopt", NODE, "--machine", "B")
            b.run_shared(*small)
            assert free(a) == 4
            assert a.json("status")["node_states"] == {"open": 1}
            result = a.run_shared(*large)
            assert "its machine is not node-1" in result.err, result
            assert free(a) == 4
            a("place", "--resources", "VCPU:1", "--consumer", "vm-2")


def test_a_late_retirement_is_of_the_publisher_that_wrote_it(tmp_path: Path) -> None:
    first, second = hosts(tmp_path)
    with first as a, second as b:
        a("topics", "create", "--partitions", PARTITIONS)
        with a.worker():
            a("publish", "--once", "--file", file_of(tmp_path / "a", 8))
            b("publish", "--once", "--file", file_of(tmp_path / "b", 8))
            a.run_shared("publish", "--retire", "--root", NODE)
            assert a.json("status")["node_states"] == {"open": 1}
            assert free(a) == 8
            b("publish", "--retire", "--root", NODE)
            assert a.json("status")["node_states"] == {"retired": 1}
            b("publish", "--once", "--file", file_of(tmp_path / "b", 9))
            assert free(a) == 9


def test_a_machine_of_two_names_in_two_cells_is_offered_under_neither(tmp_path: Path) -> None:
    other = next(
        f"node-{n}" for n in range(2, 99) if cell_for(f"node-{n}", PARTITIONS) != cell_for(NODE, PARTITIONS)
    )
    first, second = hosts(tmp_path)
    with first as a, second as b:
        a("topics", "create", "--partitions", PARTITIONS)
        with a.worker():
            a("publish", "--once", "--file", file_of(tmp_path / "a", 8), "--machine", "M")
            a("place", "--resources", "VCPU:4", "--consumer", "vm-1")
            again = ("publish", "--once", "--file", file_of(tmp_path / "b", 8, other), "--machine", "M")
            b(*again)
            assert a.run_shared("place", "--resources", "VCPU:1").code == 3
            assert a.json("status")["node_states"] == {"two names": 2}
            assert "machine M reports as node" in a("status")
            assert "machine M reports as node" in a("why-not", NODE, "--resources", "VCPU:1")
            # What is held cannot move to another cell by one event: the command says how to bring the new name there.
            cell = cell_for(NODE, PARTITIONS)
            result = a.run_shared("provider", "rename", NODE, other)
            assert result.code == 2, result
            assert f"--cell {cell} --move-cell" in result.err
            b(*again, "--cell", cell, "--move-cell")
            assert a.json("status")["node_states"] == {"contested": 2, "retired": 1}
            assert "with what 1 consumers hold of it" in a("provider", "rename", NODE, other)
            b(*again)
            assert a.json("status")["node_states"] == {"open": 1, "retired": 2}
            (held,) = a.json("show", "provider", other, "--cell", cell)["holdings"]
            assert (held["consumer"], held["provider"]) == ("vm-1", other)
            a("place", "--resources", "VCPU:4", "--consumer", "vm-2")


def test_an_adoption_reaches_the_other_cells(tmp_path: Path) -> None:
    other = next(
        f"node-{n}" for n in range(2, 99) if cell_for(f"node-{n}", PARTITIONS) != cell_for(NODE, PARTITIONS)
    )
    first, second = hosts(tmp_path)
    with first as a, second as b:
        a("topics", "create", "--partitions", PARTITIONS)
        with a.worker():
            a("publish", "--once", "--file", file_of(tmp_path / "a", 8), "--machine", "M")
            b("publish", "--once", "--file", file_of(tmp_path / "b", 8, other), "--machine", "M")
            result = a.run_shared("provider", "adopt", other)
            assert (result.code, result.out.splitlines()[0][-9:]) == (0, "machine M")
            assert f"node {NODE} is no longer this machine" in result.err
            assert a.json("status")["node_states"] == {"contested": 1, "open": 1}
            a.run_shared("publish", "--once", "--file", file_of(tmp_path / "a", 8), "--machine", "M")
            assert a.json("status")["node_states"] == {"contested": 1, "open": 1}
            assert other in a("place", "--resources", "VCPU:1")


def test_logs_of_earlier_rules_have_no_machines_until_they_are_raised(tmp_path: Path) -> None:
    """The log is raised, and the same command names the machine, also where no store is near."""
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=f"{tmp_path}/store") as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        publish = ("publish", "--once", "--file", file_of(tmp_path, 8))
        result = vacancy.run_shared(*publish, "--machine", "A")
        assert result.code == 2
        assert "machines need rules version 4, and this log follows version 3" in result.err
        with vacancy.worker():
            vacancy(*publish)
            result = vacancy.run_shared("provider", "adopt", NODE, "--machine", "A")
            assert result.code == 2
            assert "needs version 4" in result.err
            vacancy("rules", "activate", 4)
            vacancy(*publish, "--machine", "A")
            vacancy(*publish, "--machine", "A", "--no-wait", "--store", tmp_path / "none")
            assert "A" in vacancy("show", "provider", NODE)
