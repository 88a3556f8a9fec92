"""`vacancy provider device`: one device of many is taken out of service and brought back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.command import Vacancy, log_of_version

GPUS = {"81:00.0": {"vendor": "10de"}, "82:00.0": {"vendor": "10de"}}


def report_gpus(home: Path) -> None:
    providers = [{"id": "n1", "inventories": {"PGPU": {"devices": GPUS}, "VCPU": {"total": 8}}}]
    (home / "n1.json").write_text(json.dumps({"providers": providers}))


@contextmanager
def worker_with_report(vacancy: Vacancy, partitions: int = 1) -> Iterator[None]:
    """A worker of a new log, which has folded the report in n1.json."""
    vacancy("topics", "create", "--partitions", partitions)
    vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
    vacancy("replay")
    with vacancy.serving("worker", until="caught up"):
        yield


def test_a_bad_gpu_is_granted_to_nobody_until_it_is_back(tmp_path: Path) -> None:
    report_gpus(tmp_path)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        with worker_with_report(vacancy, partitions=2):
            vacancy("place", "--resources", "PGPU:1", "--consumer", "c1")
            told = vacancy("provider", "device", "n1", "81:00.0", "--disable", "--reason", "ECC errors")
            assert "PGPU 81:00.0 of n1 in cell" in told
            assert "is disabled (ECC errors), held by c1: move them or release them" in told
            shown = vacancy("show", "provider", "n1")
            assert "PGPU 81:00.0 is disabled (ECC errors), held by c1" in shown
            vacancy("publish", "--once", "--file", "n1.json")
            vacancy("release", "c1")
            vacancy("place", "--resources", "PGPU:1", "--consumer", "c2")
            (held,) = vacancy.json("show", "provider", "n1")["holdings"]
            assert held["grant"] == ["82:00.0"]
            assert vacancy.run_shared("place", "--resources", "PGPU:1", "--consumer", "c3").code != 0
            assert "PGPU" in vacancy.run_shared("why-not", "n1", "--resources", "PGPU:1").out
            vacancy("provider", "override", "n1", "PGPU", "--clear")
            (out,) = vacancy.json("show", "provider", "n1")["excluded"]
            assert (out["name"], out["reason"], out["holders"]) == ("81:00.0", "ECC errors", [])
            vacancy("provider", "device", "n1", "81:00.0", "--enable")
            vacancy("place", "--resources", "PGPU:1", "--consumer", "c3")
            assert "n1 reports no device '83:00.0'" in vacancy.fails(
                1, "provider", "device", "n1", "83:00.0", "--disable"
            )
        audited = vacancy.json("verify")["audit"]
        assert audited["problems"] == []


def test_a_pci_address_may_be_without_its_domain(tmp_path: Path) -> None:
    """lspci prints 81:00.0 for the device that the kernel, and so a publisher, calls 0000:81:00.0."""
    cards = {"0000:81:00.0": {"vendor": "10de"}, "0000:82:00.0": {}, "82:00.0": {}}
    providers = [{"id": "n1", "inventories": {"PCI_DEVICE": {"devices": cards}}}]
    (tmp_path / "n1.json").write_text(json.dumps({"providers": providers}))
    log, store = f"sqlite://{tmp_path}/log.db", str(tmp_path / "store")
    with Vacancy(tmp_path, log=log, store=store) as vacancy, worker_with_report(vacancy):
        for given, name in (
            ("81:00.0", "0000:81:00.0"),
            ("82:00.0", "82:00.0"),
            ("0000:82:00.0", "0000:82:00.0"),
        ):
            output = vacancy("provider", "device", "n1", given, "--disable")
            assert output.startswith(f"PCI_DEVICE {name} of n1 in cell ")
        assert vacancy.json("provider", "device", "n1", "81:00.0", "--enable")["device"] == "0000:81:00.0"
        excluded = vacancy.json("show", "provider", "n1")["excluded"]
        assert [one["name"] for one in excluded] == ["0000:82:00.0", "82:00.0"]
        assert "reports no device '83:00.0'" in vacancy.fails(
            1, "provider", "device", "n1", "83:00.0", "--disable"
        )


def test_what_is_a_part_of_a_bad_device_is_granted_to_nobody(tmp_path: Path) -> None:
    """dra-driver-nvidia-gpu#1316: a GPU with a fatal error, or a card, takes its partitions and virtual functions with it."""
    card = "05:00.0"
    functions: dict[str, object] = {card: {}, "05:00.1": {"parent": card}, "05:00.2": {"parent": card}}
    inventories = {
        "SRIOV_NET_VF": {"devices": functions},
        "GPU_SHARE": {"devices": {"g0": {"total": 1000}}},
        "VGPU": {"devices": {"v0": {"types": {"a": 4}}}},
        "MIG": {"devices": {"m0": {"table": "A100-40GB"}}},
    }
    (tmp_path / "n1.json").write_text(json.dumps([{"id": "n1", "inventories": inventories}]))
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        with worker_with_report(vacancy):
            for device, ask in (
                (card, "SRIOV_NET_VF:1"),
                ("g0", "GPU_SHARE:100"),
                ("v0", "VGPU:1"),
                ("m0", "MIG:1[profile=1g.5gb]"),
            ):
                vacancy("provider", "device", "n1", device, "--disable")
                assert "no valid host" in vacancy.fails(3, "candidates", "--resources", ask, "--json")
                vacancy("provider", "device", "n1", device, "--enable")
                vacancy("place", "--resources", ask, "--consumer", device)
            # Three profiles on one card, in any order of asking (dra-driver-nvidia-gpu#897).
            vacancy("release", "m0")
            profiles = ["a=MIG:1[profile=4g.20gb]", "b=MIG:1[profile=2g.10gb]", "c=MIG:1[profile=1g.5gb]"]
            for groups in (profiles, profiles[::-1]):
                words = [word for group in groups for word in ("--group", group)]
                placed = vacancy.json("place", *words, "--consumer", "mig")
                slots = [slot for one in placed["grants"] for slot in one["grant"]["m0"]]
                assert sorted(slots) == ["1g.5gb@6", "2g.10gb@4", "4g.20gb@0"]
                vacancy("release", "mig")
        assert vacancy.json("verify")["audit"]["problems"] == []


