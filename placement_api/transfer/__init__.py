"""Copies a deployment of OpenStack Placement into a cell of a log, and back."""
