"""`vacancy quota`, and what `place`, `usage` and `candidates` say of limits."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Vacancy, log_of_version, node_file


def test_limits_are_set_shown_and_kept(tmp_path: Path) -> None:
    node_file(tmp_path, "node-1")
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        vacancy("publish", "--once", "--no-wait", "--file", "node-1.json")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            assert "place" not in vacancy("quota", "list")
            vacancy("place", "--resources", "VCPU:1", "--project", "p", "--consumer", "c1")
            assert "project p: VCPU 3, used 1" in vacancy("quota", "set", "p", "VCPU:3", "--parent", "domain")
            vacancy("quota", "set", "--default", "VCPU:1")
            vacancy("quota", "set", "p", "VCPU:unlimited", "--user", "u")
            vacancy("place", "--resources", "VCPU:2", "--project", "p", "--consumer", "c2")
            told = vacancy.fails(8, "place", "--resources", "VCPU:1", "--project", "p")
            assert "over quota: project p, VCPU: used 3, asked 1, limit 3 " in told
            vacancy("place", "--resources", "VCPU:1", "--project", "q", "--consumer", "c3")
            told = vacancy.fails(8, "place", "--resources", "VCPU:1", "--project", "q")
            assert "over quota: project q, VCPU: used 1, asked 1, limit 1 " in told
            limits = vacancy.json("quota", "list")["limits"]
            assert [(one["project"], one["user"], one["limit"], one["by_default"]) for one in limits] == [
                ("", None, 1, False),
                ("p", None, 3, False),
                ("p", "u", -1, False),
                ("q", None, 1, True),
            ]
            shares = vacancy.json("quota", "show", "p")["limits"][0]["shares"]
            assert sum(share["share"] for share in shares) == 3
            assert "each project" in vacancy("quota", "list")
            (used,) = vacancy.json("usage", "--project", "p", "--against-quota")["limits"]
            assert (used["unit"], used["used"], used["limit"]) == ("VCPU", 3, 3)
            found = vacancy.json("candidates", "--resources", "VCPU:1", "--project", "p", "--user", "u")
            assert found["over_quota"] == ["over quota: project p, VCPU: used 3, asked 1, limit 3"]
            assert found["candidates"]
            found = vacancy.json("candidates", "--resources", "VCPU:1", "--project", "new")
            assert found["over_quota"] == []
            refused = vacancy.fails(2, "candidates", "--resources", "VCPU:1", "--project", "p q")
            assert "'p q' is invalid" in refused
        audited = vacancy.json("verify")["audit"]
        assert (audited["problems"], audited["unverifiable_reasons"], audited["rejected"]) == ([], {}, 4)


def test_limits_that_are_invalid(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        vacancy("replay")
        assert "`vacancy rules activate 4`" in vacancy.fails(2, "quota", "set", "p", "VCPU:1")
        assert "no project is given" in vacancy.fails(2, "quota", "set")
        assert "no limit is given" in vacancy.fails(2, "quota", "set", "p")
        assert "'VCPU:-1' is not a limit" in vacancy.fails(2, "quota", "set", "p", "VCPU:-1")
        assert "did you mean VCPU" in vacancy.fails(2, "quota", "set", "p", "VCPUS:1")
        assert "its units besides NUMA_CELL: memory_mb" in vacancy.fails(
            2, "quota", "set", "p", "NUMA_CELL.pages:1"
        )
        assert "is invalid" in vacancy.fails(2, "quota", "set", "two words", "VCPU:1")
        assert "no limit of its own" in vacancy.fails(1, "quota", "show", "p")
