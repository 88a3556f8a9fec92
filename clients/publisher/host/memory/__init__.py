"""The memory of a host and of its NUMA cells."""
