"""The identity of a machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vacancy.clients.publisher.host import machine_identity
from vacancy.clients.publisher.host.identity import APPLICATION_ID

MACHINE, OTHER = "3d1219c7c4c5404aaa1f6d2a48adfda4", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def identity(at: Path, machine: str | None = None, product: str | None = None) -> str | None:
    for name, text in (("etc/machine-id", machine), ("sys/class/dmi/id/product_uuid", product)):
        path = at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
    return machine_identity(at / "etc", at / "sys")


def test_the_identity_is_the_hash_that_systemd_makes(tmp_path: Path) -> None:
    assert identity(tmp_path, MACHINE + "\n") == "a3a4fbc5666048b79ac0f12efa16b021"
    assert identity(tmp_path, OTHER) != identity(tmp_path, MACHINE)


@pytest.mark.skipif(shutil.which("systemd-id128") is None, reason="systemd is not installed")
def test_systemd_prints_the_same_for_this_machine() -> None:
    command = ["systemd-id128", "machine-id", f"--app-specific={APPLICATION_ID}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert machine_identity(sys=Path("/nowhere")) == (done.stdout.strip() or None)


def test_without_a_machine_id_the_uuid_of_the_firmware_is_used(tmp_path: Path) -> None:
    uuid = "4C4C4544-0042-3510-8053-B7C04F4D4E32"
    found = identity(tmp_path, None, uuid)
    assert found is not None
    assert identity(tmp_path, "uninitialized", uuid.lower()) == found
    assert identity(tmp_path, "", uuid) == found
    # The file is asked first: firmware may be replaced with the mainboard.
    assert identity(tmp_path, MACHINE, uuid) == identity(tmp_path, MACHINE)
    assert uuid.lower().replace("-", "") != found


@pytest.mark.parametrize(
    "uuid",
    [
        None,
        "",
        "Not Settable",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "12345678-1234-5678-1234-567812345678",
        "4C4C4544",
    ],
)
def test_a_machine_that_has_none(tmp_path: Path, uuid: str | None) -> None:
    assert identity(tmp_path, "0" * 32, uuid) is None
