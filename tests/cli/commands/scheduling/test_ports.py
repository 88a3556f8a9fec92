"""Ports of hosts, as who places instances sees them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Vacancy, log_of_version


def node_with_ports(home: Path, root: str) -> str:
    inventories = {"VCPU": {"total": 8}, "PORT": {"tcp": [[3002, 3002], [20_000, 32_000]], "udp": [[53, 53]]}}
    (home / f"{root}.json").write_text(json.dumps({"providers": [{"id": root, "inventories": inventories}]}))
    return f"{root}.json"


def test_a_static_port_is_on_each_node_once_and_dynamic_ones_come_from_a_range(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        for root in ("n1", "n2"):
            vacancy("publish", "--once", "--no-wait", "--file", node_with_ports(tmp_path, root))
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            static = ("place", "--resources", "VCPU:1,PORT:1[3002]")
            placed = [vacancy(*static, "--consumer", f"web-{number}") for number in (1, 2)]
            assert all('{"ports":[3002],"protocol":"tcp"}' in one for one in placed)
            assert sorted(root for root in ("n1", "n2") for one in placed if f" on {root} " in one) == [
                "n1",
                "n2",
            ]
            assert "no valid host" in vacancy.fails(3, *static, "--consumer", "web-3")
            told = vacancy("place", "--resources", "PORT:2[20000-32000]", "--consumer", "api")
            assert '{"ports":[20000,20001],"protocol":"tcp"}' in told
            told = vacancy("place", "--resources", "PORT:1[udp]", "--consumer", "dns")
            assert '{"ports":[53],"protocol":"udp"}' in told
            assert "neither a port" in vacancy.fails(2, "place", "--resources", "PORT:1[http]")
            assert "is not an ask" in vacancy.fails(2, "place", "--resources", "PORT:1[70000]")
        audited = vacancy.json("verify")["audit"]
        assert audited["problems"] == []


def test_ports_of_one_request_never_collide(tmp_path: Path) -> None:
    """nomad#9506: of one consumer, a port from a range must not be the port that another of its asks names."""
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        inventories = {"PORT": {"tcp": [[20_000, 20_001]]}}
        (tmp_path / "n1.json").write_text(json.dumps([{"id": "n1", "inventories": inventories}]))
        vacancy("publish", "--once", "--no-wait", "--file", "n1.json")
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            named, any_ = "a=PORT:1[20000]", "b=PORT:1[20000-20001]"
            for groups in (
                (named, any_),
                (any_, named.replace("a=", "c=")),
                (any_, any_.replace("b=", "c=")),
            ):
                words = [word for group in groups for word in ("--group", group)]
                placed = vacancy.json("place", *words, "--consumer", "both")
                assert sorted(one["grant"]["ports"][0] for one in placed["grants"]) == [20_000, 20_001]
                vacancy("release", "both")
            vacancy("place", "--resources", "PORT:1[20000]", "--consumer", "web")
            told = vacancy("why-not", "n1", "--resources", "PORT:1[20000]")
            assert "last taken by web" in told
            told = vacancy("why-not", "n1", "--resources", "PORT:1[9999]")
            assert ("would not fit if nothing were held" in told, "web" in told) == (True, False)


def test_older_rules_do_not_know_the_class(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        vacancy("publish", "--once", "--no-wait", "--file", node_with_ports(tmp_path, "n1"))
        vacancy("replay")
        assert "class PORT needs" in vacancy.fails(2, "place", "--resources", "PORT:1")
        assert vacancy.json("verify")["audit"]["problems"] == []
