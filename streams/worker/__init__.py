"""Workers: what follows a log and applies its records to tables, whatever the log is. It imports no tables."""
