"""The event publisher of a compute node, its outbox, and what it reads from the host."""
