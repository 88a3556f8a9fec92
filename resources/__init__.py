"""The rules, pure: events, records, resource classes, requests, the fold and its verdicts.

Same inputs, same outputs. Nothing in this package reads a file, a clock, a random number or a network.
"""
