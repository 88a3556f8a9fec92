"""Alternatives and preferred relations with the command: near or else far, this card or else that one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, log_of_version
from vacancy.resources.fold.rules_versions import RULES_VERSION


def gpus(model: str, count: int) -> dict[str, Any]:
    return {"PGPU": {"devices": {f"{model.lower()}-{n}": {"model": model} for n in range(count)}}}


def nic(vendor: str, product: str) -> dict[str, Any]:
    return {"PCI_DEVICE": {"devices": {"01:00.0": {"vendor": vendor, "product": product}}}}


NODES: dict[str, list[dict[str, Any]]] = {
    "large": [{"id": "large", "inventories": {"VCPU": {"total": 8}, **gpus("B300", 1)}}],
    "small": [{"id": "small", "inventories": {"VCPU": {"total": 8}, **gpus("H200", 3)}}],
    "mixed": [{"id": "mixed", "inventories": nic("8086", "f001")}],
    "other": [{"id": "other", "inventories": nic("15b3", "f001")}],
    "linked": [
        {
            "id": "linked",
            "inventories": {
                "PGPU": {
                    "devices": {f"gpu{n}": {"model": "A100", "nvlink": f"domain-{n // 2}"} for n in range(4)}
                }
            },
        }
    ],
    "mig": [{"id": "mig", "inventories": {"MIG": {"devices": {"gpu0": {"table": "A100-40GB"}}}}}],
    "numa": [
        {"id": "numa"},
        *({"id": f"numa:{n}", "parent": "numa", "inventories": {"CUSTOM_CPU": {"total": 4}}} for n in (0, 1)),
        {"id": "numa:nic", "parent": "numa:1", "inventories": {"CUSTOM_NIC": {"total": 8}}},
    ],
}
GPU = ("--resources", "VCPU:1", "--group", "gpu=PGPU:1[model=B300]", "--or", "gpu=PGPU:2[model=H200]")
NIC = (
    *("--group", 'nic=PCI_DEVICE:1[vendor="8086",product=f000]'),
    *("--or", "nic=PCI_DEVICE:1[vendor=15b3,product=f001]"),
)
NEAR = (
    *("--group", "cpu=CUSTOM_CPU:2", "--group", "nic=CUSTOM_NIC:1"),
    *("--prefer-same-subtree", "cpu,nic"),
)


def started(home: Path, version: int = RULES_VERSION) -> Vacancy:
    for name, providers in NODES.items():
        (home / f"{name}.json").write_text(json.dumps(providers))
    vacancy = Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store"))
    log_of_version(version, f"sqlite://{home}/log.db")
    for name in NODES:
        vacancy("publish", "--once", "--no-wait", "--file", home / f"{name}.json")
    return vacancy


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    with (
        started(tmp_path_factory.mktemp("alternatives")) as vacancy,
        vacancy.worker(),
    ):
        yield vacancy


def test_the_first_choice_is_taken_while_there_is_room_and_then_the_next(vacancy: Vacancy) -> None:
    assert "ALTERNATIVE" in vacancy("candidates", *GPU)
    found = vacancy.json("candidates", *GPU)["candidates"]
    assert [(one["root"], one["alternative"]) for one in found] == [("large", 0), ("small", 1)]
    assert vacancy.json("place", *GPU, "--consumer", "a")["root"] == "large"
    placed = vacancy.json("place", *GPU, "--consumer", "b")
    assert placed["root"] == "small"
    assert [one["grant"] for one in placed["grants"] if one["resource_class"] == "PGPU"] == [
        ["h200-0", "h200-1"]
    ]
    told = vacancy.run_shared("place", *GPU, "--consumer", "c")
    assert told.code == 3
    first, second = told.out.split("alternative 1:")
    assert first.startswith("first choice:")
    assert '"B300"' in first
    assert '"H200"' not in first
    assert '"H200"' in second


def test_why_not_says_of_each_alternative_why(vacancy: Vacancy) -> None:
    told = vacancy("why-not", "mixed", *NIC)
    assert "it is not a candidate" in told
    first, second = told.split("alternative 1: it is not a candidate")
    assert "first choice: it is not a candidate" in first
    assert "f000" in first
    assert "15b3" in second
    fits = vacancy("why-not", "other", *NIC)
    assert "\nit is a candidate\n" in fits
    assert "first choice: it is not a candidate" in fits
    assert "alternative 1: it is a candidate" in fits
    answer = vacancy.json("why-not", "other", *NIC)
    assert [answer["fits"], *(one["fits"] for one in answer["alternatives"])] == [False, True]


def test_a_pair_of_vendor_and_product_is_not_mixed(vacancy: Vacancy) -> None:
    found = vacancy.json("candidates", *NIC)["candidates"]
    assert [one["root"] for one in found] == ["other"]


def test_near_while_there_is_room_and_then_far(vacancy: Vacancy) -> None:
    where = []
    for number in range(4):
        placed = vacancy.json("place", *NEAR, "--consumer", f"near-{number}")
        where += [one["provider"] for one in placed["allocations"] if one["group"] == "cpu"]
    assert where == ["numa:1", "numa:1", "numa:0", "numa:0"]
    told = vacancy.run_shared("place", *NEAR, "--consumer", "near-4")
    assert told.code == 3
    assert "first choice" not in told.out  # a preference is no alternative
    assert "CUSTOM_CPU: free >= 2" in told.out


def test_two_gpus_of_one_nvlink_domain(vacancy: Vacancy) -> None:
    """dra-driver-nvidia-gpu#214."""
    vacancy("place", "--resources", "PGPU:1[address=gpu0]", "--consumer", "busy")
    pair = ("--resources", "PGPU:2[model=A100,match:nvlink]")
    placed = vacancy.json("place", *pair, "--consumer", "pair")
    assert [one["grant"] for one in placed["grants"]] == [["gpu2", "gpu3"]]
    vacancy("place", "--resources", "PGPU:1[model=A100]", "--consumer", "last")
    vacancy("release", "busy")
    told = vacancy("why-not", "linked", *pair)
    assert "PGPU" in told
    assert "it is not a candidate" in told
    vacancy("verify")


