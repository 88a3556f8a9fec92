"""A machine that is live as two nodes in two cells is a candidate as neither: for readers that follow, and for new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import LOG, Tape, event, provider
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.state.tables import split_key


def opens(reader: StoreReader) -> set[str]:
    """The nodes that take new claims."""
    reader.catch_up()
    view = reader.view
    return {split_key(name)[1] for name, row in view.row_of.items() if view.open[row]}


def report(root: str, machine: str, life: int = 1) -> bytes:
    data: dict[str, Any] = {"root": root, "incarnation": f"{life:016x}", "sequence": 1, "machine": machine}
    return event("node.reported.v2", {**data, "providers": [provider(root, VCPU=8)]})


def test_readers_exclude_a_machine_of_two_names(tmp_path: Path) -> None:
    registry = Registry([Ports()])
    tape = Tape(version=RULES_VERSIONS.newest.version)
    here, there = tape.cells[0], tape.cells[-1]
    steps = [
        (here, report("n1", "M"), {"n1"}),
        (here, report("n3", "X"), {"n1", "n3"}),
        (there, report("n2", "M"), {"n3"}),
        (there, event("node.retired.v2", {"root": "n2", "incarnation": f"{1:016x}"}), {"n1", "n3"}),
        (there, report("n2", "M", life=2), {"n3"}),
        (there, event("node.adopted.v1", {"root": "n2", "machine": "M"}), {"n3"}),
        (here, event("node.adopted.v1", {"root": "n2", "machine": "M", "cell": there}), {"n2", "n3"}),
        (here, report("n1", "Y", life=2), {"n1", "n2", "n3"}),
    ]
    with Store(tmp_path / "store", log=LOG, partitions=1, registry=registry) as store:
        store.apply(0, tape.records[0][:1])
        with StoreReader(store.path, registry) as follows:
            for cell, value, expected in steps:
                store.apply(0, [tape.append(cell, value)])
                assert opens(follows) == expected
                with StoreReader(store.path, registry) as new:
                    assert opens(new) == expected
