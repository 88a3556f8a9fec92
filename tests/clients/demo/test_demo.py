"""The demo, small: what it must show, whatever the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vacancy.clients.demo.demo import DemoOptions, run_demo
from vacancy.clients.demo.race_trial import STAGES, Step
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.state.tables import DEAD_LETTERS, FACTS

KEYS = [
    *("log", "nodes", "providers", "requests", "accepted", "lost_claims", "no_valid_host", "released"),
    *("overcommitted", "wrong_rejections", "claims_per_s", "claim_ms", "query_ms", "events"),
    *("digest_live", "digest_rebuilt", "rebuilt_equal"),
]


def test_a_small_demo_hands_out_nothing_twice_and_rebuilds_the_same(tmp_path: Path) -> None:
    steps: list[Step] = []
    options = DemoOptions(nodes=24, schedulers=3, seed=7, directory=tmp_path)
    result = run_demo(options, steps.append)
    shown = result.as_json()
    assert list(shown) == KEYS
    assert list(shown["claim_ms"]) == list(shown["query_ms"]) == ["p50", "p99"]
    assert result.audit.problems == []
    assert (shown["overcommitted"], shown["wrong_rejections"]) == (0, 0)
    assert shown["rebuilt_equal"]
    assert shown["digest_live"] == shown["digest_rebuilt"]
    assert shown["nodes"] == 25
    assert shown["providers"] > 25
    assert shown["requests"] == 24 * 12
    # It is meant to be filled beyond the brim, and to give some back.
    assert min(shown["accepted"], shown["no_valid_host"], shown["released"]) > 0
    assert {step.stage for step in steps} == set(STAGES)
    with StoreReader(tmp_path / "store-1", installed_registry(), with_view=False) as reader:
        assert list(reader.scan(DEAD_LETTERS)) == []


def test_every_outcome_of_a_demo_is_judged(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    new_log(url, 4, installed_registry(), replication=None).close()
    result = run_demo(DemoOptions(nodes=12, schedulers=2, seed=3, log=url, directory=tmp_path / "stores"))
    assert min(result.race.accepted, result.race.no_valid_host, result.race.released) > 0
    assert (result.audit.problems, result.audit.unverifiable_reasons) == ([], {})
    assert result.audit.unverifiable == 0


def test_a_demo_goes_on_with_a_log_that_is_there_and_two_hosts_agree(tmp_path: Path) -> None:
    log = f"sqlite://{tmp_path}/mine.db"
    first = run_demo(DemoOptions(nodes=6, schedulers=1, requests=20, log=log, partitions=2))
    again = run_demo(
        DemoOptions(nodes=6, schedulers=2, requests=20, log=log, hosts=2, directory=tmp_path / "again")
    )
    assert first.ok, first.audit.problems
    assert again.ok, again.audit.problems
    assert again.events > first.events
    assert again.audit.claims == first.audit.claims + again.race.accepted + again.race.lost_claims
    with StoreReader(tmp_path / "again/store-2", installed_registry(), with_view=False) as reader:
        assert list(reader.scan(DEAD_LETTERS)) == []
        assert {row.revision for _, _, row in reader.scan(FACTS)} == {1}


@pytest.mark.parametrize("name", ["nodes", "schedulers", "requests", "partitions", "hosts", "in_flight"])
def test_nothing_less_than_one_can_be_meant(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        DemoOptions(**{name: 0})  # type: ignore[arg-type]
