"""A move between cells by commands: in one step, in two with both halves held, undone, and with each half released."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Vacancy, node_file


def test_a_consumer_moves_to_another_cell(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 3)
        for node, cell in (("src", "c1"), ("dst", "c2")):
            node_file(tmp_path, node)
            vacancy("publish", "--once", "--no-wait", "--file", f"{node}.json", "--cell", cell)
        vacancy("replay")
        with vacancy.serving("worker", until="caught up"):
            vacancy("place", "--resources", "VCPU:4", "--consumer", "vm-1", "--in-tree", "src")
            assert "no move between cells is open" in vacancy("settle")
            told = vacancy("move", "vm-1", "--to-cell", "c2")
            assert told == "moved vm-1 from cell c1 to cell c2\n"
            # The node names the cell. Both halves are held until somebody confirms.
            begun = vacancy.json("move", "vm-1", "--to", "src", "--hold", 600)
            assert begun.pop("written")
            assert (begun["status"], begun["held_in"]) == ("open", ["c2", "c1"])
            used = vacancy.json("usage")
            assert used["in_two_cells"] == [{"consumer": "vm-1", "cells": ["c1", "c2"]}]
            assert used["open_moves"] == [begun]
            waits = f"vm-1 is being moved from cell c2 to cell c1 (move {begun['id']}): the claim in c1 is not confirmed"
            assert waits in vacancy.run_shared("usage").err
            assert waits in vacancy.run_shared("show", "consumer", "vm-1").err
            assert "the claim in c1 is not confirmed" in vacancy.fails(6, "settle", "vm-1")
            told = vacancy("settle", "vm-1", "--undo")
            assert told == "vm-1 stays in cell c2: its move to cell c1 is undone\n"
            vacancy.json("move", "vm-1", "--to", "src", "--hold", 600)
            vacancy("confirm", "vm-1")
            assert "what it held in c2 is not released" in vacancy.run_shared("usage").err
            assert vacancy("settle") == "moved vm-1 from cell c2 to cell c1\n"
            assert "--keep is for moves within a cell" in vacancy.fails(
                2, "move", "vm-1", "--to-cell", "c2", "--keep"
            )
            assert "are for the claim of a consumer" in vacancy.fails(2, "settle", "--claim", "x")
            assert "no valid host" in vacancy.fails(3, "move", "vm-1", "--to-cell", "c3")
            # Each half by itself: what is left is where it stays.
            begun = vacancy.json("move", "vm-1", "--to-cell", "c2", "--hold", 600)
            vacancy("release", "vm-1", "--claim", begun["id"])
            assert "stays in cell c1" in vacancy("settle", "vm-1")
            vacancy.json("move", "vm-1", "--to-cell", "c2", "--hold", 600)
            open_ = vacancy.run_shared("verify")
            assert open_.code == 0
            assert "of vm-1 from cell c1 to cell c2 is open: held in c1 and c2" in open_.err
            assert vacancy.json("settle", "--undo")["moves"][0]["status"] == "undone"
        audited = vacancy.json("verify")["audit"]
        assert (audited["problems"], audited["open_moves"]) == ([], [])
