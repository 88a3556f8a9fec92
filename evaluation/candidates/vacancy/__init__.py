"""vacancy as three candidates: embedded, on one Kafka broker, and on three."""
