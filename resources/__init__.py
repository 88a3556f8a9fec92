"""The rules, as pure code: events, records, resource classes, requests, the fold and its verdicts.

Equal inputs give equal outputs. Nothing in this package reads a file, a clock, a random number or the network.
"""
