"""The log: ordered records in SQLite, Kafka or memory, and the workers that follow it. It imports no tables."""
