"""The replay tool: rebuild the state from the log, compare, verify."""
