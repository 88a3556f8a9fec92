"""MIG instances against the placements that NVIDIA prints for its GPUs, tried one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from vacancy.resources.classes.devices.mig import Mig
from vacancy.resources.classes.resource_class import Granted, Shortfall
from vacancy.resources.model.errors import InvalidRecord, UsageError

MIG = Mig("MIG")
A100 = """
1g.5gb {0,1,2,3,4,5,6}:1
1g.5gb+me {0,1,2,3,4,5,6}:1
1g.10gb {0,2,4,6}:2
2g.10gb {0,2,4}:2
3g.20gb {0,4}:4
4g.20gb {0}:4
7g.40gb {0}:8
"""
H200 = """
1g.18gb {0,1,2,3,4,5,6}:1
1g.18gb+me {0,1,2,3,4,5,6}:1
1g.35gb {0,2,4,6}:2
2g.35gb {0,2,4}:2
3g.71gb {0,4}:4
4g.71gb {0}:4
7g.141gb {0}:8
"""
A30 = """
1g.6gb {0,1,2,3}:1
1g.6gb+me {0,1,2,3}:1
2g.12gb {0,2}:2
2g.12gb+me {0,2}:2
4g.24gb {0}:4
"""
H100 = (
    A100.replace("20gb", "40gb").replace("10gb", "20gb").replace("5gb", "10gb").replace("7g.40gb", "7g.80gb")
)
B200 = """
1g.23gb {0,1,2,3,4,5,6}:1
1g.23gb+me {0,1,2,3,4,5,6}:1
1g.45gb {0,2,4,6}:2
2g.45gb {0,2,4}:2
3g.90gb {0,4}:4
4g.90gb {0}:4
7g.180gb {0}:8
"""
PRINTED = {"A100-40GB": A100, "H100-80GB": H100, "H200-141GB": H200, "B200-180GB": B200, "A30-24GB": A30}
"""As `nvidia-smi mig -lgipp` prints them."""

Instance = tuple[str, int, int]
"""(profile, start, size)."""


def printed(text: str) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {}
    for line in text.split("\n"):
        if line:
            name, placed = line.split()
            starts, size = placed.split(":")
            found[name] = [(name, int(start), int(size)) for start in starts.strip("{}").split(",")]
    return found


def overlap(one: Instance, other: Instance) -> bool:
    media = one[0].endswith("+me") and other[0].endswith("+me")
    return media or not (one[1] + one[2] <= other[1] or other[1] + other[2] <= one[1])


def gpus(count: int = 1, **about: Any) -> Any:
    return MIG.report({"devices": {f"g{n}": {"table": "A100-40GB", **about} for n in range(count)}}, None)


def taken(record: Any, *asks: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The record after these asks, and their grants."""
    grants = []
    for ask in asks:
        outcome = MIG.claim(record, ask)
        assert isinstance(outcome, Granted), (ask, outcome)
        record = outcome.record
        grants.append(outcome.grant)
    return record, grants


@pytest.mark.parametrize("model", PRINTED)
def test_an_instance_is_granted_exactly_where_a_placement_is_free(model: str) -> None:
    rng = random.Random(model)
    table = printed(PRINTED[model])
    for _ in range(60):
        record = MIG.report({"devices": {"g": {"table": model}}}, None)
        held: list[tuple[Instance, Any]] = []
        for _ in range(12):
            profile = rng.choice(sorted(table))
            free = [one for one in table[profile] if not any(overlap(one, other) for other, _ in held)]
            ask: dict[str, Any] = {"profile": profile}
            if rng.random() < 0.3:
                ask["start"] = rng.randrange(8)
                free = [one for one in free if one[1] == ask["start"]]
            outcome = MIG.claim(record, ask)
            assert isinstance(outcome, Granted) == bool(free), (ask, held)
            if isinstance(outcome, Granted):
                ((kind, size),) = outcome.grant["g"].items()
                name, _, start = kind.rpartition("@")
                assert (name, int(start), size) in free
                held.append(((name, int(start), size), outcome.grant))
                record = outcome.record
            elif held:
                record = MIG.release(record, held.pop(rng.randrange(len(held)))[1])


def test_mixed_profiles_share_a_card() -> None:
    """dra-driver-nvidia-gpu#361: 4g, 2g and 1g together; what counts would still allow does not fit."""
    record, grants = taken(gpus(), {"profile": "4g.20gb"}, {"profile": "2g.10gb"}, {"profile": "1g.5gb"})
    assert grants == [{"g0": {"4g.20gb@0": 4}}, {"g0": {"2g.10gb@4": 2}}, {"g0": {"1g.5gb@6": 1}}]
    assert MIG.claim(record, {"profile": "1g.5gb"}) == Shortfall("no_room", 1, 0)
    assert MIG.row(record)[:2] == (1, 8)  # the last slot is of no use to a small instance


