"""What this host has, read from /proc and /sys without root, as the provider reports of one node.

Whatever cannot be read is left out rather than guessed: a container without NUMA directories is a node
without NUMA cells. Both roots are parameters, so a test can hand in a machine made of files.
"""

from vacancy.clients.publisher.host.host import HostOptions, collect

__all__ = ["HostOptions", "collect"]
