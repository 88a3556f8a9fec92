"""Classes whose inventory is a list of devices: whole devices, shares of them, MIG instances, virtual GPUs."""
