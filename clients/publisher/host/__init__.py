"""Collects the inventory of this host from /proc and /sys, without root, as the provider reports of one node.

What cannot be read is omitted, not guessed: a container without NUMA directories is a node without NUMA cells. Both
directories are parameters, so that a test can pass a host made of files.
"""

from vacancy.clients.publisher.host.host import HostOptions, collect

__all__ = ["HostOptions", "collect"]
