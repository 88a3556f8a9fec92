"""Reads the trace of a real GPU cluster and its requests: Alibaba's `cluster-trace-gpu-v2023`, called openb.

The trace is two CSV files of the repository alibaba/clusterdata, which the user downloads:
`openb_node_list_all_node.csv` and `openb_pod_list_default.csv`. Each node becomes a provider tree, each pod a request.

Units: CPU and GPU in thousandths (a whole GPU is 1000), memory in MiB, times in seconds since the trace's start.
"""

from __future__ import annotations

import csv
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from vacancy.projections.ranking.workload import Workload, tally
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import RequestGroup, RequestSpec

CPU = "CUSTOM_CPU_MILLI"
MEMORY = "MEMORY_MB"
GPU = "CUSTOM_GPU_MILLI"
WHOLE_GPU_MILLI = 1000
GPUS_MAX = 63
"""A request has at most 64 groups, one of them for CPU and memory."""

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = (
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "creation_time",
    "deletion_time",
)

Tree = tuple[ProviderReport, ...]
"""A node: its root provider, then one provider per GPU."""


class Pod(NamedTuple):
    """One request of the trace. `gpu_milli` is the requested amount, summed over its GPUs."""

    name: str
    spec: RequestSpec
    gpu_milli: int
    created_s: int
    deleted_s: int


def load_nodes(path: str | Path) -> list[Tree]:
    """Load the nodes. Raises `UsageError` with file and line of an invalid row."""
    return list(_read(Path(path), NODE_COLUMNS, _node))


def load_pods(path: str | Path) -> list[Pod]:
    """Load the requests, in order of arrival. Raises `UsageError` with file and line of an invalid row."""
    return list(_read(Path(path), POD_COLUMNS, _pod))


def fleet_gpu_milli(trees: Iterable[Tree]) -> int:
    """The GPU thousandths of a fleet."""
    return sum(int(str(part.inventories.get(GPU, {}).get("total", 0))) for tree in trees for part in tree)


def fill_schedule(pods: Sequence[Pod], fleet_gpu_milli: int, fill: float) -> list[int | None]:
    """For each pod, the arrival (an index into `pods`) before which it is released; None: never.

    The oldest pods are released first, no more than needed so that the live pods request at most the share `fill` of
    the fleet's GPU thousandths.
    """
    limit = int(fill * fleet_gpu_milli)
    released: list[int | None] = [None] * len(pods)
    alive: deque[int] = deque()
    requested = 0
    for arrival, pod in enumerate(pods):
        requested += pod.gpu_milli
        while alive and requested > limit:
            oldest = alive.popleft()
            released[oldest] = arrival
            requested -= pods[oldest].gpu_milli
        alive.append(arrival)
    return released


def saturation_draw(pods: Sequence[Pod], seed: int, fleet_gpu_milli: int, factor: float = 1.3) -> list[Pod]:
    """Draw pods with replacement until they request `factor` times the fleet's GPU thousandths.

    A pod may be drawn several times, so its index in the result, not its name, is unique. Raises `UsageError` if no pod
    requests a GPU.
    """
    if not any(pod.gpu_milli for pod in pods):
        raise UsageError(
            "no pod requests a GPU, so no draw saturates the fleet", do="load another list of pods"
        )
    rng = random.Random(seed)
    drawn: list[Pod] = []
    requested = 0
    while requested < factor * fleet_gpu_milli:
        pod = rng.choice(pods)
        drawn.append(pod)
        requested += pod.gpu_milli
    return drawn


def typical_of(pods: Iterable[Pod]) -> Workload:
    """The typical workload of these pods."""
    return tally(((pod.spec, 1) for pod in pods), GPU)


def with_models(pods: Sequence[Pod], trees: Sequence[Tree], share: float, seed: int) -> list[Pod]:
    """The pods, with the share `share` of those with GPUs restricted to one to three GPU models.

    The seed chooses pods and models. Models are weighted by the number of nodes that have enough GPUs for the pod, so
    that no pod requests eight GPUs of a model of which nodes have two.
    """
    rng = random.Random(f"{seed} models")
    sizes: dict[str, list[int]] = {}
    for tree in trees:
        for trait in {trait for part in tree for trait in part.traits}:
            sizes.setdefault(trait, []).append(len(tree) - 1)
    return [_restricted(pod, sizes, rng) if pod.gpu_milli and rng.random() < share else pod for pod in pods]


