"""Tests here share a log, snapshots and a cache of stores of the past."""

from tests.support.sites.past_site import cache, site, storage

__all__ = ["cache", "site", "storage"]
