"""The clocks of a host and of a log, and how far they are apart."""
