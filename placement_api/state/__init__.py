"""The state behind the API: a view to read, units of work, and the log that they are written to."""
