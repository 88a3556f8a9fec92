"""The alert rules and the dashboard are valid, name metrics that there are, and each alert has an entry in the runbook."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documentation.metrics_reference import ALL
from vacancy.streams.pages.metric_definition import MetricDefinition

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "monitoring"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/vacancy.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def served() -> set[str]:
    """The names of all metrics. That programs serve these and no others is tested with real ones (`tests/clients/metrics`)."""
    suffixes = {"histogram": ("_bucket",)}
    return {one.sample_name + suffix for one in ALL for suffix in suffixes.get(one.kind, ("",))}


def promtool(*words: object) -> str:
    """What promtool prints; it must succeed."""
    done = subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, cwd=FOLDER, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NOT_METRICS: set[str] = set()
"""Names in docs that begin like a metric and are none."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and "VACANCY_TEST_CANDIDATES" not in os.environ,
    reason="there is no promtool here; `.ci/run` installs it (Debian's package prometheus)",
)


def test_every_metric_that_is_named_is_served() -> None:
    named = {
        name
        for text in (*(rule["expr"] for rule in RULES), *EXPRESSIONS)
        for name in re.findall(r"\bvacancy_\w+", text)
    }
    assert len(named) > 10
    assert named - served() == set()


def test_every_metric_is_on_the_page_and_on_the_dashboard() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    assert {one.sample_name for one in ALL if f"| `{one.sample_name}` |" not in page} == set()
    assert {name for name in served() if not any(name in text for text in EXPRESSIONS)} == set()


def test_every_metric_of_the_code_is_in_the_reference_and_no_other_one() -> None:
    defined = {one.name for one in definitions_in_code()}
    assert len(defined) > 40
    assert defined == {one.name for one in ALL}
    page = (ROOT / "docs/reference/metrics.md").read_text()
    assert set(re.findall(r"^\| `(vacancy_\w+)` \|", page, re.M)) == {one.sample_name for one in ALL}


def definitions_in_code() -> Iterator[MetricDefinition]:
    """The metrics that any module of the product defines, also those that no list has."""
    for folder in ("streams", "clients", "cli", "projections", "ui", "placement_api"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            source = file.read_text()
            if "MetricDefinition" not in source:
                assert not re.search(r"""["']vacancy_(worker|fleet|scheduler|publisher)_""", source), file
                continue
            module = import_module("vacancy." + ".".join(file.relative_to(ROOT).with_suffix("").parts))
            for value in vars(module).values():
                yield from (one for one in [value, *_items(value)] if isinstance(one, MetricDefinition))


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, tuple) and not isinstance(value, MetricDefinition) else ()


def test_every_metric_that_a_page_names_is_served() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = {name for page in pages for name in re.findall(r"`(vacancy_[a-z_]+)", page.read_text())}
    known = {one.sample_name for one in ALL}
    assert named - known - NOT_METRICS == set()


def test_names_say_their_units() -> None:
    for one in ALL:
        assert one.name.startswith("vacancy_")
        if re.search(r"time|age|lag|second", one.name) and not one.name.endswith("records"):
            assert one.name.endswith("_seconds"), one.name


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    titles = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.M)
    assert titles == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"]["uid"] == source["uid"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_compose_mounts_what_is_there() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [
        volume.split(":")
        for name in ("prometheus", "grafana")
        for volume in services[name]["volumes"]
        if volume.startswith("./")
    ]
    assert len(mounted) == 4
    assert all((ROOT / path).exists() and mode == "ro" for path, _, mode in mounted)
    provider = (FOLDER / "grafana/provisioning/dashboards/vacancy.yml").read_text()
    assert yaml.safe_load(provider)["providers"][0]["options"]["path"] in {place for _, place, _ in mounted}


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    assert f"{len(RULES)} rules" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")
    promtool("check", "config", "prometheus.yml")
    tested = (FOLDER / "alerts.test.yml").read_text()
    for rule in RULES:  # once where all is well, once where it is not
        assert tested.count(f"alertname: {rule['alert']}") >= 2, rule["alert"]


@needs_promtool
def test_prometheus_reads_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$instance", ".*")}
        for number, text in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)
