"""Queries that depend on other consumers: server groups, and several copies at once."""
