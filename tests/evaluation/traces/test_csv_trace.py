"""The loader of the trace, on small files in the format of the trace."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.traces.csv_trace import (
    NODE_FIELDS,
    POD_FIELDS,
    load_csv,
    load_nodes,
    load_pods,
    parse_columns,
)
from evaluation.traces.gpu_models import GPU, model_trait, with_models
from evaluation.traces.trace import Pod, Trace, capacity_of, fill_schedule, recorded_schedule, saturation_draw
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import Ask, RequestGroup, RequestSpec

NODES = "sn,cpu_milli,memory_mib,gpu,model"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
    "creation_time,deletion_time,scheduled_time"
)


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def pod(gpu_milli: int) -> Pod:
    spec = RequestSpec(groups=(RequestGroup(resources={"CUSTOM_GPU_MILLI": max(1, gpu_milli)}),))
    return Pod("p", spec, gpu_milli, 0, 0)


def test_a_node_is_a_tree_with_one_provider_a_gpu(tmp_path: Path) -> None:
    path = written(tmp_path, NODES, "n0,32000,1024,0,", "n1,96000,2048,2,V100M32")
    trees = load_nodes(path)
    assert trees[0] == (
        ProviderReport(
            id="n0", inventories={"CUSTOM_CPU_MILLI": {"total": 32000}, "MEMORY_MB": {"total": 1024}}
        ),
    )
    assert [part.id for part in trees[1]] == ["n1", "n1:gpu0", "n1:gpu1"]
    assert trees[1][2] == ProviderReport(
        id="n1:gpu1",
        parent="n1",
        inventories={"CUSTOM_GPU_MILLI": {"total": 1000}},
        traits=("CUSTOM_GPU_MODEL_V100M32",),
    )
    assert capacity_of(trees, GPU) == 2000


def test_a_pod_is_a_request_with_one_group_per_gpu(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        PODS,
        "cpu,4000,512,0,0,,LS,Running,5,9,5",
        "share,4000,0,1,460,,LS,Running,5,9,5",
        "whole,1000,8,2,1000,T4|P100,BE,Pending,6,6,",
        "bare,0,0,1,1000,,BE,Failed,7,8,",
    )
    cpu, share, whole, bare = load_pods(path)
    host: dict[str, Ask] = {"CUSTOM_CPU_MILLI": 4000, "MEMORY_MB": 512}
    assert cpu == Pod("cpu", RequestSpec(groups=(RequestGroup(resources=host),)), 0, 5, 9)
    assert [group.resources for group in share.spec.groups] == [
        {"CUSTOM_CPU_MILLI": 4000},
        {"CUSTOM_GPU_MILLI": 460},
    ]
    assert (share.amount, share.spec.group_policy) == (460, "none")
    assert [group.name for group in whole.spec.groups] == ["", "gpu0", "gpu1"]
    assert whole.spec.groups[2].any_traits == (("CUSTOM_GPU_MODEL_T4", "CUSTOM_GPU_MODEL_P100"),)
    assert (whole.amount, whole.spec.group_policy) == (2000, "isolate")
    assert [group.name for group in bare.spec.groups] == ["gpu0"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("n1,many,1,0,", "cpu_milli is 'many', not a whole number"),
        ("n1,-1,1,0,", "cpu_milli is '-1'"),
        ("n1,1,1,900,T4", "gpu is '900', not a whole number from 0 to 63"),
        ("n1,1,1,2,", "gpu is 2 and model is ''"),
        ("n1,1,1", "does not have the 5 fields"),
        ("n1,1,1,0,,7", "does not have the 5 fields"),
        ("n 1,1,1,0,", "id: "),
        ("n0,1,1,0,", "sn n0 occurs twice"),
    ],
)
def test_a_bad_node_is_named_by_file_and_line(tmp_path: Path, row: str, what: str) -> None:
    path = written(tmp_path, NODES, "n0,1,1,0,", row)
    with pytest.raises(UsageError) as caught:
        load_nodes(path)
    assert what in str(caught.value)
    assert f"({path}:3)" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("p,1,1,1,0,,LS,Running,5,9,5", "num_gpu is 1 and gpu_milli is 0"),
        ("p,1,1,1,1001,,LS,Running,5,9,5", "gpu_milli is '1001'"),
        ("p,0,0,0,0,,LS,Running,5,9,5", "groups"),
        ("p,1,1,0,0,,LS,Running,9,5,5", "deletion_time 5 is before creation_time 9"),
        ("p,1,1,0,0,,LS,Running,,5,5", "creation_time is ''"),
    ],
)
def test_a_bad_pod_is_named_by_file_and_line(tmp_path: Path, row: str, what: str) -> None:
    path = written(tmp_path, PODS, row)
    with pytest.raises(UsageError) as caught:
        load_pods(path)
    assert what in str(caught.value)
    assert f"({path}:2)" in str(caught.value)


def test_files_in_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no column sn, gpu, model"):
        load_nodes(written(tmp_path, "name,cpu_milli,memory_mib", "a,1,1"))
    with pytest.raises(UsageError, match="there is no column"):
        load_nodes(written(tmp_path, ""))
    with pytest.raises(UsageError, match="No such file"):
        load_pods(tmp_path / "nowhere.csv")
    (tmp_path / "trace.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="invalid row of the trace"):
        load_nodes(tmp_path / "trace.csv")


def test_a_model_is_a_trait_whatever_its_name() -> None:
    assert model_trait("a100-80g") == "CUSTOM_GPU_MODEL_A100_80G"


def test_the_oldest_pods_are_released_to_keep_the_fill() -> None:
    pods = [pod(milli) for milli in (500, 0, 300, 400, 100, 1000)]
    assert fill_schedule(pods, 1000, 1.0) == [3, 5, 5, 5, 5, None]
    assert fill_schedule(pods, 1000, 9.0) == [None] * 6


def test_live_pods_never_request_more_than_the_fill() -> None:
    pods = [pod((at * 7919) % 1001) for at in range(500)]
    released = fill_schedule(pods, 10_000, 0.5)
    most = 0
    for now in range(500):
        alive = [pods[at].amount for at in range(now + 1) if released[at] is None or released[at] > now]  # type: ignore[operator]
        assert sum(alive) <= 5_000
        most = max(most, sum(alive))
    assert most > 4_500


def test_a_draw_saturates_the_fleet_and_depends_on_the_seed_only() -> None:
    pods = [pod(milli) for milli in (0, 250, 1000)]
    drawn = saturation_draw(pods, 1, 100_000)
    requested = [one.amount for one in drawn]
    assert sum(requested) >= 130_000 > sum(requested[:-1])
    assert drawn == saturation_draw(pods, 1, 100_000)
    assert drawn != saturation_draw(pods, 2, 100_000)
    with pytest.raises(UsageError, match="no pod requests the class"):
        saturation_draw(pods[:1], 1, 100_000)


def test_a_share_of_the_pods_can_be_restricted_to_some_models(tmp_path: Path) -> None:
    trees = load_nodes(written(tmp_path, NODES, "a,1,1,8,G2", "b,1,1,2,T4", "c,1,1,2,T4", "d,1,1,1,P100"))
    rows = [
        f"p{n},1,1,{(0, 1, 2, 4)[n % 4]},{1000 if n % 4 == 1 else 0},,LS,Running,0,9,0" for n in range(400)
    ]
    pods = load_pods(written(tmp_path, PODS, *rows))
    restricted = with_models(pods, trees, 0.33, seed=1)
    assert restricted == with_models(pods, trees, 0.33, seed=1) != with_models(pods, trees, 0.33, seed=2)
    assert with_models(pods, trees, 0.0, seed=1) == pods
    changed = [(old, new) for old, new in zip(pods, restricted, strict=True) if old != new]
    assert 70 < len(changed) < 130, "a third of the 300 with GPUs"
    accepted: dict[int, set[str]] = {}
    for old, new in changed:
        host, *gpus = new.spec.groups
        assert host == old.spec.groups[0]
        assert len({group.any_traits for group in gpus}) == 1
        accepted.setdefault(len(gpus), set()).update(gpus[0].any_traits[0])
    assert accepted == {
        1: {model_trait("G2"), model_trait("T4"), model_trait("P100")},
        2: {model_trait("G2"), model_trait("T4")},
        4: {model_trait("G2")},
    }


def test_the_typical_workload_is_counted_from_the_pods(tmp_path: Path) -> None:
    rows = ("a,1,1,1,500,,LS,Running,0,9,0", "b,1,1,1,500,,LS,Running,0,9,0", "c,1,1,2,0,,LS,Running,0,9,0")
    pods = load_pods(written(tmp_path, PODS, *rows))
    found = Trace([], pods, GPU).typical
    assert (found.device, [one.weight for one in found.typical]) == ("CUSTOM_GPU_MILLI", [2, 1])


def test_lists_of_pods_may_lack_times_and_models(tmp_path: Path) -> None:
    header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli"
    one, two = load_pods(written(tmp_path, header, "a,1000,512,1,300", "b,1000,512,2,1000"))
    assert (one.amount, one.created_s, one.deleted_s) == (300, None, None)
    assert two.amount == 2000
    assert not two.spec.groups[1].any_traits
    with pytest.raises(UsageError, match="the trace has no times of arrival"):
        recorded_schedule([one, two])


def test_a_list_of_one_s_own_names_its_columns_and_units(tmp_path: Path) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text("host,cpus,ram\nn1,2.5,0.7\nn2,64,512\n")
    pods.write_text("id,flavor,vcpus,bytes,start,end\np1,m1,0.0015,1048577,5,\np2,m2,4,0,6,9\n")
    trace = load_csv(
        nodes,
        pods,
        node_columns=parse_columns("name=host, cpu_cores=cpus, memory_gib=ram", NODE_FIELDS),
        pod_columns=parse_columns(
            "name=id,cpu_cores=vcpus,memory_bytes=bytes,created_s=start,deleted_s=end", POD_FIELDS
        ),
    )
    root = trace.trees[0][0]
    assert root.inventories == {"CUSTOM_CPU_MILLI": {"total": 2500}, "MEMORY_MB": {"total": 716}}, (
        "what a node has is rounded down"
    )
    host: dict[str, Ask] = {"CUSTOM_CPU_MILLI": 2, "MEMORY_MB": 2}
    assert trace.pods[0].spec.groups[0].resources == host, "what a pod asks for is rounded up"
    assert (trace.pods[0].created_s, trace.pods[0].deleted_s) == (5, None)
    assert (trace.measured, trace.capacity) == ("CUSTOM_CPU_MILLI", 66_500)
    assert [pod.amount for pod in trace.pods] == [2, 4000]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ("name", "'name' does not name a column"),
        ("name=a,size=b", "'size=b' does not name a column"),
        ("name=a,name=b", "'name=b' does not name a column"),
        ("name=a,cpu_cores=b,cpu_milli=c", "two columns for one amount"),
        ("cpu_cores=b", "names no node or pod"),
        ("name=a", "or no amount"),
    ],
)
def test_columns_that_make_no_sense_are_refused(columns: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        parse_columns(columns, NODE_FIELDS)


def test_a_bad_number_of_one_s_own_is_named_by_its_column(tmp_path: Path) -> None:
    path = written(tmp_path, "host,cpus", "n1,lots")
    with pytest.raises(UsageError, match=r"cpus is 'lots', not a number .*:2\)"):
        load_nodes(path, parse_columns("name=host,cpu_cores=cpus", NODE_FIELDS))
    with pytest.raises(UsageError, match="there is no column ram"):
        load_nodes(path, parse_columns("name=host,memory_gib=ram", NODE_FIELDS))


def test_recorded_ends_release_before_the_next_arrival() -> None:
    times = [(0, 10), (5, None), (9, 9), (10, 12), (30, 31)]
    pods = [pod(1)._replace(created_s=start, deleted_s=end) for start, end in times]
    assert recorded_schedule(pods) == [3, None, 3, 4, None]
    with pytest.raises(UsageError, match="before the request that precedes it"):
        recorded_schedule([pods[1], pods[0]])
