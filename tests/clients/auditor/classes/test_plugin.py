"""The auditor of a plugin's class: with it the auditor judges the class, without it outcomes cannot be verified."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from tests.clients.auditor.test_auditor import Story
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.strategies import logs
from vacancy.clients.auditor import AuditReport, ClassAuditor, ClassAuditors, audit
from vacancy.clients.auditor.classes.class_auditor import ROOM, Objection, Refused, Slot
from vacancy.resources.fold.fold import fold
from vacancy.resources.state.tables import VERDICTS, split_key

JSON = dict[str, Any]


class PortsStock(NamedTuple):
    ports: frozenset[int]
    listed: bool = True

    def withdrawn(self) -> PortsStock:
        return PortsStock(frozenset(), listed=False)


class PortsAuditor(ClassAuditor[PortsStock]):
    """The auditor of `tests.support.classes.ports_class`, as a plugin's author would write it."""

    name = "PORTS"

    def read_inventory(self, inventory: Mapping[str, Any]) -> PortsStock:
        ports = inventory.get("ports")
        if set(inventory) != {"ports"} or not isinstance(ports, list):
            raise Refused
        if any(type(port) is not int or not 0 < port < 65_536 for port in ports):
            raise Refused
        return PortsStock(frozenset(ports))

    def objections(self, slot: Slot[PortsStock], asks: Sequence[Any]) -> Iterable[Objection]:
        free = slot.stock.ports - {port for grant in slot.held for port in grant}
        wanted = sum(ask if isinstance(ask, int) else len(ask.get("ports", ())) for ask in asks)
        if wanted > len(free) or wanted < 1:
            yield Objection(ROOM, f"{slot.provider} has {len(free)} ports left, {wanted} asked")

    def grant_errors(
        self, slot: Slot[PortsStock], asks: Sequence[Any], grants: Sequence[Any]
    ) -> Iterable[str]:
        taken = [port for grant in (*slot.held, *grants) for port in grant]
        yield from (f"port {port} is given twice" for port in set(taken) if taken.count(port) > 1)


def verdicts_of(tape: Tape) -> list[JSON]:
    """All verdicts that the fold ever decides on these logs, as `verify` gathers them."""
    found: dict[tuple[int, bytes, int], Any] = {}
    for partition, records in tape.records.items():
        state = MemoryState()
        for record in records:
            changes = fold(state, record, REGISTRY)
            state.commit(changes)
            for key, row in changes.get(VERDICTS, {}).items():
                if row is not None:
                    if row.offset >= 0:
                        found.pop((partition, key, -1), None)
                    found[(partition, key, row.offset)] = row
    exported = []
    for (partition, key, offset), row in found.items():
        cell, claim = split_key(key)
        place = {"claim": claim, "cell": cell, "partition": partition, "offset": offset}
        grants = [part._asdict() for part in row.grants]
        exported.append({**place, "accepted": row.accepted, "reason": row.reason, "grants": grants})
    return exported


@settings(max_examples=60, deadline=None)
@given(tape=logs(wild=True))
def test_it_agrees_with_the_fold(tape: Tape) -> None:
    """A `no_valid_host` of a random log is invented, so those are left out."""
    verdicts = verdicts_of(tape)
    for auditors in (ClassAuditors([PortsAuditor()]), ClassAuditors()):
        report = audit(tape.records, verdicts, auditors)
        assert [problem for problem in report.problems if "no valid host" not in problem] == []


def story(*grants: list[int] | None) -> list[AuditReport]:
    """Claims of one port each of a node with two, judged with the class's auditor and without. None: rejected."""
    story = Story()
    story.say("rules.activated", {"classes": ["PORTS"]})
    story.node("n", {"id": "n", "inventories": {"PORTS": {"ports": [80, 81]}}})
    for number, grant in enumerate(grants):
        allocations = [{"provider": "n", "resources": {"PORTS": 1}}]
        story.claim(f"c{number}", accepted=grant is not None, allocations=allocations)
        parts = [{"provider": "n", "resource_class": "PORTS", "grant": grant}] if grant else []
        story.verdicts[-1]["grants"] = parts
    return [
        audit({0: story.records}, story.verdicts, ClassAuditors([PortsAuditor()])),
        audit({0: story.records}, story.verdicts),
    ]


@pytest.mark.parametrize(
    ("grants", "problem"),
    [
        (([80], [81], None), ""),
        (([80], [80]), "port 80 is given twice"),
        (([80], [81], [82]), "n has 0 ports left, 1 asked"),
        (([80], None), "but it fits"),
    ],
)
def test_with_it_the_class_is_judged(grants: tuple[list[int] | None, ...], problem: str) -> None:
    judged, unjudged = story(*grants)
    assert len(judged.problems) == bool(problem)
    assert problem in "".join(judged.problems)
    assert judged.unverifiable == 0
    assert unjudged.ok
    assert unjudged.unverifiable == grants.count(None)


def test_an_inventory_that_the_class_refuses_is_not_applied() -> None:
    story = Story()
    story.say("rules.activated", {"classes": ["PORTS"]})
    story.node("n", {"id": "n", "inventories": {"VCPU": {"total": 10}, "PORTS": {"ports": "many"}}})
    story.claim("c", 1, accepted=False)
    assert audit({0: story.records}, story.verdicts, ClassAuditors([PortsAuditor()])).ok


@pytest.mark.parametrize(
    ("target", "printed", "error"),
    [
        ("tests.clients.auditor.classes.test_plugin:PortsAuditor", "PortsAuditor", ""),
        (
            "tests.clients.auditor.classes.test_plugin:Missing",
            "",
            "entry point PORTS of vacancy.class_auditors",
        ),
        ("builtins:dict", "", "is not a ClassAuditor with that name"),
    ],
)
def test_it_is_found_by_its_entry_point(target: str, printed: str, error: str, tmp_path: Path) -> None:
    information = tmp_path / "ports-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ports\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[vacancy.class_auditors]\nPORTS = {target}\n")
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from vacancy.clients.runtime.bootstrap import installed_class_auditors\n"
        "print(type(installed_class_auditors().of('PORTS')).__name__)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parents[4])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == printed
    assert error in done.stderr
    assert (done.returncode == 0) == bool(printed)


def test_plugins_cannot_replace_the_auditor_of_a_built_in_class() -> None:
    class Mine(PortsAuditor):
        name = "VCPU"

    assert not isinstance(ClassAuditors([Mine()]).of("VCPU"), PortsAuditor)
