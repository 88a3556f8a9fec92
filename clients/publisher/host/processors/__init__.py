"""The processors of a host: CPUs, types of cores, features, and what a container may use."""
