"""Benchmarks of parts of vacancy: each module is a command of `python -m evaluation`."""
