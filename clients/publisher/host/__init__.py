"""Collects the inventory of this host from /proc and /sys, without root, as the provider reports of one node.

What cannot be read is omitted, not guessed, and named in a remark where it matters: a container without NUMA directories is a node without NUMA cells. Both
directories are parameters, so that a test can pass a host made of files.
"""

from vacancy.clients.publisher.host.host import (
    HostInventory,
    HostOptions,
    check_options,
    collect,
    inspect_host,
)
from vacancy.clients.publisher.host.identity import machine_identity

__all__ = ["HostInventory", "HostOptions", "check_options", "collect", "inspect_host", "machine_identity"]
