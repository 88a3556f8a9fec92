"""Whether an ask for MIG instances fits: the auditor, which tries all placements, against the class."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vacancy.clients.auditor.classes.class_auditor import Slot
from vacancy.clients.auditor.classes.mig import MigAuditor
from vacancy.resources.classes.devices.mig import Mig
from vacancy.resources.classes.devices.mig_tables import TABLES
from vacancy.resources.classes.resource_class import Granted

CUSTOM: dict[str, Any] = {
    "s": {"size": 1, "starts": [0, 1, 2, 3]},
    "m+me": {"size": 2, "starts": [0, 1, 2]},
    "l-me": {"size": 3, "starts": [0, 2]},
    "l+me.all": {"size": 3, "starts": [0, 1]},
}
KINDS: list[dict[str, Any]] = [*({"table": table} for table in sorted(TABLES)), {"profiles": CUSTOM}]
GPU = st.builds(lambda kind, model: {**kind, "model": model}, st.sampled_from(KINDS), st.sampled_from("AB"))


@st.composite
def asks(draw: st.DrawFn, devices: dict[str, dict[str, Any]]) -> Any:
    """An ask for a profile that one of the GPUs has, rarely an invalid one."""
    gpu = draw(st.sampled_from(sorted(devices)))
    table = devices[gpu].get("table")
    profiles = sorted(CUSTOM if table is None else TABLES[table])
    ask: dict[str, Any] = {"profile": draw(st.sampled_from(profiles)), "count": draw(st.integers(1, 4))}
    ask |= draw(
        st.sampled_from(
            [
                {},
                {},
                {},
                {"start": 0},
                {"start": 2},
                {"start": -1},
                {"profile": "z"},
                {"profile": 3},
                {"x": 1},
            ]
        )
    )
    more: list[dict[str, Any]] = [
        {},
        {"where": {"model": "A"}},
        {"match": ["model"]},
        {"where": {"table": "x"}},
    ]
    return ask | draw(st.sampled_from(more))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_auditor_refuses_exactly_the_asks_that_do_not_fit(data: st.DataObject) -> None:
    devices = data.draw(st.dictionaries(st.sampled_from(["m0", "m1", "m2"]), GPU, min_size=1))
    mig, auditor = Mig("MIG"), MigAuditor("MIG")
    record, stock = mig.report({"devices": devices}, None), auditor.read_inventory({"devices": devices})
    held: list[Any] = []
    for ask in data.draw(st.lists(asks(devices), max_size=8)):
        outcome = mig.claim(record, ask)
        against = list(auditor.refusals(Slot("n", stock, 0, held, False), [ask]))
        assert isinstance(outcome, Granted) == (not against), (ask, outcome, against)
        if isinstance(outcome, Granted):
            record = outcome.record
            held.append(outcome.grant)
        if held and data.draw(st.integers(0, 3)) == 0:
            record = mig.release(record, held.pop(data.draw(st.integers(0, len(held) - 1))))
