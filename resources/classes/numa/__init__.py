"""NUMA cells: CPUs, memory and hugepages that belong together."""
