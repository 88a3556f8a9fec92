"""Tests that compare candidate stores, and benchmarks. The product never imports this."""
