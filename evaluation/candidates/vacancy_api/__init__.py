"""vacancy behind OpenStack Placement's API as a candidate."""
