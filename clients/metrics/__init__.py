"""Prometheus metrics of schedulers, of publishers and of the fleet. Those of workers are in `streams.metrics`."""

from vacancy.clients.metrics.scheduler_metrics import SchedulerMetrics

__all__ = ["SchedulerMetrics"]
