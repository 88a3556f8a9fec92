"""Prometheus metrics of schedulers, of publishers and of the fleet. Those of workers are in `streams.pages.metrics`."""
