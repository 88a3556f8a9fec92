"""Readers: the store as other processes see it while a worker writes."""
