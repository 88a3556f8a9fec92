"""What a Prometheus metric of vacancy is: its name, its kind, its help and its labels.

Each program defines its metrics as values of this type, and makes its samples of them and of nothing else. docs/reference/metrics.md
is made from the same definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

MetricKind = Literal["counter", "gauge", "histogram"]


class MetricDefinition(NamedTuple):
    """A metric. `name` is without `_total`, which Prometheus adds to counters. A time or an amount of bytes has its unit in its
    name (`_seconds`, `_bytes`); other metrics count what their names say."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def sample_name(self) -> str:
        """The name that queries use. A histogram has `_bucket`, `_sum` and `_count` after it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def family(self, values: Mapping[tuple[str, ...], float]) -> Metric:
        """The metric with these samples: values of the labels -> value. Not of histograms."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for at, value in values.items():
            family.add_metric(at, float(value))
        return family