def test_a_small_instance_leaves_room_for_a_large_one() -> None:
    _, grants = taken(gpus(), {"profile": "1g.5gb"}, {"profile": "4g.20gb"}, {"profile": "2g.10gb"})
    assert grants[0] == {"g0": {"1g.5gb@6": 1}}


def test_slots_that_are_free_and_do_not_hold_the_profile() -> None:
    record, _ = taken(gpus(), {"profile": "1g.5gb", "start": 1}, {"profile": "1g.5gb", "start": 5})
    assert MIG.row(record)[0] == 6
    assert MIG.claim(record, {"profile": "3g.20gb"}) == Shortfall("no_room", 1, 0)
    assert MIG.claim(record, {"profile": "2g.10gb", "count": 2}) == Shortfall("no_room", 2, 1)


def test_a_start_that_is_taken_or_not_of_the_profile() -> None:
    record, _ = taken(gpus(2), {"profile": "3g.20gb", "start": 4})
    _, (again,) = taken(record, {"profile": "3g.20gb", "start": 4})
    assert again == {"g1": {"3g.20gb@4": 4}}
    assert isinstance(MIG.claim(gpus(), {"profile": "3g.20gb", "start": 2}), Shortfall)


def test_one_instance_with_media_extensions_a_card() -> None:
    record, _ = taken(gpus(), {"profile": "1g.5gb+me"})
    assert isinstance(MIG.claim(record, {"profile": "1g.5gb+me"}), Shortfall)
    taken(record, {"profile": "1g.5gb", "count": 6})


def test_an_instance_with_all_media_engines_leaves_none_to_others() -> None:
    """The profiles of an RTX PRO 6000: with and without media engines, with graphics, and with all engines."""
    quarters = {"size": 1, "starts": [0, 1, 2, 3]}
    names = ("1g.24gb", "1g.24gb+gfx", "1g.24gb+me", "1g.24gb+me.all", "1g.24gb-me")
    record = MIG.report({"devices": {"g0": {"profiles": dict.fromkeys(names, quarters)}}}, None)
    after, _ = taken(record, {"profile": "1g.24gb+me.all"})
    assert {name for name in names if isinstance(MIG.claim(after, {"profile": name}), Granted)} == {
        "1g.24gb-me"
    }
    taken(after, {"profile": "1g.24gb-me", "count": 3})
    after, _ = taken(record, {"profile": "1g.24gb-me"}, {"profile": "1g.24gb+me"}, {"profile": "1g.24gb+gfx"})
    assert isinstance(MIG.claim(after, {"profile": "1g.24gb+me.all"}), Shortfall)
    assert isinstance(MIG.claim(after, {"profile": "1g.24gb+me"}), Shortfall)
    taken(after, {"profile": "1g.24gb"})


def test_several_instances_fill_the_fullest_card_first_and_may_match() -> None:
    record, _ = taken(gpus(2), {"profile": "4g.20gb", "where": {"address": "g1"}})
    _, (grant,) = taken(record, {"profile": "1g.5gb", "count": 4})
    assert {name: len(of) for name, of in grant.items()} == {"g0": 1, "g1": 3}
    _, (grant,) = taken(record, {"profile": "1g.5gb", "count": 4, "match": ["address"]})
    assert set(grant) == {"g0"}


def test_what_runs_stays_when_the_node_reports_another_table() -> None:
    record, (grant,) = taken(gpus(), {"profile": "3g.20gb", "start": 4})
    record = MIG.report({"devices": {"g0": {"table": "A30-24GB"}}}, record)
    record, _ = taken(record, {"profile": "4g.24gb"})
    assert MIG.row(MIG.release(record, grant))[0] == 0


@pytest.mark.parametrize(
    "device",
    [
        {},
        {"table": "A100"},
        {"table": 1},
        {"table": "A100-40GB", "profiles": {"a": {"size": 1, "starts": [0]}}},
        {"profiles": {}},
        {"profiles": {"a@1": {"size": 1, "starts": [0]}}},
        {"profiles": {"a": {"size": 4, "starts": [13]}}},
        {"profiles": {"a": {"size": 1, "starts": [True]}}},
        {"profiles": {"a": {"size": 1, "starts": [0], "more": 1}}},
        {"profiles": {f"p{n}": {"size": 1, "starts": list(range(16))} for n in range(5)}},
    ],
)
def test_invalid_gpus(device: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord, match="MIG: "):
        MIG.report({"devices": {"g": device}}, None)


@pytest.mark.parametrize(
    "ask",
    [
        1,
        {},
        {"profile": "a@1"},
        {"profile": "a", "start": 16},
        {"profile": "a", "start": "0"},
        {"profile": "a", "count": 0},
    ],
)
def test_invalid_asks(ask: Any) -> None:
    with pytest.raises(UsageError):
        MIG.check_ask(ask)
    assert MIG.claim(gpus(), ask) == Shortfall("bad_ask", 0, 0)
