"""Archives of a log: made, imported as a new log, and the log shortened by what they have."""
