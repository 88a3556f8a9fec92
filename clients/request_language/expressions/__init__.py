"""Expressions of requests, in a subset of CEL: conditions and weighers."""
