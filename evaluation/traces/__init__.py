"""Traces of real clusters: their machines and the requests that came to them."""
