"""Private keys, and what they sign: the events of nodes and of operators (rules version 7)."""
