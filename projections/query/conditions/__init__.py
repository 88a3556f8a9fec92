"""Which rows satisfy the conditions of a request: terms, traits, aggregates, expressions."""