def test_mixed_mig_profiles_on_one_card(vacancy: Vacancy) -> None:
    """dra-driver-nvidia-gpu#361."""

    def placed(ask: str, consumer: str) -> Any:
        (grant,) = vacancy.json("place", "--resources", ask, "--consumer", consumer)["grants"]
        return grant["grant"]

    assert placed("MIG:1[profile=1g.5gb,start=5]", "mig-1") == {"gpu0": {"1g.5gb@5": 1}}
    assert placed("MIG:1[profile=4g.20gb]", "mig-2") == {"gpu0": {"4g.20gb@0": 4}}
    # Three slots are free, and no placement for two of them in a row.
    told = vacancy("why-not", "mig", "--resources", "MIG:1[profile=2g.10gb]")
    assert "it is not a candidate" in told
    assert "no room, last taken by mig-2" in told
    assert placed("MIG:1[profile=1g.10gb]", "mig-3") == {"gpu0": {"1g.10gb@6": 2}}
    vacancy("release", "mig-1")
    assert placed("MIG:1[profile=2g.10gb]", "mig-4") == {"gpu0": {"2g.10gb@4": 2}}
    assert "MIG: an ask names a profile" in vacancy.fails(2, "candidates", "--resources", "MIG:1")
    vacancy("verify")


def test_the_log_has_the_request_with_its_alternatives_and_the_claim_with_what_was_chosen(
    vacancy: Vacancy,
) -> None:
    vacancy("release", "b")
    placed = vacancy.json("place", *GPU, "--consumer", "d")
    request = vacancy.json("show", "request", placed["request"])
    assert request["spec"]["alternatives"][0]["groups"][1]["resources"] == {
        "PGPU": {"count": 2, "where": {"model": "H200"}}
    }
    (held,) = vacancy.json("show", "consumer", "d")
    assert {one["resource_class"]: one["grant"] for one in held["holdings"]}["PGPU"] == ["h200-0", "h200-1"]
    vacancy("verify")


def test_a_log_of_earlier_rules_refuses_before_anything_is_sent(tmp_path: Path) -> None:
    with started(tmp_path, 3) as vacancy, vacancy.worker():
        before = vacancy.json("status")["partitions"][0]["position"]
        told = vacancy.fails(2, "place", *GPU)
        assert "alternatives and preferences need version 4" in told
        assert "`vacancy rules activate 4`" in told
        told = vacancy.fails(2, "place", "--resources", "PGPU:2[match:nvlink]")
        assert "`match` in an ask for PGPU needs version 4" in told
        told = vacancy.fails(2, "place", "--resources", "MIG:1[profile=1g.5gb]")
        assert "class MIG needs version 4" in told
        assert vacancy.json("status")["partitions"][0]["position"] == before
        assert vacancy.json("candidates", *GPU)["candidates"][0]["root"] == "large"
