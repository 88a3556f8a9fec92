"""Races: nothing is allocated twice, and the schedulers' counts equal those of the log and of the auditor."""

from __future__ import annotations

from pathlib import Path

import pytest

from vacancy.clients.auditor import audit
from vacancy.clients.demo.race import Percentiles, RaceOptions, percentiles, race
from vacancy.clients.demo.race_participant import ParticipantProgress
from vacancy.clients.demo.race_plan import Arrival, Place, Plan, Release, deal
from vacancy.clients.demo.race_trial import Step, Trial, TrialOptions, TrialResult, run_trial
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.inspection.verdicts import exported_verdicts
from vacancy.clients.replay_tool.replay import read_all
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import StoreError, UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import open_log

NODES = [
    (ProviderReport(id=f"node-{number}", inventories={"VCPU": {"total": 8}, "MEMORY_MB": {"total": 64}}),)
    for number in range(5)
]
CAPACITY = 8 * len(NODES)


def spec(vcpus: int) -> RequestSpec:
    return RequestSpec(groups=(RequestGroup(resources={"VCPU": vcpus, "MEMORY_MB": 1}),))


def report_nodes(trial: Trial) -> None:
    trial.append(list(node_reports(NODES, trial.log.partitions)))


def tried(directory: Path, plans: list[Plan], **options: int) -> TrialResult:
    return run_trial(TrialOptions(directory=directory, partitions=2, **options), report_nodes, plans)  # type: ignore[arg-type]


# -- plans --------------------------------------------------------------------------------------------------


def test_arrivals_are_dealt_round_robin() -> None:
    arrivals = [Arrival(spec(number + 1)) for number in range(5)]
    assert deal(arrivals, 2) == [
        (Place(spec(1)), Place(spec(3)), Place(spec(5))),
        (Place(spec(2)), Place(spec(4))),
    ]


def test_each_scheduler_releases_its_own_before_the_arrival_at_which_it_is_due() -> None:
    one = spec(1)
    arrivals = [Arrival(one, 2), Arrival(one, 2), Arrival(one), Arrival(one), Arrival(one, 99)]
    assert deal(arrivals, 2) == [
        (Place(one), Release(0), Place(one), Place(one)),
        (Place(one), Release(0), Place(one)),
    ]


# -- races --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 8])
def test_two_schedulers_that_fill_a_fleet_to_the_brim_never_overcommit_it(
    tmp_path: Path, in_flight: int
) -> None:
    plan = tuple(Place(spec(1)) for _ in range(CAPACITY))
    result = tried(tmp_path, [plan, plan], in_flight=in_flight)
    assert result.audit.problems == []
    assert (result.audit.overcommitted, result.audit.wrong_rejections) == (0, 0)
    assert (result.race.accepted, result.race.no_valid_host) == (CAPACITY, CAPACITY)
    assert result.audit.allocated["VCPU"] == 1.0
    assert result.rebuilt_equal
    assert result.digest_live == result.digest_rebuilt


def test_what_the_schedulers_count_is_what_the_auditor_finds_in_the_log(tmp_path: Path) -> None:
    arrivals = [Arrival(spec(1 + number % 3), number + 20 if number % 2 else None) for number in range(100)]
    result = tried(tmp_path, deal(arrivals, 2), in_flight=4, hosts=2)
    raced, audited = result.race, result.audit
    assert result.ok, audited.problems
    assert raced.requests == 100 == raced.accepted + raced.no_valid_host + raced.lost
    assert (raced.accepted, raced.lost_claims) == (audited.accepted, audited.rejected)
    assert raced.released == audited.released > 0
    assert raced.no_valid_host == audited.no_valid_host
    with open_log(result.log) as log:
        assert result.events == sum(log.end().values())
    assert 0 < raced.claim_ms.p50 <= raced.claim_ms.p99


def test_what_is_released_is_free_again(tmp_path: Path) -> None:
    steps = [(Place(spec(8)), Release(number)) for number in range(len(NODES))]
    result = tried(tmp_path, [tuple(step for pair in steps for step in pair)], release_batch=2)
    assert result.ok, result.audit.problems
    assert (result.race.accepted, result.race.released) == (len(NODES), len(NODES))
    assert result.audit.allocated == {"MEMORY_MB": 0.0, "VCPU": 0.0}


def test_the_auditor_sees_an_export_that_lies(tmp_path: Path) -> None:
    result = tried(tmp_path, [(Place(spec(8)), *(Place(spec(8)) for _ in NODES))])
    with (
        open_log(result.log) as log,
        StoreReader(tmp_path / "store-1", installed_registry(), with_view=False) as reader,
    ):
        reader.catch_up()
        honest = list(exported_verdicts(reader))
        lies = [{**verdict, "accepted": False} for verdict in honest]
        assert audit(read_all(log), honest).ok
        # The five that fit, and with them the one that found no host.
        assert audit(read_all(log), lies).wrong_rejections == len(NODES) + 1
        assert audit(read_all(log), honest[1:]).missing_verdicts == 1


def test_progress_is_reported_and_ends_with_all_requests(tmp_path: Path) -> None:
    laps: list[ParticipantProgress] = []
    steps: list[Step] = []
    with Trial.prepared(TrialOptions(directory=tmp_path, partitions=1), steps.append) as trial:
        report_nodes(trial)
        trial.settle("publish")
        options = RaceOptions(log=trial.log.url, stores=trial.stores)
        race(options, [(Place(spec(1)),) * 3], progress=laps.append)
    assert laps[-1].requests == laps[-1].accepted == 3
    assert {step.stage for step in steps} == {"publish"}


# -- what goes wrong ------------------------------------------------------------------------------------------


def test_a_scheduler_that_cannot_open_its_store_ends_the_race_with_its_error(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    new_log(url, 1, installed_registry()).close()
    with pytest.raises(StoreError, match="there is no store"):
        race(RaceOptions(log=url, stores=[tmp_path / "none"]), [(Place(spec(1)),)] * 2)


def test_a_race_needs_a_scheduler_and_a_store(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        race(RaceOptions(log="sqlite:///log.db", stores=[tmp_path]), [])
    with pytest.raises(UsageError):
        race(RaceOptions(log="sqlite:///log.db", stores=[]), [()])


def test_a_trial_refuses_a_log_that_other_processes_cannot_reach() -> None:
    with pytest.raises(UsageError, match="memory"):
        run_trial(TrialOptions(log="memory://m"), report_nodes, [()])


def test_what_was_made_for_the_trial_is_gone_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = run_trial(TrialOptions(partitions=1), report_nodes, [(Place(spec(1)),)])
    assert result.directory is None
    assert list(tmp_path.glob("vacancy-?*[!r]")) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (0.0, 0.0)), ([3.0], (3.0, 3.0)), (list(map(float, range(1, 201))), (100.0, 198.0))],
)
def test_percentiles_are_of_nearest_rank(values: list[float], expected: tuple[float, float]) -> None:
    assert percentiles(values) == Percentiles(*expected)
