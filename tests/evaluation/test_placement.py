"""Placement and vacancy beside each other, on a fleet so small that the figures say nothing and the facts do."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `evaluation` is not installed

from evaluation import placement_service
from evaluation.__main__ import main
from evaluation.placement_fleet import brim_fleet, plain_fleet
from evaluation.placement_service import database_kind

TINY = ["--nodes", "12", "--queries", "5", "--instances", "8", "--brim-nodes", "3", "--schedulers", "2"]


def test_both_serve_the_same_load(capsys: pytest.CaptureFixture[str]) -> None:
    # When it tries again by itself, Placement may let a claim pass for which there is no room: see docs/measured.md.
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


def test_the_fleets_say_the_same_to_both() -> None:
    plain, brim = plain_fleet(3), brim_fleet(3)
    assert (plain.places, brim.places) == (192, 12)
    assert len(list(plain.reports(4))) == len(set(plain.node_names())) == 3
    assert plain.query(7) == (
        "/allocation_candidates?resources=VCPU:1,MEMORY_MB:256,DISK_GB:10&required=HW_CPU_X86_AVX2&limit=7"
    )
    for fleet in (plain, brim):
        (group,) = fleet.spec().groups
        assert group.resources == dict(fleet.asked)
        assert group.required == (fleet.trait,)
        assert {name: one["total"] for name, one in fleet.inventories().items()} == dict(fleet.totals)


def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["beside", "--nodes", "0"]) == 2
    assert "nodes is 0" in capsys.readouterr().err
    assert main(["beside", *TINY, "--database", "sqlite:////nowhere/at/all.db"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Placement could not make its database: ")
    assert said.count("\n") == 1


def test_who_has_no_placement_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(placement_service, "version", absent)
    assert main(["beside", *TINY]) == 2
    assert capsys.readouterr().err == (
        "OpenStack Placement is not installed; install it with: pip install -e '.[beside]'\n"
    )


def test_a_database_is_named_without_its_password() -> None:
    assert database_kind(None) == "sqlite"
    assert database_kind("postgresql+psycopg2://me:secret@host/placement") == "postgresql"
