"""Reads a trace from two CSV files: the nodes of a cluster, and the pods (requests) that came to it.

Without column names the files are those of Alibaba's `cluster-trace-gpu-v2023`, called openb, from the repository
alibaba/clusterdata: `openb_node_list_all_node.csv`, and any of its lists of pods. Some of these have neither times nor GPU
models. For files of one's own, `parse_columns` says which column has what, in which unit.

Each node becomes a provider tree, each pod a request. CPU and GPU are in thousandths, memory in MiB.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic import ValidationError

from evaluation.traces.gpu_models import GPU, model_trait
from evaluation.traces.trace import Pod, Trace, Tree, amount_of, capacity_of
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import RequestGroup, RequestSpec

CPU: Final = "CUSTOM_CPU_MILLI"
MEMORY: Final = "MEMORY_MB"
WHOLE_GPU_MILLI: Final = 1000
GPUS_MAX: Final = 63
"""A request has at most 64 groups, one of them for CPU and memory."""

_AMOUNT_MAX: Final = 2**53 - 1
_CPU_UNITS: Final = {"cpu_milli": Decimal(1), "cpu_cores": Decimal(1000)}
_MEMORY_UNITS: Final = {
    "memory_mib": Decimal(1),
    "memory_gib": Decimal(1024),
    "memory_bytes": Decimal(1) / 2**20,
}
_AMOUNTS: Final = {*_CPU_UNITS, *_MEMORY_UNITS, "gpus"}

NODE_FIELDS: Final = ("name", *_CPU_UNITS, *_MEMORY_UNITS, "gpus", "gpu_model")
POD_FIELDS: Final = (
    *("name", *_CPU_UNITS, *_MEMORY_UNITS),
    *("gpus", "gpu_milli", "gpu_models", "created_s", "deleted_s"),
)
"""What a column of a list of nodes or pods can have. `gpu_milli` is what is asked of one GPU, `gpu_models` are the accepted
models, separated by |. A pod whose `deleted_s` is empty does not end in the trace."""


class Columns(NamedTuple):
    """Field -> the name of its column, and the fields whose column may be missing."""

    of: Mapping[str, str]
    optional: frozenset[str] = frozenset()


OPENB_NODES: Final = Columns(
    {
        "name": "sn",
        "cpu_milli": "cpu_milli",
        "memory_mib": "memory_mib",
        "gpus": "gpu",
        "gpu_model": "model",
    }
)
OPENB_PODS: Final = Columns(
    {
        "name": "name",
        "cpu_milli": "cpu_milli",
        "memory_mib": "memory_mib",
        "gpus": "num_gpu",
        "gpu_milli": "gpu_milli",
        "gpu_models": "gpu_spec",
        "created_s": "creation_time",
        "deleted_s": "deletion_time",
    },
    frozenset({"gpu_models", "created_s", "deleted_s"}),
)


def parse_columns(text: str, fields: Sequence[str]) -> Columns:
    """Parse `FIELD=COLUMN,…`. Raises `UsageError`."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not column or field not in fields or field in found:
            raise UsageError(
                f"{pair!r} does not name a column", do=f"write FIELD=COLUMN, each of {', '.join(fields)} once"
            )
        found[field] = column
    for units in (_CPU_UNITS, _MEMORY_UNITS):
        if len(found.keys() & units.keys()) > 1:
            raise UsageError(f"{text!r} has two columns for one amount", do=f"give one of {', '.join(units)}")
    if "name" not in found or not found.keys() & _AMOUNTS:
        raise UsageError(
            f"{text!r} names no node or pod, or no amount",
            do=f"give name=COLUMN and at least one of {', '.join(sorted(_AMOUNTS))}",
        )
    return Columns(found)


def load_csv(
    nodes: Path, pods: Path, *, node_columns: Columns = OPENB_NODES, pod_columns: Columns = OPENB_PODS
) -> Trace:
    """Load a trace. How full the fleet is, is measured by its GPUs, or by its CPU or memory if it has none. Raises `UsageError` with file
    and line of an invalid row."""
    trees = load_nodes(nodes, node_columns)
    measured = next((name for name in (GPU, CPU, MEMORY) if capacity_of(trees, name)), CPU)
    return Trace(trees, load_pods(pods, pod_columns, measured), measured)


def load_nodes(path: Path, columns: Columns = OPENB_NODES) -> list[Tree]:
    """Load the nodes. Raises `UsageError` with file and line of an invalid row."""
    return list(_read(path, columns, ROUND_FLOOR, _node))


