"""Reads what a registry of prometheus_client serves, and compares it with the definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from vacancy.streams.pages.metric_definition import MetricDefinition

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""(name, labels) -> value."""


def text_of(*collectors: Collector) -> str:
    """What these collectors serve."""
    registry = CollectorRegistry()
    for one in collectors:
        registry.register(one)
    return generate_latest(registry).decode()


def samples(text: str) -> Samples:
    """All samples of a page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The value of one sample."""
    return found[name, tuple(sorted(labels.items()))]


def check_defined(text: str, definitions: Iterable[MetricDefinition]) -> None:
    """What is served is what is defined: each metric, with its kind, its help and its labels."""
    families = text_string_to_metric_families(text)
    served = {one.name: one for one in families if not one.name.endswith("_created")}
    defined = {one.name: one for one in definitions}
    assert set(served) == set(defined)
    for name, family in served.items():
        assert (family.type, family.documentation) == (defined[name].kind, defined[name].help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(defined[name].labels), sample
