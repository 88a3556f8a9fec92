"""The modules that stand in for `placement.objects.*` and the two modules beside it: see `substitution`."""