def load_pods(path: Path, columns: Columns = OPENB_PODS, measured: str = GPU) -> list[Pod]:
    """Load the requests, in order of arrival. Raises `UsageError` with file and line of an invalid row."""
    return [
        pod._replace(amount=amount_of(pod.spec, measured))
        for pod in _read(path, columns, ROUND_CEILING, _pod)
    ]


# -- rows -------------------------------------------------------------------------------------------------


class _BadRow(Exception):
    """A row of the trace is invalid; the text says why."""


T = TypeVar("T")


class _Row:
    """One row of a file, by field. Decimals are rounded to whole units with `rounding`: what a node has down, what a pod asks
    for up."""

    def __init__(self, values: Mapping[str, str], columns: Mapping[str, str], rounding: str) -> None:
        self._values, self._columns, self._rounding = values, columns, rounding

    def has(self, field: str) -> bool:
        """Whether the file has a column for it."""
        return field in self._columns

    def column(self, field: str) -> str:
        """The name of its column, for errors."""
        return self._columns.get(field, field)

    def text(self, field: str) -> str:
        """The text of a field; empty where the file has no column for it."""
        return self._values[self._columns[field]] if field in self._columns else ""

    def count(self, field: str, most: int = _AMOUNT_MAX) -> int:
        text = self.text(field)
        if not (text.isascii() and text.isdigit()) or int(text) > most:
            raise _BadRow(f"{self.column(field)} is {text!r}, not a whole number from 0 to {most}")
        return int(text)

    def amount(self, units: Mapping[str, Decimal]) -> int:
        """The amount in the column that has one of these units, in the unit of factor 1; 0 without such a column."""
        for field, factor in units.items():
            if not self.has(field):
                continue
            if factor == 1:
                return self.count(field)
            try:
                found = Decimal(self.text(field)) * factor
            except InvalidOperation:
                found = Decimal(-1)
            if not 0 <= found <= _AMOUNT_MAX:
                raise _BadRow(
                    f"{self.column(field)} is {self.text(field)!r}, not a number from 0 to {_AMOUNT_MAX}"
                )
            return int(found.to_integral_value(self._rounding))
        return 0


def _read(path: Path, columns: Columns, rounding: str, make: Callable[[_Row], T]) -> Iterator[T]:
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
        name = columns.of["name"]
        try:
            header = reader.fieldnames or ()
            there = {field: column for field, column in columns.of.items() if column in header}
            missing = columns.of.keys() - there.keys() - columns.optional
            if missing:
                raise _BadRow(
                    f"there is no column {', '.join(columns.of[field] for field in columns.of if field in missing)}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise _BadRow(f"the row does not have the {len(header)} fields of the header")
                if row[name] in seen:
                    raise _BadRow(f"{name} {row[name]} occurs twice")
                seen.add(row[name])
                yield make(_Row(row, there, rounding))
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


def _node(row: _Row) -> Tree:
    name, model = row.text("name"), row.text("gpu_model")
    gpus = row.count("gpus", GPUS_MAX) if row.has("gpus") else 0
    if row.has("gpu_model") and bool(gpus) != bool(model):
        raise _BadRow(
            f"{row.column('gpus')} is {gpus} and {row.column('gpu_model')} is {model!r}: give both or neither"
        )
    amounts = {CPU: row.amount(_CPU_UNITS), MEMORY: row.amount(_MEMORY_UNITS)}
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


def _pod(row: _Row) -> Pod:
    gpus = row.count("gpus", GPUS_MAX) if row.has("gpus") else 0
    share = WHOLE_GPU_MILLI
    if gpus == 1 and row.has("gpu_milli"):
        share = row.count("gpu_milli", WHOLE_GPU_MILLI)
        if not share:
            raise _BadRow(f"{row.column('gpus')} is 1 and {row.column('gpu_milli')} is 0")
    amounts = {CPU: row.amount(_CPU_UNITS), MEMORY: row.amount(_MEMORY_UNITS)}
    host = RequestGroup(resources={c: amount for c, amount in amounts.items() if amount})
    models = tuple(model_trait(model) for model in row.text("gpu_models").split("|") if model)
    groups = tuple(
        RequestGroup(name=f"gpu{number}", resources={GPU: share}, any_traits=(models,) if models else ())
        for number in range(gpus)
    )
    spec = RequestSpec(
        groups=(host, *groups) if host.resources else groups,
        group_policy="isolate" if gpus > 1 else "none",
    )
    created_s = row.count("created_s") if row.has("created_s") else None
    deleted_s = row.count("deleted_s") if row.text("deleted_s") else None
    if created_s is not None and deleted_s is not None and deleted_s < created_s:
        raise _BadRow(
            f"{row.column('deleted_s')} {deleted_s} is before {row.column('created_s')} {created_s}"
        )
    return Pod(row.text("name"), spec, 0, created_s, deleted_s)
