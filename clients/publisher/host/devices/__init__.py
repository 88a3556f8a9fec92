"""The PCI devices of a host: which there are, which are offered, which work."""
