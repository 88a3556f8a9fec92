"""Devices with what else a request can say of them: preferences with alternatives, matches in moves, MIG beside whole cards,
ports of gangs, devices out of service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy

LINKED = {f"gpu{n}": {"model": "A100", "nvlink": f"domain-{n // 2}"} for n in range(4)}
NODES: dict[str, list[dict[str, Any]]] = {
    "linked": [{"id": "linked", "inventories": {"VCPU": {"total": 8}, "PGPU": {"devices": LINKED}}}],
    "both": [
        {
            "id": "both",
            "inventories": {
                "FPGA": {"devices": {"whole": {"model": "A100"}}},
                "MIG": {"devices": {"parts": {"table": "A100-40GB", "model": "A100"}}},
            },
        }
    ],
    "numa": [
        {"id": "numa"},
        *({"id": f"numa:{n}", "parent": "numa", "inventories": {"CUSTOM_CPU": {"total": 4}}} for n in (0, 1)),
        {"id": "numa:nic", "parent": "numa:1", "inventories": {"CUSTOM_NIC": {"total": 8}}},
    ],
    "web-1": [{"id": "web-1", "inventories": {"PORT": {"tcp": [[80, 80], [8000, 8001]]}}}],
    "web-2": [{"id": "web-2", "inventories": {"PORT": {"tcp": [[80, 80]]}}}],
    "bad": [
        {"id": "bad", "inventories": {"VCPU": {"total": 4}, "SRIOV_NET_VF": {"devices": {"a": {}, "b": {}}}}}
    ],
}


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    home = tmp_path_factory.mktemp("devices")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        for name, providers in NODES.items():
            (home / f"{name}.json").write_text(json.dumps(providers))
            vacancy("publish", "--once", "--no-wait", "--file", f"{name}.json", "--cell", "c")
        with vacancy.worker():
            yield vacancy


def held(vacancy: Vacancy, consumer: str, name: str) -> Any:
    (of,) = vacancy.json("show", "consumer", consumer)
    return [one["grant"] for one in of["holdings"] if one["resource_class"] == name]


def test_what_is_asked_first_counts_more_than_what_is_preferred(vacancy: Vacancy) -> None:
    """Near the card are 2 CPUs left: a guest of 3 goes far rather than to have only 1 near."""
    near = ("--group", "nic=CUSTOM_NIC:1", "--prefer-same-subtree", "cpu,nic")
    vacancy("place", "--group", "cpu=CUSTOM_CPU:2", *near, "--consumer", "n0")
    asked = ("--group", "cpu=CUSTOM_CPU:3", *near, "--or", "cpu=CUSTOM_CPU:1")
    placed = [vacancy.json("place", *asked, "--consumer", f"n{number}") for number in (1, 2, 3)]
    where = [
        [
            (one["provider"], one["resources"]["CUSTOM_CPU"])
            for one in of["allocations"]
            if one["group"] == "cpu"
        ]
        for of in placed
    ]
    assert where == [[("numa:0", 3)], [("numa:1", 1)], [("numa:1", 1)]]


def test_a_match_in_a_move_stays_in_its_domain(vacancy: Vacancy) -> None:
    for number in (0, 1):
        vacancy("place", "--resources", f"PGPU:1[address=gpu{number}]", "--consumer", f"busy-{number}")
    vacancy("place", "--resources", "VCPU:1,PGPU:1[address=gpu2]", "--consumer", "grows")
    pair = ("--resources", "VCPU:1,PGPU:2[match:nvlink]")
    # gpu3 alone is no pair; the next choice is one GPU of any domain.
    assert vacancy.run_shared("place", *pair, "--consumer", "pair").code == 3
    vacancy("place", *pair, "--or", "=VCPU:1,PGPU:1", "--consumer", "pair")
    assert held(vacancy, "pair", "PGPU") == [["gpu3"]]
    vacancy("release", "pair")
    vacancy("resize", "grows", *pair)
    assert held(vacancy, "grows", "PGPU") == [["gpu2", "gpu3"]]
    # A domain of another attribute does not help: gpu0 and gpu2 are of one model.
    vacancy("release", "busy-0")
    vacancy("resize", "grows", "--resources", "VCPU:1,PGPU:3[match:model]")
    assert held(vacancy, "grows", "PGPU") == [["gpu0", "gpu2", "gpu3"]]
    answer = vacancy.run_shared("resize", "grows", "--resources", "VCPU:1,PGPU:3[match:nvlink]")
    assert answer.code != 0
    assert held(vacancy, "grows", "PGPU") == [["gpu0", "gpu2", "gpu3"]]


def test_a_card_in_parts_beside_a_whole_card_of_the_same_model(vacancy: Vacancy) -> None:
    asked = ("--group", "gpu=FPGA:1[model=A100]", "--or", "gpu=MIG:1[profile=7g.40gb,model=A100]")
    vacancy("place", *asked, "--consumer", "m1")
    vacancy("place", *asked, "--consumer", "m2")
    assert held(vacancy, "m1", "FPGA") == [["whole"]]
    assert held(vacancy, "m2", "MIG") == [{"parts": {"7g.40gb@0": 8}}]
    assert vacancy.run_shared("place", *asked, "--consumer", "m3").code == 3
    vacancy("release", "m2")
    vacancy("place", "--resources", "MIG:1[profile=3g.20gb]", "--consumer", "m4")
    assert vacancy.run_shared("place", *asked, "--consumer", "m3").code == 3
    answer = vacancy("why-not", "both", *asked)
    assert "it is not a candidate" in answer
    assert "last taken by m1" in answer


def test_members_of_a_gang_get_different_ports_or_none(vacancy: Vacancy, tmp_path: Path) -> None:
    def gang(*asks: Any) -> str:
        members = [
            {"consumer": f"w{n}", "request": {"groups": [{"resources": {"PORT": ask}}]}}
            for n, ask in enumerate(asks)
        ]
        file = tmp_path / f"{len(asks)}.json"
        file.write_text(json.dumps(members))
        return str(file)

    port = {"ports": [[80, 80]]}
    answer = vacancy.run_shared("place", "--gang", gang(port, port, port))
    assert answer.code == 3
    vacancy("place", "--gang", gang(port, {"ports": [[8000, 8001]], "count": 2}))
    assert held(vacancy, "w1", "PORT") == [{"ports": [8000, 8001], "protocol": "tcp"}]
    vacancy("release", "w0")
    vacancy("release", "w1")
    vacancy("place", "--gang", gang(port, port))
    roots = {vacancy.json("show", "consumer", f"w{n}")[0]["holdings"][0]["provider"] for n in (0, 1)}
    assert roots == {"web-1", "web-2"}


def test_a_device_out_of_service_stays_with_who_is_resized_and_goes_in_a_move(vacancy: Vacancy) -> None:
    vacancy("place", "--resources", "VCPU:1,SRIOV_NET_VF:1[address=a]", "--consumer", "s")
    vacancy("release", "s")
    vacancy("place", "--resources", "VCPU:1,SRIOV_NET_VF:1", "--consumer", "s")
    assert held(vacancy, "s", "SRIOV_NET_VF") == [["a"]]
    vacancy("provider", "device", "bad", "a", "--disable", "--reason", "link flaps")
    vacancy("resize", "s", "--resources", "VCPU:2,SRIOV_NET_VF:1")
    assert held(vacancy, "s", "SRIOV_NET_VF") == [["a"]]
    vacancy("resize", "s", "--resources", "VCPU:2,SRIOV_NET_VF:1[address!=a]")
    assert held(vacancy, "s", "SRIOV_NET_VF") == [["b"]]
    answer = vacancy("why-not", "bad", "--resources", "SRIOV_NET_VF:1")
    assert "device a is excluded by the operator: link flaps" in answer


def test_the_audit_finds_nothing(vacancy: Vacancy) -> None:
    assert vacancy.json("verify")["audit"]["problems"] == []