def test_devices_that_vanish_and_come_back_are_not_granted_twice(tmp_path: Path) -> None:
    """nomad#9473: a report before the driver of the devices was ready lists none of them."""
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        report_gpus(tmp_path)
        publish = ("publish", "--once", "--file", "n1.json")
        vacancy(*publish, "--no-wait")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            vacancy("place", "--resources", "PGPU:1,VCPU:1", "--consumer", "c1")
            (tmp_path / "n1.json").write_text(
                json.dumps({"providers": [{"id": "n1", "inventories": {"VCPU": {"total": 8}}}]})
            )
            vacancy(*publish)
            assert "no valid host" in vacancy.fails(3, "candidates", "--resources", "PGPU:1", "--json")
            vacancy("resize", "c1", "--resources", "VCPU:2")
            holdings = vacancy.json("show", "provider", "n1")["holdings"]
            assert {one["resource_class"]: one["grant"] for one in holdings} == {
                "PGPU": ["81:00.0"],
                "VCPU": 2,
            }
            report_gpus(tmp_path)
            vacancy(*publish)
            (grant,) = vacancy.json("place", "--resources", "PGPU:1", "--consumer", "c2")["grants"]
            assert grant["grant"] == ["82:00.0"]
            assert "no valid host" in vacancy.fails(3, "candidates", "--resources", "PGPU:1", "--json")
        assert vacancy.json("verify")["audit"]["problems"] == []


def test_devices_are_excluded_only_under_rules_that_know_it(tmp_path: Path) -> None:
    report_gpus(tmp_path)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
        vacancy("replay")
        told = vacancy.fails(2, "provider", "device", "n1", "81:00.0", "--disable")
        assert "excluding one device needs version 4" in told
