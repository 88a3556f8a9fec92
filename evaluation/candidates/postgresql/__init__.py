"""PostgreSQL as a candidate: a schema written by hand, one statement for a placement."""
