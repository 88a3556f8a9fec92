"""The worker of a Kafka log, as a Faust application."""
