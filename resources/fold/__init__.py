"""The fold: state and a log record in, changes out.

Events of nodes are in `nodes`, those of claims and consumers in `claims`, those of requests, operators and the rules here.
"""
