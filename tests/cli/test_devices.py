"""`vacancy provider device`: one device of many is taken out of service and brought back."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Vacancy

GPUS = {"81:00.0": {"vendor": "10de"}, "82:00.0": {"vendor": "10de"}}


def report_gpus(home: Path) -> None:
    providers = [{"id": "n1", "inventories": {"PGPU": {"devices": GPUS}, "VCPU": {"total": 8}}}]
    (home / "n1.json").write_text(json.dumps({"providers": providers}))


def test_a_bad_gpu_is_granted_to_nobody_until_it_is_back(tmp_path: Path) -> None:
    report_gpus(tmp_path)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2, "--preview-rules")
        vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
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


def test_devices_are_excluded_only_under_rules_that_know_it(tmp_path: Path) -> None:
    report_gpus(tmp_path)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
        vacancy("replay")
        told = vacancy.fails(2, "provider", "device", "n1", "81:00.0", "--disable")
        assert "excluding one device needs version 4" in told
