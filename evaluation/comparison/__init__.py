"""All scenarios with all candidate stores, in turn: the command `compare`."""
