"""The arguments that name a trace, for each command that replays one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation.traces.azure_packing import load_azure
from evaluation.traces.csv_trace import (
    NODE_FIELDS,
    OPENB_NODES,
    OPENB_PODS,
    POD_FIELDS,
    load_csv,
    parse_columns,
)
from evaluation.traces.trace import Trace
from vacancy.resources.model.errors import UsageError


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument(
        "--nodes", type=Path, metavar="FILE", help="CSV file of nodes, as openb_node_list_all_node.csv"
    )
    parser.add_argument(
        "--pods", type=Path, metavar="FILE", help="CSV file of pods, as openb_pod_list_default.csv"
    )
    parser.add_argument(
        "--node-columns",
        metavar="FIELD=COLUMN,…",
        help="columns of a list of nodes of your own, for example name=host,cpu_cores=cpus,memory_gib=ram;"
        f" fields: {', '.join(NODE_FIELDS)}",
    )
    parser.add_argument(
        "--pod-columns",
        metavar="FIELD=COLUMN,…",
        help=f"columns of a list of pods of your own; fields: {', '.join(POD_FIELDS)}",
    )
    parser.add_argument(
        "--azure",
        type=Path,
        metavar="FILE",
        help="instead of --nodes and --pods: Azure's trace for packing, packing_trace_zone_a_v1.sqlite",
    )
    parser.add_argument(
        "--machines",
        type=int,
        default=1_000,
        help="number of machines, which --azure does not have (default: %(default)s)",
    )
    parser.add_argument("--limit", type=int, help="load the first LIMIT pods only (default: all)")


def load_trace(arguments: argparse.Namespace) -> Trace:
    """The trace that the arguments name; what its loader left out is printed. Raises `UsageError`."""
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit {arguments.limit} is invalid", do="give 1 or more")
    if arguments.azure is not None:
        if arguments.nodes or arguments.pods or arguments.node_columns or arguments.pod_columns:
            raise UsageError("--azure has nodes and pods of its own", do="leave out the other files")
        trace = load_azure(arguments.azure, arguments.machines, arguments.limit)
    else:
        if not arguments.nodes or not arguments.pods:
            raise UsageError("no trace is named", do="give --nodes and --pods, or --azure")
        trace = load_csv(
            arguments.nodes,
            arguments.pods,
            node_columns=parse_columns(arguments.node_columns, NODE_FIELDS)
            if arguments.node_columns
            else OPENB_NODES,
            pod_columns=parse_columns(arguments.pod_columns, POD_FIELDS)
            if arguments.pod_columns
            else OPENB_PODS,
        )
        trace = trace._replace(pods=trace.pods[: arguments.limit])
    for note in trace.notes:
        print(note, file=sys.stderr)
    return trace