def _restricted(pod: Pod, sizes: Mapping[str, Sequence[int]], rng: random.Random) -> Pod:
    gpus = sum(GPU in group.resources for group in pod.spec.groups)
    nodes = {model: sum(size >= gpus for size in of) for model, of in sorted(sizes.items())}
    able = [model for model, count in nodes.items() if count]
    if not able:
        return pod
    drawn = rng.choices(able, [nodes[model] for model in able], k=rng.choice((1, 1, 2, 3)))
    models = tuple(sorted(set(drawn)))
    groups = tuple(
        group.model_copy(update={"any_traits": (models,)}) if GPU in group.resources else group
        for group in pod.spec.groups
    )
    return pod._replace(spec=pod.spec.model_copy(update={"groups": groups}))


def model_trait(model: str) -> str:
    """The trait of a GPU of this model."""
    return f"CUSTOM_GPU_MODEL_{re.sub('[^A-Z0-9_]', '_', model.upper())}"


# -- rows -------------------------------------------------------------------------------------------------


class _BadRow(Exception):
    """A row of the trace is invalid; the text says why."""


Row = Mapping[str, str]
T = TypeVar("T")


def _read(path: Path, columns: Sequence[str], make: Callable[[Row], T]) -> Iterator[T]:
    try:
        file = path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the trace cannot be read: {error.strerror}",
            where=str(path),
            do="get cluster-trace-gpu-v2023 from github.com/alibaba/clusterdata and name its files",
        ) from None
    with file:
        reader = csv.DictReader(file, strict=True)
        seen: set[str] = set()
        try:
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise _BadRow(f"there is no column {', '.join(missing)}")
            for row in reader:
                if None in row or None in row.values():
                    raise _BadRow(
                        f"the row does not have the {len(reader.fieldnames or ())} fields of the header"
                    )
                if row[columns[0]] in seen:
                    raise _BadRow(f"{columns[0]} {row[columns[0]]} occurs twice")
                seen.add(row[columns[0]])
                yield make(row)
        except (_BadRow, csv.Error, UnicodeDecodeError, ValidationError) as error:
            raise UsageError(
                f"invalid row of the trace: {_error_text(error)}",
                where=f"{path}:{max(1, reader.line_num)}",
                do="correct or remove the line",
            ) from None


def _error_text(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return str(error)


def _node(row: Row) -> Tree:
    name, gpus, model = row["sn"], _count(row, "gpu", GPUS_MAX), row["model"]
    if bool(gpus) != bool(model):
        raise _BadRow(f"gpu is {gpus} and model is {model!r}: give both or neither")
    amounts = {CPU: _count(row, "cpu_milli"), MEMORY: _count(row, "memory_mib")}
    root = ProviderReport(id=name, inventories={c: {"total": total} for c, total in amounts.items() if total})
    traits = (model_trait(model),) if model else ()
    return root, *(
        ProviderReport(
            id=f"{name}:gpu{number}",
            parent=name,
            inventories={GPU: {"total": WHOLE_GPU_MILLI}},
            traits=traits,
        )
        for number in range(gpus)
    )


def _pod(row: Row) -> Pod:
    gpus = _count(row, "num_gpu", GPUS_MAX)
    share = _count(row, "gpu_milli", WHOLE_GPU_MILLI) if gpus == 1 else WHOLE_GPU_MILLI
    if not share:
        raise _BadRow("num_gpu is 1 and gpu_milli is 0")
    amounts = {CPU: _count(row, "cpu_milli"), MEMORY: _count(row, "memory_mib")}
    host = RequestGroup(resources={c: amount for c, amount in amounts.items() if amount})
    models = tuple(model_trait(model) for model in row["gpu_spec"].split("|") if model)
    groups = tuple(
        RequestGroup(name=f"gpu{number}", resources={GPU: share}, any_traits=(models,) if models else ())
        for number in range(gpus)
    )
    spec = RequestSpec(
        groups=(host, *groups) if host.resources else groups,
        group_policy="isolate" if gpus > 1 else "none",
    )
    created_s, deleted_s = _count(row, "creation_time"), _count(row, "deletion_time")
    if deleted_s < created_s:
        raise _BadRow(f"deletion_time {deleted_s} is before creation_time {created_s}")
    return Pod(row["name"], spec, gpus * share, created_s, deleted_s)


def _count(row: Row, column: str, most: int = 2**53 - 1) -> int:
    text = row[column]
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise _BadRow(f"{column} is {text!r}, not a whole number from 0 to {most}")
    return int(text)
