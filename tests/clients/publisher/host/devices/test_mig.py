"""GPUs in MIG mode, as `nvidia-smi` prints them. The outputs have the form of NVIDIA's user guide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clients.publisher.host.host_trees import build_host
from vacancy.clients.publisher.host import HostOptions, inspect_host
from vacancy.resources.classes.devices.mig import Mig
from vacancy.resources.model.errors import UsageError, VacancyError

HOST = """
online 0-3
cell 0 cpus=0-3 memory=4096
pci 36:00.0 030200 10de:20b0 numa=0
pci 3b:00.0 030200 10de:20b0 numa=0
pci 3b:01.0 030200 10de:20b0 physfn=3b:00.0
pci 81:00.0 030200 10de:2bb5
"""
GPUS = """0, GPU-5d5ba0d6, 00000000:36:00.0, Disabled, NVIDIA A100-SXM4-40GB
1, GPU-c8ebb0f5, 00000000:3B:00.0, Enabled, NVIDIA A100-SXM4-40GB
2, GPU-9a2f1c77, 00000000:81:00.0, Enabled, NVIDIA RTX PRO 6000 Blackwell Server Edition
3, GPU-00000000, 00000000:C1:00.0, [N/A], Tesla T4
"""
NAMES = """
+-----------------------------------------------------------------------------+
| GPU instance profiles:                                                      |
| GPU   Name             ID    Instances   Memory     P2P    SM    DEC   ENC  |
|                              Free/Total   GiB              CE    JPEG  OFA  |
|=============================================================================|
|   1  MIG 1g.5gb        19     7/7        4.75       No     14     0     0   |
|                                                             1     0     0   |
+-----------------------------------------------------------------------------+
|   1  MIG 1g.5gb+me     20     1/1        4.75       No     14     1     0   |
|   1  MIG 1g.10gb       15     4/4        9.75       No     14     1     0   |
|   1  MIG 2g.10gb       14     3/3        9.75       No     28     1     0   |
|   1  MIG 3g.20gb        9     2/2        19.62      No     42     2     0   |
|   1  MIG 4g.20gb        5     1/1        19.62      No     56     2     0   |
|   1  MIG 7g.40gb        0     1/1        39.38      No     98     5     0   |
|   2  MIG 1g.24gb+me.all 65    1/1        23.62      No     46     4     4   |
|   2  MIG 1g.24gb-me    67     4/4        23.62      No     46     0     0   |
|   2  MIG 4g.96gb        0     1/1        95.00      No     188    4     4   |
+-----------------------------------------------------------------------------+
"""
PLACES = """GPU  1 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1
GPU  1 Profile ID 20 Placements: {0,1,2,3,4,5,6}:1
GPU  1 Profile ID 15 Placements: {0,2,4,6}:2
GPU  1 Profile ID 14 Placements: {0,2,4}:2
GPU  1 Profile ID  9 Placements: {0,4}:4
GPU  1 Profile ID  5 Placement : {0}:4
GPU  1 Profile ID  0 Placement : {0}:8
GPU  2 Profile ID 65 Placements: {0,1,2,3}:1
GPU  2 Profile ID 67 Placements: {0,1,2,3}:1
GPU  2 Profile ID  0 Placement : {0}:4
"""


def host(at: Path, gpus: str = GPUS, names: str = NAMES, places: str = PLACES) -> HostOptions:
    """A host with a program that prints these."""
    options = replace(build_host(at, HOST), mig=True)
    (at / "bin").mkdir()
    outputs = {"gpus": gpus, "names": names, "places": places}
    for name, text in outputs.items():
        (at / name).write_text(text)
    program = at / "bin" / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in\n--query-gpu=*) exec cat {at}/gpus;;\n'
        f'"mig -lgip") exec cat {at}/names;;\n"mig -lgipp") exec cat {at}/places;;\nesac\nexit 9\n'
    )
    program.chmod(0o755)
    return options


def offered(options: HostOptions) -> dict[str, dict[str, Any]]:
    """Provider -> class -> its devices."""
    return {
        provider.id: {
            name: said["devices"]
            for name, said in provider.inventories.items()
            if name in ("MIG", "PCI_DEVICE") and isinstance(said["devices"], dict)
        }
        for provider in inspect_host(options).providers
    }


def test_gpus_in_mig_mode_are_offered_in_parts_and_not_as_a_whole(tmp_path: Path) -> None:
    found = offered(host(tmp_path))
    assert list(found["n:numa0"]["PCI_DEVICE"]) == ["0000:36:00.0"]
    assert found["n:numa0"]["MIG"] == {
        "GPU-c8ebb0f5": {
            "table": "A100-40GB",
            "model": "NVIDIA A100-SXM4-40GB",
            "pci_address": "0000:3b:00.0",
            "vendor": "10de",
            "product": "20b0",
            "numa_node": 0,
        }
    }
    assert "PCI_DEVICE" not in found["n"]
    gpu = found["n"]["MIG"]["GPU-9a2f1c77"]
    assert gpu["profiles"] == {
        "1g.24gb+me.all": {"size": 1, "starts": [0, 1, 2, 3]},
        "1g.24gb-me": {"size": 1, "starts": [0, 1, 2, 3]},
        "4g.96gb": {"size": 4, "starts": [0]},
    }
    for devices in (found["n"]["MIG"], found["n:numa0"]["MIG"]):
        Mig("MIG").report({"devices": devices}, None)


@pytest.mark.parametrize(
    ("model", "table"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A800", "A100-80GB"),
    ],
)
def test_tables_with_the_same_placements_are_told_apart_by_the_model(
    tmp_path: Path, model: str, table: str
) -> None:
    bigger = NAMES.replace("20gb", "40gb").replace("10gb", "20gb").replace("5gb", "10gb")
    bigger = bigger.replace("7g.40gb", "7g.80gb").replace("1g.10gb   ", "1g.10gb  ")
    gpus = f"1, GPU-1, 00000000:3B:00.0, Enabled, {model}\n"
    (gpu,) = offered(host(tmp_path, gpus, bigger))["n:numa0"]["MIG"].values()
    assert gpu["table"] == table


def test_a_gpu_without_placements_is_not_offered_at_all(tmp_path: Path) -> None:
    options = host(tmp_path, places="No MIG-enabled devices found.\n")
    found = offered(options)
    assert list(found["n:numa0"]["PCI_DEVICE"]) == ["0000:36:00.0"]
    assert not any("MIG" in classes for classes in found.values())
    remark = (
        "PCI device 0000:3b:00.0: not offered: it is in MIG mode, and nvidia-smi prints no placements of it"
    )
    assert remark in [str(one) for one in inspect_host(options).remarks]


@pytest.mark.parametrize("name", ["3b:00.0", "GPU-c8ebb0f5"])
def test_the_health_of_a_gpu_is_that_of_its_parts(tmp_path: Path, name: str) -> None:
    file = tmp_path / "health.json"
    file.write_text(f'{{"{name}": "Xid 79"}}')
    options = replace(host(tmp_path / "host"), device_health=file)
    (cell,) = [one for one in inspect_host(options).providers if one.id == "n:numa0"]
    assert cell.inventories["MIG"]["unhealthy"] == {"GPU-c8ebb0f5": "Xid 79"}
    assert "unhealthy" not in cell.inventories["PCI_DEVICE"]


def test_without_the_option_nothing_is_run(tmp_path: Path) -> None:
    found = offered(replace(host(tmp_path), mig=False))
    assert len(found["n:numa0"]["PCI_DEVICE"]) == 3
    assert "MIG" not in found["n:numa0"]


def test_a_program_that_fails_or_is_not_there_stops_the_report(tmp_path: Path) -> None:
    """A GPU in MIG mode must not be offered as a whole because its mode is not known for a moment."""
    options = host(tmp_path)
    (tmp_path / "gpus").unlink()
    with pytest.raises(VacancyError, match="nvidia-smi --query-gpu"):
        inspect_host(options)
    with pytest.raises(UsageError, match="nvidia-smi is not on the search path"):
        inspect_host(replace(options, programs=str(tmp_path)))
