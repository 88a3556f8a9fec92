"""The comparison with Placement, on a small fleet: counts are checked, times are not."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.__main__ import main
from evaluation.placement import service as placement_service
from evaluation.placement.fleet import brim_fleet, plain_fleet
from evaluation.placement.service import database_kind

TINY = ["--nodes", "12", "--queries", "5", "--instances", "8", "--brim-nodes", "3", "--schedulers", "2"]


@pytest.mark.long  # the quick comparison is its short form
def test_both_serve_the_same_load(capsys: pytest.CaptureFixture[str]) -> None:
    # With its own retries, Placement may accept a claim beyond the capacity: see docs/measured.md.
    assert main(["beside", *TINY, "--server-tries", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["benchmark"], found["database"], found["log"]) == ("beside", "sqlite", "sqlite")
    assert set(found["placement"]) == set(found["vacancy"])
    assert set(found["placement"]["brim"]) == set(found["vacancy"]["brim"])
    for name in ("placement", "vacancy"):
        one = found[name]
        assert 0 < one["candidates_ms"]["p50"] <= one["candidates_ms"]["p99"]
        assert 0 < one["place_ms"]["p50"] <= one["place_ms"]["p99"]
        assert one["placements_per_s"] > 0
        assert (one["accepted"], one["overcommitted"]) == (8, 0)
        brim = one["brim"]
        assert (brim["asked"], brim["places"], brim["accepted"], brim["overcommitted"]) == (15, 12, 12, 0)
    assert found["vacancy"]["errors"] == found["vacancy"]["brim"]["errors"] == 0
    assert found["ratio"]["candidates_p50"] > 0


def test_both_systems_get_the_same_fleets_and_requests() -> None:
    plain, brim = plain_fleet(3), brim_fleet(3)
    assert (plain.places, brim.places) == (192, 12)
    assert len(list(plain.reports(4))) == len(set(plain.node_names())) == 3
    assert plain.query(7) == (
        "/allocation_candidates?resources=VCPU:1,MEMORY_MB:256,DISK_GB:10&required=HW_CPU_X86_AVX2&limit=7"
    )
    for fleet in (plain, brim):
        (group,) = fleet.spec().groups
        assert group.resources == dict(fleet.requested)
        assert group.required == (fleet.trait,)
        assert {name: one["total"] for name, one in fleet.inventories().items()} == dict(fleet.totals)


def test_invalid_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["beside", "--nodes", "0"]) == 2
    assert "nodes is 0" in capsys.readouterr().err
    assert main(["beside", *TINY, "--database", "sqlite:////nowhere/at/all.db"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Placement could not create its tables: ")
    assert error.count("\n") == 1


def test_without_placement_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(placement_service, "version", absent)
    assert main(["beside", *TINY]) == 2
    assert capsys.readouterr().err == (
        "OpenStack Placement is not installed; install it with: pip install -e '.[beside]'\n"
    )


def test_the_kind_of_a_database_contains_no_password() -> None:
    assert database_kind(None) == "sqlite"
    assert database_kind("postgresql+psycopg2://me:secret@host/placement") == "postgresql"
