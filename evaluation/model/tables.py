"""Results of the model as text tables and as plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.reporting.plots import Series, line_plot

_COLUMNS = (
    ("nodes", "nodes"),
    ("hosts", "hosts"),
    ("schedulers", "schedulers"),
    ("heartbeat_every_s", "heartbeat s"),
    ("asked_per_s", "asked/s"),
    ("placements_per_s", "placed/s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("conflict_share", "conflicts"),
    ("lag_ms", "lag ms"),
    ("bottleneck", "busiest"),
    ("limit_per_s", "bound/s"),
    ("partitions_needed", "partitions needed"),
)

TITLES = {
    "fleets": "Fleets and scheduler hosts, with as many requests as they can place",
    "heartbeats": "Intervals of heartbeats",
    "arrivals": "Requests a second",
    "lags": "Conflicts against the latency of the log, a fleet that is 95 % full",
    "replicas": "Kinds of log, 1,000 requests a second",
}


def text_tables(found: Mapping[str, Any]) -> str:
    """All series as Markdown tables, with the costs that they stand on."""
    calibration = found["calibration"]
    costs = ", ".join(f"{name} {cost:g}" for name, cost in calibration["costs_us"].items())
    logs = "; ".join(
        f"{name}: append {one['append']:g}, latency {one['latency']:g}"
        for name, one in calibration["logs_us"].items()
    )
    conditions = ", ".join(f"{name} {value}" for name, value in calibration["conditions"].items())
    parts = [
        f"Measured costs in µs ({calibration['measured']}; {conditions}):\n{costs}.\nLogs: {logs}.",
    ]
    if "check" in found:
        parts.append("Model and this machine\n\n" + _check_table(found["check"]))
        if any(row["load"] > calibration["conditions"]["cores"] / 2 for row in found["check"]):
            parts.append(
                "Other work ran at the same time (column `load`). The runs had fewer cores than the model, so only processor times and"
                " conflicts can be compared."
            )
    for name, title in TITLES.items():
        if rows := found.get(name):
            first = [key for key in ("log", "log_latency_ms") if key in rows[0]]
            columns = [(key, key.replace("_", " ")) for key in first]
            columns += [(key, head) for key, head in _COLUMNS if any(row[key] is not None for row in rows)]
            parts.append(f"{title}\n\n" + markdown_table(columns, rows))
    return "\n\n".join(parts)


def markdown_table(columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: each column as (key, heading)."""
    lines = [
        "| " + " | ".join(heading for _, heading in columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_text(row[key]) for key, _ in columns) + " |" for row in rows),
    ]
    return "\n".join(lines)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = (
        "placements_per_s",
        "p50_ms",
        "p99_ms",
        "conflict_share",
        "worker_cpu_us",
        "scheduler_cpu_us",
        "cores_used",
    )
    flat = [
        {
            "schedulers": row["schedulers"],
            "in_flight": row["in_flight"],
            "load": row["load"],
            "figure": name.replace("_", " "),
            "measured": row["measured"][name],
            "predicted": row["predicted"][name],
            "error": f"{row['error'][name]:+.0%}" if name in row["error"] else "",
        }
        for row in rows
        for name in names
    ]
    return markdown_table([(key, key.replace("_", " ")) for key in flat[0]], flat)


def model_plots(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, SVG) of each series. Raises `UsageError` where matplotlib is missing."""
    plots = []
    if rows := found.get("check"):
        series = [
            Series(name, [row["schedulers"] for row in rows], [row[name]["placements_per_s"] for row in rows])
            for name in ("measured", "predicted")
        ]
        plots.append(("Model and this machine", line_plot(series, x="schedulers", y="placements/s")))
    if rows := found.get("fleets"):
        series = [
            _series(
                f"{nodes:,} nodes", [r for r in rows if r["nodes"] == nodes], "schedulers", "placements_per_s"
            )
            for nodes in dict.fromkeys(row["nodes"] for row in rows)
        ]
        plots.append((TITLES["fleets"], line_plot(series, x="schedulers", y="placements/s", log_x=True)))
    for name, x, y in (
        ("heartbeats", "heartbeat_every_s", "placements_per_s"),
        ("arrivals", "asked_per_s", "p99_ms"),
        ("lags", "lag_ms", "conflict_share"),
    ):
        if rows := found.get(name):
            series = [
                _series(f"{nodes:,} nodes", [r for r in rows if r["nodes"] == nodes], x, y)
                for nodes in dict.fromkeys(row["nodes"] for row in rows)
            ]
            plot = line_plot(series, x=x.replace("_", " "), y=y.replace("_", " "), log_x=name == "lags")
            plots.append((TITLES[name], plot))
    return plots


def _series(name: str, rows: Sequence[Mapping[str, Any]], x: str, y: str) -> Series:
    return Series(name, [row[x] for row in rows], [row[y] for row in rows])
