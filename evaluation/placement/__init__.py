"""OpenStack Placement and vacancy with the same fleet and load, one after the other: the command `beside`."""
