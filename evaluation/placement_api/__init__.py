"""OpenStack Placement and vacancy's API of it, side by side through HTTP."""
