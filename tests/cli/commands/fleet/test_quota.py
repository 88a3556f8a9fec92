"""`vacancy quota`, and what `place`, `usage` and `candidates` say of limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.command import Vacancy, log_of_version, node_file


@contextmanager
def a_served_node(tmp_path: Path) -> Iterator[Vacancy]:
    """Commands on a log with one node, and a worker."""
    node_file(tmp_path, "node-1")
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        vacancy("publish", "--once", "--no-wait", "--file", "node-1.json")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            yield vacancy


def test_limits_are_set_shown_and_kept(tmp_path: Path) -> None:
    with a_served_node(tmp_path) as vacancy:
        assert "place" not in vacancy("quota", "list")
        vacancy("place", "--resources", "VCPU:1", "--project", "p", "--consumer", "c1")
        assert "project p: VCPU 3, used 1" in vacancy("quota", "set", "p", "VCPU:3", "--parent", "domain")
        vacancy("quota", "set", "--default", "VCPU:1")
        vacancy("quota", "set", "p", "VCPU:unlimited", "--user", "u")
        vacancy("place", "--resources", "VCPU:2", "--project", "p", "--consumer", "c2")
        result = vacancy.fails(8, "place", "--resources", "VCPU:1", "--project", "p")
        assert "over quota: project p, VCPU: used 3, asked 1, limit 3 " in result
        vacancy("place", "--resources", "VCPU:1", "--project", "q", "--consumer", "c3")
        result = vacancy.fails(8, "place", "--resources", "VCPU:1", "--project", "q")
        assert "over quota: project q, VCPU: used 1, asked 1, limit 1 " in result
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
        assert "'p q' is not a valid project id" in refused
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
        assert "no limit of its own" in vacancy.fails(1, "quota", "show", "p")


NO_IDS = ("two words", "größe", "", "p" * 201, "p\n", "\u202ep", "\N{SLIGHTLY SMILING FACE}")
NO_LIMITS = {
    "VCPU": "'VCPU' is not a limit",
    "VCPU:": "write VCPU:100, at most VCPU:9007199254740991, or VCPU:unlimited",
    "VCPU:9007199254740992": "is not a limit",
    "VCPU:" + "9" * 5000: "is not a limit",
    "VCPU:\N{ARABIC-INDIC DIGIT THREE}": "is not a limit",
    "VCPU:1.5": "is not a limit",
    "VCPU:3,": "'' is not a limit",
    "VCPU.:1": "VCPU has no unit ''",
    "VCPU:1,VCPU:2": "the limit of VCPU is given twice",
}


def test_names_that_nobody_can_have_are_refused_where_they_are_given(tmp_path: Path) -> None:
    node_file(tmp_path, "node-1")
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        vacancy("publish", "--once", "--no-wait", "--file", "node-1.json")
        vacancy("replay")
        for name in NO_IDS:
            for words in (
                ("quota", "set", name, "VCPU:1"),
                ("quota", "set", "p", "VCPU:1", "--user", name),
                ("quota", "show", name),
                ("place", "--resources", "VCPU:1", "--project", name),
                ("candidates", "--resources", "VCPU:1", "--project", name),
                ("candidates", "--resources", "VCPU:1", "--project", "p", "--user", name),
                ("update", "c", "--project", name),
                ("update", "c", "--user", name),
                ("usage", "--project", name),
                ("usage", "--against-quota", "--user", name),
                *((("quota", "set", "p", "--parent", name),) if name else ()),
            ):
                assert "id; use letters, digits and ._:/@+=~-, 200" in vacancy.fails(2, *words), words
        for words in (
            ("quota", "set", "p", "VCPU:1", "--consumer-type"),
            ("candidates", "--resources", "VCPU:1", "--project", "p", "--consumer-type"),
            ("usage", "--consumer-type"),
            ("update", "c", "--type"),
        ):
            assert "is too long; use 64 characters" in vacancy.fails(2, *words, "T" * 65)
        for limit, why in NO_LIMITS.items():
            assert why in vacancy.fails(2, "quota", "set", "p", limit)
        for words in (("VCPU:1",), ("VCPU:1", "PGPU:1"), ("CUSTOM_X:unlimited",)):
            assert "no project is given" in vacancy.fails(2, "quota", "set", *words)
        assert "a default names no project" in vacancy.fails(2, "quota", "set", "--default", "p", "VCPU:1")
        assert "two defaults" in vacancy.fails(2, "quota", "set", "--default", "--default-users", "VCPU:1")
        assert "consumers that name none" in vacancy.fails(2, "quota", "set", "p", "VCPU:1", "--user", "-")
        assert "start with - last, after --" in vacancy.fails(2, "quota", "set", "-p", "VCPU:1")
        assert vacancy.json("quota", "list")["limits"] == []


def test_odd_names_work_everywhere(tmp_path: Path) -> None:
    with a_served_node(tmp_path) as vacancy:
        for name in ("-p", "--p", "a:b/c@d", "user", "type", "p" * 200):
            vacancy("quota", "set", "--", name, "VCPU:1")
            vacancy("quota", "set", "child", f"--parent={name}")
            vacancy("quota", "set", f"--user={name}", "--", name, "VCPU:9")
            request = ("--resources", "VCPU:1", "--project", name, "--user", name)
            vacancy("place", *request, "--consumer-type", "a type b", "--consumer", name)
            result = vacancy.fails(8, "place", *request)
            assert f"over quota: project {name}, VCPU: used 1, asked 1, limit 1 " in result
            found = vacancy.json("candidates", *request)
            assert found["over_quota"] == [f"over quota: project {name}, VCPU: used 1, asked 1, limit 1"]
            limits = vacancy.json("usage", "--project", name, "--against-quota")["limits"]
            assert [(one["user"], one["used"], one["limit"]) for one in limits] == [
                (None, 1, 1),
                (name, 1, 9),
            ]
            vacancy("update", "--project", "elsewhere", "--", name)
            vacancy("release", "--", name)
        audited = vacancy.json("verify")["audit"]
        assert (audited["problems"], audited["unverifiable_reasons"]) == ([], {})


def test_consumers_change_their_account_within_its_limits(tmp_path: Path) -> None:
    node_file(tmp_path, "node-1", vcpus=64)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 3)
        vacancy("publish", "--once", "--no-wait", "--file", "node-1.json")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            for consumer, amount, account in (("c1", 4, "p"), ("c2", 2, "q")):
                vacancy(
                    *("place", "--resources", f"VCPU:{amount}", "--project", account, "--user", "w"),
                    *("--consumer", consumer),
                )
            vacancy("quota", "set", "q", "VCPU:7")
            vacancy("quota", "set", "q", "VCPU:3", "--user", "u")
            vacancy("quota", "set", "q", "VCPU:5", "--consumer-type", "MIGRATION")
            for words, said in {
                ("c1", "--project", "q", "--user", "u"): "project q user u, VCPU: used 0, asked 4, limit 3 ",
                ("c1", "--project", "q"): "",
                ("c1", "--user", "u"): "project q user u, VCPU: used 0, asked 4, limit 3 ",
                ("c1", "--type", "MIGRATION"): "",
                ("c2", "--type", "MIGRATION"): "project q type MIGRATION, VCPU: used 4, asked 2, limit 5 ",
                ("c2", "--type", ""): "",
            }.items():
                if said:
                    assert f"over quota: {said}" in vacancy.fails(8, "update", *words)
                else:
                    assert "updated" in vacancy("update", *words)
            # An empty type counts once, and for no other type.
            vacancy(
                "place", "--resources", "VCPU:1", "--project", "q", "--consumer-type", "", "--consumer", "c3"
            )
            result = vacancy.fails(
                8, "place", "--resources", "VCPU:1", "--project", "q", "--consumer-type", ""
            )
            assert "project q, VCPU: used 7, asked 1, limit 7 " in result
            limits = vacancy.json("usage", "--project", "q", "--against-quota")["limits"]
            assert [(one["user"], one["consumer_type"], one["used"], one["limit"]) for one in limits] == [
                (None, "", 7, 7),
                (None, "MIGRATION", 4, 5),
                ("u", "", 0, 3),
            ]
        audited = vacancy.json("verify")["audit"]
        assert (audited["problems"], audited["unverifiable_reasons"]) == ([], {})


def test_usage_against_quota_has_the_defaults_that_hold(tmp_path: Path) -> None:
    node_file(tmp_path, "node-1")
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        vacancy("publish", "--once", "--no-wait", "--file", "node-1.json")
        vacancy("replay")

        def limits(*words: str) -> list[tuple[object, ...]]:
            found = vacancy.json("usage", "--against-quota", *words)["limits"]
            names = ("project", "user", "consumer_type", "used", "limit", "by_default")
            return [tuple(one[name] for name in names) for one in found]

        with vacancy.serving("worker", until="caught up"):
            vacancy("place", "--resources", "VCPU:2", "--project", "p", "--user", "u")
            vacancy("quota", "set", "--default", "VCPU:5")
            vacancy("quota", "set", "--default", "VCPU:4", "--consumer-type", "MIGRATION")
            vacancy("quota", "set", "--default-users", "VCPU:3")
            vacancy("quota", "set", "q", "VCPU:1")
            vacancy("quota", "set", "r", "VCPU:unlimited", "--parent", "above")
            migration = ("MIGRATION", 0, 4, True)
            assert limits("--project", "p") == [("p", None, "", 2, 5, True), ("p", None, *migration)]
            assert limits("--project", "p", "--user", "u") == [("p", "u", "", 2, 3, True)]
            assert limits("--project", "p", "--user", "-") == []
            assert limits("--project", "q") == [("q", None, "", 0, 1, False), ("q", None, *migration)]
            assert limits("--project", "q", "--consumer-type", "MIGRATION") == [("q", None, *migration)]
            assert limits("--project", "r") == [("r", None, *migration)]
            assert limits("--project", "above") == []
