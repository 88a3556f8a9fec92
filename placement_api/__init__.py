"""OpenStack Placement's HTTP API on vacancy's log and tables.

Placement's own HTTP layer (routes, schemas, microversions, policies, error texts) is a dependency, `openstack-placement`.
Its state layer is replaced by the modules of `vacancy.placement_api.objects`; `substitution` does that at import.
"""

DEFAULT_CELL = "default"
"""The cell that an API serves if the settings name none."""
