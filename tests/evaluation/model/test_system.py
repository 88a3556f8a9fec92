"""Properties that any run of the model has, and closed forms that special cases of it must meet."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.model.bounds import bounds
from evaluation.model.deployment import IMMEDIATE, ON_KAFKA, Costs, Deployment, Pacing
from evaluation.model.simulation import Cores, Simulation
from evaluation.model.system import System, run_model
from vacancy.resources.model.errors import UsageError

FREE = Costs(**{field.name: 0.0 for field in fields(Costs)})
REAL = Costs.from_json(
    {
        "search": 60,
        "query": 5,
        "record": 400,
        "claim": 60,
        "look": 4,
        "follow_claim": 4,
        "follow_heartbeat": 1,
        "follow_report": 9,
        "append": 150,
        "latency": 500,
        "commit": 200,
        "judge_record": 80,
        "judge": 90,
        "heartbeat": 20,
        "report": 60,
    }
)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_waiting_for_a_worker_is_that_of_a_queue_with_constant_service(load: float) -> None:
    """M/D/1: Poisson arrivals, one server, constant service: the mean wait is load * service / (2 * (1 - load))."""
    service_s = 0.001
    deployment = Deployment(
        nodes=1_000,
        room=1_000,
        partitions=1,
        arrivals_per_s=load / service_s,
        in_flight=100_000,
        batch_max=1,
        pacing=IMMEDIATE,
    )
    found = run_model(deployment, replace(FREE, judge_s=service_s), seconds=30, warm_up_s=1)
    wait_s = load * service_s / (2 * (1 - load))
    assert found.mean_latency_s == pytest.approx(service_s + wait_s, rel=0.06)
    assert found.busy["worker"] == pytest.approx(load, rel=0.05)


@settings(max_examples=12, deadline=None)
@given(
    st.builds(
        Deployment,
        nodes=st.integers(4, 200),
        room=st.integers(1, 8),
        fill=st.sampled_from([0.0, 0.5, 0.9]),
        partitions=st.integers(1, 4),
        brokers=st.integers(1, 2),
        hosts=st.integers(1, 3),
        workers=st.integers(1, 2),
        schedulers=st.integers(1, 3),
        in_flight=st.sampled_from([1, 3, 16, 64]),
        arrivals_per_s=st.sampled_from([None, 500.0]),
        replaced=st.booleans(),
        requests=st.sampled_from([40, 150]),
        heartbeat_every_s=st.sampled_from([None, 1.0]),
        pacing=st.sampled_from([Pacing(), ON_KAFKA, IMMEDIATE]),
    ),
    st.integers(0, 5),
)
def test_claims_are_conserved_and_no_node_is_overcommitted(deployment: Deployment, seed: int) -> None:
    system = System(deployment, REAL, seed)
    before = system.fleet.used
    found = system.run(0.2, 0.0)
    assert found.submitted == found.accepted + found.no_host + found.open
    assert found.open == sum(one.open for one in system.schedulers)
    assert all(0 <= system.fleet.used_on(node) <= deployment.room for node in range(deployment.nodes))
    taken = system.fleet.used - before
    if not deployment.replaced:
        # An accepted claim holds its place when it is in the log, and its scheduler learns of it later.
        assert found.accepted <= taken <= found.accepted + found.open
    assert all(0 <= share <= 1.01 for name, share in found.busy.items() if name != "log")


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 4), st.sampled_from([4, 16, 64]), st.sampled_from([Pacing(), IMMEDIATE]))
def test_requests_under_way_are_their_rate_times_their_latency(
    schedulers: int, in_flight: int, pacing: Pacing
) -> None:
    """Little's law, with requests from outside and with schedulers that always have some."""
    for arrivals_per_s in (400.0, None):
        deployment = Deployment(
            nodes=2_000,
            schedulers=schedulers,
            in_flight=in_flight,
            arrivals_per_s=arrivals_per_s,
            pacing=pacing,
            cores=8,
        )
        found = run_model(deployment, REAL, seconds=1.5, warm_up_s=0.3)
        assert found.in_flight == pytest.approx(found.placements_per_s * found.mean_latency_s, rel=0.08)


