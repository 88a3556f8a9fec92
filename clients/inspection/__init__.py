"""Questions about a store: providers, consumers, usage, status, why a node is not a candidate."""
