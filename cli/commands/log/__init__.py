"""Commands about the log: its records, its rules, its archives, and what happened in it."""
