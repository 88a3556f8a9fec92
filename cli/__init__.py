"""The `vacancy` command: a command-line adapter over `vacancy.clients`."""
