"""The benchmark of queries: its fleets, its scenarios, and the command."""
