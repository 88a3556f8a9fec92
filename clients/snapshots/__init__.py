"""Snapshots of the stores of a log: restored and checked against it, and made on a schedule."""
