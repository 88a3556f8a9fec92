"""`vacancy signing`, from the first key to a node that was stolen, and what other commands say of it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Vacancy, node_file


def test_the_whole_way(tmp_path: Path) -> None:
    node_file(tmp_path, "node-1")
    node_file(tmp_path, "node-2")
    log, store = f"sqlite://{tmp_path}/log.db", str(tmp_path / "store")
    with (
        Vacancy(tmp_path, log=log, store=store) as plain,
        Vacancy(tmp_path, log=log, store=store, operator_key=str(tmp_path / "op.key")) as operator,
    ):
        plain("topics", "create", "--partitions", 2)
        plain("publish", "--once", "--no-wait", "--file", "node-1.json")
        plain("replay")
        with plain.serving("worker", until="caught up"):
            keys = {name: plain.json("signing", "make-key", f"{name}.key") for name in ("op", "one", "two")}
            assert (tmp_path / "op.key").stat().st_mode & 0o777 == 0o600
            assert plain("signing", "public-key", "one.key").strip() == keys["one"]["public"]
            assert "no key is overwritten" in plain.fails(2, "signing", "make-key", "one.key")
            assert "no operator's key is named" in plain.fails(2, "signing", "pin")
            assert "no operator has a key" in operator.fails(
                1, "signing", "register", "node-1", keys["one"]["public"]
            )
            assert "signing" not in plain("status")
            assert operator.json("signing", "pin")["changed"] == [0, 1]
            assert operator.json("signing", "pin")["changed"] == []
            assert "by key" in plain.fails(1, "signing", "pin", "--operator-key", "two.key")

            assert "node-1" in operator.fails(1, "signing", "require", "--all")
            assert "is not a public key" in operator.fails(2, "signing", "register", "node-1", "ab")
            operator("signing", "register", "node-1", keys["one"]["public"])
            assert "has not reported yet" in operator.fails(
                1, "signing", "register", "node-2", keys["two"]["public"]
            )
            operator("signing", "register", "node-2", keys["two"]["public"], "--cell", "auto")
            plain("publish", "--once", "--file", "node-1.json", "--node-key", "one.key")
            assert "does not name nodes" in operator.fails(2, "signing", "require", "node-1")
            assert "it is not said" in operator.fails(2, "signing", "require")
            assert operator.json("signing", "require", "--all")["changed"] == [0, 1]

            for error in (
                plain.fails(1, "publish", "--once", "--file", "node-1.json"),
                plain.fails(1, "provider", "disable", "node-1"),
                plain.fails(1, "publish", "--once", "--file", "node-1.json", "--node-key", "two.key"),
            ):
                assert "must sign" in error
            plain("publish", "--once", "--file", "node-1.json", "--node-key", "one.key")
            plain("publish", "--once", "--file", "node-2.json", "--node-key", "two.key")
            assert "disabled" in operator("provider", "disable", "node-1")
            assert "2 nodes must sign" in plain("status")
            assert len(plain.json("dead-letters")["dead_letters"]) == 6
            assert "node_key" not in plain("doctor")

            operator("signing", "rotate", "node-1", keys["op"]["public"])
            assert "it is signed by key" in plain.fails(
                1, "publish", "--once", "--file", "node-1.json", "--node-key", "one.key"
            )
            assert "never comes back" in operator.fails(
                2, "signing", "register", "node-1", keys["one"]["public"]
            )
            operator("signing", "revoke", "node-1")
            shown = plain.json("signing", "show")
            assert [one["operators"] for one in shown["partitions"]] == [[keys["op"]["public"]]] * 2
            by_name = {one["node"]: one for one in shown["nodes"]}
            assert (by_name["node-1"]["keys"], by_name["node-2"]["keys"]) == ([], [keys["two"]["public"]])
            assert "node-2" in plain("signing", "show")
            assert "1 nodes must sign and have no key" in plain("status")
            assert "no operator would have a key" in operator.fails(
                2, "signing", "unpin", keys["op"]["public"]
            )
            operator("signing", "require", "--none")
            operator("signing", "unpin", keys["op"]["public"])
            plain("publish", "--once", "--file", "node-1.json")
            audited = plain.json("verify")["audit"]
            assert audited["problems"] == []
    private = "".join((tmp_path / f"{name}.key").read_text().splitlines()[1] for name in keys)
    assert private not in (tmp_path / "log.db").read_bytes().decode("latin-1")


def test_the_doctor_looks_at_the_files_of_keys(tmp_path: Path) -> None:
    settings = {"log": f"sqlite://{tmp_path}/log.db", "store": str(tmp_path / "store")}
    with Vacancy(tmp_path, **settings, node_key=str(tmp_path / "node.key")) as vacancy:
        vacancy("signing", "make-key", "node.key")
        checks = vacancy.run_shared("doctor", "--json").out
        assert "has key" in checks
        (tmp_path / "node.key").chmod(0o644)
        checks = vacancy.run_shared("doctor", "--json").out
        assert "its mode is 0644" in checks