def test_a_run_is_repeated_exactly_by_its_seed() -> None:
    deployment = Deployment(nodes=100, room=4, fill=0.8, schedulers=3, arrivals_per_s=2_000.0, replaced=True)
    assert run_model(deployment, REAL, seconds=1, seed=7) == run_model(deployment, REAL, seconds=1, seed=7)
    assert run_model(deployment, REAL, seconds=1, seed=7) != run_model(deployment, REAL, seconds=1, seed=8)


def test_more_lag_is_never_fewer_conflicts_on_average() -> None:
    deployment = Deployment(
        nodes=200,
        room=4,
        fill=0.9,
        schedulers=4,
        cores=8,
        in_flight=64,
        arrivals_per_s=800.0,
        replaced=True,
        pacing=ON_KAFKA,
    )
    shares = []
    for latency_s in (0.0, 0.01, 0.04, 0.16):
        costs = replace(REAL, latency_s=latency_s)
        runs = [run_model(deployment, costs, seconds=1, warm_up_s=0.2, seed=seed) for seed in range(3)]
        shares.append(sum(one.conflict_share for one in runs) / len(runs))
    assert shares == sorted(shares)
    assert shares[-1] > 2 * shares[0]


@pytest.mark.parametrize(
    ("bottleneck", "costs", "cores"),
    [
        ("worker", replace(FREE, judge_s=0.001), 8),
        ("scheduler", replace(FREE, claim_s=0.002), 8),
        ("log", replace(FREE, append_s=0.008), 8),
        ("cores", replace(FREE, judge_s=0.0006, claim_s=0.0012), 1),
    ],
)
def test_it_saturates_at_the_capacity_of_its_bottleneck(bottleneck: str, costs: Costs, cores: int) -> None:
    deployment = Deployment(nodes=2_000, schedulers=2, cores=cores, in_flight=16, pacing=IMMEDIATE)
    limit = bounds(deployment, costs, together=deployment.in_flight)  # the fullest records that there can be
    assert limit.bottleneck == bottleneck
    found = run_model(deployment, costs, seconds=3, warm_up_s=1)
    assert found.bottleneck == bottleneck
    assert found.placements_per_s == pytest.approx(limit.placements_per_s, rel=0.03)
    if bottleneck != "log":  # records of requests that arrive one by one are not full
        over = replace(deployment, arrivals_per_s=1.5 * limit.placements_per_s)
        overloaded = run_model(over, costs, seconds=3, warm_up_s=1)
        assert overloaded.placements_per_s == pytest.approx(found.placements_per_s, rel=0.1)


def test_partitions_needed_follow_heartbeats() -> None:
    slow = Deployment(nodes=100_000, partitions=64, heartbeat_every_s=60.0)
    fast = replace(slow, heartbeat_every_s=2.0)
    found = [bounds(one, REAL, asked_per_s=1_000.0).partitions_needed for one in (slow, fast)]
    # 1,000 claims take 0.17 s of every second, heartbeats 1/60 or 1/2 of 2 s; workers are to be busy for 0.7.
    assert found == [math.ceil((0.17 + 100_000 / 60 * 20e-6) / 0.7), math.ceil((0.17 + 1.0) / 0.7)]


def test_cores_share_their_time() -> None:
    simulation = Simulation()
    cores, ends = Cores(simulation, 2), []
    for cost_s in (0.010, 0.010, 0.002):
        cores.work(cost_s, lambda cost_s=cost_s: ends.append((cost_s, round(simulation.now, 6))))  # type: ignore[misc]
    simulation.run()
    assert ends[0] == (0.002, 0.003)  # the short one does not wait for the long ones
    assert max(at for _, at in ends) == pytest.approx(0.011)
    assert cores.busy_s == pytest.approx(0.022)


def test_what_happens_before_now_is_refused() -> None:
    with pytest.raises(ValueError, match="before now"):
        Simulation().after(-1.0, lambda: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"nodes": 0}, "nodes is 0"), ({"fill": 1.0}, "fill is 1.0"), ({"nodes": 3}, "less than 4 partitions")],
)
def test_deployments_that_cannot_be_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Deployment(**{"nodes": 10, **change})  # type: ignore[arg-type]


def test_costs_of_another_model_are_refused() -> None:
    with pytest.raises(UsageError, match="judge"):
        Costs.from_json({"judge": 1.0})
