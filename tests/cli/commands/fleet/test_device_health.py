"""Devices that their host calls unhealthy: granted to nobody, named with their holders, and back when the host says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, log_of_version

GPUS: dict[str, Any] = {"81:00.0": {"vendor": "10de"}, "82:00.0": {"vendor": "1002"}}


def report(home: Path, unhealthy: dict[str, str] | None = None, devices: dict[str, Any] = GPUS) -> None:
    gpus: dict[str, Any] = {"devices": devices}
    if unhealthy is not None:
        gpus["unhealthy"] = unhealthy
    providers = [{"id": "n1", "inventories": {"PGPU": gpus, "VCPU": {"total": 8}}}]
    (home / "n1.json").write_text(json.dumps(providers))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Vacancy]:
    report(tmp_path)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            yield vacancy


def test_an_unhealthy_device_is_granted_to_nobody_until_it_is_healthy(site: Vacancy, tmp_path: Path) -> None:
    site("place", "--resources", "PGPU:1[vendor=10de]", "--consumer", "c1")
    report(tmp_path, {"81:00.0": "it does not answer"})
    site("publish", "--once", "--file", "n1.json")
    shown = "PGPU 81:00.0 is unhealthy, as its host says (it does not answer), held by c1"
    assert shown in site("show", "provider", "n1")
    assert f"n1 in cell {site.json('show', 'provider', 'n1')['cell']}: {shown}" in site("status")
    site("release", "c1")
    placed = site.run_shared("place", "--resources", "PGPU:1[vendor=10de]", "--consumer", "c2")
    assert placed.code == 3
    assert "out of service: 81:00.0" in placed.out
    why = site.run_shared("why-not", "n1", "--resources", "PGPU:1[vendor=10de]").out
    assert "device 81:00.0 is unhealthy, as its host says: it does not answer" in why
    (out,) = site.json("status")["excluded"]
    assert (out["name"], out["by"], out["reason"], out["holders"]) == (
        "81:00.0",
        "host",
        "it does not answer",
        [],
    )
    report(tmp_path, {})
    site("publish", "--once", "--file", "n1.json")
    assert site.json("status")["excluded"] == []
    site("place", "--resources", "PGPU:1[vendor=10de]", "--consumer", "c2")
    assert site.json("verify")["audit"]["problems"] == []


def test_only_devices_that_would_help_are_named(site: Vacancy, tmp_path: Path) -> None:
    report(tmp_path, {"81:00.0": "it does not answer"})
    site("publish", "--once", "--file", "n1.json")
    site("provider", "device", "n1", "82:00.0", "--disable", "--reason", "ECC errors")
    why = site.run_shared("why-not", "n1", "--resources", "PGPU:1[vendor=1002]").out
    assert "device 82:00.0 is excluded by the operator: ECC errors" in why
    assert "81:00.0" not in why
    both = site.run_shared("why-not", "n1", "--resources", "PGPU:2").out
    assert "device 81:00.0 is unhealthy" in both
    assert "device 82:00.0 is excluded" in both
    status = site("status")
    assert "PGPU 82:00.0 is disabled (ECC errors)" in status
    assert "PGPU 81:00.0 is unhealthy" in status


def test_neither_the_operator_nor_the_host_undoes_what_the_other_says(site: Vacancy, tmp_path: Path) -> None:
    report(tmp_path, {"81:00.0": ""})
    site("publish", "--once", "--file", "n1.json")
    site("provider", "device", "n1", "81:00.0", "--disable")
    site("provider", "device", "n1", "81:00.0", "--enable")
    assert [one["by"] for one in site.json("status")["excluded"]] == ["host"]
    site("provider", "device", "n1", "81:00.0", "--disable")
    report(tmp_path)
    site("publish", "--once", "--file", "n1.json")
    assert [one["by"] for one in site.json("status")["excluded"]] == ["operator"]
    assert site.run_shared("place", "--resources", "PGPU:1[vendor=10de]", "--consumer", "c2").code == 3


def test_a_function_of_an_unhealthy_card_is_granted_to_nobody(site: Vacancy, tmp_path: Path) -> None:
    report(
        tmp_path,
        {"5:0": "link lost"},
        {"5:0": {}, "5:1": {"parent": "5:0"}, "6:0": {}, "6:1": {"parent": "6:0"}},
    )
    site("publish", "--once", "--file", "n1.json")
    site("place", "--resources", "PGPU:1", "--consumer", "c1")
    assert site.json("show", "consumer", "c1")[0]["holdings"][0]["grant"] == ["6:1"]
    assert site.run_shared("place", "--resources", "PGPU:1", "--consumer", "c2").code == 3


def test_an_unhealthy_device_that_is_not_reported_is_refused(site: Vacancy, tmp_path: Path) -> None:
    report(tmp_path, {"83:00.0": "?"})
    shown = site.fails(1, "publish", "--once", "--file", "n1.json")
    assert "unhealthy is {device: reason}, of devices in the same inventory" in shown


def test_earlier_rules_get_a_report_without_the_unhealthy_device(tmp_path: Path) -> None:
    report(tmp_path, {"81:00.0": "it does not answer"})
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
        assert "nvidia-smi is not on the search path" in vacancy.fails(2, "publish", "--once", "--mig")
        assert "the health of devices cannot be read" in vacancy.fails(
            2, "publish", "--once", "--device-health", "none.json"
        )
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        vacancy.environment["PATH"] = f"{tmp_path}:{vacancy.environment['PATH']}"
        shown = vacancy.run("publish", "--once", "--mig")
        assert shown.code == 2
        assert "the class MIG needs rules version 4, and this log follows version 3" in shown.err
        vacancy("replay")
        (provider,) = vacancy.json("show", "provider", "n1")["providers"]
        (gpus,) = [one for one in provider["inventories"] if one["resource_class"] == "PGPU"]
        assert [item[0] for item in gpus["record"]["items"]] == ["82:00.0"]
