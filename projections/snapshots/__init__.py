"""Snapshots: checkpoints of the partitions of a store, kept in a directory or in an object store, and restored from there."""
