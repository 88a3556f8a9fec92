"""Transactions: changes of names, providers and consumers that are done together or not at all, and the generations they check."""
