"""The scheduler's client: find candidates, claim one, read the verdict."""
